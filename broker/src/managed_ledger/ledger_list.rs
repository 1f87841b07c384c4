//! The ledgers of a topic in order, and finding one's way among their positions.

use super::mark::MarkDelete;
use magnetar_proto::ids::{EntryId, LedgerId, Position};
use magnetar_proto::pulsar::managed_ledger::OffloadContext;
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

/// What is known of one ledger's end. It only moves forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerState {
    /// It takes appends (or did, until its owner stopped): the end is unknown, recovery finds it.
    Open,
    /// No further append will be made by this owner, but not all are confirmed. Never written to metadata.
    Sealed {
        /// Entries appended.
        entries: u64,
    },
    /// Closed for good.
    Closed {
        /// Entries in it.
        entries: u64,
        /// Bytes in it.
        size: u64,
        /// When it was closed, ms since 1970.
        closed_at_ms: u64,
    },
}

/// One ledger of the list.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerInfo {
    /// What is known of its end.
    pub state: LedgerState,
    /// Properties of the ledger, carried along uninterpreted.
    pub properties: Vec<(String, String)>,
    /// Tiered storage's record, carried along uninterpreted.
    pub offload: Option<OffloadContext>,
}

impl LedgerInfo {
    /// A ledger without properties.
    pub fn new(state: LedgerState) -> Self {
        Self { state, properties: Vec::new(), offload: None }
    }

    /// A ledger just made.
    pub fn open() -> Self {
        Self::new(LedgerState::Open)
    }

    /// The number of entries, once no more are appended.
    pub fn entries(&self) -> Option<u64> {
        match self.state {
            LedgerState::Open => None,
            LedgerState::Sealed { entries } | LedgerState::Closed { entries, .. } => Some(entries),
        }
    }

    /// Bytes, 0 while it is not closed.
    pub fn closed_size(&self) -> u64 {
        match self.state {
            LedgerState::Closed { size, .. } => size,
            LedgerState::Open | LedgerState::Sealed { .. } => 0,
        }
    }

    fn last_entry(&self) -> Option<Option<EntryId>> {
        self.entries().map(|entries| entries.checked_sub(1).map(EntryId))
    }
}

/// The ledgers of a topic, in order of their ids, and how far their entries are confirmed.
///
/// Positions here run on from one ledger to the next, skipping ledgers without entries and ledgers that are gone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LedgerList {
    ledgers: BTreeMap<LedgerId, LedgerInfo>,
    /// The newest entry that may be read. Monotonic.
    last_confirmed: Option<Position>,
}

impl LedgerList {
    /// A list of the given ledgers with nothing confirmed but what is closed.
    pub fn new(ledgers: BTreeMap<LedgerId, LedgerInfo>) -> Self {
        let mut list = Self { ledgers, last_confirmed: None };
        list.last_confirmed = list.ledgers.iter().rev().find_map(|(id, info)| match info.state {
            LedgerState::Closed { entries, .. } => {
                entries.checked_sub(1).map(|last| Position::new(*id, EntryId(last)))
            }
            LedgerState::Open | LedgerState::Sealed { .. } => None,
        });
        list
    }

