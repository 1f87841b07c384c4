//! The entries that are acknowledged above the mark-delete position.

use crate::managed_ledger::MarkDelete;
use magnetar_proto::ids::{EntryId, LedgerId, Position};
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Entries that follow each other in one ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckedRange {
    /// The ledger.
    pub ledger_id: LedgerId,
    /// The first of them.
    pub first: EntryId,
    /// The last of them.
    pub last: EntryId,
}

/// Upstream's form, open below and closed above: `(1:2..1:5]`.
impl fmt::Display for AckedRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ledger, below) = (self.ledger_id, EntryId::option_to_wire(self.first.prev()));
        write!(f, "({ledger}:{below}..{ledger}:{}]", self.last)
    }
}

/// A set of positions, compact where they are dense: a bit per entry at worst, a few bytes per run at best. Every bitmap
/// in it has a member. Cloning is cheap: a clone shares the bitmap of each ledger until one of the two changes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct AckedSet {
    ledgers: BTreeMap<LedgerId, OfLedger>,
    len: u64,
}

/// The entries of one ledger, and how many runs they are: statistics ask for that, and a million cannot be counted each time.
#[derive(Clone, Debug, Default, PartialEq)]
struct OfLedger {
    bitmap: Arc<RoaringBitmap>,
    runs: u64,
}

impl OfLedger {
    fn insert(&mut self, entry: u32) -> bool {
        let new = Arc::make_mut(&mut self.bitmap).insert(entry);
        if new {
            let has = |neighbour: Option<u32>| neighbour.is_some_and(|n| self.bitmap.contains(n));
            let joined = u64::from(has(entry.checked_sub(1))) + u64::from(has(entry.checked_add(1)));
            self.runs = self.runs + 1 - joined;
        }
        new
    }

    /// How many are new.
    fn insert_range(&mut self, first: u32, last: u32) -> u64 {
        if first == last {
            return u64::from(self.insert(first));
        }
        // Those that touch the range become one with it.
        let joined = self.runs_in(first.saturating_sub(1), last.saturating_add(1)).count() as u64;
        self.runs = self.runs + 1 - joined;
        Arc::make_mut(&mut self.bitmap).insert_range(first..=last)
    }

    /// How many were there.
    fn remove_through(&mut self, past: u32) -> u64 {
        let (mut gone, mut cut) = (0, false);
        for run in self.runs_in(0, past) {
            gone += 1;
            cut = *run.end() > past;
        }
        self.runs -= gone - u64::from(cut);
        Arc::make_mut(&mut self.bitmap).remove_range(..=past)
    }

    /// The runs that begin at or before `last`, from `first` on.
    fn runs_in(&self, first: u32, last: u32) -> impl Iterator<Item = RangeInclusive<u32>> {
        let mut iter = self.bitmap.iter();
        iter.advance_to(first);
        std::iter::from_fn(move || next_run(&mut iter)).take_while(move |run| *run.start() <= last)
    }
}

impl AckedSet {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn contains(&self, position: Position) -> bool {
        let of_ledger = self.ledgers.get(&position.ledger_id);
        of_ledger.zip(index(position.entry_id)).is_some_and(|(of, entry)| of.bitmap.contains(entry))
    }

    /// The highest of them.
    pub(super) fn last(&self) -> Option<Position> {
        let (ledger_id, of_ledger) = self.ledgers.last_key_value()?;
        Some(Position::new(*ledger_id, EntryId(u64::from(of_ledger.bitmap.max()?))))
    }

    /// False if it was there, or if the ledger is of a size that does not occur (2^32 entries).
    pub(super) fn insert(&mut self, position: Position) -> bool {
        let Some(entry) = index(position.entry_id) else { return false };
        let new = self.ledgers.entry(position.ledger_id).or_default().insert(entry);
        self.len += u64::from(new);
        new
    }

    /// Adds a range; what lies beyond 2^32 entries is left out.
    pub(super) fn insert_range(&mut self, range: AckedRange) {
        let Some(first) = index(range.first) else { return };
        let last = index(range.last).unwrap_or(u32::MAX);
        if first <= last {
            self.len += self.ledgers.entry(range.ledger_id).or_default().insert_range(first, last);
        }
    }

    /// If `position` is in the set: the last one of the run that it is in.
    pub(super) fn run_end(&self, position: Position) -> Option<Position> {
        let (of_ledger, entry) = self.ledgers.get(&position.ledger_id).zip(index(position.entry_id))?;
        let bitmap = &of_ledger.bitmap;
        if !bitmap.contains(entry) {
            return None;
        }
        let mut iter = bitmap.iter();
        iter.advance_to(entry);
        let run = next_run(&mut iter)?;
        Some(Position::new(position.ledger_id, EntryId(u64::from(*run.end()))))
    }

