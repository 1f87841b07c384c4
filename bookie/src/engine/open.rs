//! Opening the stored state: checkpoint, logs, journal, in this order; then the threads start.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Buf;
use magnetar_proto::ids::{EntryId, LedgerId};
use tokio::sync::{Semaphore, watch};

use super::disk::{Disk, OpenLog};
use super::flush::{Covered, FlushSignal};
use super::{ENTRY_OVERHEAD_BYTES, Engine, Limits, State};
use crate::cache::WriteCache;
use crate::checkpoint::{Checkpoint, LogRow};
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
        let mut loader = Loader {
            disk: &disk,
            limits,
            room: room.clone(),
            state: State::empty(),
            covered: Covered::default(),
        };
        let from = loader.load_checkpoint()?;
        let replayed = journal::replay(
            &disk.storage,
            &disk.journal_dir,
            disk.instance,
            from,
            &mut |sequence, record| loader.apply(sequence, record),
        )?;
        let Loader { state, covered, .. } = loader;
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
            limits,
            state: Mutex::new(state),
            journal,
            room,
            flush: FlushSignal::new(covered),
            failed,
            metrics,
        });
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
            next_log: 1,
            journal_bytes: 0,
        }
    }

    /// Takes a log newer than all before, while nobody else needs the state: it may read other logs.
    fn add_log(&mut self, open: OpenLog, runs: &[Run]) {
        let offsets = self.offsets(&self.ledgers.slots_to_cut(&open.log, runs)).read();
        self.ledgers.add_runs(&open.log, runs, &offsets);
        self.logs.insert(open.log.id, open);
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
    limits: Limits,
    room: Arc<Semaphore>,
    state: State,
    covered: Covered,
}

impl Loader<'_> {
    fn load_checkpoint(&mut self) -> Result<ReplayFrom, OpenError> {
        let Some(checkpoint) = self.disk.read_checkpoint()? else {
            self.disk.remove_leftovers(&[])?;
            return Ok(ReplayFrom { floor: None, sequence: 0 });
        };
        if checkpoint.instance != self.disk.instance {
            return Err(OpenError::ForeignCheckpoint);
        }
        let Checkpoint { sequence, floor, next_log, logs, ledgers, .. } = checkpoint;
        self.disk.remove_leftovers(&logs)?;
        for row in ledgers {
            self.state.ledgers.restore(row);
        }
        // Ascending, so that the newest copy of an entry wins.
        for row in logs {
            self.open_log(row)?;
        }
        self.state.next_log = next_log;
        self.covered = Covered { sequence, floor };
        Ok(ReplayFrom { floor: Some(floor), sequence })
    }

    fn open_log(&mut self, row: LogRow) -> Result<(), OpenError> {
        match self.disk.open_log(&row) {
            Ok((open, runs)) => {
                self.state.add_log(open, &runs);
                Ok(())
            }
            // The other logs can still be read; see `State::damaged_logs`.
            Err(
                reason @ (entry_log::OpenError::Format(entry_log::FormatError::Damaged)
                | entry_log::OpenError::Foreign),
            ) => {
                tracing::error!(log = row.log, %reason, "an entry log is damaged: what is not found elsewhere cannot be called absent");
                self.state.damaged_logs.push(row);
                Ok(())
            }
            Err(entry_log::OpenError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                tracing::error!(
                    log = row.log,
                    "an entry log is missing: what is not found elsewhere cannot be called absent"
                );
                self.state.damaged_logs.push(row);
                Ok(())
            }
            Err(reason) => Err(OpenError::EntryLog { log: row.log, reason }),
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
        let (open, runs) = self.disk.write_log(log, &generation).map_err(FatalError::entry_log)?;
        self.state.next_log += 1;
        self.state.add_log(open, &runs);
        self.state.cache.release();
        // Segments are freed once the journal runs.
        self.covered = Covered { sequence: covered, floor: self.covered.floor.max(1) };
        let state = &self.state;
        let checkpoint = Checkpoint {
            instance: self.disk.instance,
            sequence: covered,
            floor: self.covered.floor,
            next_log: state.next_log,
            logs: state.log_rows(),
            ledgers: state.ledgers.walk(0, usize::MAX).0.map(|ledger| state.ledgers.row(ledger)).collect(),
        };
        self.disk.replace_checkpoint(&checkpoint).map_err(FatalError::checkpoint)?;
        Ok(())
    }
}
