//! The entries that are acknowledged above the mark-delete position.

use crate::managed_ledger::MarkDelete;
use magnetar_proto::ids::{EntryId, LedgerId, Position};
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::fmt;
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
    ledgers: BTreeMap<LedgerId, Arc<RoaringBitmap>>,
    len: u64,
}

impl AckedSet {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn contains(&self, position: Position) -> bool {
        let bitmap = self.ledgers.get(&position.ledger_id);
        bitmap.zip(index(position.entry_id)).is_some_and(|(bitmap, entry)| bitmap.contains(entry))
    }

    /// False if it was there, or if the ledger is of a size that does not occur (2^32 entries).
    pub(super) fn insert(&mut self, position: Position) -> bool {
        let Some(entry) = index(position.entry_id) else { return false };
        let new = Arc::make_mut(self.ledgers.entry(position.ledger_id).or_default()).insert(entry);
        self.len += u64::from(new);
        new
    }

    /// Adds a range; what lies beyond 2^32 entries is left out.
    pub(super) fn insert_range(&mut self, range: AckedRange) {
        let Some(first) = index(range.first) else { return };
        let last = index(range.last).unwrap_or(u32::MAX);
        if first <= last {
            let bitmap = Arc::make_mut(self.ledgers.entry(range.ledger_id).or_default());
            self.len += bitmap.insert_range(first..=last);
        }
    }

    /// If `position` is in the set: the last one of the run that it is in.
    pub(super) fn run_end(&self, position: Position) -> Option<Position> {
        let (bitmap, entry) = self.ledgers.get(&position.ledger_id).zip(index(position.entry_id))?;
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
            self.len -= lowest.remove().len();
        }
        let Some(entry) = mark.entry else { return };
        if let Some(bitmap) = self.ledgers.get_mut(&mark.ledger_id) {
            let past = ..=index(entry).unwrap_or(u32::MAX);
            // Mostly nothing is there, and a shared bitmap need not be copied.
            if bitmap.min().is_none_or(|lowest| !past.contains(&lowest)) {
                return;
            }
            let bitmap = Arc::make_mut(bitmap);
            self.len -= bitmap.remove_range(past);
            if bitmap.is_empty() {
                self.ledgers.remove(&mark.ledger_id);
            }
        }
    }

    /// The runs in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = AckedRange> {
        self.ledgers().flatten()
    }

    /// The runs of each ledger, in order.
    pub(super) fn ledgers(&self) -> impl Iterator<Item = impl Iterator<Item = AckedRange> + Clone> {
        self.ledgers.iter().map(|(ledger_id, bitmap)| Runs { ledger_id: *ledger_id, iter: bitmap.iter() })
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

/// The runs of one ledger.
#[derive(Clone)]
struct Runs<'a> {
    ledger_id: LedgerId,
    iter: roaring::bitmap::Iter<'a>,
}

impl Iterator for Runs<'_> {
    type Item = AckedRange;

    fn next(&mut self) -> Option<AckedRange> {
        let run = next_run(&mut self.iter)?;
        let entry = |number: u32| EntryId(u64::from(number));
        Some(AckedRange { ledger_id: self.ledger_id, first: entry(*run.start()), last: entry(*run.end()) })
    }
}

/// The whole run: the bitmap's own ends where one of its containers does.
fn next_run(iter: &mut roaring::bitmap::Iter<'_>) -> Option<std::ops::RangeInclusive<u32>> {
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
