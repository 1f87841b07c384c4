//! Loading what is stored: checkpoint, logs, journal, in this order.
//! It must never call absent what it could not read, nor start with less than the disks hold because they are full.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Buf;
use magnetar_proto::ids::{EntryId, LedgerId};
use tokio::sync::Semaphore;

use super::dirs::Dirs;
use super::disk::{Disk, OpenLog};
use super::flush::Taken;
use super::record::{Covered, Recorder};
use super::{ENTRY_OVERHEAD_BYTES, Limits, State};
use crate::checkpoint::{self, Checkpoint, Copies, LogRow};
use crate::entry_log::{self, Run};
use crate::error::{FatalError, OpenError};
use crate::index::Ledgers;
use crate::journal::ReplayFrom;
use crate::journal::record::Record;

/// The state on its way from the disk.
pub(super) struct Loader<'a> {
    disk: &'a Disk,
    dirs: &'a Dirs,
    limits: Limits,
    room: Arc<Semaphore>,
    pub(super) state: State,
    pub(super) covered: Covered,
    pub(super) recorder: Recorder,
    /// Entries of the journal for which no ledger directory had space.
    pub(super) pending: Option<Taken>,
}

impl<'a> Loader<'a> {
    pub(super) fn new(disk: &'a Disk, dirs: &'a Dirs, limits: Limits, room: Arc<Semaphore>) -> Self {
        let (state, covered) = (State::empty(), Covered::default());
        let recorder = Recorder::new(None, Copies::unknown(disk.dirs()));
        Loader { disk, dirs, limits, room, state, covered, recorder, pending: None }
    }

    /// Takes what the checkpoint and its logs say.
    pub(super) fn load_checkpoint(&mut self) -> Result<ReplayFrom, OpenError> {
        // Ids of files that no checkpoint names are not used again as long as the files may matter.
        let last_file = self.disk.sealed_logs()?.iter().map(|row| row.log).max().unwrap_or(0);
        self.state.next_log = last_file + 1;
        let (copies, checkpoint) = match self.disk.read_checkpoint() {
            Ok((_, Some(checkpoint))) if checkpoint.instance != self.disk.instance => {
                return Err(OpenError::ForeignCheckpoint);
            }
            Ok((copies, Some(checkpoint))) => (copies, checkpoint),
            // The journal tells what that means: nothing if it reaches back to the beginning.
            Ok((_, None)) | Err(checkpoint::ReadError::Format(checkpoint::FormatError::Damaged)) => {
                return Ok(ReplayFrom { floor: None, sequence: 0 });
            }
            Err(error) => return Err(error.into()),
        };
        self.recorder = Recorder::new(Some(&checkpoint), copies);
        let Checkpoint { sequence, floor, next_log, incomplete, logs, ledgers, .. } = checkpoint;
        self.state.incomplete = incomplete;
        self.state.next_log = self.state.next_log.max(next_log);
        for row in ledgers {
            self.state.ledgers.restore(row);
        }
        // Ascending, so that the newest copy of an entry wins.
        for row in logs {
            self.open_log(row)?;
        }
        self.covered = Covered { sequence, floor };
        Ok(ReplayFrom { floor: Some(floor), sequence })
    }

    /// Decides about sealed logs that the checkpoint did not name. After a whole replay they are what a crash left, and
    /// the journal has their entries: they go. After a damaged one they may be all that is left of some entries. So they
    /// may where a log that the checkpoint names cannot be opened: should the last change of the checkpoint be lost in
    /// every copy, that log was rewritten into an unnamed one.
    pub(super) fn settle_unnamed(&mut self) -> Result<(), OpenError> {
        let rows = self.state.log_rows();
        let named: HashSet<u64> = rows.iter().map(|row| row.log).collect();
        let unnamed = self.disk.sealed_logs()?.into_iter().filter(|row| !named.contains(&row.log));
        for row in unnamed {
            if !self.state.incomplete && self.state.damaged_logs.is_empty() {
                self.disk.remove_log(&row)?;
                continue;
            }
            tracing::warn!(log = row.log, "taking up an entry log that no readable checkpoint names");
            self.open_log_with(row, |ledgers, runs| {
                runs.iter().for_each(|run| _ = ledgers.ensure(run.ledger));
            })?;
        }
        self.disk.remove_temporaries();
        Ok(())
    }

    fn open_log(&mut self, row: LogRow) -> Result<(), OpenError> {
        self.open_log_with(row, |_, _| {})
    }

