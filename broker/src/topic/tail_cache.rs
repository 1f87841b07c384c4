//! The last entries of a topic, so that consumers which keep up never cause a read from bookies.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

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

impl Entry {
    /// It was published longer than `age` ago, by its producer's clock.
    pub(crate) fn is_older(&self, age: Duration, unix_ms: u64) -> bool {
        self.summary.publish_time < expired_before_ms(age, unix_ms)
    }
}

/// What was published before then, in ms since 1970, is older than `age`.
pub(crate) fn expired_before_ms(age: Duration, unix_ms: u64) -> u64 {
    unix_ms.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}

/// Bytes kept of entries which every subscription has acknowledged: a reader that starts a little back finds them.
const ACKNOWLEDGED_BYTES_MAX: usize = 256 * 1024;

/// Bytes that a topic may keep however many others there are.
const SHARE_BYTES: usize = 64 * 1024;

/// What the caches and runs of all topics of a broker may take together.
#[derive(Debug)]
pub struct TailBudget {
    used: AtomicUsize,
    max: usize,
}

impl TailBudget {
    /// Of `max` bytes.
    pub fn new(max: usize) -> Self {
        TailBudget { used: AtomicUsize::new(0), max }
    }

    pub(super) fn is_exceeded(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.max
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Entries in order of position, without gaps from the first to the last durable one. Bounded by bytes, its own and those
/// of all caches together.
#[derive(Debug)]
pub(crate) struct TailCache {
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
    /// Includes `bytes`.
    budget: Arc<TailBudget>,
}

impl Drop for TailCache {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

impl TailCache {
    pub(crate) fn new(bytes_max: usize, budget: Arc<TailBudget>) -> Self {
        TailCache { entries: VecDeque::new(), bytes: 0, bytes_max, budget }
    }

    /// Adds the next durable entry; the oldest ones make room.
    pub(crate) fn push(&mut self, entry: Entry) {
        assert!(
            self.entries.back().is_none_or(|last| last.position < entry.position),
            "entries become durable in order"
        );
        self.bytes += entry.bytes.len();
        self.budget.take(entry.bytes.len());
        self.entries.push_back(entry);
        while self.bytes > self.bytes_max || (self.bytes > SHARE_BYTES && self.budget.is_exceeded()) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= entry.bytes.len();
            self.budget.give_back(entry.bytes.len());
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

    /// The entry at `position`, and those that follow without a gap in its ledger.
    pub(crate) fn run_from(&self, position: Position) -> impl Iterator<Item = &Entry> {
        let first = self.index_at_or_after(position).unwrap_or(self.entries.len());
        let expected = (0..).map(move |n| (position.ledger_id, position.entry_id.0 + n));
        self.entries.range(first..).zip(expected).map_while(|(entry, expected)| {
            let found = (entry.position.ledger_id, entry.position.entry_id.0);
            (found == expected).then_some(entry)
        })
    }

    /// The next entry of the topic at `position` or after it; `None` when that is older than the cache, or does not
    /// exist yet.
    pub(crate) fn at_or_after(&self, position: Position) -> Option<&Entry> {
        self.entries.get(self.index_at_or_after(position)?)
    }

    fn index_at_or_after(&self, position: Position) -> Option<usize> {
        let first = self.entries.front()?.position;
        if position < first {
            return None;
        }
        // Mostly one ledger: then the index is the distance to the first entry.
        if position.ledger_id == first.ledger_id {
            let guess = (position.entry_id.0 - first.entry_id.0) as usize;
            if self.entries.get(guess).is_some_and(|entry| entry.position == position) {
                return Some(guess);
            }
        }
        Some(self.entries.partition_point(|e| e.position < position))
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

    fn cache(bytes_max: usize) -> TailCache {
        TailCache::new(bytes_max, Arc::new(TailBudget::new(usize::MAX)))
    }

    #[test]
    fn all_caches_together_keep_to_one_budget_and_give_it_back() {
        let budget = Arc::new(TailBudget::new(300_000));
        let fill = |cache: &mut TailCache| (0..40).for_each(|n| cache.push(entry(at(1, n), 10_000)));
        let mut caches: Vec<TailCache> = (0..3).map(|_| TailCache::new(1 << 20, budget.clone())).collect();
        caches.iter_mut().for_each(fill);
        let used = || budget.used();
        assert!(used() <= 300_000 + 3 * SHARE_BYTES, "{}", used());
        assert!(caches.iter().all(|cache| cache.bytes + 11_000 > SHARE_BYTES));
        assert_eq!(caches.iter().map(|cache| cache.bytes).sum::<usize>(), used());
        caches.clear();
        assert_eq!(used(), 0);
    }

    #[test]
    fn the_oldest_entries_make_room() {
        let mut cache = cache(3_000);
        for n in 0..10 {
            cache.push(entry(at(1, n), 900));
        }
        assert!(cache.get(at(1, 6)).is_none());
        assert_eq!(cache.at_or_after(at(1, 7)).map(|e| e.position), Some(at(1, 7)));
        assert_eq!(cache.get(at(1, 9)).map(|e| e.position), Some(at(1, 9)));
    }

    #[test]
    fn entries_of_several_ledgers_are_found() {
        let mut cache = cache(1 << 20);
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
    fn a_run_ends_with_its_ledger_and_before_a_gap() {
        let mut cache = cache(1 << 20);
        for position in [at(1, 3), at(1, 4), at(1, 5), at(4, 0), at(4, 1), at(4, 3)] {
            cache.push(entry(position, 10));
        }
        let run = |from| cache.run_from(from).map(|e| e.position).collect::<Vec<_>>();
        assert_eq!(run(at(1, 4)), [at(1, 4), at(1, 5)]);
        assert_eq!(run(at(4, 0)), [at(4, 0), at(4, 1)]);
        assert_eq!(run(at(4, 3)), [at(4, 3)]);
        for nothing in [at(1, 2), at(1, 6), at(4, 2), at(4, 4), at(5, 0)] {
            assert_eq!(run(nothing), [], "{nothing}");
        }
    }

    #[test]
    fn acknowledged_entries_are_released_but_for_a_few() {
        let mut cache = cache(1 << 20);
        for n in 0..10 {
            cache.push(entry(at(1, n), 100 * 1024));
        }
        cache.release(at(1, 4));
        assert!(cache.get(at(1, 4)).is_none() && cache.get(at(1, 5)).is_some());
        cache.release(at(1, 9));
        assert!(cache.get(at(1, 7)).is_none() && cache.get(at(1, 8)).is_some());
    }
}
