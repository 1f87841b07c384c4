//! What the metadata store says about a ledger: `BookieMetadataFormatVersion\t3\n`, a varint length, and the record.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use super::generated::LedgerMetadataFormat;
use super::generated::ledger_metadata_format::{CMetadataMapEntry, DigestType as WireDigest, Segment, State};
use crate::bookkeeper::BookieId;
use crate::bookkeeper::entry::DigestType;
use crate::ids::EntryId;

const HEADER_START: &[u8] = b"BookieMetadataFormatVersion\t";

/// The binary form: the only one written, and the only one read. The older ones are text.
const VERSION: &str = "3";

/// A ledger, as its metadata tells. A value of this type that was decoded satisfies [`LedgerMetadata::validate`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LedgerMetadata {
    /// Bookies of a segment (E).
    pub ensemble_size: u32,
    /// Copies of an entry (Qw), at most E.
    pub write_quorum: u32,
    /// Copies that must be durable before an entry is acknowledged (Qa), from 1 to Qw.
    pub ack_quorum: u32,
    /// What may still happen to the ledger.
    pub state: LedgerState,
    /// By its first entry, the bookies of each segment, in the order of their slots. Never empty; the first key is 0.
    pub segments: BTreeMap<EntryId, Vec<BookieId>>,
    /// Protection of the entries.
    pub digest: DigestType,
    /// From which the keys are derived.
    pub password: Bytes,
    /// Time of creation, in milliseconds since 1970.
    pub ctime_ms: Option<i64>,
    /// The application's own, kept as it is.
    pub custom: BTreeMap<String, Bytes>,
    /// Random number of the creator, by which it tells its own create that timed out from somebody else's.
    pub c_token: Option<i64>,
}

/// Moves only forwards: open, in recovery, closed; or from open straight to closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LedgerState {
    /// Its writer may be adding.
    Open,
    /// Somebody is fencing and recovering it.
    InRecovery,
    /// Its content is final.
    Closed {
        /// `None`: it has no entries.
        last_entry: Option<EntryId>,
        /// Sum of the payloads, in bytes.
        length: u64,
    },
}

/// The record cannot be used. Never a reason to overwrite or delete it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LedgerMetadataError {
    /// No header, or no length.
    #[error("not a ledger metadata record")]
    Header,
    /// One of the older text forms, or a newer one than this.
    #[error("ledger metadata format version {0:?} is not supported (expected {VERSION})")]
    UnsupportedVersion(String),
    /// Not valid protobuf.
    #[error("malformed ledger metadata: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A rule that holds for every ledger does not hold.
    #[error("invalid ledger metadata: {0}")]
    Invalid(&'static str),
}

impl LedgerMetadata {
    /// The bookies of the last segment: those that new entries go to.
    pub fn last_segment(&self) -> (EntryId, &[BookieId]) {
        let (first, ensemble) = self.segments.last_key_value().expect("a ledger has at least one segment");
        (*first, ensemble)
    }

    /// The bookies, by slot, of the segment that `entry` belongs to.
    pub fn ensemble_of(&self, entry: EntryId) -> &[BookieId] {
        let (_, ensemble) =
            self.segments.range(..=entry).next_back().expect("the first segment starts at entry 0");
        ensemble
    }

    /// Checks the rules that hold for every ledger: E >= Qw >= Qa >= 1; segments from entry 0, each of E bookies.
    pub fn validate(&self) -> Result<(), LedgerMetadataError> {
        let quorums_hold = self.ensemble_size >= self.write_quorum
            && self.write_quorum >= self.ack_quorum
            && self.ack_quorum >= 1;
        if !quorums_hold {
            return Err(LedgerMetadataError::Invalid("quorums are not E >= Qw >= Qa >= 1"));
        }
        if self.segments.first_key_value().is_none_or(|(first, _)| *first != EntryId::ZERO) {
            return Err(LedgerMetadataError::Invalid("no segment starts at entry 0"));
        }
        if self.segments.values().any(|ensemble| ensemble.len() != self.ensemble_size as usize) {
            return Err(LedgerMetadataError::Invalid(
                "a segment has not as many bookies as the ensemble size",
            ));
        }
        Ok(())
    }

    /// The record for the metadata store.
    pub fn encode(&self) -> Bytes {
        let record = self.to_format();
        let mut out = Vec::with_capacity(HEADER_START.len() + 12 + record.encoded_len());
        out.extend_from_slice(HEADER_START);
        out.extend_from_slice(VERSION.as_bytes());
        out.push(b'\n');
        record.encode_length_delimited(&mut out).expect("a vector grows as needed");
        out.into()
    }