    fn open_log_with(
        &mut self,
        row: LogRow,
        prepare: impl FnOnce(&mut Ledgers, &[Run]),
    ) -> Result<(), OpenError> {
        let (open, runs) = match self.open_or_rebuild(&row) {
            Ok(opened) => opened,
            // One log, or one disk of several, that cannot be read must not take the others with it.
            Err(
                reason @ (entry_log::OpenError::Format(entry_log::FormatError::Damaged)
                | entry_log::OpenError::Foreign
                | entry_log::OpenError::Io(_)),
            ) => {
                tracing::error!(log = row.log, %reason, "an entry log cannot be read: what is not found elsewhere cannot be called absent");
                self.state.damaged_logs.push(row);
                return Ok(());
            }
            Err(reason) => return Err(OpenError::EntryLog { log: row.log, reason }),
        };
        prepare(&mut self.state.ledgers, &runs);
        self.state.add_log(open, &runs);
        Ok(())
    }

    /// Opens a log by its own index, or, if that is damaged, by one rebuilt from its entries.
    fn open_or_rebuild(&mut self, row: &LogRow) -> Result<(OpenLog, Vec<Run>), entry_log::OpenError> {
        match self.disk.open_log(row) {
            Err(
                reason @ (entry_log::OpenError::Format(entry_log::FormatError::Damaged)
                | entry_log::OpenError::Foreign),
            ) => {
                let (open, runs, complete) = self.disk.rebuild_log(row)?;
                tracing::error!(log = row.log, %reason, complete, "the index of an entry log is damaged: rebuilt from its entries");
                if !complete {
                    self.state.incomplete_logs.push(row.log);
                }
                Ok((open, runs))
            }
            opened => opened,
        }
    }

    /// Takes what a journal record says.
    pub(super) fn apply(&mut self, sequence: u64, record: Record) -> Result<(), OpenError> {
        self.state.journal_bytes += record.encoded_len() as u64;
        match record {
            Record::Entry(body) => {
                self.make_room(sequence - 1, body.len() + ENTRY_OVERHEAD_BYTES)?;
                let mut ids = &body[..];
                let (ledger, entry) = (LedgerId(ids.get_u64()), EntryId(ids.get_u64()));
                let lac = EntryId::from_wire(ids.get_i64());
                let known = self.state.ledgers.ensure(ledger);
                known.note_entry(entry);
                known.note_last_add_confirmed(lac);
                self.state.cache.insert(ledger, entry, body);
            }
            Record::MasterKey { ledger, key } => self.state.ledgers.restore_key(ledger, &key),
            Record::Fence { ledger } => self.state.ledgers.ensure(ledger).fence(0),
            Record::ExplicitLac { ledger, body } => {
                let known = self.state.ledgers.ensure(ledger);
                // The blob begins with the ledger id and the LAC.
                let lac = body.get(8..16).and_then(|mut lac| EntryId::from_wire(lac.get_i64()));
                known.note_last_add_confirmed(lac);
                known.set_explicit_lac(body);
            }
        }
        Ok(())
    }

    /// A journal that leaves less than a quarter of the write cache free is flushed on the way; `covered` is the sequence
    /// applied last. That is the exception, because such a flush is as fast as the disk is, at the cost of everybody who
    /// uses it: what was in the cache at a crash is mostly taken whole, and flushed at leisure while the bookie serves.
    /// Without space for a flush, the rest of the journal is held in memory, whatever the cache's limit: it is as long as
    /// the journal was allowed to be.
    fn make_room(&mut self, covered: u64, bytes: usize) -> Result<(), OpenError> {
        let permits = u32::try_from(bytes).expect("a record's body is bounded");
        if self.state.cache.active().bytes() + bytes > self.limits.write_cache_bytes / 4 * 3
            && !self.state.cache.active().is_empty()
            && self.pending.is_none()
        {
            self.flush(covered)?;
        }
        match self.room.clone().try_acquire_many_owned(permits) {
            Ok(room) => self.state.cache.hold(room),
            Err(_) if self.pending.is_some() => {}
            // Larger than the whole cache: a smaller limit was configured since it was written. It is held all the same.
            Err(_) => tracing::warn!(bytes, "a journalled entry is larger than the write cache"),
        }
        Ok(())
    }

    fn flush(&mut self, covered: u64) -> Result<(), OpenError> {
        let generation = self.state.cache.swap();
        let log = self.state.take_log_id();
        let write = |dir| self.disk.write_log(dir, log, generation.sorted());
        let written = self.dirs.in_some_dir(log, entry_log::OpenError::io, write);
        let Some((open, runs)) = written.map_err(FatalError::entry_log)? else {
            tracing::error!(
                "no ledger directory has space for what the journal holds: starting read-only, with the rest of the \
                 journal in memory; free some space, and the bookie goes on by itself"
            );
            self.pending = Some(Taken { generation, sequence: covered, log });
            return Ok(());
        };
        self.state.add_log(open, &runs);
        self.state.cache.release();
        // Segments are freed once the journal runs.
        self.covered = Covered { sequence: covered, floor: self.covered.floor.max(1) };
        // Without space for it the log stays unnamed, and the journal whole: a later checkpoint names it.
        let state = &mut self.state;
        let with = &mut |act: &mut dyn FnMut(&mut State)| act(state);
        self.recorder.record(self.disk, self.dirs, self.covered, with)?;
        Ok(())
    }
}
