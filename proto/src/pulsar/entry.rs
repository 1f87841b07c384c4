//! What is stored in a ledger for one SEND: its bytes from the checksum's magic to the frame's end, unchanged, optionally
//! behind metadata of the broker's own.
//!
//! ```text
//! [ 0x0e02 u16 | length u32 | BrokerEntryMetadata ] [ 0x0e01 u16 | crc32c u32 ] metaLen u32 | MessageMetadata | payload
//! ```
//! The checksum covers everything behind it to the end of the entry. Both bracketed parts may be missing.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use super::api::{BrokerEntryMetadata, MessageMetadata};
use crate::checksum::crc32c;

/// Announces a checksum.
pub const MAGIC_CHECKSUM: u16 = 0x0e01;

/// Announces metadata written by the broker.
pub const MAGIC_BROKER_METADATA: u16 = 0x0e02;

const MAGIC_BYTES: usize = 2;
const CHECKSUM_BYTES: usize = 4;
const LENGTH_BYTES: usize = 4;

/// An entry taken apart. Every part is a slice of the entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    /// What the broker wrote in front, if it did.
    pub broker_metadata: Option<BrokerEntryMetadata>,
    /// Everything that goes to a consumer: the entry without the broker's metadata.
    pub headers_and_payload: Bytes,
    /// The producer's checksum, unverified.
    pub checksum: Option<u32>,
    /// Encoded `MessageMetadata`.
    pub metadata: Bytes,
    /// The message, or the batch; perhaps compressed and encrypted.
    pub payload: Bytes,
}

/// The bytes are not an entry.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EntryError {
    /// A part ends behind the end of the entry.
    #[error("entry ends inside its {0}")]
    Truncated(&'static str),
    /// The broker's metadata is not valid protobuf.
    #[error("malformed broker entry metadata: {0}")]
    BrokerMetadata(#[from] prost::DecodeError),
}

/// The stored checksum is not that of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("checksum is {actual:08x}, but the producer sent {expected:08x}")]
pub struct ChecksumMismatch {
    /// As sent.
    pub expected: u32,
    /// As computed.
    pub actual: u32,
}

/// Takes a stored entry, or the payload of a SEND or MESSAGE frame, apart. Does not verify the checksum.
pub fn split(entry: &Bytes) -> Result<Parts, EntryError> {
    let mut rest = entry.clone();
    let broker_metadata = match take_broker_metadata(&mut rest)? {
        Some(encoded) => Some(BrokerEntryMetadata::decode(encoded)?),
        None => None,
    };
    let headers_and_payload = rest.clone();
    let checksum = take_checksum(&mut rest)?;
    let metadata = take_sized(&mut rest, "message metadata")?;
    Ok(Parts { broker_metadata, headers_and_payload, checksum, metadata, payload: rest })
}

/// The entry without the broker's metadata: what is sent to a consumer.
pub fn headers_and_payload(entry: &Bytes) -> Result<Bytes, EntryError> {
    let mut rest = entry.clone();
    take_broker_metadata(&mut rest)?;
    Ok(rest)
}

/// The encoded `MessageMetadata` of a stored entry.
pub(super) fn metadata(entry: &Bytes) -> Result<Bytes, EntryError> {
    let mut rest = entry.clone();
    take_broker_metadata(&mut rest)?;
    take_checksum(&mut rest)?;
    take_sized(&mut rest, "message metadata")
}

/// Checks the producer's checksum over what a SEND carried. An entry without one passes: very old clients send none.
pub fn verify_checksum(headers_and_payload: &[u8]) -> Result<(), ChecksumMismatch> {
    let Some((header, covered)) = headers_and_payload.split_at_checked(MAGIC_BYTES + CHECKSUM_BYTES) else {
        return Ok(());
    };
    let Some(mut checksum) = header.strip_prefix(&MAGIC_CHECKSUM.to_be_bytes()) else {
        return Ok(());
    };
    let (expected, actual) = (checksum.get_u32(), crc32c(covered));
    if expected == actual { Ok(()) } else { Err(ChecksumMismatch { expected, actual }) }
}

/// Lays out a message as a producer does, with magic and checksum. Copies the payload: this is the client's side.
pub fn build(metadata: &MessageMetadata, payload: &[u8]) -> Bytes {
    let metadata_len = metadata.encoded_len();
    let header_len = MAGIC_BYTES + CHECKSUM_BYTES;
    let mut out = BytesMut::with_capacity(header_len + LENGTH_BYTES + metadata_len + payload.len());
    out.put_u16(MAGIC_CHECKSUM);
    out.put_u32(0);
    out.put_u32(
        u32::try_from(metadata_len).expect("metadata is bounded by the frame limit, far below 4 GiB"),
    );
    metadata.encode_raw(&mut out);
    out.put_slice(payload);
    let checksum = crc32c(&out[header_len..]);
    out[MAGIC_BYTES..header_len].copy_from_slice(&checksum.to_be_bytes());
    out.freeze()
}

/// The bytes a broker puts in front of an entry that shall carry its metadata.
pub fn broker_metadata_prefix(metadata: &BrokerEntryMetadata) -> Bytes {
    let len = metadata.encoded_len();
    let mut out = BytesMut::with_capacity(MAGIC_BYTES + LENGTH_BYTES + len);
    out.put_u16(MAGIC_BROKER_METADATA);
    out.put_u32(len as u32);
    metadata.encode_raw(&mut out);
    out.freeze()
}

fn take_broker_metadata(rest: &mut Bytes) -> Result<Option<Bytes>, EntryError> {
    if !rest.starts_with(&MAGIC_BROKER_METADATA.to_be_bytes()) {
        return Ok(None);
    }
    rest.advance(MAGIC_BYTES);
    take_sized(rest, "broker entry metadata").map(Some)
}

fn take_checksum(rest: &mut Bytes) -> Result<Option<u32>, EntryError> {
    if !rest.starts_with(&MAGIC_CHECKSUM.to_be_bytes()) {
        return Ok(None);
    }
    rest.advance(MAGIC_BYTES);
    rest.try_get_u32().map(Some).map_err(|_| EntryError::Truncated("checksum"))
}

fn take_sized(rest: &mut Bytes, what: &'static str) -> Result<Bytes, EntryError> {
    let len = rest.try_get_u32().map_err(|_| EntryError::Truncated(what))? as usize;
    if len > rest.len() {
        return Err(EntryError::Truncated(what));
    }
    Ok(rest.split_to(len))
}