    /// Reads a record, and validates it.
    pub fn decode(record: &[u8]) -> Result<Self, LedgerMetadataError> {
        let rest = record.strip_prefix(HEADER_START).ok_or(LedgerMetadataError::Header)?;
        let line_end = rest.iter().position(|byte| *byte == b'\n').ok_or(LedgerMetadataError::Header)?;
        let (version, rest) = (&rest[..line_end], &rest[line_end + 1..]);
        if version != VERSION.as_bytes() {
            let shown = String::from_utf8_lossy(&version[..version.len().min(16)]);
            return Err(LedgerMetadataError::UnsupportedVersion(shown.into_owned()));
        }
        let metadata = Self::from_format(LedgerMetadataFormat::decode_length_delimited(rest)?)?;
        metadata.validate()?;
        Ok(metadata)
    }

    fn to_format(&self) -> LedgerMetadataFormat {
        let (state, last_entry, length) = match self.state {
            LedgerState::Open => (State::Open, None, 0),
            LedgerState::InRecovery => (State::InRecovery, None, 0),
            LedgerState::Closed { last_entry, length } => (State::Closed, last_entry, length),
        };
        let segment = |(first, ensemble): (&EntryId, &Vec<BookieId>)| Segment {
            ensemble_member: ensemble.iter().map(ToString::to_string).collect(),
            first_entry_id: first.to_wire(),
        };
        let custom = |(key, value): (&String, &Bytes)| CMetadataMapEntry {
            key: Some(key.clone()),
            value: Some(value.clone()),
        };
        LedgerMetadataFormat {
            quorum_size: self.write_quorum as i32,
            ensemble_size: self.ensemble_size as i32,
            length: length as i64,
            last_entry_id: Some(EntryId::option_to_wire(last_entry)),
            state: state as i32,
            segment: self.segments.iter().map(segment).collect(),
            digest_type: Some(self.digest as i32),
            password: Some(self.password.clone()),
            ack_quorum_size: Some(self.ack_quorum as i32),
            ctime: self.ctime_ms,
            custom_metadata: self.custom.iter().map(custom).collect(),
            c_token: self.c_token,
        }
    }

    fn from_format(format: LedgerMetadataFormat) -> Result<Self, LedgerMetadataError> {
        let mut segments = BTreeMap::new();
        for segment in format.segment {
            let first = EntryId::from_wire(segment.first_entry_id)
                .ok_or(LedgerMetadataError::Invalid("a segment starts at a negative entry"))?;
            if segments.last_key_value().is_some_and(|(last, _)| *last >= first) {
                return Err(LedgerMetadataError::Invalid("segments do not ascend"));
            }
            segments.insert(first, members(&segment.ensemble_member)?);
        }
        Ok(Self {
            ensemble_size: size(format.ensemble_size)?,
            write_quorum: size(format.quorum_size)?,
            ack_quorum: size(format.ack_quorum_size.unwrap_or(format.quorum_size))?,
            state: state(format.state, format.last_entry_id, format.length)?,
            segments,
            digest: digest(format.digest_type)?,
            password: format.password.unwrap_or_default(),
            ctime_ms: format.ctime,
            custom: format
                .custom_metadata
                .into_iter()
                .map(|entry| (entry.key.unwrap_or_default(), entry.value.unwrap_or_default()))
                .collect(),
            c_token: format.c_token,
        })
    }
}

fn members(ids: &[String]) -> Result<Vec<BookieId>, LedgerMetadataError> {
    ids.iter()
        .map(|id| {
            BookieId::new(id)
                .map_err(|_| LedgerMetadataError::Invalid("a segment names an invalid bookie id"))
        })
        .collect()
}

fn size(value: i32) -> Result<u32, LedgerMetadataError> {
    u32::try_from(value).map_err(|_| LedgerMetadataError::Invalid("a quorum is negative"))
}

fn state(state: i32, last_entry: Option<i64>, length: i64) -> Result<LedgerState, LedgerMetadataError> {
    match State::try_from(state) {
        Ok(State::Open) => Ok(LedgerState::Open),
        Ok(State::InRecovery) => Ok(LedgerState::InRecovery),
        Ok(State::Closed) => Ok(LedgerState::Closed {
            last_entry: last_entry.and_then(EntryId::from_wire),
            length: u64::try_from(length)
                .map_err(|_| LedgerMetadataError::Invalid("the length is negative"))?,
        }),
        Err(_) => Err(LedgerMetadataError::Invalid("the state is unknown")),
    }
}

/// Ledgers from before digests were recorded have none in their metadata; they used the only one there was.
fn digest(number: Option<i32>) -> Result<DigestType, LedgerMetadataError> {
    match number.map(WireDigest::try_from) {
        None | Some(Ok(WireDigest::Crc32)) => Ok(DigestType::Crc32),
        Some(Ok(WireDigest::Hmac)) => Ok(DigestType::Hmac),
        Some(Ok(WireDigest::Crc32c)) => Ok(DigestType::Crc32c),
        Some(Ok(WireDigest::Dummy)) => Ok(DigestType::Dummy),
        Some(Err(_)) => Err(LedgerMetadataError::Invalid("the digest type is unknown")),
    }
}
