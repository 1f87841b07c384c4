//! Entries that must not be delivered before their time (Shared and Key_Shared).
//!
//! A radix heap: what leaves it never lies before what left it last, so an entry need only be told apart from that one.
//! It waits in the bucket of the highest bit in which its time differs, and comes into a lower one when its bucket's
//! turn comes: each entry moves at most once per bit, and nothing but the entries themselves takes memory.

use hashbrown::HashMap;
use magnetar_proto::ids::{EntryId, LedgerId, Position};

/// Delayed entries kept per subscription, 16 bytes each. At the limit no new entries are read until some fall due.
pub(crate) const DELAYED_MAX: usize = 12_000_000;

/// Resolution of delivery times: an entry is late by less than this, and never early. 32 bits of it are eight years.
const TICK_MS: u64 = 64;

/// Entries per piece of a bucket: what a bucket takes beyond its entries.
const CHUNK: usize = 4_096;

/// One for each bit of a tick, and one for equality.
const BUCKETS: usize = u32::BITS as usize + 1;

/// No key's hash has the highest bit set.
const NO_TAG: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Item {
    tick: u32,
    /// Index into `ledgers`.
    ledger: u32,
    entry: u32,
    tag: u32,
}

/// A stack that gives its memory back as it shrinks.
#[derive(Debug, Default)]
struct Bucket {
    chunks: Vec<Vec<Item>>,
    /// Lowest tick in it; meaningless while it is empty.
    least: u32,
}

impl Bucket {
    fn push(&mut self, item: Item) {
        self.least = if self.chunks.is_empty() { item.tick } else { self.least.min(item.tick) };
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(item),
            // The first piece grows as needed: most topics delay little.
            None => self.chunks.push(vec![item]),
            Some(_) => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(item);
                self.chunks.push(chunk);
            }
        }
    }

    fn pop(&mut self) -> Option<Item> {
        let last = self.chunks.last_mut()?;
        let item = last.pop();
        if last.is_empty() {
            self.chunks.pop();
        }
        item
    }

    fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    fn bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<Item>()).sum()
    }
}

/// Rebuilt by reading the backlog: entries below the read position that are not acknowledged, not pending and not in
/// replay are here.
#[derive(Debug, Default)]
pub(crate) struct Delayed {
    /// Bucket `n` > 0: the highest bit that differs from `last` is `n - 1`. Bucket 0: equal to `last`. There are none
    /// while nothing is delayed: most subscriptions never delay anything.
    buckets: Vec<Bucket>,
    last: u32,
    len: usize,
    /// Time of tick 0, in ms since 1970: that of the first entry.
    base_ms: Option<u64>,
    ledgers: Vec<LedgerId>,
    numbers: HashMap<LedgerId, u32>,
}

impl Delayed {
    /// Takes an entry that is not due at `unix_ms`. One due later than in eight years comes back after eight.
    pub(crate) fn push(&mut self, deliver_at_ms: i64, position: Position, tag: Option<u32>, unix_ms: u64) {
        if self.buckets.is_empty() {
            self.buckets.resize_with(BUCKETS, Bucket::default);
        }
        let base_ms = *self.base_ms.get_or_insert(unix_ms);
        let wait = u64::try_from(deliver_at_ms).unwrap_or(0).saturating_sub(base_ms);
        let tick = u32::try_from(wait.div_ceil(TICK_MS)).unwrap_or(u32::MAX).max(self.last);
        let ledger = self.number_of(position.ledger_id);
        // No ledger has 2^32 entries; one that had would have them delivered by their neighbours' ids.
        let entry = u32::try_from(position.entry_id.0).unwrap_or(u32::MAX);
        self.len += 1;
        self.place(Item { tick, ledger, entry, tag: tag.unwrap_or(NO_TAG) });
    }

    fn number_of(&mut self, ledger: LedgerId) -> u32 {
        *self.numbers.entry(ledger).or_insert_with(|| {
            self.ledgers.push(ledger);
            self.ledgers.len() as u32 - 1
        })
    }

    fn place(&mut self, item: Item) {
        let bucket = 32 - (item.tick ^ self.last).leading_zeros();
        self.buckets[bucket as usize].push(item);
    }

