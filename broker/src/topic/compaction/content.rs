//! What compaction sees of an entry.

use bytes::{Bytes, BytesMut};
use magnetar_proto::pulsar::api::{CompressionType, MessageMetadata, SingleMessageMetadata};
use magnetar_proto::pulsar::{batch, entry};

use crate::topic::compression::deflate;
use crate::topic::contents::{messages, open};

/// An entry, looked into.
pub(super) enum Content {
    /// Written by a broker for brokers: no client ever sees it.
    Marker,
    Single(Single),
    Batch(Batch),
    /// Nobody here can tell what is in it: an encrypted batch, or one that is damaged.
    Opaque,
}

pub(super) struct Single {
    pub(super) key: Option<String>,
    /// It deletes its key.
    pub(super) is_tombstone: bool,
    pub(super) chunk: Option<Chunk>,
}

/// A part of a larger message.
pub(super) struct Chunk {
    /// Of the whole message: unique among all producers.
    pub(super) whole: Box<[u8]>,
    pub(super) is_last: bool,
}

pub(super) struct Batch {
    metadata: MessageMetadata,
    pub(super) messages: Vec<InBatch>,
}

pub(super) struct InBatch {
    metadata: SingleMessageMetadata,
    payload: Bytes,
}

impl InBatch {
    /// An earlier compaction has taken it out.
    pub(super) fn is_gone(&self) -> bool {
        self.metadata.compacted_out()
    }

    pub(super) fn key(&self) -> Option<&str> {
        self.metadata.partition_key.as_deref()
    }

    pub(super) fn is_tombstone(&self) -> bool {
        self.payload.is_empty() || self.metadata.null_value()
    }
}

/// Looks at what follows the broker's metadata in an entry.
pub(super) fn look(headers_and_payload: &Bytes) -> Content {
    let Ok((metadata, payload)) = open(headers_and_payload) else { return Content::Opaque };
    if metadata.marker_type.is_some() {
        return Content::Marker;
    }
    if metadata.num_messages_in_batch.is_none() {
        return Content::Single(single(&metadata, &payload));
    }
    opened(metadata, &payload).map_or(Content::Opaque, Content::Batch)
}

fn single(metadata: &MessageMetadata, payload: &Bytes) -> Single {
    // What is compressed or encrypted has bytes even if it is nothing.
    let is_packed = metadata.compression() != CompressionType::None || !metadata.encryption_keys.is_empty();
    let is_nothing = payload.is_empty() || (is_packed && metadata.uncompressed_size == Some(0));
    let chunk = match (&metadata.uuid, metadata.chunk_id, metadata.num_chunks_from_msg) {
        (Some(uuid), Some(id), Some(total)) => Some(Chunk {
            whole: [metadata.producer_name.as_bytes(), b"\0", uuid.as_bytes()].concat().into(),
            is_last: id + 1 >= total,
        }),
        _ => None,
    };
    Single {
        key: metadata.partition_key.clone(),
        is_tombstone: chunk.is_none() && (is_nothing || metadata.null_value()),
        chunk,
    }
}

/// `None` for a batch that nobody can look into.
fn opened(metadata: MessageMetadata, payload: &Bytes) -> Option<Batch> {
    let messages = messages(&metadata, payload)?;
    let messages = messages.into_iter().map(|(metadata, payload)| InBatch { metadata, payload }).collect();
    Some(Batch { metadata, messages })
}

impl Batch {
    /// The entry with the messages at these indexes only: the others keep their places, without content.
    pub(super) fn with_only(mut self, kept: &[u32]) -> Option<Bytes> {
        let gone = || SingleMessageMetadata { compacted_out: Some(true), ..Default::default() };
        let messages = self.messages.iter().zip(0_u32..).map(|(message, index)| {
            match kept.binary_search(&index).is_ok() {
                true => (message.metadata.clone(), &message.payload[..]),
                false => (gone(), &[][..]),
            }
        });
        let mut plain = BytesMut::new();
        batch::encode(messages, &mut plain);
        let compression = CompressionType::try_from(self.metadata.compression.unwrap_or_default()).ok()?;
        self.metadata.uncompressed_size = Some(u32::try_from(plain.len()).ok()?);
        self.metadata.compacted_batch_indexes = kept.iter().map(|index| *index as i32).collect();
        let payload = deflate(compression, plain.freeze())?;
        Some(entry::build(&self.metadata, &payload))
    }
}
