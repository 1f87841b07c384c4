//! Walks a journal as replay does, but past damage instead of stopping at it: every whole record, every hole between
//! them, and whether a hole is rot, a torn tail or something that the checkpoint has made unimportant.
//! It must never take rot for a torn tail where replay would not: the rules are those of `journal::replay`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use magnetar_common::storage::{File, Storage};

use crate::identity::InstanceId;
use crate::journal::ReplayFrom;
use crate::journal::reader::Reader;
use crate::journal::record::{self, BODY_BYTES_MAX, Header, Place, Record, Unreadable};
use crate::journal::segment::{HEADER_BYTES, HeaderError, SegmentHeader, parse_file_name, parse_free_name};

/// A file of the journal directory.
#[derive(Clone, Debug)]
pub(super) struct SegmentFile {
    /// The id in its name; 0 for a free file.
    pub(super) id: u64,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

/// What a segment's header turned out to be.
pub(super) enum Begin {
    /// `first` is its first sequence, by the header or, where that is damaged, by the first whole record.
    Live {
        first: u64,
        header_whole: bool,
    },
    /// Below the checkpoint's floor: nothing in it matters.
    BelowFloor,
    /// Its header never became durable, and it holds no record.
    NeverBegun,
    /// Its name says that it is free.
    Free,
    Foreign,
    Newer {
        version: u32,
    },
}

/// Records that are missing between two places of a segment.
pub(super) struct Hole {
    pub(super) offset: u64,
    /// Where reading goes on.
    pub(super) end: u64,
    pub(super) missing: (u64, u64),
    /// The checkpoint covers all that is missing.
    pub(super) covered: bool,
    /// The record's bytes, damaged, when it is one record that is missing.
    pub(super) damaged: Option<Bytes>,
    /// The first record is whole, but of a kind that this program does not understand.
    pub(super) unknown: bool,
}

/// What comes next.
pub(super) enum Seen<'a> {
    Segment(Begin),
    Record {
        place: Place,
        record: &'a Record,
        bytes: u64,
    },
    Hole(Hole),
    /// The journal's last batch, which never became durable, from `offset` on; `behind` of its records are whole.
    Torn {
        offset: u64,
        sequence: u64,
        behind: u64,
    },
    /// Sequences that neither this segment nor the one before holds.
    Gap {
        missing: (u64, u64),
    },
    /// The segment that the checkpoint names as the lowest one needed is not there.
    Missing,
    Failed(io::Error),
}

struct Live {
    file: SegmentFile,
    handle: Arc<dyn File>,
    first: u64,
}

