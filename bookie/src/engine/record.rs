//! Bringing the checkpoint up to date: gathers, in steps that hold the engine's lock for a moment each, what has changed
//! since the last one (and everything, where a copy is written anew), and writes it into every directory.

use bytes::Bytes;
use magnetar_proto::ids::LedgerId;

use super::State;
use super::dirs::{Dirs, is_full};
use super::disk::Disk;
use crate::checkpoint::{Checkpoint, Copies, Encoder, Failed, Head, LogRow};
use crate::error::FatalError;

/// Ledgers visited under one hold of the engine's lock.
const LEDGERS_PER_TURN: usize = 512;

/// Which part of the journal the durable checkpoint makes unnecessary.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Covered {
    pub(super) sequence: u64,
    pub(super) floor: u64,
}

/// The checkpoint as it is on disk.
pub(super) struct Recorder {
    /// Of the last checkpoint.
    number: u64,
    /// The logs that it names, ascending.
    logs: Vec<LogRow>,
    copies: Copies,
}

/// How to reach the engine's state for a moment.
pub(super) type WithState<'a> = &'a mut dyn FnMut(&mut dyn FnMut(&mut State));

/// What to write, and what it was made of.
#[derive(Default)]
struct Gathered {
    base: Option<Bytes>,
    change: Option<Bytes>,
    logs: Vec<LogRow>,
    changed: Vec<LedgerId>,
    gone: Vec<LedgerId>,
}

/// How a checkpoint went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recorded {
    /// Directories whose copy is up to date. 0: not one was written, for want of space.
    pub(super) copies: usize,
    /// Written into all of them together.
    pub(super) bytes: u64,
}

impl Recorder {
    /// `last`: what the start found, if anything.
    pub(super) fn new(last: Option<&Checkpoint>, copies: Copies) -> Self {
        let mut logs = last.map_or(Vec::new(), |last| last.logs.clone());
        logs.sort_unstable();
        Recorder { number: last.map_or(0, |last| last.number), logs, copies }
    }

    /// Brings every copy up to date with the logs and ledgers of this moment. Where there is not one for want of space,
    /// nothing that the checkpoint before names may be removed. A ledger directory that fails is given up while there is
    /// another one. Blocks.
    pub(super) fn record(
        &mut self,
        disk: &Disk,
        dirs: &Dirs,
        covered: Covered,
        with: WithState<'_>,
    ) -> Result<Recorded, FatalError> {
        let number = self.number + 1;
        let mut targets = vec![(None, disk.journal_dir.as_path())];
        targets.extend(dirs.usable().into_iter().map(|dir| (Some(dir), dirs.path(dir))));
        let mut seen: Vec<_> = Vec::new();
        targets.retain(|(_, path)| {
            !seen.contains(path) && {
                seen.push(*path);
                true
            }
        });
        let needs: Vec<bool> =
            targets.iter().map(|(_, path)| self.copies.of(path).needs_base(&disk.storage, number)).collect();
        let (bases, changes) = (needs.contains(&true), needs.contains(&false));
        let gathered = self.gather(disk, covered, number, (bases, changes), with);
        let mut recorded = Recorded::default();
        let mut retry_with_change = !bases;
        for ((dir, path), needs_base) in targets.into_iter().zip(needs) {
            let bytes = if needs_base { &gathered.base } else { &gathered.change };
            let bytes = bytes.as_ref().expect("what is needed was gathered");
            let copy = self.copies.of(path);
            let written = match needs_base {
                true => copy.replace(&disk.storage, number, bytes),
                false => copy.append(&disk.storage, number, bytes),
            };
            match (written, dir) {
                (Ok(()), _) => {
                    recorded.copies += 1;
                    recorded.bytes += bytes.len() as u64;
                }
                (Err(Failed { error, untouched }), dir) if is_full(&error) => {
                    retry_with_change &= untouched;
                    dir.into_iter().for_each(|dir| dirs.set_full(dir));
                }
                (Err(Failed { error, .. }), Some(dir)) if dirs.counts().1 > 1 => {
                    retry_with_change = false;
                    tracing::error!(dir = %path.display(), %error, "a ledger directory fails; going on without it");
                    dirs.lose(dir);
                }
                (Err(Failed { error, .. }), _) => return Err(FatalError::checkpoint(error)),
            }
        }
        if recorded.copies > 0 {
            (self.number, self.logs) = (number, gathered.logs);
            return Ok(recorded);
        }
        with(&mut |state| {
            gathered.changed.iter().for_each(|ledger| state.ledgers.mark_changed(*ledger));
            state.ledgers.put_back_gone(gathered.gone.clone());
        });
        if !retry_with_change {
            // A file with this number may have come about all the same: no other may have it.
            self.number = number;
        }
        Ok(recorded)
    }

    fn gather(
        &self,
        disk: &Disk,
        covered: Covered,
        number: u64,
        (bases, changes): (bool, bool),
        with: WithState<'_>,
    ) -> Gathered {
        let mut gathered = Gathered::default();
        let (mut base, mut change) = (None, None);
        with(&mut |state| {
            let Covered { sequence, floor } = covered;
            let (next_log, incomplete) = (state.next_log, state.incomplete);
            let head = Head { number, sequence, floor, next_log, incomplete };
            base = bases.then(|| Encoder::base(disk.instance, head));
            change = changes.then(|| Encoder::change(head));
            gathered.logs = state.log_rows();
            gathered.gone = state.ledgers.take_gone();
        });
        if let Some(base) = &mut base {
            gathered.logs.iter().for_each(|row| base.log(row));
        }
        if let Some(change) = &mut change {
            differences(&self.logs, &gathered.logs).for_each(|row| change.log_gone(row));
            differences(&gathered.logs, &self.logs).for_each(|row| change.log(row));
            gathered.gone.iter().for_each(|ledger| change.ledger_gone(*ledger));
        }
        let mut from = Some(0);
        while let Some(place) = from {
            with(&mut |state| {
                from = state.ledgers.take_rows(place, LEDGERS_PER_TURN, bases, |row, changed| {
                    base.iter_mut().for_each(|base| base.ledger(&row));
                    if changed {
                        change.iter_mut().for_each(|change| change.ledger(&row));
                        gathered.changed.push(row.ledger);
                    }
                });
            });
        }
        (gathered.base, gathered.change) = (base.map(Encoder::finish), change.map(Encoder::finish));
        gathered
    }
}

/// Rows of `these` that `those` do not have. Both are sorted.
fn differences<'a>(these: &'a [LogRow], those: &'a [LogRow]) -> impl Iterator<Item = &'a LogRow> {
    these.iter().filter(|row| those.binary_search(row).is_err())
}
