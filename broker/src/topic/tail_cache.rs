//! The last entries of a topic, so that consumers which keep up never cause a read from bookies.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use magnetar_proto::ids::Position;
use magnetar_proto::pulsar::message::Summary;

/// An entry in memory: what goes out to consumers, and what its metadata said when it was looked at, once.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub position: Position,
    /// From 0x0e01 on; without broker entry metadata.
    pub bytes: Bytes,
    pub summary: Arc<Summary>,
}

/// Bytes kept of entries which every subscription has acknowledged: a reader that starts a little back finds them.
const ACKNOWLEDGED_BYTES_MAX: usize = 256 * 1024;

/// Entries in order of position, without gaps from the first to the last durable one. Bounded by bytes.
#[derive(Debug)]
pub(crate) struct TailCache {
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
}

impl TailCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        TailCache { entries: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Adds the next durable entry; the oldest ones make room.
    pub(crate) fn push(&mut self, entry: Entry) {
        assert!(
            self.entries.back().is_none_or(|last| last.position < entry.position),
            "entries become durable in order"
        );
        self.bytes += entry.bytes.len();
        self.entries.push_back(entry);
        while self.bytes > self.bytes_max {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= entry.bytes.len();
        }
        if self.entries.is_empty() {
            // A burst must not keep its table for ever.
            self.entries.shrink_to(64);
        }
    }

    /// Lets go of entries up to `acknowledged`, but for the newest few.
    pub(crate) fn release(&mut self, acknowledged: Position) {
        while self.bytes > ACKNOWLEDGED_BYTES_MAX
            && self.entries.front().is_some_and(|e| e.position <= acknowledged)
        {
            self.pop();
        }
    }

    pub(crate) fn get(&self, position: Position) -> Option<&Entry> {
        self.at_or_after(position).filter(|entry| entry.position == position)
    }

    /// The next entry of the topic at `position` or after it; `None` when that is older than the cache, or does not
    /// exist yet.
    pub(crate) fn at_or_after(&self, position: Position) -> Option<&Entry> {
        let first = self.entries.front()?.position;
        if position < first {
            return None;
        }
        // Mostly one ledger: then the index is the distance to the first entry.
        if position.ledger_id == first.ledger_id {
            let guess = (position.entry_id.0 - first.entry_id.0) as usize;
            if let Some(entry) = self.entries.get(guess)
                && entry.position == position
            {
                return Some(entry);
            }
        }
        self.entries.get(self.entries.partition_point(|e| e.position < position))
    }
}

#[cfg(test)]
mod tests {
    use magnetar_proto::ids::{EntryId, LedgerId};
    use magnetar_proto::pulsar::api::MessageMetadata;
    use magnetar_proto::pulsar::{entry, message};

    use super::*;

    fn at(ledger: u64, n: u64) -> Position {
        Position { ledger_id: LedgerId(ledger), entry_id: EntryId(n) }
    }

    fn entry(position: Position, size: usize) -> Entry {
        let bytes = entry::build(&MessageMetadata::default(), &vec![0; size]);
        let summary = Arc::new(message::summarize_entry(&bytes).unwrap());
        Entry { position, bytes, summary }
    }

    #[test]
    fn the_oldest_entries_make_room() {
        let mut cache = TailCache::new(3_000);
        for n in 0..10 {
            cache.push(entry(at(1, n), 900));
        }
        assert!(cache.get(at(1, 6)).is_none());
        assert_eq!(cache.at_or_after(at(1, 7)).map(|e| e.position), Some(at(1, 7)));
        assert_eq!(cache.get(at(1, 9)).map(|e| e.position), Some(at(1, 9)));
    }

    #[test]
    fn entries_of_several_ledgers_are_found() {
        let mut cache = TailCache::new(1 << 20);
        for n in 0..3 {
            cache.push(entry(at(1, n), 10));
        }
        for n in 0..3 {
            cache.push(entry(at(4, n), 10));
        }
        for position in [at(1, 0), at(1, 2), at(4, 0), at(4, 2)] {
            assert_eq!(cache.get(position).map(|e| e.position), Some(position));
        }
        assert!(
            cache.get(at(1, 3)).is_none() && cache.get(at(2, 0)).is_none() && cache.get(at(4, 3)).is_none()
        );
        assert_eq!(cache.at_or_after(at(1, 3)).map(|e| e.position), Some(at(4, 0)));
        assert!(cache.at_or_after(at(0, 7)).is_none() && cache.at_or_after(at(4, 3)).is_none());
    }

    #[test]
    fn acknowledged_entries_are_released_but_for_a_few() {
        let mut cache = TailCache::new(1 << 20);
        for n in 0..10 {
            cache.push(entry(at(1, n), 100 * 1024));
        }
        cache.release(at(1, 4));
        assert!(cache.get(at(1, 4)).is_none() && cache.get(at(1, 5)).is_some());
        cache.release(at(1, 9));
        assert!(cache.get(at(1, 7)).is_none() && cache.get(at(1, 8)).is_some());
    }
}
