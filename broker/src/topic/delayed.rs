//! Entries that must not be delivered before their time (Shared and Key_Shared).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use magnetar_proto::ids::Position;

/// Delayed entries kept in memory per subscription (some 40 MB). At the limit no new entries are read until some
/// fall due.
pub(crate) const DELAYED_MAX: usize = 1_000_000;

/// Rebuilt by reading the backlog: entries below the read position that are not acknowledged, not pending and not in
/// replay are here.
#[derive(Debug, Default)]
pub(crate) struct Delayed {
    heap: BinaryHeap<Reverse<(i64, Position, Option<u32>)>>,
}

impl Delayed {
    pub(crate) fn push(&mut self, deliver_at_ms: i64, position: Position, tag: Option<u32>) {
        self.heap.push(Reverse((deliver_at_ms, position, tag)));
    }

    /// The next entry that is due, with its dispatch tag.
    pub(crate) fn pop_due(&mut self, unix_ms: u64) -> Option<(Position, Option<u32>)> {
        let Reverse((at, ..)) = self.heap.peek()?;
        if *at > unix_ms as i64 {
            return None;
        }
        self.heap.pop().map(|Reverse((_, position, tag))| (position, tag))
    }

    /// When the next entry falls due, in ms since 1970.
    pub(crate) fn next_due(&self) -> Option<i64> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.heap.len() >= DELAYED_MAX
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(crate) fn clear(&mut self) {
        self.heap = BinaryHeap::new();
    }
}
