//! Events in the order of their time; those of one moment in the order in which they were put in.

use std::collections::BTreeMap;

/// Microseconds since the run began.
pub(super) type Time = u64;

/// One millisecond.
pub(super) const MS: Time = 1000;

/// See the module.
pub(super) struct Queue<E> {
    events: BTreeMap<(Time, u64), E>,
    next: u64,
}

impl<E> Queue<E> {
    pub(super) fn new() -> Self {
        Self { events: BTreeMap::new(), next: 0 }
    }

    pub(super) fn push(&mut self, at: Time, event: E) {
        self.events.insert((at, self.next), event);
        self.next += 1;
    }

    pub(super) fn pop(&mut self) -> Option<(Time, E)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }
}
