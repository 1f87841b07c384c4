//! From a connection's bytes to its requests: everything that a stranger's bytes pass through before anybody acts on them.
//! The connection reads into it; property tests and the fuzz target feed the same code.
//! It must never act on a request, nor hold more memory than what has arrived can fill (see [`Inbound::space`]).

use bytes::{Bytes, BytesMut};
use magnetar_proto::bookkeeper::frame::{Decoder, FrameError, Next, Protocol};
use magnetar_proto::bookkeeper::v2::PacketError;

use super::batch::Request;
use super::{v2, v3};

/// Space for one read of the socket of a busy connection. Entries stay slices of it, so it is small against the write
/// cache.
const READ_BYTES: usize = 128 << 10;

/// Space for the first read; doubles with each new buffer, so that a connection that says little holds little.
const READ_BYTES_FIRST: usize = 4 << 10;

/// A read is worth a system call with this much space; below, new space is taken.
const READ_BYTES_MIN: usize = 4 << 10;

/// Why a connection's bytes make no sense; it must be closed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadRequest {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("not a BookKeeper request (first byte {first:#04x})")]
    Protocol { first: u8 },
    #[error("empty frame")]
    Empty,
    #[error("{0}")]
    V2(#[from] PacketError),
    #[error("malformed V3 request: {0}")]
    V3(#[from] prost::DecodeError),
}

/// See the module.
pub(crate) struct Inbound {
    decoder: Decoder,
    buffer: BytesMut,
    /// Bytes of the frame begun in `buffer` that have not arrived.
    missing: usize,
    /// Size of the next buffer.
    read_bytes: usize,
    /// A connection that has spoken V2 speaks nothing else any more.
    v2_only: bool,
}

impl Inbound {
    pub(crate) fn new(frame_bytes_max: usize) -> Self {
        Inbound {
            decoder: Decoder::new(frame_bytes_max),
            buffer: BytesMut::new(),
            missing: 0,
            read_bytes: READ_BYTES_FIRST,
            v2_only: false,
        }
    }

    /// The buffer, with space for the next read at its end. It never holds more than [`READ_BYTES`] and twice of what has
    /// arrived of the frame in it: an announced length alone takes no memory.
    pub(crate) fn space(&mut self) -> &mut BytesMut {
        let spare = self.buffer.capacity() - self.buffer.len();
        // A frame must lie in one piece: the earlier its rest gets space, the less of it is copied.
        let needed = if (1..=READ_BYTES).contains(&self.missing) { self.missing } else { READ_BYTES_MIN };
        if spare < needed {
            let paid_for = self.buffer.len().max(READ_BYTES);
            self.buffer.reserve(self.missing.min(paid_for).max(self.read_bytes));
            self.read_bytes = READ_BYTES.min(self.read_bytes * 2);
        }
        &mut self.buffer
    }

    /// Nothing is waiting to be parsed.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The size of the frame that is arriving if an ordinary read is not enough for it.
    pub(super) fn large_frame(&self) -> Option<usize> {
        (self.missing > READ_BYTES).then_some(self.buffer.len() + self.missing)
    }

    /// The next request; `None` when what has arrived holds no whole one.
    pub(crate) fn next(&mut self) -> Result<Option<Request>, BadRequest> {
        self.missing = 0;
        match self.decoder.split(&mut self.buffer)? {
            Next::Frame(frame) => self.parse(frame).map(Some),
            Next::Missing(bytes) => {
                self.missing = bytes;
                Ok(None)
            }
        }
    }

    fn parse(&mut self, frame: Bytes) -> Result<Request, BadRequest> {
        let first = *frame.first().ok_or(BadRequest::Empty)?;
        match Protocol::of(&frame) {
            _ if self.v2_only => Ok(v2::parse(frame)?),
            Some(Protocol::V2) => {
                self.v2_only = true;
                Ok(v2::parse(frame)?)
            }
            Some(Protocol::V3) => Ok(v3::parse(frame)?),
            None => Err(BadRequest::Protocol { first }),
        }
    }
}
