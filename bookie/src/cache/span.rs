//! Consecutive entries of one ledger, read from one log at once.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use magnetar_proto::ids::{EntryId, LedgerId};

use super::Ahead;

/// Where a span begins. A log never changes, so what is kept under a key is never out of date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) ledger: LedgerId,
    pub(crate) log: u64,
    pub(crate) first: EntryId,
}

/// See the module. Its entries come later than the span itself: who needs them waits.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) key: Key,
    /// At least 1.
    pub(crate) count: u64,
    /// What it takes of memory.
    pub(crate) memory: usize,
    /// Fewer than `count` when reading stopped at an unreadable entry.
    bodies: OnceLock<Vec<Bytes>>,
}

impl Span {
    pub(crate) fn new(key: Key, count: u64, memory: usize) -> Self {
        Span { key, count, memory, bodies: OnceLock::new() }
    }

    /// A span with its entries.
    pub(crate) fn filled(key: Key, bodies: Vec<Bytes>) -> Self {
        let memory = bodies.iter().map(Bytes::len).sum();
        Span { key, count: bodies.len() as u64, memory, bodies: bodies.into() }
    }

    pub(crate) fn contains(&self, ledger: LedgerId, entry: EntryId) -> bool {
        self.key.ledger == ledger && (self.key.first..self.end()).contains(&entry)
    }

    /// The entry after the last one.
    pub(crate) fn end(&self) -> EntryId {
        EntryId(self.key.first.0 + self.count)
    }

    /// The body of an entry; `None` when the span does not contain it or it could not be read. Blocks until the span is
    /// filled.
    pub(crate) fn body(&self, ledger: LedgerId, entry: EntryId) -> Option<Bytes> {
        if !self.contains(ledger, entry) {
            return None;
        }
        self.bodies.wait().get((entry.0 - self.key.first.0) as usize).cloned()
    }
}

/// The duty to fill a span. Dropped, it fills it with nothing: nobody waits for ever.
pub(crate) struct Filling {
    span: Arc<Span>,
    /// Counts among the reads ahead until then.
    _job: Option<Ahead>,
}

impl Filling {
    pub(super) fn new(span: Arc<Span>, job: Option<Ahead>) -> Self {
        Filling { span, _job: job }
    }

    pub(crate) fn span(&self) -> &Arc<Span> {
        &self.span
    }

    pub(crate) fn fill(self, bodies: Vec<Bytes>) {
        let _ = self.span.bodies.set(bodies);
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        // Refused when it has been filled.
        let _ = self.span.bodies.set(Vec::new());
    }
}
