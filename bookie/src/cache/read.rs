//! The read cache: spans of entries read from logs, for the reads that follow.
//!
//! The engine fills it, at a reader's request or ahead of one. Bounded in bytes: the span used longest ago goes first.
//! A deleted or compacted log's spans are never asked for again and go in their time. It must never answer whether an
//! entry exists: who asks has found the entry's place in the index before.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use magnetar_proto::ids::{EntryId, LedgerId};

use super::Buffers;
use super::readers::Readers;
use super::span::{Filling, Key, Span};

/// Spans that are read ahead at once, of all readers: each takes a thread.
const JOBS_MAX: usize = 16;

/// See the module.
pub(crate) struct ReadCache {
    bytes_max: usize,
    state: Mutex<State>,
    /// Somebody has found out how far a span goes.
    planned: Condvar,
    buffers: Arc<Buffers>,
}

struct State {
    spans: BTreeMap<Key, Kept>,
    /// By the time of their last use.
    ages: BTreeMap<u64, Key>,
    clock: u64,
    bytes: usize,
    readers: Readers,
    /// Spans being planned or read ahead; at most [`JOBS_MAX`].
    jobs: usize,
}

struct Kept {
    span: Arc<Span>,
    used: u64,
}

/// What the cache knows about an entry on disk.
pub(crate) enum Found {
    /// In this span, which may still be on its way.
    Span(Arc<Span>),
    /// To be read, with what follows within so many bytes. 0: the entry alone.
    Missing { window: usize },
}

/// The duty to read a span ahead of a reader. Dropped unfinished, it tells that there is nothing to read.
pub(crate) struct Ahead {
    ledger: LedgerId,
    first: EntryId,
    window: usize,
    finished: bool,
    job: Job,
}

/// One of the spans that are being read ahead.
struct Job(Arc<ReadCache>);

impl Drop for Job {
    fn drop(&mut self) {
        self.0.lock().jobs -= 1;
    }
}

impl ReadCache {
    /// A cache of at most `bytes_max` bytes beside what is being sent. 0 keeps nothing and reads nothing ahead.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let state = State {
            spans: BTreeMap::new(),
            ages: BTreeMap::new(),
            clock: 0,
            bytes: 0,
            // What was read ahead must not be thrown out before it is used.
            readers: Readers::new(bytes_max / 2),
            jobs: 0,
        };
        ReadCache { bytes_max, state: Mutex::new(state), planned: Condvar::new(), buffers: Arc::default() }
    }

    /// Memory for reading.
    pub(crate) fn buffers(&self) -> &Arc<Buffers> {
        &self.buffers
    }

    /// Bytes kept.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while holding the read cache")
    }

    /// Finds the span of an entry that the index says `log` holds. `reads_on`: the entry after it is asked for too. May
    /// block until somebody who reads ahead has found out how far the entry's span goes.
    pub(crate) fn find(&self, ledger: LedgerId, log: u64, entry: EntryId, reads_on: bool) -> Found {
        let mut state = self.lock();
        loop {
            if let Some(span) = state.find(ledger, log, entry) {
                state.readers.used(&span, entry);
                return Found::Span(span);
            }
            if !state.readers.is_planning(ledger, entry) {
                break;
            }
            state = self.planned.wait(state).expect("nothing panics while holding the read cache");
        }
        Found::Missing { window: state.readers.missed(ledger, entry, reads_on) }
    }

    /// Keeps a span that is read for a reader who missed it.
    pub(crate) fn keep(&self, span: Span) -> Filling {
        let span = Arc::new(span);
        let mut state = self.lock();
        state.readers.read(&span);
        state.insert(span.clone(), self.bytes_max);
        drop(state);
        Filling::new(span, None)
    }

    /// What to read ahead of the reader who is at `entry`, if anything.
    pub(crate) fn ahead(self: &Arc<Self>, ledger: LedgerId, entry: EntryId) -> Option<Ahead> {
        let mut state = self.lock();
        if state.jobs >= JOBS_MAX {
            return None;
        }
        let (first, window) = state.readers.plan(ledger, entry)?;
        state.jobs += 1;
        Some(Ahead { ledger, first, window, finished: false, job: Job(self.clone()) })
    }
}

impl Ahead {
    pub(crate) fn ledger(&self) -> LedgerId {
        self.ledger
    }

    /// The span's first entry.
    pub(crate) fn first(&self) -> EntryId {
        self.first
    }

    /// Bytes to read.
    pub(crate) fn window(&self) -> usize {
        self.window
    }

    /// Whether the span that `log` holds is there already. Then nothing is left to do.
    pub(crate) fn is_present(&mut self, log: u64) -> bool {
        let cache = &self.job.0;
        let mut state = cache.lock();
        let span = state.find(self.ledger, log, self.first).filter(|span| span.key.first == self.first);
        if let Some(span) = span {
            state.readers.planned(&span);
            cache.planned.notify_all();
            self.finished = true;
        }
        self.finished
    }

    /// Keeps a span that begins with [`first`](Self::first) and is about to be read.
    pub(crate) fn keep(mut self, span: Span) -> Filling {
        assert_eq!((span.key.ledger, span.key.first), (self.ledger, self.first), "a plan is for one span");
        let (cache, span) = (&self.job.0, Arc::new(span));
        let mut state = cache.lock();
        state.readers.planned(&span);
        state.insert(span.clone(), cache.bytes_max);
        cache.planned.notify_all();
        drop(state);
        self.finished = true;
        Filling::new(span, Some(self))
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if !self.finished {
            let cache = &self.job.0;
            cache.lock().readers.ended(self.ledger, self.first);
            cache.planned.notify_all();
        }
    }
}

impl State {
    fn find(&mut self, ledger: LedgerId, log: u64, entry: EntryId) -> Option<Arc<Span>> {
        let (_, kept) = self.spans.range_mut(..=Key { ledger, log, first: entry }).next_back()?;
        if kept.span.key.log != log || !kept.span.contains(ledger, entry) {
            return None;
        }
        self.clock += 1;
        self.ages.remove(&kept.used);
        self.ages.insert(self.clock, kept.span.key);
        kept.used = self.clock;
        Some(kept.span.clone())
    }

    fn insert(&mut self, span: Arc<Span>, bytes_max: usize) {
        self.clock += 1;
        self.bytes += span.memory;
        self.ages.insert(self.clock, span.key);
        if let Some(replaced) = self.spans.insert(span.key, Kept { span, used: self.clock }) {
            self.ages.remove(&replaced.used);
            self.bytes -= replaced.span.memory;
        }
        while self.bytes > bytes_max {
            let (_, oldest) = self.ages.pop_first().expect("what takes bytes has an age");
            let removed = self.spans.remove(&oldest).expect("what has an age is kept");
            self.bytes -= removed.span.memory;
        }
    }
}
