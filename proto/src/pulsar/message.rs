//! A lazy reading of `MessageMetadata`: one pass over the bytes that keeps what a broker needs of each message and skips
//! the rest (properties, encryption keys, schema version) unparsed. Strings and keys are slices of the metadata.
//!
//! It agrees with a full protobuf decode wherever that succeeds and the required fields are there (a property test holds
//! it to that); unlike one it does not look into nested messages and does not check text for UTF-8.

use bytes::{Buf, Bytes};
use prost::encoding::{WireType, decode_key, decode_varint};

use super::base64;
use super::entry::{self, EntryError};

/// What a broker wants to know about a message. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Who sent it.
    pub producer_name: Bytes,
    /// The producer's number for it; of a batch, the lowest.
    pub sequence_id: u64,
    /// Of a batch, the highest sequence id, if the producer says so.
    pub highest_sequence_id: Option<u64>,
    /// When the producer made it, by its own clock.
    pub publish_time: u64,
    /// Key for routing and compaction, base64-decoded if it was sent so.
    pub partition_key: Option<Bytes>,
    /// Key for Key_Shared only; wins over the partition key there.
    pub ordering_key: Option<Bytes>,
    /// Messages in the entry, at least 1.
    pub num_messages: u32,
    /// The payload has the layout of a batch, even if of one message.
    pub is_batch: bool,
    /// Not to be delivered before this time on subscriptions that can delay.
    pub deliver_at_time: Option<i64>,
    /// Internal marker: never delivered to a client.
    pub marker_type: Option<i32>,
    /// Part of a larger message.
    pub chunk: Option<Chunk>,
    /// A deletion of its key, for compaction.
    pub null_value: bool,
    /// Number of the `CompressionType`, known to us or not.
    pub compression: i32,
    /// Payload size before compression, in bytes.
    pub uncompressed_size: u32,
    /// Arrived from another cluster.
    pub has_replicated_from: bool,
    /// At least one encryption key is present: the payload is opaque.
    pub is_encrypted: bool,
    /// Transaction id: (most, least) significant bits.
    pub txn: Option<(u64, u64)>,
}

/// A message's place among the chunks of a larger one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Shared by all chunks of one message of one producer.
    pub uuid: Bytes,
    /// From 0.
    pub id: i32,
    /// Number of chunks.
    pub total: i32,
}

/// The bytes are not a message's metadata.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MetadataError {
    /// The entry around it is malformed.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// Not valid protobuf.
    #[error("malformed message metadata: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A field has another wire type than the schema says, or ends behind the end.
    #[error("malformed message metadata: field {0}")]
    Field(u32),
    /// A field that every message must have is missing.
    #[error("message metadata lacks its {0}")]
    Missing(&'static str),
}

/// Reads the metadata of a stored entry, or of the payload of a SEND frame.
pub fn summarize_entry(entry: &Bytes) -> Result<Summary, MetadataError> {
    summarize(&entry::metadata(entry)?)
}

/// Reads an encoded `MessageMetadata`.
pub fn summarize(metadata: &Bytes) -> Result<Summary, MetadataError> {
    let mut scan = Scan::default();
    let mut rest = metadata.clone();
    while rest.has_remaining() {
        let (tag, wire_type) = decode_key(&mut rest)?;
        scan.field(tag, wire_type, &mut rest)?;
    }
    scan.finish()
}

/// Field numbers of `MessageMetadata`.
mod field {
    pub(super) const PRODUCER_NAME: u32 = 1;
    pub(super) const SEQUENCE_ID: u32 = 2;
    pub(super) const PUBLISH_TIME: u32 = 3;
    pub(super) const REPLICATED_FROM: u32 = 5;
    pub(super) const PARTITION_KEY: u32 = 6;
    pub(super) const COMPRESSION: u32 = 8;
    pub(super) const UNCOMPRESSED_SIZE: u32 = 9;
    pub(super) const NUM_MESSAGES_IN_BATCH: u32 = 11;
    pub(super) const ENCRYPTION_KEYS: u32 = 13;
    pub(super) const PARTITION_KEY_B64_ENCODED: u32 = 17;
    pub(super) const ORDERING_KEY: u32 = 18;
    pub(super) const DELIVER_AT_TIME: u32 = 19;
    pub(super) const MARKER_TYPE: u32 = 20;
    pub(super) const TXNID_LEAST_BITS: u32 = 22;
    pub(super) const TXNID_MOST_BITS: u32 = 23;
    pub(super) const HIGHEST_SEQUENCE_ID: u32 = 24;
    pub(super) const NULL_VALUE: u32 = 25;
    pub(super) const UUID: u32 = 26;
    pub(super) const NUM_CHUNKS_FROM_MSG: u32 = 27;
    pub(super) const CHUNK_ID: u32 = 29;
}

/// What was seen so far. As in any protobuf, the last occurrence of a field wins.
#[derive(Default)]
struct Scan {
    producer_name: Option<Bytes>,
    sequence_id: Option<u64>,
    publish_time: Option<u64>,
    key_is_base64: bool,
    num_messages: Option<i32>,
    txn_least: Option<u64>,
    txn_most: Option<u64>,
    uuid: Option<Bytes>,
    chunk_id: Option<i32>,
    chunk_total: Option<i32>,
    summary: Summary,
}

