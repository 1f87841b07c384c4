//! The flush thread: takes the write cache's active generation, writes it as an entry log, brings the checkpoint up to
//! date, lets the journal free its segments. In this order, each step durable before the next.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use magnetar_proto::ids::{EntryId, LedgerId};

use super::disk::OpenLog;
use super::pace::Pace;
use super::record::{Covered, Recorder};
use super::{Engine, Limits, State};
use crate::cache::Generation;
use crate::entry_log::{self, Run};
use crate::error::FatalError;

/// The time in which the first generation counts as having come: what a replay found came before the start. Half of it is
/// long enough to write a whole cache without being felt, and short enough to have room again when adds come.
const REPLAYED_IN: Duration = Duration::from_secs(6);

/// Wakes the flush thread.
pub(super) struct FlushSignal {
    state: Mutex<Signal>,
    changed: Condvar,
    /// Held for the whole of a flush, and by whoever else moves or drops logs: one at a time.
    progress: Mutex<Progress>,
    /// How many want to hold it.
    wanted: AtomicUsize,
    /// A generation waits for disk space.
    stuck: AtomicBool,
}

/// How far flushes and checkpoints have come.
pub(super) struct Progress {
    covered: Covered,
    recorder: Recorder,
    /// A generation taken from the cache that no log holds yet.
    pending: Option<Taken>,
    /// When the last generation was taken; `None` since the start.
    taken_at: Option<Duration>,
}

/// How a generation is written to its log.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Haste {
    /// See [`super::pace`].
    Paced,
    /// Somebody waits for it.
    AtOnce,
}

/// A generation to flush.
pub(super) struct Taken {
    pub(super) generation: Arc<Generation>,
    /// The last journal sequence that it contains.
    pub(super) sequence: u64,
    /// The log it goes to.
    pub(super) log: u64,
}

