//! Tells again what the journal holds after a checkpoint.
//!
//! What ends a segment, and what does not:
//! - the next segment's header names its first sequence: records of this one stop right before it;
//! - in the last segment an unreadable record ends the journal (a torn tail: its batch was never durable, so never
//!   acknowledged), unless a valid record of a *later* batch follows it: then the unreadable one had been durable, and
//!   going on would lose acknowledged entries. That is corruption and the start fails;
//! - a missing or unreadable stretch that the checkpoint covers is no loss.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use magnetar_common::storage::{File, Storage};

use super::files::Segment;
use super::reader::Reader;
use super::record::{Record, Unreadable};
use super::segment::{HEADER_BYTES, HeaderError, SegmentHeader, parse_file_name, parse_free_name};
use crate::identity::InstanceId;

/// What the checkpoint says about the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplayFrom {
    /// The lowest segment still needed; `None` without a checkpoint: the journal may be absent or begins at 1.
    pub(crate) floor: Option<u64>,
    /// Everything up to this sequence is covered.
    pub(crate) sequence: u64,
}

/// Where a journal goes on after a replay.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) next_sequence: u64,
    pub(crate) last_segment: u64,
    pub(super) live: Vec<Segment>,
    pub(super) free: Vec<PathBuf>,
    pub(super) next_free_number: u64,
}

/// Why a journal cannot be replayed. None of these may be skipped: acknowledged entries would be lost.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("cannot read the journal: {0}")]
    Io(#[from] io::Error),
    #[error("journal segment {segment:016x} is missing")]
    Missing { segment: u64 },
    #[error(
        "journal segment {segment:016x} is damaged at byte {offset}: record {sequence} was durable and cannot be read"
    )]
    Corrupt { segment: u64, offset: u64, sequence: u64 },
    #[error("journal records from {expected} to {found} are missing before segment {segment:016x}")]
    Gap { segment: u64, expected: u64, found: u64 },
    #[error(
        "journal segment {segment:016x} has format version {version}, newer than this program understands"
    )]
    Newer { segment: u64, version: u32 },
    #[error("journal segment {segment:016x} was written by another bookie")]
    Foreign { segment: u64 },
    #[error(
        "journal record {sequence} in segment {segment:016x} is of a kind this program does not understand"
    )]
    UnknownRecord { segment: u64, sequence: u64 },
}

/// A segment whose header is whole.
struct Begun {
    header: SegmentHeader,
    file: Arc<dyn File>,
}

/// Replays everything after `from`, in order, through `apply(sequence, record)`.
pub(crate) fn replay<E: From<ReplayError>>(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    instance: InstanceId,
    from: ReplayFrom,
    apply: &mut dyn FnMut(u64, Record) -> Result<(), E>,
) -> Result<Replayed, E> {
    let mut free = Vec::new();
    let mut next_free_number = 0;
    let mut numbered = BTreeMap::new();
    for name in storage.list(dir).map_err(ReplayError::Io)? {
        let path = dir.join(&name);
        if let Some(number) = parse_free_name(&name) {
            next_free_number = next_free_number.max(number);
            free.push(path);
        } else if let Some(segment) = parse_file_name(&name) {
            numbered.insert(segment, path);
        }
    }
    let first_needed = from.floor.unwrap_or(1);
    if let Some(floor) = from.floor
        && !numbered.contains_key(&floor)
    {
        return Err(ReplayError::Missing { segment: floor }.into());
    }
    let last_segment = numbered.keys().next_back().copied().unwrap_or(0).max(from.floor.unwrap_or(0));
    let begun = open_headers(storage, numbered, first_needed, instance, from.sequence, &mut free)?;

    let mut expected = from.sequence + 1;
    for (at, segment) in begun.iter().enumerate() {
        let first = segment.header.first_sequence;
        if first > expected {
            return Err(ReplayError::Gap { segment: segment.header.segment, expected, found: first }.into());
        }
        let next = begun.get(at + 1).map(|next| next.header);
        let end = replay_segment(segment, next, from.sequence, apply)?;
        expected = expected.max(end);
    }
    let live = begun
        .iter()
        .map(|s| Segment { segment: s.header.segment, first_sequence: s.header.first_sequence })
        .collect();
    // Files of segments are renamed to free names when first reused; until then their old name is harmless.
    Ok(Replayed { next_sequence: expected, last_segment, live, free, next_free_number })
}

