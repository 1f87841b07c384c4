//! How the frame decoders of both protocols take a length-prefixed frame from a read buffer.
//!
//! Called by the two `frame` modules only. It must never know what is inside a frame.

use bytes::{Bytes, BytesMut};

/// Width of the big-endian length prefix, which does not count itself.
pub(crate) const PREFIX_BYTES: usize = 4;

/// Room to offer the next read when no frame is half received: many small frames then arrive with one system call.
const READ_CHUNK_BYTES: usize = 32 * 1024;

/// Below this much spare room the buffer is grown. Far smaller than the chunk, so that growing stays rare.
const MIN_SPARE_BYTES: usize = 4 * 1024;

/// The peer announced a frame (or in it a command) larger than the connection allows. Nothing was allocated for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame or command of {size} bytes exceeds the limit of {max}")]
pub struct FrameTooLarge {
    /// Announced size, without the prefix.
    pub size: usize,
    /// The limit.
    pub max: usize,
}

/// What a read buffer begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A frame, without its prefix, taken from the buffer as a slice of it.
    Frame(Bytes),
    /// So many bytes of the announced frame are still to come; 0 when not even its length is there.
    Missing(usize),
}

/// Takes the next frame from `buf`; makes no room for what is missing.
pub(crate) fn split_frame(buf: &mut BytesMut, max: usize) -> Result<Next, FrameTooLarge> {
    let Some(prefix) = buf.first_chunk::<PREFIX_BYTES>() else { return Ok(Next::Missing(0)) };
    let size = u32::from_be_bytes(*prefix) as usize;
    if size > max {
        return Err(FrameTooLarge { size, max });
    }
    let whole = PREFIX_BYTES + size;
    if buf.len() < whole {
        return Ok(Next::Missing(whole - buf.len()));
    }
    let mut frame = buf.split_to(whole).freeze();
    bytes::Buf::advance(&mut frame, PREFIX_BYTES);
    Ok(Next::Frame(frame))
}

/// Takes the next frame, without its prefix, as a slice of `buf`. `None`: more bytes are needed, and `buf` has room for
/// them: for the rest of the announced frame, which is at most `max`, or for a chunk.
pub(crate) fn take_frame(buf: &mut BytesMut, max: usize) -> Result<Option<Bytes>, FrameTooLarge> {
    match split_frame(buf, max)? {
        Next::Frame(frame) => Ok(Some(frame)),
        Next::Missing(bytes) => {
            make_room(buf, bytes);
            Ok(None)
        }
    }
}

fn make_room(buf: &mut BytesMut, missing: usize) {
    let spare = buf.capacity() - buf.len();
    if spare < missing.max(MIN_SPARE_BYTES) {
        buf.reserve(missing.max(READ_CHUNK_BYTES));
    }
}
