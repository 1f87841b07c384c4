//! The beginning of a connection: up to its first request, and through the upgrade to TLS if that is what it asks for.
//!
//! Clients ask for TLS before anything else, in V3 also when they go on in V2. Later it is too late: answers may be on
//! their way, and the request is answered as one that makes no sense.

use std::time::Duration;

use bytes::BytesMut;
use magnetar_common::net::{Stream, WriteHalf};
use magnetar_proto::bookkeeper::v3;
use tokio::io::AsyncWriteExt;

use super::Shared;
use super::batch::Request;
use super::receiver::{Broken, Receiver};
use super::v3::response;

/// A handshake takes a few round trips.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// A connection whose requests may be acted upon.
pub(super) struct Opened {
    pub(super) receiver: Receiver,
    pub(super) writer: WriteHalf,
    /// No TLS in between.
    pub(super) plain: bool,
    /// The first request, unless TLS took its place.
    pub(super) first: Option<Request>,
}

/// Waits for the first request; `None` when the peer leaves without one.
pub(super) async fn open(shared: &Shared, stream: Stream) -> Result<Option<Opened>, Broken> {
    let Stream { reader, mut writer, peer } = stream;
    let frame_bytes_max = shared.limits.frame_bytes_max;
    let mut receiver = Receiver::new(reader, frame_bytes_max);
    let first = loop {
        if !receiver.receive(shared).await? {
            return Ok(None);
        }
        if let Some(request) = receiver.next()? {
            break request;
        }
    };
    let (header, server) = match (first, &shared.tls) {
        (Request::StartTls { header }, Some(tls)) => (header, &tls.server),
        (_, Some(tls)) if tls.required => return Err(Broken::TlsRequired),
        (first, _) => return Ok(Some(Opened { receiver, writer, plain: true, first: Some(first) })),
    };
    let mut answer = BytesMut::new();
    v3::encode(&response::tls_begins(&header), &mut answer);
    writer.write_all(&answer).await?;
    writer.flush().await?;
    let reader = receiver.into_reader()?;
    let stream = tokio::select! {
        biased;
        stream = server.accept(Stream { reader, writer, peer }) => stream.map_err(Broken::Handshake)?,
        () = shared.clock.sleep(HANDSHAKE_MAX) => {
            return Err(Broken::Handshake(std::io::ErrorKind::TimedOut.into()));
        }
    };
    let Stream { reader, writer, .. } = stream;
    let receiver = Receiver::new(reader, frame_bytes_max);
    Ok(Some(Opened { receiver, writer, plain: false, first: None }))
}
