//! The unit of the index: consecutive entries of a ledger in one log, all of them live.

use std::collections::HashMap;
use std::num::NonZeroU32;

use magnetar_proto::ids::EntryId;

use crate::entry_log::{Log, Run};

/// A slot of a log, counted from the log's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    pub(crate) log: u32,
    pub(crate) slot: u32,
}

/// A run of a log, or what newer copies of its entries have left of it. 24 bytes: there are millions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    first: u64,
    log: u32,
    slot: u32,
    count: NonZeroU32,
    bytes: u32,
}

/// What [`Part::cut`] leaves: what lies before the cut, what it took, what lies behind it.
pub(super) struct Pieces {
    pub(super) before: Option<Part>,
    pub(super) behind: Option<Part>,
}

impl Part {
    /// `run` of the log `log`, whose slots [`entry_log::format`](crate::entry_log::format) has checked.
    pub(crate) fn new(log: &Log, run: &Run) -> Part {
        let narrow = |n: u64| u32::try_from(n).expect("checked when the log was opened");
        Part {
            first: run.first.0,
            log: narrow(log.id),
            slot: log.slot_of(run.slots_at),
            count: NonZeroU32::new(narrow(run.count)).expect("checked when the log was opened"),
            bytes: narrow(run.bytes),
        }
    }

    pub(crate) fn log(&self) -> u64 {
        u64::from(self.log)
    }

    pub(crate) fn first(&self) -> EntryId {
        EntryId(self.first)
    }

    pub(crate) fn last(&self) -> EntryId {
        EntryId(self.first + u64::from(self.count.get()) - 1)
    }

    pub(crate) fn count(&self) -> u32 {
        self.count.get()
    }

    /// Length of the records of its entries.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.bytes)
    }

    pub(crate) fn holds(&self, entry: EntryId) -> bool {
        (self.first()..=self.last()).contains(&entry)
    }

    /// The slot of an entry that it holds.
    pub(crate) fn slot_of(&self, entry: EntryId) -> u32 {
        assert!(self.holds(entry), "asked for an entry of the part");
        self.slot + (entry.0 - self.first) as u32
    }

    fn slot_behind(&self, entry: EntryId) -> Slot {
        Slot { log: self.log, slot: self.slot_of(entry) + 1 }
    }

    fn slot(&self, entry: EntryId) -> Slot {
        Slot { log: self.log, slot: self.slot_of(entry) }
    }

    /// The slots that must be known to cut out what `newer` holds too.
    pub(super) fn slots_to_cut(&self, newer: &Part) -> impl Iterator<Item = Slot> + use<> {
        let before = newer.first.checked_sub(1).map(EntryId).filter(|last| self.holds(*last));
        let behind = Some(EntryId(newer.last().0 + 1)).filter(|first| self.holds(*first));
        let part = *self;
        let before = before.map(|last| [part.slot(part.first()), part.slot_behind(last)]);
        let behind = behind.map(|first| [part.slot(first), part.slot_behind(part.last())]);
        before.into_iter().chain(behind).flatten()
    }

    /// What is left when `newer`, which overlaps it, is taken out.
    pub(super) fn cut(&self, newer: &Part, offsets: &Offsets) -> Pieces {
        let before = newer.first.checked_sub(1).filter(|last| *last >= self.first);
        let behind = Some(newer.last().0 + 1).filter(|first| *first <= self.last().0);
        let piece = |first: u64, last: u64| {
            let count = NonZeroU32::new((last - first + 1) as u32).expect("first is not behind last");
            let mut part = Part { first, count, slot: self.slot_of(EntryId(first)), ..*self };
            part.bytes = offsets.bytes(part.slot(part.first()), part.slot_behind(part.last()), self.bytes);
            if part.bytes == 0 {
                // Not known, because the slots are not readable: nothing is lost by a guess.
                part.bytes = (self.bytes() * u64::from(count.get()) / u64::from(self.count.get())) as u32;
            }
            part
        };
        Pieces {
            before: before.map(|last| piece(self.first, last)),
            behind: behind.map(|first| piece(first, self.last().0)),
        }
    }

    /// The same entries in `copy`, a part of another log that holds them all.
    pub(super) fn moved_to(&self, copy: &Part) -> Part {
        Part { log: copy.log, slot: copy.slot_of(self.first()), ..*self }
    }

    /// This and `next` as one, when they follow each other in entries and in the log.
    pub(super) fn joined(&self, next: &Part) -> Option<Part> {
        let follows = self.log == next.log
            && self.last().0 + 1 == next.first
            && self.slot.checked_add(self.count.get()) == Some(next.slot);
        let count = self.count.checked_add(next.count.get()).filter(|_| follows)?;
        Some(Part { count, bytes: self.bytes.checked_add(next.bytes)?, ..*self })
    }
}

/// Offsets of the slots at which parts are about to be cut, read before: the index does no I/O.
#[derive(Debug, Default)]
pub(crate) struct Offsets(HashMap<Slot, u64>);

impl Offsets {
    pub(crate) fn insert(&mut self, slot: Slot, offset: u64) {
        self.0.insert(slot, offset);
    }

    /// From one slot to another; 0 when that is not known or cannot be.
    fn bytes(&self, from: Slot, to: Slot, at_most: u32) -> u32 {
        let (Some(from), Some(to)) = (self.0.get(&from), self.0.get(&to)) else { return 0 };
        let bytes = to.checked_sub(*from).and_then(|bytes| u32::try_from(bytes).ok());
        bytes.filter(|bytes| *bytes <= at_most).unwrap_or(0)
    }
}

#[cfg(test)]
impl Part {
    pub(super) fn of(log: u32, first: u64, count: u32, slot: u32, bytes: u32) -> Part {
        Part { first, log, slot, count: NonZeroU32::new(count).unwrap(), bytes }
    }
}