    /// Forgets everything at or before the mark.
    pub(super) fn remove_through(&mut self, mark: MarkDelete) {
        while let Some(lowest) = self.ledgers.first_entry() {
            if *lowest.key() >= mark.ledger_id {
                break;
            }
            self.len -= lowest.remove().bitmap.len();
        }
        let Some(entry) = mark.entry else { return };
        if let Some(of_ledger) = self.ledgers.get_mut(&mark.ledger_id) {
            let past = index(entry).unwrap_or(u32::MAX);
            // Mostly nothing is there, and a shared bitmap need not be copied.
            if of_ledger.bitmap.min().is_none_or(|lowest| lowest > past) {
                return;
            }
            self.len -= of_ledger.remove_through(past);
            if of_ledger.bitmap.is_empty() {
                self.ledgers.remove(&mark.ledger_id);
            }
        }
    }

    /// The runs in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = AckedRange> {
        self.ledgers.iter().flat_map(|(id, of)| of.runs_in(0, u32::MAX).map(move |run| range(*id, &run)))
    }

    /// How many runs there are.
    pub(super) fn runs(&self) -> u64 {
        self.ledgers.values().map(|of| of.runs).sum()
    }

    /// The entries of each ledger, and how many runs they are.
    pub(super) fn ledgers(&self) -> impl Iterator<Item = (LedgerId, &RoaringBitmap, u64)> {
        self.ledgers.iter().map(|(id, of)| (*id, &*of.bitmap, of.runs))
    }
}

impl FromIterator<AckedRange> for AckedSet {
    /// Ranges in any order, with or without overlaps.
    fn from_iter<T: IntoIterator<Item = AckedRange>>(ranges: T) -> Self {
        let mut set = AckedSet::default();
        ranges.into_iter().for_each(|range| set.insert_range(range));
        set
    }
}

fn range(ledger_id: LedgerId, run: &RangeInclusive<u32>) -> AckedRange {
    let entry = |number: u32| EntryId(u64::from(number));
    AckedRange { ledger_id, first: entry(*run.start()), last: entry(*run.end()) }
}

/// The whole run: the bitmap's own ends where one of its containers does.
fn next_run(iter: &mut roaring::bitmap::Iter<'_>) -> Option<RangeInclusive<u32>> {
    let mut run = iter.next_range()?;
    loop {
        let mut ahead = iter.clone();
        match ahead.next_range() {
            Some(next) if run.end().checked_add(1) == Some(*next.start()) => {
                run = *run.start()..=*next.end();
                *iter = ahead;
            }
            _ => return Some(run),
        }
    }
}

fn index(entry: EntryId) -> Option<u32> {
    u32::try_from(entry.0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ledger: u64, entry: u64) -> Position {
        Position::new(LedgerId(ledger), EntryId(entry))
    }

    fn range(ledger: u64, first: u64, last: u64) -> AckedRange {
        AckedRange { ledger_id: LedgerId(ledger), first: EntryId(first), last: EntryId(last) }
    }

    #[test]
    fn runs_are_whole_across_container_borders() {
        let mut set = AckedSet::default();
        set.insert_range(range(1, 65_000, 140_000));
        set.insert(at(1, 140_002));
        set.insert(at(3, 0));
        let expected = [range(1, 65_000, 140_000), range(1, 140_002, 140_002), range(3, 0, 0)];
        assert_eq!(set.iter().collect::<Vec<_>>(), expected);
        assert_eq!(set.run_end(at(1, 65_536)), Some(at(1, 140_000)));
        assert_eq!(set.run_end(at(1, 140_001)), None);
        assert_eq!(set.len(), 75_003);
        assert_eq!(expected[2].to_string(), "(3:-1..3:0]");
    }

    proptest! {
        #[test]
        fn runs_and_members_are_counted(steps in prop::collection::vec((0..3_u8, 0..200_u64, 0..60_u64), 1..60)) {
            let mut set = AckedSet::default();
            // Around the border of a container.
            let base = 65_536 - 100;
            for (what, entry, more) in steps {
                match what {
                    0 => drop(set.insert(at(1, base + entry))),
                    1 => set.insert_range(range(1, base + entry, base + entry + more)),
                    _ => set.remove_through(at(1, base + entry / 4).into()),
                }
                let runs: Vec<AckedRange> = set.iter().collect();
                let members: u64 = runs.iter().map(|run| run.last.0 - run.first.0 + 1).sum();
                prop_assert_eq!((set.runs(), set.len()), (runs.len() as u64, members));
            }
        }
    }

    #[test]
    fn what_the_mark_passes_is_forgotten() {
        let mut set = AckedSet::default();
        set.insert_range(range(1, 0, 4));
        set.insert_range(range(2, 3, 6));
        set.remove_through(at(2, 4).into());
        assert_eq!(set.iter().collect::<Vec<_>>(), [range(2, 5, 6)]);
        set.remove_through(MarkDelete::before(LedgerId(3)));
        assert_eq!(set, AckedSet::default());
    }
}
