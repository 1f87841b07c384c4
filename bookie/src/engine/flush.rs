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
    /// Held for the whole of a flush: one at a time.
    flushing: Mutex<()>,
}

#[derive(Default)]
struct Signal {
    requested: bool,
    stopping: bool,
}

impl FlushSignal {
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
        let one_at_a_time = self.flush.flushing.lock().expect("nothing panics while flushing");
        let new = {
            let state = self.lock();
            state.journal_bytes > 0 || !state.cache.active().is_empty()
        };
        if new { self.write_checkpoint(&one_at_a_time) } else { Ok(()) }
    }

    /// Flushes and checkpoints in any case. Blocks.
    pub(super) fn checkpoint_now(&self) -> Result<(), FatalError> {
        let one_at_a_time = self.flush.flushing.lock().expect("nothing panics while flushing");
        self.write_checkpoint(&one_at_a_time)
    }

    fn write_checkpoint(&self, one_at_a_time: &MutexGuard<'_, ()>) -> Result<(), FatalError> {
        let begun = self.metrics.now();
        let result = self.write_generation_and_checkpoint(one_at_a_time);
        self.metrics.storage.flush.ended(self.metrics.now() - begun, &result);
        result
    }

    fn write_generation_and_checkpoint(&self, _: &MutexGuard<'_, ()>) -> Result<(), FatalError> {
        let (generation, sequence, log) = {
            let mut state = self.lock();
            state.journal_bytes = 0;
            // Everything in this generation, and every fact of the ledger table so far, was queued up to here.
            let sequence = self.journal.last_assigned();
            (state.cache.swap(), sequence, state.next_log)
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
        let released = {
            let mut state = self.lock();
            if let Some((open, runs)) = written {
                self.metrics.storage.flush_bytes.record(open.log.bytes);
                state.next_log = log + 1;
                state.logs.insert(log, open);
                state.ledgers.add_log(log, &runs);
            }
            // Only now: a reader finds an entry in the cache or in the index at any moment.
            state.cache.release()
        };
        drop(released);
        self.journal.wait_durable(sequence).map_err(|_| FatalError::Stopped)?;
        let floor = self.journal.floor(sequence);
        let checkpoint = self.checkpoint(sequence, floor);
        let begun = self.metrics.now();
        let replaced = self.disk.replace_checkpoint(&checkpoint).map_err(FatalError::checkpoint);
        self.metrics.storage.checkpoint.ended(self.metrics.now() - begun, &replaced);
        replaced?;
        self.journal.free_below(floor).map_err(FatalError::journal)
    }

    /// A checkpoint at `sequence`. Ledger rows may be newer than that: their facts only accumulate, and replaying a
    /// fact again changes nothing.
    fn checkpoint(&self, sequence: u64, floor: u64) -> Checkpoint {
        let (ids, logs, next_log) = {
            let state = self.lock();
            (state.ledgers.ids(), state.log_rows(), state.next_log)
        };
        let mut ledgers: Vec<LedgerRow> = Vec::with_capacity(ids.len());
        for ids in ids.chunks(ROWS_PER_TURN) {
            let state = self.lock();
            ledgers.extend(ids.iter().filter_map(|id| state.ledgers.row(*id)));
        }
        Checkpoint { instance: self.disk.instance, sequence, floor, next_log, logs, ledgers }
    }
}
