//! The scripted peer, and a service without ledgers for it to talk to.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use magnetar_common::Environment;
use magnetar_common::clock::{ManualClock, SharedClock};
use magnetar_common::metadata::{MemoryStore, SharedMetadata};
use magnetar_common::net::Stream;
use magnetar_common::topic_name::TopicName;
use magnetar_proto::pulsar::frame::{self, Decoder, Frame, MAX_FRAME_SIZE};
use magnetar_proto::pulsar::{Command, api};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

use crate::config::BrokerConfig;
use crate::namespace::{ClusterData, LoadTopic, Owner, Purpose, bootstrap};
use crate::protocol::serve;
use crate::service::{BrokerService, assemble};
use crate::topic::{Handle, TopicError};

/// Long enough for any machine; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// No topic can be loaded.
struct NoTopics;

impl LoadTopic for NoTopics {
    fn load(&self, _topic: TopicName, _: Purpose) -> BoxFuture<'static, Result<Handle, TopicError>> {
        std::future::ready(Err(TopicError::NotReady("no ledgers in this test".into()))).boxed()
    }
}

/// A service whose clock the test moves.
pub(super) struct Bench {
    pub(super) service: Arc<BrokerService>,
    pub(super) clock: Arc<ManualClock>,
}

impl Bench {
    pub(super) async fn new() -> Self {
        let metadata: SharedMetadata = Arc::new(MemoryStore::new());
        bootstrap(&metadata, "standalone", &ClusterData::default(), 4).await.expect("a new cluster");
        let clock = ManualClock::new();
        let environment = Environment { clock: Arc::clone(&clock) as SharedClock, ..Environment::system() };
        let advertised =
            Owner { broker_url: "pulsar://127.0.0.1:6650".into(), http_url: "http://127.0.0.1:8080".into() };
        let config = BrokerConfig::default();
        let service = Arc::new(assemble(config, metadata, environment, advertised, Arc::new(NoTopics)));
        Bench { service, clock }
    }

    /// A connection on which nothing was said yet.
    pub(super) fn dial(&self) -> Peer {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (reader, writer) = tokio::io::split(near);
        let stream = Stream { reader: Box::new(reader), writer: Box::new(writer), peer: "peer".into() };
        let id = self.service.connections.next_id();
        let served = tokio::spawn(serve(Arc::clone(&self.service), stream, id));
        Peer { socket: far, buffer: BytesMut::new(), served }
    }

    /// A connection after the handshake.
    pub(super) async fn connect(&self) -> Peer {
        let mut peer = self.dial();
        peer.send(connect(21)).await;
        match peer.receive().await {
            Some(Command::Connected(_)) => peer,
            other => panic!("instead of CONNECTED: {other:?}"),
        }
    }
}

pub(super) fn connect(protocol_version: i32) -> api::CommandConnect {
    api::CommandConnect {
        client_version: "test 1".into(),
        protocol_version: Some(protocol_version),
        ..Default::default()
    }
}

pub(super) struct Peer {
    socket: DuplexStream,
    buffer: BytesMut,
    served: JoinHandle<()>,
}

impl Peer {
    pub(super) async fn send(&mut self, command: impl Into<Command>) {
        let mut frame = BytesMut::new();
        frame::encode(command.into(), &mut frame);
        self.send_bytes(&frame).await;
    }

    pub(super) async fn send_with_payload(&mut self, command: impl Into<Command>, payload: Bytes) {
        let mut frame = BytesMut::new();
        frame::encode_with_payload(command.into(), payload.len(), &mut frame);
        frame.extend_from_slice(&payload);
        self.send_bytes(&frame).await;
    }

    /// A broker that has closed already is no failure: what it said before can still be read.
    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes).await;
    }

    /// The next command; `None` when the broker closed the connection.
    pub(super) async fn receive(&mut self) -> Option<Command> {
        tokio::time::timeout(PATIENCE, self.next_frame())
            .await
            .expect("the broker says something")
            .map(|f| f.command)
    }

    async fn next_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = Decoder::new(MAX_FRAME_SIZE).decode(&mut self.buffer).expect("a frame") {
                return Some(frame);
            }
            if self.socket.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The broker closes the connection without another word, and its task ends without a panic.
    pub(super) async fn closed(mut self) {
        assert_eq!(self.receive().await, None);
        self.served.await.expect("the connection's task does not panic");
    }

    /// Goes away; the broker's task ends without a panic.
    pub(super) async fn hang_up(self) {
        drop(self.socket);
        tokio::time::timeout(PATIENCE, self.served).await.expect("it ends").expect("it does not panic");
    }

    /// PING is answered.
    pub(super) async fn is_alive(&mut self) {
        self.send(api::CommandPing {}).await;
        assert_eq!(self.receive().await, Some(Command::Pong(api::CommandPong {})));
    }
}
