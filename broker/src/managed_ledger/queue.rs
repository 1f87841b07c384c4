//! Appends that have their position but wait for the ledger before theirs to be closed.

use bytes::Bytes;
use std::collections::VecDeque;

/// Most entries that wait: closing a ledger takes milliseconds, and a producer keeps about 1 000 in flight.
pub(super) const MAX_QUEUED_ENTRIES: usize = 20_000;
/// Most bytes that wait: together with the connections' publish budgets this bounds the memory of a slow rollover.
pub(super) const MAX_QUEUED_BYTES: usize = 64 << 20;

/// A bounded queue in order of position.
#[derive(Debug)]
pub(super) struct AppendQueue {
    entries: VecDeque<Bytes>,
    bytes: usize,
    limit_entries: usize,
    limit_bytes: usize,
}

impl AppendQueue {
    pub(super) fn new(limit_entries: usize, limit_bytes: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, limit_entries, limit_bytes }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the entry and gives its index in the ledger to come, or gives the entry back when full. One entry always
    /// fits, however large.
    pub(super) fn push(&mut self, entry: Bytes) -> Result<u64, Bytes> {
        let full = self.entries.len() >= self.limit_entries
            || (!self.entries.is_empty() && self.bytes + entry.len() > self.limit_bytes);
        if full {
            return Err(entry);
        }
        self.bytes += entry.len();
        self.entries.push_back(entry);
        Ok(self.entries.len() as u64 - 1)
    }

    /// All of it, oldest first.
    pub(super) fn into_entries(self) -> impl Iterator<Item = Bytes> {
        self.entries.into_iter()
    }
}

impl Default for AppendQueue {
    fn default() -> Self {
        Self::new(MAX_QUEUED_ENTRIES, MAX_QUEUED_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_their_order_and_get_ascending_indexes() {
        let mut queue = AppendQueue::default();
        assert_eq!(queue.push(Bytes::from_static(b"a")), Ok(0));
        assert_eq!(queue.push(Bytes::from_static(b"bc")), Ok(1));
        assert_eq!((queue.len(), queue.bytes()), (2, 3));
        assert_eq!(queue.into_entries().collect::<Vec<_>>(), ["a", "bc"]);
    }

    #[test]
    fn a_full_queue_gives_the_entry_back() {
        let mut queue = AppendQueue::new(2, 4);
        assert_eq!(queue.push(Bytes::from_static(b"12345")), Ok(0), "one always fits");
        assert_eq!(queue.push(Bytes::from_static(b"x")), Err(Bytes::from_static(b"x")));
        let mut queue = AppendQueue::new(1, 4);
        queue.push(Bytes::new()).unwrap();
        assert!(queue.push(Bytes::new()).is_err());
    }
}