impl Scan {
    fn field(&mut self, tag: u32, wire_type: WireType, rest: &mut Bytes) -> Result<(), MetadataError> {
        match wire_type {
            WireType::Varint => self.varint(tag, decode_varint(rest)?),
            WireType::LengthDelimited => {
                let len = decode_varint(rest)?;
                if len > rest.len() as u64 {
                    return Err(MetadataError::Field(tag));
                }
                self.bytes(tag, rest.split_to(len as usize))
            }
            WireType::ThirtyTwoBit => skip(tag, 4, rest),
            WireType::SixtyFourBit => skip(tag, 8, rest),
            WireType::StartGroup | WireType::EndGroup => Err(MetadataError::Field(tag)),
        }
    }

    /// Narrower types are truncated, as protobuf does.
    fn varint(&mut self, tag: u32, value: u64) -> Result<(), MetadataError> {
        let summary = &mut self.summary;
        match tag {
            field::SEQUENCE_ID => self.sequence_id = Some(value),
            field::PUBLISH_TIME => self.publish_time = Some(value),
            field::COMPRESSION => summary.compression = value as i32,
            field::UNCOMPRESSED_SIZE => summary.uncompressed_size = value as u32,
            field::NUM_MESSAGES_IN_BATCH => self.num_messages = Some(value as i32),
            field::PARTITION_KEY_B64_ENCODED => self.key_is_base64 = value != 0,
            field::DELIVER_AT_TIME => summary.deliver_at_time = Some(value as i64),
            field::MARKER_TYPE => summary.marker_type = Some(value as i32),
            field::TXNID_LEAST_BITS => self.txn_least = Some(value),
            field::TXNID_MOST_BITS => self.txn_most = Some(value),
            field::HIGHEST_SEQUENCE_ID => summary.highest_sequence_id = Some(value),
            field::NULL_VALUE => summary.null_value = value != 0,
            field::NUM_CHUNKS_FROM_MSG => self.chunk_total = Some(value as i32),
            field::CHUNK_ID => self.chunk_id = Some(value as i32),
            field::PRODUCER_NAME
            | field::REPLICATED_FROM
            | field::PARTITION_KEY
            | field::ENCRYPTION_KEYS
            | field::ORDERING_KEY
            | field::UUID => return Err(MetadataError::Field(tag)),
            _ => {}
        }
        Ok(())
    }

    fn bytes(&mut self, tag: u32, value: Bytes) -> Result<(), MetadataError> {
        let summary = &mut self.summary;
        match tag {
            field::PRODUCER_NAME => self.producer_name = Some(value),
            field::REPLICATED_FROM => summary.has_replicated_from = true,
            field::PARTITION_KEY => summary.partition_key = Some(value),
            field::ENCRYPTION_KEYS => summary.is_encrypted = true,
            field::ORDERING_KEY => summary.ordering_key = Some(value),
            field::UUID => self.uuid = Some(value),
            field::SEQUENCE_ID
            | field::PUBLISH_TIME
            | field::COMPRESSION
            | field::UNCOMPRESSED_SIZE
            | field::NUM_MESSAGES_IN_BATCH
            | field::PARTITION_KEY_B64_ENCODED
            | field::DELIVER_AT_TIME
            | field::MARKER_TYPE
            | field::TXNID_LEAST_BITS
            | field::TXNID_MOST_BITS
            | field::HIGHEST_SEQUENCE_ID
            | field::NULL_VALUE
            | field::NUM_CHUNKS_FROM_MSG
            | field::CHUNK_ID => return Err(MetadataError::Field(tag)),
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<Summary, MetadataError> {
        let mut summary = self.summary;
        summary.producer_name = self.producer_name.ok_or(MetadataError::Missing("producer name"))?;
        summary.sequence_id = self.sequence_id.ok_or(MetadataError::Missing("sequence id"))?;
        summary.publish_time = self.publish_time.ok_or(MetadataError::Missing("publish time"))?;
        summary.is_batch = self.num_messages.is_some();
        summary.num_messages = self.num_messages.unwrap_or(1).max(1).unsigned_abs();
        summary.txn = self.txn_most.zip(self.txn_least);
        summary.chunk = match (self.uuid, self.chunk_id, self.chunk_total) {
            (Some(uuid), Some(id), Some(total)) => Some(Chunk { uuid, id, total }),
            _ => None,
        };
        if self.key_is_base64 {
            // A key that claims to be base64 and is not still is a key: it is used as it came.
            summary.partition_key = summary.partition_key.map(|key| base64::decode(&key).unwrap_or(key));
        }
        Ok(summary)
    }
}

fn skip(tag: u32, len: usize, rest: &mut Bytes) -> Result<(), MetadataError> {
    if rest.len() < len {
        return Err(MetadataError::Field(tag));
    }
    rest.advance(len);
    Ok(())
}
