//! Checks every checksum in a bookie's directories, and what the files say of each other.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Buf;
use magnetar_common::storage::Storage;

use super::log_check::LogCheck;
use super::mend::mended_record;
use super::report::{Finding, Verified, Weight, What};
use super::store::{Store, most_named};
use super::walk::{Begin, Hole, Seen, SegmentFile, walk};
use super::{Dirs, OfflineError};
use crate::checkpoint::{self, Decoded};
use crate::identity::IdentityError;
use crate::journal::record::{self, Header, Place, Record};
use crate::journal::segment::HEADER_BYTES;

/// Reads everything once, front to back, and gives each finding to `find` as it is met. Memory is bounded by the
/// checkpoint, the runs of one log and two of the largest entries. Refuses directories that a bookie runs on. Blocks.
pub fn verify(
    storage: &Arc<dyn Storage>,
    dirs: &Dirs,
    find: &mut dyn FnMut(Finding),
) -> Result<Verified, OfflineError> {
    let store = Store::open(storage, dirs)?;
    if let Some(path) = store.in_use.clone() {
        return Err(OfflineError::InUse { path });
    }
    let mut check = Check { store: &store, verified: Verified::default(), find };
    check.stamps();
    check.checkpoint();
    check.incomplete();
    check.journal();
    check.logs();
    Ok(check.verified)
}

struct Check<'a> {
    store: &'a Store,
    verified: Verified,
    find: &'a mut dyn FnMut(Finding),
}

impl Check<'_> {
    fn found(&mut self, finding: Finding) {
        self.verified.count(&finding);
        (self.find)(finding);
    }

    fn stamps(&mut self) {
        let store = self.store;
        let known = store.stamps.iter().filter_map(|stamp| stamp.found.as_ref().ok()?.as_ref());
        let own = known.filter(|found| found.instance == store.instance).map(|found| &found.bookie);
        let bookie = most_named(&own.collect::<Vec<_>>());
        for stamp in &store.stamps {
            let damage = |detail: String| Finding::damage(What::Identity, &stamp.path, detail);
            let finding = match &stamp.found {
                Ok(Some(found)) if found.instance != store.instance => {
                    damage(format!("it names instance {}, the others {}", found.instance, store.instance))
                }
                Ok(Some(found)) if Some(&found.bookie) != bookie => {
                    damage("it names another bookie than the others".into())
                }
                Ok(Some(_)) if !stamp.exact => damage("it is not as it was written".into()).harmless(true),
                Ok(Some(_)) => continue,
                Ok(None) => damage("the directory has no identity stamp".into()),
                Err(error @ (IdentityError::Io { .. } | IdentityError::Permission { .. })) => {
                    Finding::new(Weight::CannotTell, What::Io, &stamp.path, error.to_string())
                }
                Err(error @ IdentityError::Newer { .. }) => {
                    Finding::new(Weight::CannotTell, What::Foreign, &stamp.path, error.to_string())
                }
                Err(error) => damage(error.to_string()),
            };
            self.found(finding);
        }
    }

    /// Every copy of the checkpoint: one that is damaged is no loss as long as another one is whole.
    fn checkpoint(&mut self) {
        let store = self.store;
        for dir in store.dirs.all() {
            let path = dir.join(checkpoint::NAME);
            let finding = match checkpoint::read(&store.storage, dir) {
                Ok(Some(found)) if found.checkpoint.instance != store.instance => {
                    Finding::damage(What::Foreign, path, "the checkpoint belongs to another bookie")
                }
                Ok(Some(found)) => match copy_finding(store, path, &found) {
                    Some(finding) => finding,
                    None => continue,
                },
                Ok(None) => continue,
                Err(checkpoint::ReadError::Io(error)) => {
                    Finding::new(Weight::CannotTell, What::Io, path, error.to_string())
                }
                Err(error @ checkpoint::ReadError::Format(checkpoint::FormatError::Newer { .. })) => {
                    Finding::new(Weight::CannotTell, What::Foreign, path, error.to_string())
                }
                Err(error @ checkpoint::ReadError::Format(checkpoint::FormatError::Damaged)) => {
                    let detail = match &store.checkpoint {
                        Ok(_) => format!("{error}; another copy is whole, and the next start goes by it"),
                        Err(_) => format!("{error}: journal and logs are checked without it"),
                    };
                    Finding::damage(What::Checkpoint, path, detail)
                }
            };
            self.found(finding);
        }
    }

    /// The mark that a start has left which found the journal damaged.
    fn incomplete(&mut self) {
        if self.store.known_checkpoint().is_some_and(|found| found.incomplete) {
            let detail = "an earlier start found acknowledged journal records missing: the bookie is read-only until the loss is accepted";
            self.found(Finding::damage(What::Incomplete, self.store.checkpoint_path(), detail));
        }
    }

    fn journal(&mut self) {
        let store = self.store;
        let dir = &store.dirs.journal_dir;
        let walked = walk(&store.storage, dir, store.instance, store.replay_from(), &mut |file, seen| {
            self.segment(file, seen);
        });
        if let Err(error) = walked {
            self.found(Finding::new(Weight::CannotTell, What::Io, dir, error.to_string()));
        }
    }

    fn segment(&mut self, file: &SegmentFile, seen: Seen<'_>) {
        match &seen {
            Seen::Segment(_) => {
                self.verified.segments += 1;
                self.verified.bytes += file.bytes;
            }
            Seen::Record { .. } => self.verified.records += 1,
            _ => {}
        }
        if let Some(finding) = segment_finding(file, seen) {
            self.found(finding);
        }
    }

    fn logs(&mut self) {
        for file in &self.store.logs {
            if file.row.is_none() && self.store.checkpoint.is_ok() {
                let detail = "no checkpoint names this log: the next start removes it, as the journal still holds its entries";
                self.found(Finding::new(Weight::Note, What::Leftover, &file.path, detail));
                continue;
            }
            LogCheck { store: self.store, file, verified: &mut self.verified, find: self.find }.run();
        }
    }
}