/// Walks the journal in `dir`; fails only when the directory cannot be listed. Without `from` every segment counts.
pub(super) fn walk(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    instance: InstanceId,
    from: Option<ReplayFrom>,
    see: &mut dyn FnMut(&SegmentFile, Seen<'_>),
) -> io::Result<()> {
    let mut numbered = BTreeMap::new();
    for name in storage.list(dir)? {
        let path = dir.join(&name);
        let bytes = || storage.open(&path)?.len();
        if let Some(id) = parse_file_name(&name) {
            let bytes = bytes().unwrap_or(0);
            numbered.insert(id, SegmentFile { id, path, bytes });
        } else if parse_free_name(&name).is_some() {
            let bytes = bytes().unwrap_or(0);
            see(&SegmentFile { id: 0, path, bytes }, Seen::Segment(Begin::Free));
        }
    }
    let floor = from.and_then(|from| from.floor);
    if let Some(floor) = floor.filter(|floor| !numbered.contains_key(floor)) {
        let path = dir.join(crate::journal::segment::file_name(floor));
        see(&SegmentFile { id: floor, path, bytes: 0 }, Seen::Missing);
    }
    let covered = from.map_or(0, |from| from.sequence);
    let mut live = Vec::new();
    for (id, file) in numbered {
        if floor.is_some_and(|floor| id < floor) {
            see(&file, Seen::Segment(Begin::BelowFloor));
            continue;
        }
        match begin(storage, &file, instance) {
            Ok((begin, handle)) => {
                if let Begin::Live { first, .. } = begin {
                    live.push(Live { file: file.clone(), handle, first });
                }
                see(&file, Seen::Segment(begin));
            }
            Err(error) => see(&file, Seen::Failed(error)),
        }
    }
    let mut expected = from.map(|from| from.sequence + 1);
    for (at, segment) in live.iter().enumerate() {
        if let Some(expected) = expected.filter(|expected| segment.first > *expected) {
            see(&segment.file, Seen::Gap { missing: (expected, segment.first - 1) });
        }
        let next_first = live.get(at + 1).map(|next| next.first);
        let end = match walk_segment(segment, next_first, covered, see) {
            Ok(end) => end,
            Err(error) => {
                see(&segment.file, Seen::Failed(error));
                // What it held is not known: no gap is to be reported on top.
                next_first.unwrap_or(segment.first)
            }
        };
        expected = expected.max(Some(end));
    }
    Ok(())
}

fn begin(
    storage: &Arc<dyn Storage>,
    file: &SegmentFile,
    instance: InstanceId,
) -> io::Result<(Begin, Arc<dyn File>)> {
    let handle = storage.open(&file.path)?;
    let mut bytes = vec![0; (HEADER_BYTES as u64).min(handle.len()?) as usize];
    handle.read_exact_at(&mut bytes, 0)?;
    let begin = match SegmentHeader::decode(&bytes) {
        Ok(header) if header.instance != instance => Begin::Foreign,
        Ok(header) if header.segment == file.id => {
            Begin::Live { first: header.first_sequence, header_whole: true }
        }
        Err(HeaderError::Newer { version }) => Begin::Newer { version },
        Err(HeaderError::Damaged) if SegmentHeader::is_mark(&bytes, instance, file.id) => Begin::Free,
        Ok(_) | Err(HeaderError::Damaged) => match first_record(handle.clone(), file.id)? {
            Some(place) => Begin::Live { first: place.sequence, header_whole: false },
            None => Begin::NeverBegun,
        },
    };
    Ok((begin, handle))
}

fn first_record(handle: Arc<dyn File>, segment: u64) -> io::Result<Option<Place>> {
    let mut reader = Reader::new(handle)?;
    loop {
        match reader.peek()? {
            Ok((place, _, _)) if place.segment == segment => return Ok(Some(place)),
            _ => {}
        }
        if !reader.seek_candidate(segment)? {
            return Ok(None);
        }
    }
}

/// Returns the sequence after the last one of the segment, read or missing.
fn walk_segment(
    segment: &Live,
    next_first: Option<u64>,
    covered: u64,
    see: &mut dyn FnMut(&SegmentFile, Seen<'_>),
) -> io::Result<u64> {
    let file = &segment.file;
    let mut expected = segment.first;
    let mut reader = Reader::new(segment.handle.clone())?;
    // Where the padding right before the current offset began.
    let mut padded_from = None;
    while next_first.is_none_or(|next| expected < next) {
        let offset = reader.offset();
        let unknown = match reader.peek()? {
            Ok((place, record, bytes)) if place.segment == file.id && place.sequence == expected => {
                see(file, Seen::Record { place, record: &record, bytes: bytes as u64 });
                reader.skip(bytes);
                expected += 1;
                padded_from = None;
                continue;
            }
            Err(Unreadable::Meaning) => true,
            Err(_) if reader.skip_padding()? => {
                padded_from.get_or_insert(offset);
                continue;
            }
            _ => false,
        };
        let head = reader.look(record::HEADER_BYTES)?;
        let (end, sequence) = match resume(&mut reader, file.id, expected, next_first, covered)? {
            Resume::At { offset, sequence } => (offset, sequence),
            Resume::Torn { behind } => {
                see(file, Seen::Torn { offset, sequence: expected, behind });
                break;
            }
            Resume::Nothing => match next_first {
                Some(next) => (end_of(&head, offset, file.bytes), next),
                None => {
                    if unknown {
                        let (end, missing) = (end_of(&head, offset, file.bytes), (expected, expected));
                        let covered = expected <= covered;
                        see(file, Seen::Hole(Hole { offset, end, missing, covered, damaged: None, unknown }));
                    } else if looks_written(&head, file.id, expected) {
                        see(file, Seen::Torn { offset, sequence: expected, behind: 0 });
                    }
                    break;
                }
            },
        };
        // What looked like padding was the missing records, turned to zeros.
        let offset = padded_from.take().filter(|_| end == offset).unwrap_or(offset);
        let missing = (expected, sequence - 1);
        let one = missing.0 == missing.1 && end - offset <= (record::HEADER_BYTES + BODY_BYTES_MAX) as u64;
        let damaged = one.then(|| read(&mut reader, offset, end)).transpose()?;
        reader.seek(end);
        see(file, Seen::Hole(Hole { offset, end, missing, covered: missing.1 <= covered, damaged, unknown }));
        expected = sequence;
    }
    Ok(expected)
}

fn read(reader: &mut Reader, offset: u64, end: u64) -> io::Result<Bytes> {
    reader.seek(offset);
    reader.look((end - offset) as usize)
}

/// Where the record with this header says it ends, as far as the file goes.
fn end_of(head: &[u8], offset: u64, file_bytes: u64) -> u64 {
    let end = Header::peek(head).map(|header| offset + (record::HEADER_BYTES + header.len) as u64);
    end.filter(|end| *end <= file_bytes).unwrap_or(file_bytes.max(offset))
}

/// Whether bytes are what is left of a record of this place, rather than what the file held before.
fn looks_written(head: &[u8], segment: u64, sequence: u64) -> bool {
    match Header::peek(head) {
        Some(header) => header.place.segment == segment || header.place.sequence == sequence,
        // The file ends within a record's header.
        None => head.iter().any(|byte| *byte != 0),
    }
}

enum Resume {
    /// The next whole record; everything before it had been durable, or is covered.
    At { offset: u64, sequence: u64 },
    /// The journal ends at the unreadable place.
    Torn { behind: u64 },
    /// No whole record follows in this segment.
    Nothing,
}

/// Looks for the next whole record behind an unreadable place where `expected` should stand.
fn resume(
    reader: &mut Reader,
    segment: u64,
    expected: u64,
    next_first: Option<u64>,
    covered: u64,
) -> io::Result<Resume> {
    let mut first = None;
    let mut behind = 0;
    loop {
        while let Ok((place, _, bytes)) = reader.peek()? {
            let later = place.sequence > expected && next_first.is_none_or(|next| place.sequence < next);
            if place.segment != segment || !later {
                break;
            }
            let (offset, sequence) = *first.get_or_insert((reader.offset(), place.sequence));
            // A segment after this one, or a later batch in it, was begun only when all before was durable.
            let durable = next_first.is_some() || place.durable_before() > expected.max(covered + 1);
            if durable || place.sequence - 1 <= covered {
                return Ok(Resume::At { offset, sequence });
            }
            behind += 1;
            reader.skip(bytes);
        }
        if !reader.seek_candidate(segment)? {
            break;
        }
    }
    Ok(if behind > 0 { Resume::Torn { behind } } else { Resume::Nothing })
}
