//! Frames: `length u32` big-endian, then that many bytes, in both protocol versions and directions.

use bytes::{Bytes, BytesMut};

use crate::read_buffer::{split_frame, take_frame};

pub use crate::read_buffer::{FrameTooLarge as FrameError, Next};

/// Largest frame unless configured otherwise: what Pulsar sets on both sides, 5 MiB of message and 10 KiB around it.
pub const MAX_FRAME_SIZE: usize = crate::pulsar::frame::MAX_FRAME_SIZE;

/// Splits a connection's bytes into frames. Holds no bytes itself: what is incomplete stays in the caller's buffer.
#[derive(Clone, Debug)]
pub struct Decoder {
    max_frame: usize,
}

impl Decoder {
    /// `max_frame`: longest frame accepted, in bytes without the prefix.
    pub const fn new(max_frame: usize) -> Self {
        Self { max_frame }
    }

    /// Takes the next frame from `buf`, without its prefix, as a slice of the buffer. `Ok(None)`: read more into `buf`,
    /// which now has room for the rest of the frame. After an error the connection must be closed.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        take_frame(buf, self.max_frame)
    }

    /// As [`Decoder::decode`], but leaves it to the caller how much room to make for what is missing: a server that does
    /// not trust its peer makes no more than the peer has paid for with bytes.
    pub fn split(&mut self, buf: &mut BytesMut) -> Result<Next, FrameError> {
        split_frame(buf, self.max_frame)
    }
}

/// The protocol version of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Binary; see [`super::v2`].
    V2,
    /// Protobuf; see [`super::v3`].
    V3,
}

impl Protocol {
    /// Tells the version of a request by its first byte: a version number, or the key of protobuf field 1. `None`: neither.
    pub fn of(frame: &[u8]) -> Option<Self> {
        match frame.first()? {
            0..=2 => Some(Self::V2),
            0x0a => Some(Self::V3),
            _ => None,
        }
    }
}
