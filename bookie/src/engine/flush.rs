//! The flush thread: takes the write cache's active generation, writes it as an entry log, replaces the checkpoint,
//! lets the journal free its segments. In this order, each step durable before the next.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use bytes::Bytes;
use magnetar_proto::ids::{EntryId, LedgerId};

use super::dirs::is_full;
use super::disk::OpenLog;
use super::{Engine, Limits, State};
use crate::cache::Generation;
use crate::checkpoint::{Checkpoint, LedgerRow};
use crate::entry_log::{self, Run};
use crate::error::FatalError;

/// Ledger rows copied under one hold of the engine's lock.
const ROWS_PER_TURN: usize = 512;

/// Wakes the flush thread.
pub(super) struct FlushSignal {
    state: Mutex<Signal>,
    changed: Condvar,
    /// Held for the whole of a flush, and by whoever else moves or drops logs: one at a time.
    progress: Mutex<Progress>,
    /// A generation waits for disk space.
    stuck: AtomicBool,
}

/// How far flushes and checkpoints have come.
pub(super) struct Progress {
    covered: Covered,
    /// Number of the last checkpoint.
    number: u64,
    /// A generation taken from the cache that no log holds yet.
    pending: Option<Taken>,
}

/// A generation to flush.
struct Taken {
    generation: Arc<Generation>,
    /// The last journal sequence that it contains.
    sequence: u64,
    /// The log it goes to.
    log: u64,
}

impl Progress {
    /// What the start found and did.
    pub(super) fn new(covered: Covered, number: u64) -> Self {
        Progress { covered, number, pending: None }
    }
}

/// Which part of the journal the durable checkpoint makes unnecessary.
#[derive(Clone, Copy, Default)]
pub(super) struct Covered {
    pub(super) sequence: u64,
    pub(super) floor: u64,
}

#[derive(Default)]
struct Signal {
    requested: bool,
    stopping: bool,
}

impl FlushSignal {
    pub(super) fn new(progress: Progress) -> Self {
        FlushSignal {
            state: Mutex::default(),
            changed: Condvar::new(),
            progress: Mutex::new(progress),
            stuck: AtomicBool::new(false),
        }
    }

    /// Whether a flush waits for disk space.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Relaxed)
    }

    /// Waits for the running flush and keeps the next one from beginning.
    pub(super) fn hold(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().expect("nothing panics while flushing")
    }

    /// A flush begins soon, after the one that runs.
    pub(super) fn request(&self) {
        let mut state = self.state.lock().expect("nothing panics while holding the flush signal");
        if !state.requested {
            state.requested = true;
            self.changed.notify_one();
        }
    }

    pub(super) fn stop(&self) {
        self.state.lock().expect("nothing panics while holding the flush signal").stopping = true;
        self.changed.notify_one();
    }

    /// Blocks until a flush is requested; false when stopped.
    fn wait(&self) -> bool {
        let mut state = self.state.lock().expect("nothing panics while holding the flush signal");
        loop {
            if state.stopping {
                return false;
            }
            if std::mem::take(&mut state.requested) {
                return true;
            }
            state = self.changed.wait(state).expect("nothing panics while holding the flush signal");
        }
    }
}

impl State {
    /// Half of the cache is full (the other half takes entries while this one is flushed), or the journal has grown
    /// long enough to make a restart slow.
    pub(super) fn flush_is_due(&self, limits: &Limits) -> bool {
        self.cache.active().bytes() >= limits.write_cache_bytes / 2
            || self.journal_bytes >= limits.journal_bytes
    }
}

