//! Opening the stored state: checkpoint, logs, journal, in this order; then the threads start.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Buf;
use magnetar_proto::ids::{EntryId, LedgerId};
use tokio::sync::{Semaphore, watch};

use super::dirs::Dirs;
use super::disk::{Disk, OpenLog};
use super::flush::{Covered, FlushSignal, Progress};
use super::waiters::Waiters;
use super::{ENTRY_OVERHEAD_BYTES, Engine, Findings, Limits, Mode, ReadOnlyReason, State};
use crate::cache::{ReadCache, WriteCache};
use crate::checkpoint::{self, Checkpoint, LogRow};
use crate::entry_log::{self, Run};
use crate::error::{FatalError, OpenError};
use crate::index::Ledgers;
use crate::journal::record::Record;
use crate::journal::{self, Complete, Hooks, Journal, ReplayFrom};
use crate::metrics::Metrics;

impl<T: Send + 'static> Engine<T> {
    /// Opens what `disk` holds, replays the journal and starts the threads. `complete` gets tokens as they become
    /// durable (see [`Complete`]). Blocks.
    pub(crate) fn open(
        disk: Disk,
        limits: Limits,
        metrics: Arc<Metrics>,
        complete: Complete<T>,
    ) -> Result<Arc<Engine<T>>, OpenError> {
        let room = Arc::new(Semaphore::new(limits.write_cache_bytes));
        let dirs = Dirs::open(&*disk.storage, &disk.ledger_dirs);
        let mut loader = Loader {
            disk: &disk,
            dirs: &dirs,
            limits,
            room: room.clone(),
            state: State::empty(),
            covered: Covered::default(),
            number: 0,
        };
        let from = loader.load_checkpoint()?;
        let replayed = journal::replay(
            &disk.storage,
            &disk.journal_dir,
            disk.instance,
            from,
            &mut |sequence, record| loader.apply(sequence, record),
        )?;
        for damage in &replayed.damage {
            tracing::error!(%damage, "the journal is damaged; going on read-only, and nothing is called absent");
        }
        loader.state.incomplete |= !replayed.damage.is_empty();
        loader.settle_unnamed()?;
        let Loader { mut state, covered, number, .. } = loader;
        if state.incomplete {
            state.mode = state.mode.with(ReadOnlyReason::Incomplete, true);
        }
        let (mode, _) = watch::channel(state.mode);
        let (failed, _) = watch::channel(None);
        let reporting = failed.clone();
        let hooks = Hooks {
            complete,
            failed: Box::new(move |error| {
                reporting.send_replace(Some(FatalError::journal(error)));
            }),
            metrics: metrics.clone(),
        };
        let options = journal::Options { segment_bytes: limits.segment_bytes, device: limits.journal_device };
        let journal =
            Journal::start(disk.storage.clone(), &disk.journal_dir, disk.instance, options, replayed, hooks)?;
        let engine = Arc::new(Engine {
            disk,
            dirs,
            limits,
            state: Mutex::new(state),
            journal,
            room,
            reads: Arc::new(ReadCache::new(limits.read_cache_bytes)),
            flush: FlushSignal::new(Progress::new(covered, number)),
            failed,
            metrics,
            mode,
            findings: Findings::default(),
        });
        if engine.lock().incomplete {
            // The journal's evidence may be freed by the next flush.
            engine.write_checkpoint(&mut engine.flush.hold())?;
        }
        engine.check_space();
        engine.start_flushing()?;
        Ok(engine)
    }
}

impl State {
    fn empty() -> Self {
        State {
            ledgers: Ledgers::default(),
            cache: WriteCache::default(),
            logs: HashMap::new(),
            damaged_logs: Vec::new(),
            incomplete_logs: Vec::new(),
            next_log: 1,
            journal_bytes: 0,
            incomplete: false,
            mode: Mode::default(),
            waiters: Waiters::default(),
            space_credit: u64::MAX,
        }
    }

    /// Takes a log while nobody else needs the state: it may read other logs.
    fn add_log(&mut self, open: OpenLog, runs: &[Run]) {
        let log = open.log.clone();
        self.logs.insert(log.id, open);
        let offsets = self.offsets(&self.ledgers.slots_to_cut(&log, runs)).read();
        self.ledgers.add_runs(&log, runs, &offsets);
    }

    /// What a checkpoint says about the logs.
    pub(super) fn log_rows(&self) -> Vec<LogRow> {
        let mut rows: Vec<LogRow> =
            self.logs.values().map(|open| open.row()).chain(self.damaged_logs.iter().copied()).collect();
        rows.sort_unstable_by_key(|row| row.log);
        rows
    }
}