    /// All ledgers in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (LedgerId, &LedgerInfo)> {
        self.ledgers.iter().map(|(id, info)| (*id, info))
    }

    /// One ledger.
    pub fn get(&self, id: LedgerId) -> Option<&LedgerInfo> {
        self.ledgers.get(&id)
    }

    /// How many ledgers there are.
    pub fn len(&self) -> usize {
        self.ledgers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ledgers.is_empty()
    }

    /// The newest entry that may be read.
    pub fn last_confirmed(&self) -> Option<Position> {
        self.last_confirmed
    }

    /// Adds a ledger at the end.
    ///
    /// # Panics
    /// If its id is not above all others: positions would not be ordered.
    pub fn push_open(&mut self, id: LedgerId) {
        assert!(self.ledgers.last_key_value().is_none_or(|(last, _)| *last < id), "ledger ids must ascend");
        self.ledgers.insert(id, LedgerInfo::open());
    }

    /// Replaces what is known of a ledger's end.
    pub fn set_state(&mut self, id: LedgerId, state: LedgerState) {
        if let Some(info) = self.ledgers.get_mut(&id) {
            info.state = state;
        }
    }

    /// Takes a ledger out.
    pub fn remove(&mut self, id: LedgerId) {
        self.ledgers.remove(&id);
    }

    /// Moves the confirmed position on.
    ///
    /// # Panics
    /// If it would move back: a reader may have seen what lies between.
    pub fn confirm(&mut self, up_to: Position) {
        assert!(
            self.last_confirmed.is_none_or(|last| last <= up_to),
            "the last confirmed position is monotonic"
        );
        self.last_confirmed = Some(up_to);
    }

    /// The smallest position at or after `from` that holds an entry or is where the next one may come to stand.
    ///
    /// Past the last ledger's end it gives `from` itself.
    pub fn valid_from(&self, from: Position) -> Position {
        for (id, info) in self.ledgers.range(from.ledger_id..) {
            let first = if *id == from.ledger_id { from.entry_id } else { EntryId::ZERO };
            if info.entries().is_none_or(|entries| first.0 < entries) {
                return Position::new(*id, first);
            }
        }
        from
    }

    /// The position after the mark; see [`Self::valid_from`].
    pub fn next_after(&self, mark: MarkDelete) -> Position {
        self.valid_from(mark.next_position())
    }

    /// The position after `position`; see [`Self::valid_from`].
    pub fn next_valid(&self, position: Position) -> Position {
        self.next_after(MarkDelete::after(position))
    }

    /// The greatest position before `position` that holds an entry. An open ledger counts as holding all before it.
    pub fn previous(&self, position: Position) -> Option<Position> {
        if let (Some(info), Some(before)) = (self.get(position.ledger_id), position.entry_id.prev()) {
            let last = info.last_entry().unwrap_or(Some(before));
            if let Some(last) = last {
                return Some(Position::new(position.ledger_id, last.min(before)));
            }
        }
        self.ledgers.range(..position.ledger_id).rev().find_map(|(id, info)| {
            let last = info.last_entry().unwrap_or_else(|| self.confirmed_in(*id))?;
            Some(Position::new(*id, last))
        })
    }

    /// The mark after which `position` is the next to be read.
    pub fn mark_before(&self, position: Position) -> MarkDelete {
        match self.previous(position) {
            Some(previous) => MarkDelete::after(previous),
            None => MarkDelete::before(self.ledgers.keys().next().copied().unwrap_or(position.ledger_id)),
        }
    }

    /// The first position that holds a confirmed entry.
    pub fn first_position(&self) -> Option<Position> {
        let first = self.valid_from(Position::new(*self.ledgers.keys().next()?, EntryId::ZERO));
        (first <= self.last_confirmed?).then_some(first)
    }

    /// The mark before everything that is still there.
    pub fn earliest(&self) -> MarkDelete {
        MarkDelete::before(self.ledgers.keys().next().copied().unwrap_or(LedgerId(0)))
    }

    /// The mark after everything confirmed.
    pub fn latest(&self) -> MarkDelete {
        self.last_confirmed.map_or_else(|| self.earliest(), MarkDelete::after)
    }

    /// Whether there is a confirmed entry at the position.
    pub fn holds(&self, position: Position) -> bool {
        self.last_confirmed.is_some_and(|last| position <= last)
            && self.get(position.ledger_id).is_some()
            && self.valid_from(position) == position
    }

    /// Whether the position is in a ledger before all of these: its entry may live on in a compacted ledger only.
    pub fn is_before_all(&self, ledger_id: LedgerId) -> bool {
        self.ledgers.first_key_value().is_some_and(|(first, _)| ledger_id < *first)
    }

    /// Moves a mark that lies in a ledger that is gone, or beyond the confirmed end, to where it belongs. Never moves it
    /// over an entry that can still be read, in either direction. A mark before all ledgers is right where it is.
    pub fn clamp(&self, mark: MarkDelete) -> MarkDelete {
        if self.ledgers.is_empty() {
            return mark;
        }
        let latest = self.latest();
        if mark >= latest {
            return latest;
        }
        match self.get(mark.ledger_id) {
            Some(info) => match (info.entries(), mark.entry) {
                (Some(entries), Some(entry)) if entry.0 >= entries => {
                    MarkDelete { ledger_id: mark.ledger_id, entry: entries.checked_sub(1).map(EntryId) }
                }
                _ => mark,
            },
            None if self.is_before_all(mark.ledger_id) => mark,
            None => self.mark_before(self.next_after(mark)),
        }
    }

    /// Confirmed entries after `mark`, up to and including `up_to`.
    pub fn count_between(&self, mark: MarkDelete, up_to: Position) -> u64 {
        let Some(end) = self.last_confirmed.map(|last| last.min(up_to)) else { return 0 };
        let from = mark.next_position();
        if from > end {
            return 0;
        }
        self.ledgers
            .range(from.ledger_id..=end.ledger_id)
            .map(|(id, info)| {
                let first = if *id == from.ledger_id { from.entry_id.0 } else { 0 };
                let known = info.entries().unwrap_or(u64::MAX);
                let past = if *id == end.ledger_id { known.min(end.entry_id.0 + 1) } else { known };
                if *id != end.ledger_id && info.entries().is_none() { 0 } else { past.saturating_sub(first) }
            })
            .sum()
    }

    /// Confirmed entries after `mark`.
    pub fn count_after(&self, mark: MarkDelete) -> u64 {
        self.last_confirmed.map_or(0, |last| self.count_between(mark, last))
    }

    /// The position of the `n`th (from 0) entry after `mark`, if so many are confirmed.
    pub fn nth_after(&self, mark: MarkDelete, n: u64) -> Option<Position> {
        let last = self.last_confirmed?;
        let (mut at, mut left) = (self.next_after(mark), n);
        while let Some(entries) = self.get(at.ledger_id).and_then(LedgerInfo::entries) {
            let here = entries.saturating_sub(at.entry_id.0);
            if left < here {
                break;
            }
            left -= here;
            let after = self.ledgers.range((Excluded(at.ledger_id), Unbounded)).next()?;
            at = self.valid_from(Position::new(*after.0, EntryId::ZERO));
        }
        let found = Position::new(at.ledger_id, EntryId(at.entry_id.0.checked_add(left)?));
        (found <= last).then_some(found)
    }

    fn confirmed_in(&self, id: LedgerId) -> Option<EntryId> {
        self.last_confirmed.filter(|last| last.ledger_id == id).map(|last| last.entry_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn closed(entries: u64) -> LedgerInfo {
        LedgerInfo::new(LedgerState::Closed { entries, size: entries * 10, closed_at_ms: 1 })
    }

    fn at(ledger: u64, entry: u64) -> Position {
        Position::new(LedgerId(ledger), EntryId(entry))
    }

    /// Ledgers 2 (3 entries), 4 (empty), 6 (2 entries), 9 (open, 0 and 1 confirmed).
    fn list() -> LedgerList {
        let mut list = LedgerList::new(BTreeMap::from([
            (LedgerId(2), closed(3)),
            (LedgerId(4), closed(0)),
            (LedgerId(6), closed(2)),
        ]));
        list.push_open(LedgerId(9));
        list.confirm(at(9, 1));
        list
    }

    #[test]
    fn the_next_position_skips_ends_and_empty_and_missing_ledgers() {
        let list = list();
        assert_eq!(list.valid_from(at(2, 2)), at(2, 2));
        assert_eq!(list.next_valid(at(2, 2)), at(6, 0));
        assert_eq!(list.valid_from(at(3, 7)), at(6, 0));
        assert_eq!(list.next_valid(at(6, 1)), at(9, 0));
        assert_eq!(list.next_valid(at(9, 1)), at(9, 2));
        assert_eq!(list.valid_from(at(10, 0)), at(10, 0));
        assert_eq!(list.next_after(MarkDelete::before(LedgerId(1))), at(2, 0));
    }

    #[test]
    fn the_previous_position_crosses_ledgers_backwards() {
        let list = list();
        assert_eq!(list.previous(at(6, 0)), Some(at(2, 2)));
        assert_eq!(list.previous(at(9, 0)), Some(at(6, 1)));
        assert_eq!(list.previous(at(9, 5)), Some(at(9, 4)));
        assert_eq!(list.previous(at(12, 0)), Some(at(9, 1)));
        assert_eq!(list.previous(at(2, 0)), None);
        assert_eq!(list.mark_before(at(2, 0)), MarkDelete::before(LedgerId(2)));
    }

    #[test]
    fn marks_in_deleted_ledgers_or_past_the_end_are_clamped() {
        let list = list();
        assert_eq!(list.clamp(at(1, 50).into()), at(1, 50).into());
        assert_eq!(list.clamp(at(5, 0).into()), at(2, 2).into());
        assert_eq!(list.clamp(at(2, 9).into()), at(2, 2).into());
        assert_eq!(list.clamp(at(9, 7).into()), at(9, 1).into());
        assert_eq!(list.clamp(MarkDelete::before(LedgerId(6))), MarkDelete::before(LedgerId(6)));
        assert_eq!(LedgerList::default().clamp(at(1, 1).into()), at(1, 1).into());
    }

    #[test]
    fn first_and_last_are_those_of_confirmed_entries() {
        let list = list();
        assert_eq!(list.first_position(), Some(at(2, 0)));
        assert_eq!(list.latest(), at(9, 1).into());
        let mut fresh = LedgerList::default();
        fresh.push_open(LedgerId(3));
        assert_eq!((fresh.first_position(), fresh.latest()), (None, MarkDelete::before(LedgerId(3))));
    }

    #[test]
    #[should_panic(expected = "monotonic")]
    fn a_confirmed_position_never_moves_back() {
        list().confirm(at(9, 0));
    }

    proptest! {
        #[test]
        fn counting_and_walking_agree(sizes in proptest::collection::vec(0u64..5, 1..6), open in 0u64..5, skip in 0u64..30) {
            let mut list = LedgerList::new(
                sizes.iter().enumerate().map(|(i, n)| (LedgerId(i as u64 * 2), closed(*n))).collect(),
            );
            let last = LedgerId(sizes.len() as u64 * 2);
            list.push_open(last);
            if open > 0 {
                list.confirm(Position::new(last, EntryId(open - 1)));
            }
            let mut walked = Vec::new();
            let mut next = list.next_after(list.earliest());
            while list.last_confirmed().is_some_and(|end| next <= end) {
                walked.push(next);
                next = list.next_valid(next);
            }
            let total = sizes.iter().sum::<u64>() + open;
            prop_assert_eq!(walked.len() as u64, total);
            prop_assert_eq!(list.count_after(list.earliest()), total);
            prop_assert_eq!(list.nth_after(list.earliest(), skip), walked.get(skip as usize).copied());
            for (i, position) in walked.iter().enumerate() {
                prop_assert_eq!(list.count_after(MarkDelete::after(*position)), total - i as u64 - 1);
                prop_assert_eq!(list.count_between(list.earliest(), *position), i as u64 + 1);
                prop_assert_eq!(list.previous(*position), i.checked_sub(1).map(|before| walked[before]));
                prop_assert_eq!(list.clamp((*position).into()), (*position).into());
            }
        }
    }
}