    /// The next entry that is due, with its dispatch tag.
    pub(crate) fn pop_due(&mut self, unix_ms: u64) -> Option<(Position, Option<u32>)> {
        if self.next_due()? > unix_ms as i64 {
            return None;
        }
        if self.buckets[0].is_empty() {
            self.open_next_bucket();
        }
        let item = self.buckets[0].pop()?;
        self.len -= 1;
        let position = Position {
            ledger_id: self.ledgers[item.ledger as usize],
            entry_id: EntryId(u64::from(item.entry)),
        };
        if self.len == 0 {
            self.clear();
        }
        Some((position, (item.tag != NO_TAG).then_some(item.tag)))
    }

    /// Spreads the first bucket that is not empty over those before it.
    fn open_next_bucket(&mut self) {
        let Some(first) = self.buckets.iter().position(|bucket| !bucket.is_empty()) else { return };
        self.last = self.buckets[first].least;
        while let Some(item) = self.buckets[first].pop() {
            self.place(item);
        }
    }

    /// When the next entry falls due, in ms since 1970.
    pub(crate) fn next_due(&self) -> Option<i64> {
        let first = self.buckets.iter().find(|bucket| !bucket.is_empty())?;
        let at = self.base_ms?.saturating_add(u64::from(first.least) * TICK_MS);
        Some(i64::try_from(at).unwrap_or(i64::MAX))
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len >= DELAYED_MAX
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn bytes(&self) -> usize {
        self.buckets.iter().map(Bucket::bytes).sum()
    }

    pub(crate) fn clear(&mut self) {
        *self = Delayed::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const NOW: u64 = 1_767_225_600_000;

    fn at(n: u64) -> Position {
        Position { ledger_id: LedgerId(n / 50_000), entry_id: EntryId(n % 50_000) }
    }

    #[test]
    fn an_entry_comes_out_at_its_time_and_less_than_a_tick_later() {
        let mut delayed = Delayed::default();
        for wait in [1, 63, 64, 65, 1_000, 86_400_000] {
            delayed.push((NOW + wait) as i64, at(wait), Some(7), NOW);
            let due = delayed.next_due().unwrap() as u64;
            assert!((NOW + wait..NOW + wait + TICK_MS).contains(&due), "{wait}");
            assert_eq!(delayed.pop_due(due - 1), None);
            assert_eq!(delayed.pop_due(due), Some((at(wait), Some(7))));
        }
        assert_eq!((delayed.len(), delayed.next_due()), (0, None));
    }

    #[test]
    fn ten_million_entries_take_less_than_256_mebibytes_and_all_come_out() {
        const ENTRIES: u64 = 10_000_000;
        let mut delayed = Delayed::default();
        for n in 0..ENTRIES {
            // Spread over a day, in no order.
            let wait = 1 + n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 86_400_000;
            delayed.push((NOW + wait) as i64, at(n), None, NOW);
        }
        let mut most = delayed.bytes();
        let (mut popped, mut now) = (0, NOW);
        while delayed.len() > 0 {
            now += 3_600_000;
            while delayed.pop_due(now).is_some() {
                popped += 1;
            }
            most = most.max(delayed.bytes());
        }
        assert_eq!(popped, ENTRIES);
        assert!(most < 256 << 20, "{} MiB", most >> 20);
        assert_eq!(delayed.bytes(), 0);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_sorted_set(steps in proptest::collection::vec((0u64..100_000, 0u64..3_000), 1..200)) {
            let (mut delayed, mut model, mut now) = (Delayed::default(), BTreeSet::new(), NOW);
            for (n, (wait, passed)) in steps.into_iter().enumerate() {
                let deliver_at = now + 1 + wait;
                delayed.push(deliver_at as i64, at(n as u64), None, now);
                model.insert((deliver_at, at(n as u64)));
                now += passed;
                while let Some((position, _)) = delayed.pop_due(now) {
                    let entry = model.iter().find(|(_, p)| *p == position).copied().expect("known");
                    prop_assert!(entry.0 <= now);
                    model.remove(&entry);
                }
                prop_assert!(model.iter().all(|(at, _)| at + TICK_MS > now));
                prop_assert_eq!(delayed.len(), model.len());
            }
        }
    }
}