/// What is wrong with a copy of the checkpoint whose base is whole, if anything.
fn copy_finding(store: &Store, path: PathBuf, found: &Decoded) -> Option<Finding> {
    let number = found.checkpoint.number;
    let newest = store.known_checkpoint().map_or(number, |newest| newest.number);
    let behind = match newest - number.min(newest) {
        0 => "no copy has a later change".to_owned(),
        changes => format!("another copy has what follows, {changes} changes, and the next start goes by it"),
    };
    let Some(offset) = found.unread else {
        let detail = format!("the copy ends with change {number}: {behind}");
        return (newest > number).then(|| Finding::new(Weight::Note, What::Checkpoint, path, detail));
    };
    // What was not written to its end is shorter than it says, unless the disk has put the pieces down out of order.
    if found.is_cut {
        let detail = format!("the copy ends in a change that was not written to its end; {behind}");
        return Some(Finding::new(Weight::Note, What::Checkpoint, path, detail).at(offset, 0));
    }
    let detail = format!(
        "the change after {number} cannot be read: it has rotted, or a power cut tore it; {behind}, and journal and \
         logs are checked from there"
    );
    Some(Finding::damage(What::Checkpoint, path, detail).at(offset, 0).harmless(newest > number))
}

/// What is wrong with a journal file, if anything.
pub(super) fn segment_finding(file: &SegmentFile, seen: Seen<'_>) -> Option<Finding> {
    let damage = |what, detail: String| Finding::damage(what, &file.path, detail);
    Some(match seen {
        Seen::Segment(begin) => return begin_finding(file, &begin),
        Seen::Record { .. } => return None,
        Seen::Hole(hole) => hole_finding(file, &hole),
        Seen::Torn { offset, sequence, behind } => {
            let detail = format!(
                "the journal ends at record {sequence} in a batch that was never durable, as a crash leaves it ({behind} whole records of the batch behind it are dropped with it)"
            );
            let bytes = file.bytes.saturating_sub(offset);
            Finding::new(Weight::Note, What::TornTail, &file.path, detail).at(offset, bytes)
        }
        Seen::Gap { missing: (first, last) } => {
            let detail = format!("journal records {first} to {last} are missing before this segment");
            let mut finding = damage(What::JournalRecord, detail);
            finding.sequences = Some((first, last));
            finding
        }
        Seen::Missing => damage(
            What::MissingSegment,
            "the checkpoint needs this journal segment, but it does not exist".into(),
        ),
        Seen::Failed(error) => Finding::new(Weight::CannotTell, What::Io, &file.path, error.to_string()),
    })
}

