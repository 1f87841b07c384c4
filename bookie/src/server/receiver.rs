//! Reads a connection's requests from its socket, a read at a time, within the server's memory for large frames.

use std::io;
use std::time::Duration;

use futures_util::future::BoxFuture;
use magnetar_common::budget::Ticket;
use magnetar_common::net::ReadHalf;
use tokio::io::AsyncReadExt;

use super::Shared;
use super::batch::Request;
use super::inbound::{BadRequest, Inbound};

/// A peer that takes none of its answers for so long, or does not finish a large frame, is given up: what it makes us
/// hold is missing to others.
pub(super) const STALL_MAX: Duration = Duration::from_secs(30);

/// Why a connection is closed from our side.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("{0}")]
    Request(#[from] BadRequest),
    #[error("a frame did not arrive within {} s", STALL_MAX.as_secs())]
    Slow,
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    #[error("there was more in plain text after the request for TLS")]
    BytesBeforeTls,
    #[error("this bookie is configured to take requests over TLS only")]
    TlsRequired,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// See the module.
pub(super) struct Receiver {
    reader: ReadHalf,
    inbound: Inbound,
    /// What the frame being received holds, when it takes more than an ordinary read.
    large_frame: Option<LargeFrame>,
}

struct LargeFrame {
    _ticket: Ticket,
    too_late: BoxFuture<'static, ()>,
}

impl Receiver {
    pub(super) fn new(reader: ReadHalf, frame_bytes_max: usize) -> Self {
        Receiver { reader, inbound: Inbound::new(frame_bytes_max), large_frame: None }
    }

    /// Reads once; false when the peer has closed the connection. Waits until the server has memory for what arrives.
    pub(super) async fn receive(&mut self, shared: &Shared) -> Result<bool, Broken> {
        let Some(bytes) = self.inbound.large_frame() else {
            return Ok(self.reader.read_buf(self.inbound.space()).await? > 0);
        };
        let large_frame = match &mut self.large_frame {
            Some(begun) => begun,
            none => {
                let _ticket = shared.frame_bytes.acquire(bytes).await;
                none.insert(LargeFrame { _ticket, too_late: shared.clock.sleep(STALL_MAX) })
            }
        };
        tokio::select! {
            biased;
            received = self.reader.read_buf(self.inbound.space()) => Ok(received? > 0),
            () = &mut large_frame.too_late => Err(Broken::Slow),
        }
    }

    /// The next request among what was received.
    pub(super) fn next(&mut self) -> Result<Option<Request>, BadRequest> {
        self.inbound.next()
    }

    /// The requests so far have been taken care of.
    pub(super) fn done(&mut self) {
        self.large_frame = None;
    }

    /// Takes the socket out, to go on with another one; an error when it has brought anything that was not asked for.
    pub(super) fn into_reader(self) -> Result<ReadHalf, Broken> {
        if self.inbound.is_empty() { Ok(self.reader) } else { Err(Broken::BytesBeforeTls) }
    }
}