impl<T: Send + 'static> Engine<T> {
    /// Starts the thread; it ends with [`FlushSignal::stop`] or the first failure.
    pub(super) fn start_flushing(self: &Arc<Self>) -> std::io::Result<()> {
        let engine = self.clone();
        std::thread::Builder::new().name("bookie-flush".into()).spawn(move || {
            while engine.flush.wait() {
                // A full disk is not the end: the next look at the free space asks again.
                if let Err(error) = engine.flush_now() {
                    engine.fail(error);
                    return;
                }
            }
        })?;
        Ok(())
    }

    /// Reports a failure after which the bookie must not go on; the first one counts. Nothing is acknowledged any more.
    pub(crate) fn fail(&self, error: FatalError) {
        self.journal.fail();
        self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            failed.get_or_insert(error);
            first
        });
    }

    /// Flushes everything accepted so far and checkpoints, if there is anything new; false when the disks are full, and
    /// the journal must keep it. Blocks.
    pub(crate) fn flush_now(&self) -> Result<bool, FatalError> {
        // Whoever finds nothing new must still wait for the flush that took it: a stop would end the process under it.
        let mut progress = self.flush.hold();
        // What waited for space first, then what has come since.
        let written = progress.pending.is_none() || self.flush_held(&mut progress)?;
        let news = {
            let state = self.lock();
            state.journal_bytes > 0 || !state.cache.active().is_empty()
        };
        if written && news { self.flush_held(&mut progress) } else { Ok(written) }
    }

    fn flush_held(&self, progress: &mut Progress) -> Result<bool, FatalError> {
        let begun = self.metrics.now();
        let result = self.flush_generation(progress);
        self.metrics.storage.flush.ended(self.metrics.now() - begun, &result);
        result
    }

    /// Writes the pending generation, or else the active one, and checkpoints; false when the disks are full.
    fn flush_generation(&self, progress: &mut Progress) -> Result<bool, FatalError> {
        let taken = match progress.pending.take() {
            // A rewrite may have begun meanwhile, which does not know of these entries: theirs must be the higher log.
            Some(taken) => Taken { log: self.lock().take_log_id(), ..taken },
            None => self.take_generation(),
        };
        let Taken { generation, sequence, log } = taken;
        if !generation.is_empty() {
            let begun = self.metrics.now();
            let written = self.write_log(log, || generation.sorted());
            self.metrics.storage.flush_log.ended(self.metrics.now() - begun, &written);
            let Some((open, runs)) = written? else {
                progress.pending = Some(Taken { generation, sequence, log });
                self.flush.stuck.store(true, Ordering::Relaxed);
                self.found_no_space();
                return Ok(false);
            };
            self.metrics.storage.flush_bytes.record(open.log.bytes);
            self.index_log(open, &runs);
        }
        drop(generation);
        // Only now: a reader finds an entry in the cache or in the index at any moment.
        let released = self.lock().cache.release();
        drop(released);
        self.flush.stuck.store(false, Ordering::Relaxed);
        self.journal.wait_durable(sequence).map_err(|_| FatalError::Stopped)?;
        let floor = self.journal.floor(sequence);
        progress.covered = Covered { sequence, floor };
        let recorded = self.write_checkpoint(progress)?;
        if recorded {
            self.journal.free_below(floor).map_err(FatalError::journal)?;
        }
        Ok(recorded)
    }

    fn take_generation(&self) -> Taken {
        let mut state = self.lock();
        state.journal_bytes = 0;
        // Everything in this generation, and every fact of the ledger table so far, was queued up to here.
        let sequence = self.journal.last_assigned();
        Taken { generation: state.cache.swap(), sequence, log: state.take_log_id() }
    }

    /// Writes a log into some ledger directory; `None` when all are full. Blocks.
    pub(super) fn write_log<I: Iterator<Item = (LedgerId, EntryId, Bytes)>>(
        &self,
        log: u64,
        sorted: impl Fn() -> I,
    ) -> Result<Option<(OpenLog, Vec<Run>)>, FatalError> {
        let write = |dir| self.disk.write_log(dir, log, sorted());
        self.in_some_dir(log, entry_log::OpenError::io, write).map_err(FatalError::entry_log)
    }

    /// Replaces every copy of the checkpoint by one with the logs and ledgers of this moment; false when not one could
    /// be for want of space: then nothing that the checkpoint before names may be removed. Ledger rows may be newer
    /// than what the journal is covered for: their facts only accumulate, and replaying a fact again changes nothing.
    /// (Except that replay may bring a deleted ledger back; it is then found deleted again.) Blocks.
    pub(super) fn write_checkpoint(&self, progress: &mut Progress) -> Result<bool, FatalError> {
        progress.number += 1;
        let encoded = self.checkpoint(progress).encode();
        let begun = self.metrics.now();
        let replaced = self.replace_copies(&encoded);
        self.metrics.storage.checkpoint.ended(self.metrics.now() - begun, &replaced);
        replaced
    }

    fn replace_copies(&self, encoded: &Bytes) -> Result<bool, FatalError> {
        let mut copies = 0;
        match self.disk.replace_checkpoint(&self.disk.journal_dir, encoded) {
            Ok(()) => copies += 1,
            Err(error) if is_full(&error) => {}
            Err(error) => return Err(FatalError::checkpoint(error)),
        }
        for dir in self.dirs.usable() {
            match self.disk.replace_checkpoint(self.dirs.path(dir), encoded) {
                Ok(()) => copies += 1,
                Err(error) if is_full(&error) => self.dirs.set_full(dir),
                Err(error) if self.dirs.counts().1 > 1 => {
                    tracing::error!(dir = %self.dirs.path(dir).display(), %error, "a ledger directory fails; going on without it");
                    self.dirs.lose(dir);
                }
                Err(error) => return Err(FatalError::checkpoint(error)),
            }
        }
        if copies == 0 {
            self.found_no_space();
        }
        Ok(copies > 0)
    }

    fn checkpoint(&self, progress: &Progress) -> Checkpoint {
        let Covered { sequence, floor } = progress.covered;
        let (count, logs, next_log, incomplete) = {
            let state = self.lock();
            (state.ledgers.len(), state.log_rows(), state.next_log, state.incomplete)
        };
        let mut ledgers: Vec<LedgerRow> = Vec::with_capacity(count);
        let mut from = Some(0);
        while let Some(place) = from {
            let state = self.lock();
            let (rows, next) = state.ledgers.walk(place, ROWS_PER_TURN);
            ledgers.extend(rows.map(|ledger| state.ledgers.row(ledger)));
            from = next;
        }
        let (instance, number) = (self.disk.instance, progress.number);
        Checkpoint { instance, sequence, floor, next_log, number, incomplete, logs, ledgers }
    }
}
