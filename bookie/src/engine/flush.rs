//! The flush thread: takes the write cache's active generation, writes it as an entry log, replaces the checkpoint,
//! lets the journal free its segments. In this order, each step durable before the next.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::{Engine, Limits, State};
use crate::checkpoint::{Checkpoint, LedgerRow};
use crate::error::FatalError;

/// Ledger rows copied under one hold of the engine's lock.
const ROWS_PER_TURN: usize = 512;

/// Wakes the flush thread.
#[derive(Default)]
pub(super) struct FlushSignal {
    state: Mutex<Signal>,
    changed: Condvar,
    /// Held for the whole of a flush, and by whoever else moves or drops logs: one at a time.
    covered: Mutex<Covered>,
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
    /// For an engine whose checkpoint covers this.
    pub(super) fn new(covered: Covered) -> Self {
        FlushSignal { covered: Mutex::new(covered), ..FlushSignal::default() }
    }

    /// Waits for the running flush and keeps the next one from beginning.
    pub(super) fn hold(&self) -> MutexGuard<'_, Covered> {
        self.covered.lock().expect("nothing panics while flushing")
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
                if let Err(error) = engine.flush_now() {
                    engine.fail(error);
                    return;
                }
            }
        })?;
        Ok(())
    }

    /// Reports a failure after which the bookie must not go on; the first one counts.
    pub(crate) fn fail(&self, error: FatalError) {
        self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            failed.get_or_insert(error);
            first
        });
    }

    /// Flushes everything accepted so far and checkpoints, if there is anything new. Blocks.
    pub(super) fn flush_now(&self) -> Result<(), FatalError> {
        // Whoever finds nothing new must still wait for the flush that took it: a stop would end the process under it.
        let mut covered = self.flush.hold();
        let new = {
            let state = self.lock();
            state.journal_bytes > 0 || !state.cache.active().is_empty()
        };
        if new { self.flush_held(&mut covered) } else { Ok(()) }
    }

    fn flush_held(&self, covered: &mut Covered) -> Result<(), FatalError> {
        let begun = self.metrics.now();
        let result = self.flush_generation(covered);
        self.metrics.storage.flush.ended(self.metrics.now() - begun, &result);
        result
    }

    fn flush_generation(&self, covered: &mut Covered) -> Result<(), FatalError> {
        let (generation, sequence, log) = {
            let mut state = self.lock();
            state.journal_bytes = 0;
            // Everything in this generation, and every fact of the ledger table so far, was queued up to here.
            let sequence = self.journal.last_assigned();
            (state.cache.swap(), sequence, state.take_log_id())
        };
        let written = if generation.is_empty() {
            None
        } else {
            let begun = self.metrics.now();
            let written = self.disk.write_log(log, &generation).map_err(FatalError::entry_log);
            self.metrics.storage.flush_log.ended(self.metrics.now() - begun, &written);
            Some(written?)
        };
        drop(generation);
        if let Some((open, runs)) = written {
            self.metrics.storage.flush_bytes.record(open.log.bytes);
            self.index_log(open, &runs);
        }
        // Only now: a reader finds an entry in the cache or in the index at any moment.
        let released = self.lock().cache.release();
        drop(released);
        self.journal.wait_durable(sequence).map_err(|_| FatalError::Stopped)?;
        let floor = self.journal.floor(sequence);
        self.write_checkpoint(Covered { sequence, floor })?;
        *covered = Covered { sequence, floor };
        self.journal.free_below(floor).map_err(FatalError::journal)
    }

    /// Replaces the checkpoint by one with the logs and ledgers of this moment. Ledger rows may be newer than what the
    /// journal is covered for: their facts only accumulate, and replaying a fact again changes nothing. (Except that
    /// replay may bring a deleted ledger back; it is then found deleted again.) Blocks. The caller holds the flush.
    pub(super) fn write_checkpoint(&self, covered: Covered) -> Result<(), FatalError> {
        let checkpoint = self.checkpoint(covered);
        let begun = self.metrics.now();
        let replaced = self.disk.replace_checkpoint(&checkpoint).map_err(FatalError::checkpoint);
        self.metrics.storage.checkpoint.ended(self.metrics.now() - begun, &replaced);
        replaced
    }

    fn checkpoint(&self, covered: Covered) -> Checkpoint {
        let Covered { sequence, floor } = covered;
        let (count, logs, next_log) = {
            let state = self.lock();
            (state.ledgers.len(), state.log_rows(), state.next_log)
        };
        let mut ledgers: Vec<LedgerRow> = Vec::with_capacity(count);
        let mut from = Some(0);
        while let Some(place) = from {
            let state = self.lock();
            let (rows, next) = state.ledgers.walk(place, ROWS_PER_TURN);
            ledgers.extend(rows.map(|ledger| state.ledgers.row(ledger)));
            from = next;
        }
        Checkpoint { instance: self.disk.instance, sequence, floor, next_log, logs, ledgers }
    }
}
