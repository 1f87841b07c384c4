//! Tells again what the journal holds after a checkpoint.
//!
//! What ends a segment, and what does not:
//! - the next segment's header names its first sequence: records of this one stop right before it;
//! - in the last segment an unreadable record ends the journal (a torn tail: it was never durable, so never
//!   acknowledged), unless a valid record written *after it had become durable* follows: then it has rotted. That is
//!   damage: it is reported, and replay goes on with the first record after it that can be read;
//! - zeros up to the next multiple of 4096 are padding between batches;
//! - a missing or unreadable stretch that the checkpoint covers is no loss.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use magnetar_common::storage::{ALIGNMENT, AlignedBuffer, File, Storage};

use super::damage::Damage;
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
    /// The last live segment, when it was begun and no record in it was found.
    pub(super) unused: Option<u64>,
    /// Acknowledged records that are lost here. Not empty: nothing may be called absent any more.
    pub(crate) damage: Vec<Damage>,
}

/// Why a journal cannot be replayed at all.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("cannot read the journal: {0}")]
    Io(#[from] io::Error),
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
    let last_segment = numbered.keys().next_back().copied().unwrap_or(0).max(from.floor.unwrap_or(0));
    let mut damage = Vec::new();
    let first_needed = from.floor.unwrap_or(1);
    let floor_is_missing = !numbered.contains_key(&first_needed);
    let begun = open_headers(storage, numbered, first_needed, instance, from.sequence, &mut free)?;

    let mut expected = from.sequence + 1;
    let mut unused = None;
    for (at, segment) in begun.iter().enumerate() {
        let SegmentHeader { segment: id, first_sequence: first, .. } = segment.header;
        if first > expected {
            damage.push(Damage { segment: id, offset: 0, first: expected, end: first });
        }
        let next = begun.get(at + 1).map(|next| next.header);
        let mut replaying = Replaying { id, next, covered: from.sequence, damage: &mut damage };
        let end = replaying.run(segment, apply)?;
        unused = (end == first).then_some(id);
        expected = expected.max(end);
    }
    if let Some(floor) = from.floor
        && begun.is_empty()
        && floor_is_missing
    {
        damage.push(Damage { segment: floor, offset: 0, first: expected, end: expected });
    }
    let live = begun
        .iter()
        .map(|s| Segment { segment: s.header.segment, first_sequence: s.header.first_sequence })
        .collect();
    // Files of segments are renamed to free names when first reused; until then their old name is harmless.
    Ok(Replayed { next_sequence: expected, last_segment, live, free, next_free_number, unused, damage })
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
        let file = open(storage, &path)?;
        let mut bytes = AlignedBuffer::default();
        bytes.resize_stale((ALIGNMENT as u64).min(file.len()?) as usize);
        file.read_exact_at(&mut bytes, 0)?;
        bytes.truncate(HEADER_BYTES);
        match SegmentHeader::decode(&bytes) {
            Ok(header) if header.instance != instance => return Err(ReplayError::Foreign { segment }),
            Ok(header) if header.segment == segment => begun.push(Begun { header, file }),
            Err(HeaderError::Newer { version }) => return Err(ReplayError::Newer { segment, version }),
            Err(HeaderError::Damaged) if SegmentHeader::is_mark(&bytes, instance, segment) => free.push(path),
            // A recycled or new file whose header did not become durable, or a header that has rotted.
            Ok(_) | Err(HeaderError::Damaged) => match find_record(file.clone(), segment, covered)? {
                // Its records say themselves which segment they are of.
                Some(first_sequence) => {
                    tracing::error!(
                        segment,
                        "the header of a journal segment is damaged; its records are read all the same"
                    );
                    begun.push(Begun { header: SegmentHeader { instance, segment, first_sequence }, file });
                }
                None => free.push(path),
            },
        }
    }
    Ok(begun)
}

/// Opens a segment's file to be read in whole blocks: past the page cache, unless it is empty or ends within a block.
fn open(storage: &Arc<dyn Storage>, path: &Path) -> io::Result<Arc<dyn File>> {
    let file = storage.open(path)?;
    let bytes = file.len()?;
    let is_blocks = bytes > 0 && bytes.is_multiple_of(ALIGNMENT as u64);
    // A file system that will not have it, in whatever words, gives the same bytes through the page cache.
    let direct = if is_blocks { storage.open_direct(path).ok() } else { None };
    Ok(direct.unwrap_or(file))
}

