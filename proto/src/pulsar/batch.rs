//! A batch: the payload of an entry whose metadata has `num_messages_in_batch`, once decompressed and decrypted.
//!
//! ```text
//! N x ( length u32 | SingleMessageMetadata | payload_size bytes )
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use super::api::SingleMessageMetadata;

/// The bytes are not a batch of as many messages as announced.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BatchError {
    /// A message ends behind the end of the batch.
    #[error("batch ends inside a message's {0}")]
    Truncated(&'static str),
    /// A message's metadata is not valid protobuf, or its size is negative.
    #[error("malformed metadata in a batch: {0}")]
    Metadata(String),
}

/// Appends the messages to `out`. Sets each one's `payload_size` itself.
pub fn encode<'a>(messages: impl IntoIterator<Item = (SingleMessageMetadata, &'a [u8])>, out: &mut BytesMut) {
    for (mut metadata, payload) in messages {
        metadata.payload_size =
            i32::try_from(payload.len()).expect("payloads are bounded by the frame limit, below 2 GiB");
        let len = metadata.encoded_len();
        out.reserve(size_of::<u32>() + len + payload.len());
        out.put_u32(len as u32);
        metadata.encode_raw(out);
        out.put_slice(payload);
    }
}

/// The messages of a batch in order; payloads are slices of it. Ends after `count` messages or the first error.
pub fn decode(batch: Bytes, count: u32) -> Messages {
    Messages { rest: batch, left: count }
}

/// Iterator over a batch; see [`decode`].
#[derive(Clone, Debug)]
pub struct Messages {
    rest: Bytes,
    left: u32,
}

impl Iterator for Messages {
    type Item = Result<(SingleMessageMetadata, Bytes), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let message = take_message(&mut self.rest);
        if message.is_err() {
            self.left = 0;
        }
        Some(message)
    }
}

fn take_message(rest: &mut Bytes) -> Result<(SingleMessageMetadata, Bytes), BatchError> {
    let len = rest.try_get_u32().map_err(|_| BatchError::Truncated("length"))? as usize;
    let encoded = take(rest, len, "metadata")?;
    let metadata = SingleMessageMetadata::decode(encoded).map_err(|e| BatchError::Metadata(e.to_string()))?;
    let size = usize::try_from(metadata.payload_size)
        .map_err(|_| BatchError::Metadata(format!("payload size {}", metadata.payload_size)))?;
    let payload = take(rest, size, "payload")?;
    Ok((metadata, payload))
}

fn take(rest: &mut Bytes, len: usize, what: &'static str) -> Result<Bytes, BatchError> {
    if len > rest.len() {
        return Err(BatchError::Truncated(what));
    }
    Ok(rest.split_to(len))
}