/// Opens the segments that matter, in order. Those that never got a durable header hold no durable record: free.
fn open_headers(
    storage: &Arc<dyn Storage>,
    numbered: BTreeMap<u64, PathBuf>,
    first_needed: u64,
    instance: InstanceId,
    covered: u64,
    free: &mut Vec<PathBuf>,
) -> Result<Vec<Begun>, ReplayError> {
    let mut begun = Vec::new();
    for (segment, path) in numbered {
        if segment < first_needed {
            free.push(path);
            continue;
        }
        let file = storage.open(&path)?;
        let mut bytes = vec![0; (HEADER_BYTES as u64).min(file.len()?) as usize];
        file.read_exact_at(&mut bytes, 0)?;
        match SegmentHeader::decode(&bytes) {
            Ok(header) if header.instance != instance => return Err(ReplayError::Foreign { segment }),
            Ok(header) if header.segment == segment => begun.push(Begun { header, file }),
            Err(HeaderError::Newer { version }) => return Err(ReplayError::Newer { segment, version }),
            // A recycled or new file whose header did not become durable, or a header that has rotted.
            Ok(_) | Err(HeaderError::Damaged) => {
                if let Some((offset, sequence)) = find_record(file, segment, covered)? {
                    return Err(ReplayError::Corrupt { segment, offset, sequence });
                }
                free.push(path);
            }
        }
    }
    Ok(begun)
}

/// A record of `segment` that the checkpoint does not cover, anywhere in the file.
fn find_record(file: Arc<dyn File>, segment: u64, covered: u64) -> io::Result<Option<(u64, u64)>> {
    let mut reader = Reader::new(file)?;
    loop {
        match reader.peek()? {
            Ok((place, _, _)) if place.segment == segment && place.sequence > covered => {
                return Ok(Some((reader.offset(), place.sequence)));
            }
            _ => {}
        }
        if !reader.seek_candidate(segment)? {
            return Ok(None);
        }
    }
}

/// Returns the sequence after the last record of the segment.
fn replay_segment<E: From<ReplayError>>(
    segment: &Begun,
    next: Option<SegmentHeader>,
    covered: u64,
    apply: &mut dyn FnMut(u64, Record) -> Result<(), E>,
) -> Result<u64, E> {
    let id = segment.header.segment;
    let mut expected = segment.header.first_sequence;
    let mut reader = Reader::new(segment.file.clone()).map_err(ReplayError::Io)?;
    while next.is_none_or(|next| expected < next.first_sequence) {
        match reader.peek().map_err(ReplayError::Io)? {
            Ok((place, record, bytes)) if place.segment == id && place.sequence == expected => {
                if place.sequence > covered {
                    apply(place.sequence, record)?;
                }
                reader.skip(bytes);
                expected += 1;
            }
            Err(Unreadable::Meaning) => {
                return Err(ReplayError::UnknownRecord { segment: id, sequence: expected }.into());
            }
            _ => match resume(&mut reader, id, expected, next, covered)? {
                Some(sequence) => expected = sequence,
                None => break,
            },
        }
    }
    Ok(expected)
}

/// Decides about an unreadable place where `expected` should stand: `Some` to go on at a later record because the
/// checkpoint covers all between, `None` when the segment ends here.
fn resume(
    reader: &mut Reader,
    segment: u64,
    expected: u64,
    next: Option<SegmentHeader>,
    covered: u64,
) -> Result<Option<u64>, ReplayError> {
    let offset = reader.offset();
    while reader.seek_candidate(segment)? {
        while let Ok((place, _, bytes)) = reader.peek()? {
            if place.segment != segment || place.sequence <= expected {
                break;
            }
            if place.sequence - 1 <= covered {
                return Ok(Some(place.sequence));
            }
            if place.batch_first() > expected && expected > covered {
                return Err(ReplayError::Corrupt { segment, offset, sequence: expected });
            }
            // Of the batch that `expected` belonged to: torn together with it. Later batches may still follow.
            reader.skip(bytes);
        }
    }
    match next {
        Some(next) if next.first_sequence - 1 > covered => {
            Err(ReplayError::Gap { segment: next.segment, expected, found: next.first_sequence })
        }
        _ => Ok(None),
    }
}