/// The sequence of the first record of `segment` that the checkpoint does not cover, anywhere in the file.
fn find_record(file: Arc<dyn File>, segment: u64, covered: u64) -> io::Result<Option<u64>> {
    let mut reader = Reader::new(file)?;
    loop {
        match reader.peek()? {
            Ok((place, _, _)) if place.segment == segment && place.sequence > covered => {
                return Ok(Some(place.sequence));
            }
            _ => {}
        }
        if !reader.seek_candidate(segment)? {
            return Ok(None);
        }
    }
}

/// One segment being replayed.
struct Replaying<'a> {
    id: u64,
    /// The header of the segment after it.
    next: Option<SegmentHeader>,
    covered: u64,
    damage: &'a mut Vec<Damage>,
}

impl Replaying<'_> {
    /// Returns the sequence after the last record of the segment.
    fn run<E: From<ReplayError>>(
        &mut self,
        segment: &Begun,
        apply: &mut dyn FnMut(u64, Record) -> Result<(), E>,
    ) -> Result<u64, E> {
        let mut expected = segment.header.first_sequence;
        let mut reader = Reader::new(segment.file.clone()).map_err(ReplayError::Io)?;
        while self.next.is_none_or(|next| expected < next.first_sequence) {
            match reader.peek().map_err(ReplayError::Io)? {
                Ok((place, record, bytes)) if place.segment == self.id && place.sequence == expected => {
                    if place.sequence > self.covered {
                        apply(place.sequence, record)?;
                    }
                    reader.skip(bytes);
                    expected += 1;
                }
                Err(Unreadable::Meaning) => {
                    return Err(ReplayError::UnknownRecord { segment: self.id, sequence: expected }.into());
                }
                Err(_) if reader.skip_padding().map_err(ReplayError::Io)? => {}
                _ => match self.resume(&mut reader, expected).map_err(ReplayError::Io)? {
                    Some(sequence) => expected = sequence,
                    None => break,
                },
            }
        }
        Ok(expected)
    }

    /// Decides about an unreadable place where `expected` should stand: `Some` to go on with that record, at which the
    /// reader then stands; `None` when the segment ends here.
    fn resume(&mut self, reader: &mut Reader, expected: u64) -> io::Result<Option<u64>> {
        let (segment, unreadable_at) = (self.id, reader.offset());
        // What the checkpoint covers is no loss.
        let missing = expected.max(self.covered + 1);
        let mut candidate: Option<(u64, u64)> = None;
        let mut lost = |end| self.damage.push(Damage { segment, offset: unreadable_at, first: missing, end });
        loop {
            while let Ok((place, _, bytes)) = reader.peek()? {
                if place.segment != segment || place.sequence < expected {
                    break;
                }
                if place.sequence <= missing {
                    return Ok(Some(place.sequence));
                }
                let (offset, sequence) = *candidate.get_or_insert((reader.offset(), place.sequence));
                if place.durable_before() > missing {
                    lost(sequence);
                    reader.seek(offset);
                    return Ok(Some(sequence));
                }
                // Perhaps torn together with `expected`. Records written later may still follow.
                reader.skip(bytes);
            }
            if !reader.seek_candidate(segment)? {
                break;
            }
        }
        match (self.next, candidate) {
            // The next segment was begun when everything before it was durable.
            (Some(next), Some((offset, sequence))) if next.first_sequence > missing => {
                lost(sequence);
                reader.seek(offset);
                Ok(Some(sequence))
            }
            (Some(next), None) if next.first_sequence > missing => {
                lost(next.first_sequence);
                Ok(Some(next.first_sequence))
            }
            _ => Ok(None),
        }
    }
}

/// Whether a segment's file holds nothing that could be a record of it, whole or damaged.
pub(super) fn has_no_trace(file: Arc<dyn File>, segment: u64) -> io::Result<bool> {
    let mut reader = Reader::new(file)?;
    let first = reader.peek()?;
    let is_ours = matches!(first, Ok((place, _, _)) if place.segment == segment);
    Ok(!is_ours && !reader.seek_candidate(segment)?)
}
