//! The messages of an entry. No IO.

use bytes::Bytes;
use magnetar_proto::pulsar::api::{CompressionType, MessageMetadata, SingleMessageMetadata};
use magnetar_proto::pulsar::{batch, entry};
use prost::Message;

use super::compression::inflate;

/// An entry's metadata and payload, from its bytes with or without what a broker put in front.
pub(crate) fn open(stored: &Bytes) -> Result<(MessageMetadata, Bytes), String> {
    let parts = entry::split(stored).map_err(|error| error.to_string())?;
    let metadata = MessageMetadata::decode(parts.metadata).map_err(|error| error.to_string())?;
    Ok((metadata, parts.payload))
}

/// The messages of a batch. `None`: it is no batch, or nobody here can look into it: it is encrypted, not well-formed, or
/// compressed in a way that is not known.
pub(crate) fn messages(
    metadata: &MessageMetadata,
    payload: &Bytes,
) -> Option<Vec<(SingleMessageMetadata, Bytes)>> {
    let count = u32::try_from(metadata.num_messages_in_batch?).ok()?;
    if !metadata.encryption_keys.is_empty() {
        return None;
    }
    let compression = CompressionType::try_from(metadata.compression.unwrap_or_default()).ok()?;
    let plain = inflate(compression, payload, metadata.uncompressed_size())?;
    batch::decode(plain, count).collect::<Result<_, _>>().ok()
}