fn begin_finding(file: &SegmentFile, begin: &Begin) -> Option<Finding> {
    let path: PathBuf = file.path.clone();
    match begin {
        Begin::Live { header_whole: true, .. } if file.bytes < HEADER_BYTES as u64 => {
            let detail = "the file ends within its header: it was cut, or a start was cut short";
            Some(Finding::new(Weight::Note, What::NeverBegun, path, detail))
        }
        Begin::Live { header_whole: true, .. } | Begin::BelowFloor | Begin::Free => None,
        Begin::NeverBegun => {
            let detail =
                "no record of this segment ever became durable, as a start that is cut short leaves it";
            Some(Finding::new(Weight::Note, What::NeverBegun, path, detail))
        }
        Begin::Live { first, header_whole: false } => {
            let detail = format!("the segment's header is damaged; its records begin with {first}");
            Some(Finding::damage(What::SegmentHeader, path, detail).at(0, 0))
        }
        Begin::Foreign => {
            Some(Finding::damage(What::Foreign, path, "the segment was written by another bookie"))
        }
        Begin::Newer { version } => {
            let detail = format!("format version {version} is newer than this program understands");
            Some(Finding::new(Weight::CannotTell, What::Foreign, path, detail))
        }
    }
}

fn hole_finding(file: &SegmentFile, hole: &Hole) -> Finding {
    let (first, last) = hole.missing;
    let what = if hole.unknown { What::UnknownRecord } else { What::JournalRecord };
    let mut detail = match (hole.unknown, first == last) {
        (true, _) => format!("journal record {first} is of a kind that this program does not understand"),
        (false, true) => format!("journal record {first} is damaged"),
        (false, false) => format!("journal records {first} to {last} cannot be read"),
    };
    if hole.covered {
        detail.push_str("; the checkpoint covers it");
    }
    let mut finding = Finding::damage(what, &file.path, detail)
        .at(hole.offset, hole.end - hole.offset)
        .harmless(hole.covered);
    finding.sequences = Some(hole.missing);
    let claim = hole.damaged.as_ref().and_then(|bytes| claimed_ids(file.id, first, bytes));
    match claim {
        Some((ledger, entry, certain)) => finding.of(ledger, entry, certain),
        None => finding,
    }
}

/// The ids that a damaged record names, and whether they are certain: they are when exactly one flipped bit explains
/// the damage.
fn claimed_ids(segment: u64, sequence: u64, damaged: &[u8]) -> Option<(u64, u64, bool)> {
    let fits = |place: Place| place.segment == segment && place.sequence == sequence;
    let ids = |mut body: &[u8]| Some((body.try_get_u64().ok()?, body.try_get_u64().ok()?));
    if let Some((_, record)) = mended_record(damaged).filter(|(place, _)| fits(*place)) {
        let Record::Entry(body) = record else { return None };
        return ids(&body).map(|(ledger, entry)| (ledger, entry, true));
    }
    Header::peek(damaged).filter(|header| fits(header.place) && header.is_entry())?;
    ids(damaged.get(record::HEADER_BYTES..)?).map(|(ledger, entry)| (ledger, entry, false))
}
