//! The gRPC port: the control service of `bookie_control.proto`, the standard health service, and reflection, so that
//! grpcurl needs no schema. There is no authentication: it is for a management network.

mod answer;
mod drain;
mod health;
mod service;
mod space;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use magnetar_common::net::Listener;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use self::service::Service;
use super::connection::Connection;
use super::{Control, Port};
use crate::control_api::bookie_control_server::BookieControlServer;

/// What reflection tells; written by the build script.
const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("bookie_control");

/// No request is larger: ids, switches and page tokens.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// Requests under way on one connection.
const REQUESTS_MAX: u32 = 64;

/// A request whose answer does not begin by then is given up: the disks hang, or the machine is overloaded.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How often a silent peer is asked whether it lives; see the idle limit of connections.
const KEEPALIVE: Duration = Duration::from_secs(30);

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

/// Starts the gRPC port.
pub(crate) struct GrpcPort;

impl GrpcPort {
    /// Serves `listener` until it is closed.
    pub(crate) fn start(control: Arc<Control>, listener: Box<dyn Listener>) -> Port {
        let clock = control.clock.clone();
        Port::start(listener, clock, |acceptor, stopped| async move {
            let (health, following) = health::service(control.clone()).await;
            let api =
                BookieControlServer::new(Service { control }).max_decoding_message_size(REQUEST_BYTES_MAX);
            let incoming = stream::unfold(acceptor, |mut acceptor| async {
                Some((Ok::<_, io::Error>(acceptor.next().await), acceptor))
            });
            let server = Server::builder()
                .timeout(ANSWER_MAX)
                .concurrency_limit_per_connection(REQUESTS_MAX as usize)
                .max_concurrent_streams(REQUESTS_MAX)
                .http2_keepalive_interval(Some(KEEPALIVE))
                .add_service(api)
                .add_service(health)
                .add_service(reflection().build_v1().expect("the descriptors were generated with the code"))
                .add_service(
                    reflection().build_v1alpha().expect("the descriptors were generated with the code"),
                );
            let served = server.serve_with_incoming_shutdown(incoming, stopped);
            tokio::select! {
                served = served => if let Err(error) = served {
                    tracing::error!(%error, "the gRPC port is not served any more");
                },
                () = following => {}
            }
        })
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
