//! Frames: `total u32 | command length u32 | BaseCommand`, and for SEND and MESSAGE then the message itself.
//!
//! ```text
//! simple   total | cmdLen | BaseCommand
//! payload  total | cmdLen | BaseCommand | 0x0e01 | crc32c | metaLen | MessageMetadata | payload
//! ```
//! `total` counts everything after itself, `cmdLen` only the command. All numbers are big-endian.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use super::api::BaseCommand;
use super::command::{Command, kind};
use crate::read_buffer::{PREFIX_BYTES, take_frame};

pub use crate::read_buffer::FrameTooLarge;

/// Largest message (metadata and payload) that a broker takes unless told otherwise; announced in CONNECTED.
pub const MAX_MESSAGE_SIZE: usize = 5 * 1024 * 1024;

/// What a frame may be longer than its message: room for the command.
pub const FRAME_PADDING: usize = 10 * 1024;

/// Largest frame with the default message size.
pub const MAX_FRAME_SIZE: usize = MAX_MESSAGE_SIZE + FRAME_PADDING;

/// Largest command that a broker takes from a client: far above any real one (a thousand acknowledgements with their batch
/// sets, a large schema), and low enough that its decoded form, tens of times larger at worst, is no threat to memory.
pub const MAX_COMMAND_SIZE: usize = 1024 * 1024;

/// Width of the field that gives the command's length.
const COMMAND_LENGTH_BYTES: usize = 4;

/// One received frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// What the peer says.
    pub command: Command,
    /// The bytes after the command, unchanged: a slice of the read buffer. `None` if there are none.
    pub payload: Option<Bytes>,
}

/// Why a connection's bytes make no sense any more. Every one of them means: close the connection.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FrameError {
    /// Over one of the decoder's limits.
    #[error(transparent)]
    TooLarge(#[from] FrameTooLarge),
    /// A command of a type that this protocol version does not have.
    #[error("unknown command type {0}")]
    UnknownCommand(i32),
    /// The lengths contradict each other, or the command's type its body.
    #[error("malformed frame: {0}")]
    Malformed(&'static str),
    /// The command is not valid protobuf.
    #[error("malformed command: {0}")]
    Command(#[from] prost::DecodeError),
}

/// Splits a connection's bytes into frames. Holds no bytes itself: what is incomplete stays in the caller's buffer.
#[derive(Clone, Debug)]
pub struct Decoder {
    max_frame: usize,
    max_command: usize,
}

impl Decoder {
    /// `max_frame`: largest `total` accepted, in bytes; see [`MAX_FRAME_SIZE`]. A command may fill the frame.
    pub const fn new(max_frame: usize) -> Self {
        Self { max_frame, max_command: max_frame }
    }

    /// Accepts only commands of up to `max_command` bytes: for peers that are not trusted, see [`MAX_COMMAND_SIZE`].
    #[must_use]
    pub const fn with_max_command(self, max_command: usize) -> Self {
        Self { max_command, ..self }
    }

    /// Takes the next frame from `buf`. `Ok(None)`: read more into `buf`, which now has room for the rest of the frame.
    ///
    /// After an error the buffer's content is unspecified and the connection must be closed.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        match take_frame(buf, self.max_frame)? {
            Some(frame) => self.decode_frame(frame).map(Some),
            None => Ok(None),
        }
    }

    fn decode_frame(&self, mut frame: Bytes) -> Result<Frame, FrameError> {
        let command_len =
            frame.try_get_u32().map_err(|_| FrameError::Malformed("shorter than its header"))? as usize;
        if command_len > frame.len() {
            return Err(FrameError::Malformed("command longer than its frame"));
        }
        if command_len > self.max_command {
            return Err(FrameTooLarge { size: command_len, max: self.max_command }.into());
        }
        let command = decode_command(frame.split_to(command_len))?;
        let payload = if frame.is_empty() { None } else { Some(frame) };
        Ok(Frame { command, payload })
    }
}

/// Appends a simple frame.
pub fn encode(command: Command, out: &mut BytesMut) {
    encode_with_payload(command, 0, out);
}

/// Appends a payload frame up to and including the command. The caller sends `payload_len` bytes after it, unchanged.
pub fn encode_with_payload(command: Command, payload_len: usize, out: &mut BytesMut) {
    let command = BaseCommand { r#type: kind(&command) as i32, body: Some(command) };
    let command_len = command.encoded_len();
    let total = COMMAND_LENGTH_BYTES + command_len + payload_len;
    out.reserve(PREFIX_BYTES + COMMAND_LENGTH_BYTES + command_len);
    out.put_u32(u32::try_from(total).expect("frames are bounded by the frame limit, far below 4 GiB"));
    out.put_u32(command_len as u32);
    command.encode_raw(out);
}

fn decode_command(bytes: Bytes) -> Result<Command, FrameError> {
    let BaseCommand { r#type, body } = BaseCommand::decode(bytes)?;
    match body {
        Some(command) if kind(&command) as i32 == r#type => Ok(command),
        Some(_) => Err(FrameError::Malformed("command type and body differ")),
        None if super::api::base_command::Type::try_from(r#type).is_err() => {
            Err(FrameError::UnknownCommand(r#type))
        }
        None => Err(FrameError::Malformed("command without a body")),
    }
}
