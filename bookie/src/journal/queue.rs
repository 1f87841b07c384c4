//! What waits for the journal thread, and how far it has come.
//!
//! Callers append under a short lock; the journal thread takes everything that fits into one batch. Sequences are
//! given out here, so that the order of calls to [`Queue::push`] is the order of the journal.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};

use super::record::Record;

/// A batch stops growing here: beyond a few MiB a longer write only adds latency, and the batch buffer stays small.
pub(super) const BATCH_BYTES_MAX: usize = 4 << 20;

/// Records that become durable together with `token` being handed back.
pub(crate) struct Submission<T> {
    pub(crate) records: Vec<Record>,
    pub(crate) token: Option<T>,
}

struct State<T> {
    waiting: VecDeque<Submission<T>>,
    /// The sequence that the next record gets.
    next_sequence: u64,
    /// Every record up to this sequence is durable. `durable < next_sequence` always.
    durable: u64,
    /// Threads in [`Queue::wait_durable`]: waking nobody costs a system call, too.
    waiting_for_progress: usize,
    stopping: bool,
    failed: bool,
}

impl<T> State<T> {
    /// Moves one batch from the front.
    fn take(&mut self, into: &mut Vec<Submission<T>>) {
        let mut bytes = 0;
        while let Some(next) = self.waiting.front() {
            let size: usize = next.records.iter().map(Record::encoded_len).sum();
            if !into.is_empty() && bytes + size > BATCH_BYTES_MAX {
                break;
            }
            bytes += size;
            into.extend(self.waiting.pop_front());
        }
    }
}

/// See the module.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    /// The journal thread sleeps here.
    work: Condvar,
    /// [`Queue::wait_durable`] sleeps here.
    progress: Condvar,
    /// Written since somebody asked, beside the records.
    padding_bytes: AtomicU64,
}

/// The journal has failed, or was stopped before the record became durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotDurable;

impl<T> Queue<T> {
    pub(super) fn new(next_sequence: u64) -> Self {
        Queue {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                next_sequence,
                durable: next_sequence - 1,
                waiting_for_progress: 0,
                stopping: false,
                failed: false,
            }),
            work: Condvar::new(),
            progress: Condvar::new(),
            padding_bytes: AtomicU64::new(0),
        }
    }

    pub(super) fn add_padding_bytes(&self, bytes: u64) {
        self.padding_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn take_padding_bytes(&self) -> u64 {
        self.padding_bytes.swap(0, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("nothing panics while holding the journal queue")
    }

    /// Queues a submission; returns the sequence of its last record, or of the record before it when it has none.
    /// After a failure or a stop the submission is dropped: its token never completes.
    pub(super) fn push(&self, submission: Submission<T>) -> u64 {
        let mut state = self.lock();
        if state.failed || state.stopping {
            return state.next_sequence - 1;
        }
        state.next_sequence += submission.records.len() as u64;
        let last = state.next_sequence - 1;
        state.waiting.push_back(submission);
        if state.waiting.len() == 1 {
            self.work.notify_one();
        }
        last
    }

    /// Blocks until there is work; fills `into` with at least one submission. False when stopped and empty.
    pub(super) fn take(&self, into: &mut Vec<Submission<T>>) -> bool {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            if state.stopping {
                return false;
            }
            state = self.work.wait(state).expect("nothing panics while holding the journal queue");
        }
        state.take(into);
        true
    }

    /// Fills `into` with what waits now; false when nothing does.
    pub(super) fn try_take(&self, into: &mut Vec<Submission<T>>) -> bool {
        let mut state = self.lock();
        state.take(into);
        !into.is_empty()
    }

    /// Notes that everything up to `sequence` is durable; false when nothing may complete any more.
    pub(super) fn set_durable(&self, sequence: u64) -> bool {
        let mut state = self.lock();
        assert!(
            sequence >= state.durable && sequence < state.next_sequence,
            "durable only grows, behind what was assigned"
        );
        state.durable = sequence;
        if state.waiting_for_progress > 0 {
            self.progress.notify_all();
        }
        !state.failed
    }

    /// Nothing completes any more.
    pub(super) fn has_failed(&self) -> bool {
        self.lock().failed
    }

    /// Every record with a sequence up to this one is durable.
    pub(super) fn durable(&self) -> u64 {
        self.lock().durable
    }

    /// The sequence of the record queued last.
    pub(super) fn last_assigned(&self) -> u64 {
        self.lock().next_sequence - 1
    }

    /// Blocks the thread until `sequence` is durable.
    pub(super) fn wait_durable(&self, sequence: u64) -> Result<(), NotDurable> {
        let mut state = self.lock();
        loop {
            if state.durable >= sequence {
                return Ok(());
            }
            if state.failed || (state.stopping && state.waiting.is_empty() && sequence >= state.next_sequence)
            {
                return Err(NotDurable);
            }
            state.waiting_for_progress += 1;
            state = self.progress.wait(state).expect("nothing panics while holding the journal queue");
            state.waiting_for_progress -= 1;
        }
    }

    /// Drops what waits; nothing completes any more, and the journal thread ends.
    pub(super) fn fail(&self) {
        let mut state = self.lock();
        (state.failed, state.stopping) = (true, true);
        state.waiting.clear();
        self.work.notify_all();
        self.progress.notify_all();
    }

    /// The journal thread ends once it has written what is queued now; later submissions are dropped.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.work.notify_all();
        self.progress.notify_all();
    }
}