struct Loader<'a> {
    disk: &'a Disk,
    dirs: &'a Dirs,
    limits: Limits,
    room: Arc<Semaphore>,
    state: State,
    covered: Covered,
    /// Of the last checkpoint.
    number: u64,
}

impl Loader<'_> {
    fn load_checkpoint(&mut self) -> Result<ReplayFrom, OpenError> {
        // Ids of files that no checkpoint names are not used again as long as the files may matter.
        let last_file = self.disk.sealed_logs()?.iter().map(|row| row.log).max().unwrap_or(0);
        self.state.next_log = last_file + 1;
        let checkpoint = match self.disk.read_checkpoint() {
            Ok(Some(checkpoint)) if checkpoint.instance != self.disk.instance => {
                return Err(OpenError::ForeignCheckpoint);
            }
            Ok(Some(checkpoint)) => checkpoint,
            // The journal tells what that means: nothing if it reaches back to the beginning.
            Ok(None) | Err(checkpoint::ReadError::Format(checkpoint::FormatError::Damaged)) => {
                return Ok(ReplayFrom { floor: None, sequence: 0 });
            }
            Err(error) => return Err(error.into()),
        };
        let Checkpoint { sequence, floor, next_log, number, incomplete, logs, ledgers, .. } = checkpoint;
        (self.state.incomplete, self.number) = (incomplete, number);
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
    /// the journal has their entries: they go. After a damaged one they may be all that is left of some entries.
    fn settle_unnamed(&mut self) -> Result<(), OpenError> {
        let rows = self.state.log_rows();
        let named: HashSet<u64> = rows.iter().map(|row| row.log).collect();
        let unnamed = self.disk.sealed_logs()?.into_iter().filter(|row| !named.contains(&row.log));
        for row in unnamed {
            if !self.state.incomplete {
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

    fn apply(&mut self, sequence: u64, record: Record) -> Result<(), OpenError> {
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

    /// A journal longer than the write cache is flushed on the way; `covered` is the sequence applied last.
    fn make_room(&mut self, covered: u64, bytes: usize) -> Result<(), OpenError> {
        let permits = u32::try_from(bytes).expect("a record's body is bounded");
        if self.state.cache.active().bytes() + bytes > self.limits.write_cache_bytes / 2
            && !self.state.cache.active().is_empty()
        {
            self.flush(covered)?;
        }
        match self.room.clone().try_acquire_many_owned(permits) {
            Ok(room) => self.state.cache.hold(room),
            // Larger than the whole cache: a smaller limit was configured since it was written. It is held all the same.
            Err(_) => tracing::warn!(bytes, "a journalled entry is larger than the write cache"),
        }
        Ok(())
    }

    fn flush(&mut self, covered: u64) -> Result<(), OpenError> {
        let generation = self.state.cache.swap();
        let log = self.state.next_log;
        let full = || FatalError::entry_log(io::Error::from(io::ErrorKind::StorageFull).into());
        let mut written = None;
        for dir in self.dirs.candidates(log) {
            match self.disk.write_log(dir, log, generation.sorted()) {
                Ok(open) => {
                    written = Some(open);
                    break;
                }
                Err(error) => {
                    tracing::error!(dir = %self.dirs.path(dir).display(), %error, "cannot write an entry log");
                }
            }
        }
        let (open, runs) = written.ok_or_else(full)?;
        self.state.next_log += 1;
        self.state.add_log(open, &runs);
        self.state.cache.release();
        // Segments are freed once the journal runs.
        self.covered = Covered { sequence: covered, floor: self.covered.floor.max(1) };
        self.number += 1;
        let state = &self.state;
        let checkpoint = Checkpoint {
            instance: self.disk.instance,
            sequence: covered,
            floor: self.covered.floor,
            next_log: state.next_log,
            number: self.number,
            incomplete: state.incomplete,
            logs: state.log_rows(),
            ledgers: state.ledgers.walk(0, usize::MAX).0.map(|ledger| state.ledgers.row(ledger)).collect(),
        };
        let encoded = checkpoint.encode();
        self.disk.replace_checkpoint(&self.disk.journal_dir, &encoded).map_err(FatalError::checkpoint)?;
        for dir in self.dirs.usable() {
            self.disk.replace_checkpoint(self.dirs.path(dir), &encoded).map_err(FatalError::checkpoint)?;
        }
        Ok(())
    }
}