impl Progress {
    /// What the start found and did, and what it could not do for want of space.
    pub(super) fn new(covered: Covered, recorder: Recorder, pending: Option<Taken>) -> Self {
        Progress { covered, recorder, pending, taken_at: None }
    }
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
            wanted: AtomicUsize::new(0),
            stuck: AtomicBool::new(progress.pending.is_some()),
            progress: Mutex::new(progress),
        }
    }

    /// Whether a flush waits for disk space.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Relaxed)
    }

    /// Waits for the running flush, which hurries then, and keeps the next one from beginning.
    pub(super) fn hold(&self) -> MutexGuard<'_, Progress> {
        self.wanted.fetch_add(1, Ordering::Relaxed);
        {
            let _signal = self.state.lock().expect("nothing panics while holding the flush signal");
            self.changed.notify_one();
        }
        let progress = self.progress.lock().expect("nothing panics while flushing");
        self.wanted.fetch_sub(1, Ordering::Relaxed);
        progress
    }

    /// Blocks for `pause`, or until somebody waits for the flush to end.
    fn linger(&self, pause: Duration) {
        let state = self.state.lock().expect("nothing panics while holding the flush signal");
        let idle = |state: &mut Signal| {
            !state.requested && !state.stopping && self.wanted.load(Ordering::Relaxed) == 0
        };
        drop(self.changed.wait_timeout_while(state, pause, idle));
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
    /// Starts the thread; it ends with [`FlushSignal::stop`] or the first failure. A replay may have found enough for a
    /// flush.
    pub(super) fn start_flushing(self: &Arc<Self>) -> std::io::Result<()> {
        if self.lock().flush_is_due(&self.limits) {
            self.flush.request();
        }
        let engine = self.clone();
        std::thread::Builder::new().name("bookie-flush".into()).spawn(move || {
            while engine.flush.wait() {
                // A full disk is not the end: the next look at the free space asks again.
                if let Err(error) = engine.flush(Haste::Paced) {
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
        self.flush(Haste::AtOnce)
    }

    fn flush(&self, haste: Haste) -> Result<bool, FatalError> {
        // Whoever finds nothing new must still wait for the flush that took it: a stop would end the process under it.
        let mut progress = self.flush.hold();
        // What waited for space first, then what has come since.
        let written = progress.pending.is_none() || self.flush_held(&mut progress, haste)?;
        let news = {
            let state = self.lock();
            state.journal_bytes > 0 || !state.cache.active().is_empty()
        };
        if written && news { self.flush_held(&mut progress, haste) } else { Ok(written) }
    }

    fn flush_held(&self, progress: &mut Progress, haste: Haste) -> Result<bool, FatalError> {
        let begun = self.metrics.now();
        let result = self.flush_generation(progress, haste);
        self.metrics.storage.flush.ended(self.metrics.now() - begun, &result);
        result
    }

    /// Writes the pending generation, or else the active one, and checkpoints; false when the disks are full.
    fn flush_generation(&self, progress: &mut Progress, haste: Haste) -> Result<bool, FatalError> {
        let taken = match progress.pending.take() {
            // A rewrite may have begun meanwhile, which does not know of these entries: theirs must be the higher log.
            Some(taken) => Taken { log: self.lock().take_log_id(), ..taken },
            None => self.take_generation(),
        };
        let Taken { generation, sequence, log } = taken;
        if !generation.is_empty() {
            let begun = self.metrics.now();
            let since = progress.taken_at.replace(begun);
            let filled_in = since.map_or(REPLAYED_IN, |since| begun.saturating_sub(since));
            let written = self.write_log(log, || {
                let mut pace = Pace::new(begun, filled_in, generation.bytes() as u64);
                generation.sorted().inspect(move |(_, _, body)| {
                    let due = pace.wrote(body.len()).filter(|_| haste == Haste::Paced);
                    let pause = due.map_or(Duration::ZERO, |due| due.saturating_sub(self.metrics.now()));
                    if !pause.is_zero() {
                        self.flush.linger(pause);
                    }
                })
            });
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
        self.dirs.in_some_dir(log, entry_log::OpenError::io, write).map_err(FatalError::entry_log)
    }

    /// Brings the copies of the checkpoint up to date with the logs and ledgers of this moment; false when not one could
    /// be for want of space: then nothing that the checkpoint before names may be removed. Ledger rows may be newer
    /// than what the journal is covered for: their facts only accumulate, and replaying a fact again changes nothing.
    /// (Except that replay may bring a deleted ledger back; it is then found deleted again.) Blocks.
    pub(super) fn write_checkpoint(&self, progress: &mut Progress) -> Result<bool, FatalError> {
        let begun = self.metrics.now();
        let with = &mut |act: &mut dyn FnMut(&mut State)| act(&mut self.lock());
        let recorded = progress.recorder.record(&self.disk, &self.dirs, progress.covered, with);
        self.metrics.storage.checkpoint.ended(self.metrics.now() - begun, &recorded);
        let recorded = recorded?;
        self.metrics.storage.checkpoint_bytes.add(recorded.bytes);
        if recorded.copies == 0 {
            self.found_no_space();
        }
        Ok(recorded.copies > 0)
    }
}

#[cfg(test)]
mod tests {
    use magnetar_common::storage::{MemoryStorage, Storage};

    use super::*;
    use crate::checkpoint::Copies;

    #[test]
    fn whoever_waits_for_a_flush_ends_its_lingering() {
        let memory = MemoryStorage::new();
        memory.create_dir_all("/d".as_ref()).unwrap();
        let storage: Arc<dyn Storage> = Arc::new(memory);
        let (copies, _) = Copies::open(&storage, std::iter::once("/d".as_ref())).unwrap();
        let progress = Progress::new(Covered::default(), Recorder::new(None, copies), None);
        let signal = FlushSignal::new(progress);
        let waiters: [&(dyn Fn() + Sync); 3] =
            [&|| signal.request(), &|| drop(signal.hold()), &|| signal.stop()];
        for waiter in waiters {
            std::thread::scope(|threads| {
                let flushing = signal.hold();
                threads.spawn(waiter);
                // Were it not ended, this test would never be.
                signal.linger(Duration::from_secs(24 * 3600));
                drop(flushing);
            });
            signal.state.lock().unwrap().requested = false;
        }
    }
}
