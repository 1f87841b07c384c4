//! Where one ledger's flushed entries lie.

use magnetar_proto::ids::EntryId;

use super::part::{Offsets, Part, Slot};
use super::usage::Usage;

/// The parts of one ledger, sorted by entry and disjoint: of an entry written twice only the newest copy is here.
#[derive(Debug, Default)]
pub(crate) struct Runs(Parts);

/// Most ledgers have one part: it needs no allocation.
#[derive(Debug)]
enum Parts {
    One(Part),
    #[expect(clippy::box_collection, reason = "it keeps every ledger 16 bytes smaller")]
    Many(Option<Box<Vec<Part>>>),
}

impl Default for Parts {
    fn default() -> Self {
        Parts::Many(None)
    }
}

impl Runs {
    pub(crate) fn parts(&self) -> &[Part] {
        match &self.0 {
            Parts::One(part) => std::slice::from_ref(part),
            Parts::Many(parts) => parts.as_deref().map_or(&[], Vec::as_slice),
        }
    }

    /// The part that holds `entry`.
    pub(crate) fn find(&self, entry: EntryId) -> Option<&Part> {
        let behind = self.parts().partition_point(|part| part.first() <= entry);
        self.parts()[..behind].last().filter(|part| part.holds(entry))
    }

    /// The parts that hold entries of `first..=last`.
    pub(crate) fn within(&self, first: EntryId, last: EntryId) -> &[Part] {
        let from = self.parts().partition_point(|part| part.last() < first);
        let to = self.parts().partition_point(|part| part.first() <= last);
        &self.parts()[from..to.max(from)]
    }

    /// The slots that must be known before [`Runs::add`] can take `part`.
    pub(super) fn slots_to_cut(&self, part: Part) -> impl Iterator<Item = Slot> {
        let overlapping = self.within(part.first(), part.last()).iter();
        overlapping.flat_map(move |old| {
            let (older, newer) = if old.log() < part.log() { (*old, part) } else { (part, *old) };
            older.slots_to_cut(&newer)
        })
    }

    /// Adds a part. Of an entry that other parts hold too, the copy in the highest log counts.
    pub(super) fn add(&mut self, part: Part, offsets: &Offsets, usage: &mut Usage) {
        match self.parts().last() {
            Some(last) if last.last() >= part.first() => return self.insert(part, offsets, usage),
            Some(_) => self.push(part),
            None => self.0 = Parts::One(part),
        }
        usage.add(&part);
    }

    /// Grows by an eighth where a vector would double: memory counts here, and flushes are seldom.
    fn push(&mut self, part: Part) {
        let parts = self.to_vec();
        if parts.len() == parts.capacity() {
            parts.reserve_exact(1 + parts.len() / 8);
        }
        parts.push(part);
    }

    fn insert(&mut self, part: Part, offsets: &Offsets, usage: &mut Usage) {
        let from = self.parts().partition_point(|old| old.last() < part.first());
        let overlapping = self.within(part.first(), part.last());
        let to = from + overlapping.len();
        let mut all = Vec::with_capacity(overlapping.len() + 3);
        // What of the new part no newer one holds, behind those that were looked at.
        let mut rest = Some(part);
        for old in overlapping {
            if old.log() < part.log() {
                usage.remove(old);
                let left = old.cut(&part, offsets);
                all.extend(left.before.into_iter().chain(left.behind).inspect(|piece| usage.add(piece)));
            } else {
                all.push(*old);
                let left = rest.take().map(|rest| rest.cut(old, offsets));
                let (before, behind) = left.map_or((None, None), |left| (left.before, left.behind));
                all.extend(before.inspect(|piece| usage.add(piece)));
                rest = behind;
            }
        }
        all.extend(rest.inspect(|piece| usage.add(piece)));
        all.sort_unstable_by_key(Part::first);
        self.to_vec().splice(from..to, all);
    }

    /// Takes the entries that `copy` holds from there, as far as they lay in one of `logs`.
    pub(super) fn move_to(&mut self, copy: &Part, logs: &[u64], usage: &mut Usage) {
        let from = self.parts().partition_point(|part| part.last() < copy.first());
        let to = from + self.within(copy.first(), copy.last()).len();
        let parts = match &mut self.0 {
            Parts::One(part) => std::slice::from_mut(part),
            Parts::Many(None) => return,
            Parts::Many(Some(parts)) => parts.as_mut_slice(),
        };
        for part in &mut parts[from..to] {
            // A part reaches beyond the copy only when it was never read for it; then it stays where it is.
            let whole = copy.first() <= part.first() && part.last() <= copy.last();
            if whole && logs.contains(&part.log()) {
                usage.remove(part);
                *part = part.moved_to(copy);
                usage.add(part);
            }
        }
        self.join(usage);
    }

    /// Joins parts that follow each other in one log: what a compaction has brought together.
    fn join(&mut self, usage: &mut Usage) {
        let Parts::Many(Some(parts)) = &mut self.0 else { return };
        parts.dedup_by(|next, part| match part.joined(next) {
            Some(joined) => {
                usage.remove(part);
                usage.remove(next);
                usage.add(&joined);
                *part = joined;
                true
            }
            None => false,
        });
        match parts[..] {
            [only] => self.0 = Parts::One(only),
            _ => parts.shrink_to_fit(),
        }
    }

    #[expect(clippy::wrong_self_convention, reason = "it changes the representation in place")]
    fn to_vec(&mut self) -> &mut Vec<Part> {
        if let Parts::One(part) = self.0 {
            self.0 = Parts::Many(Some(Box::new(vec![part])));
        }
        match &mut self.0 {
            Parts::Many(parts) => parts.get_or_insert_default(),
            Parts::One(_) => unreachable!("replaced above"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every record is 10 bytes long.
    fn part(log: u32, first: u64, count: u32) -> Part {
        Part::of(log, first, count, first as u32, count * 10)
    }

    fn runs(list: &[(u32, u64, u32)]) -> (Runs, Usage) {
        let (mut runs, mut usage) = (Runs::default(), Usage::default());
        for (log, first, count) in list {
            let part = part(*log, *first, *count);
            let mut offsets = Offsets::default();
            runs.slots_to_cut(part).for_each(|slot| offsets.insert(slot, u64::from(slot.slot) * 10));
            runs.add(part, &offsets, &mut usage);
        }
        (runs, usage)
    }

    fn summary(runs: &Runs) -> Vec<(u64, u64, u32, u64)> {
        runs.parts().iter().map(|part| (part.log(), part.first().0, part.count(), part.bytes())).collect()
    }

    #[test]
    fn an_entry_is_found_in_its_part_or_not_at_all() {
        let (runs, _) = runs(&[(1, 0, 3), (1, 5, 2), (2, 7, 10)]);
        let log = |entry| runs.find(EntryId(entry)).map(|part| (part.log(), part.first().0));
        assert_eq!([log(0), log(2), log(3), log(4)], [Some((1, 0)), Some((1, 0)), None, None]);
        assert_eq!([log(6), log(7), log(16), log(17)], [Some((1, 5)), Some((2, 7)), Some((2, 7)), None]);
    }

    #[test]
    fn a_newer_part_replaces_exactly_what_it_holds_too() {
        for (newer, expected) in [
            ((3, 4), vec![(1, 0, 3, 30), (2, 3, 4, 40), (1, 7, 3, 30), (1, 20, 10, 100)]),
            ((0, 2), vec![(2, 0, 2, 20), (1, 2, 8, 80), (1, 20, 10, 100)]),
            ((8, 2), vec![(1, 0, 8, 80), (2, 8, 2, 20), (1, 20, 10, 100)]),
            ((0, 10), vec![(2, 0, 10, 100), (1, 20, 10, 100)]),
            ((5, 20), vec![(1, 0, 5, 50), (2, 5, 20, 200), (1, 25, 5, 50)]),
            ((12, 3), vec![(1, 0, 10, 100), (2, 12, 3, 30), (1, 20, 10, 100)]),
            ((0, 40), vec![(2, 0, 40, 400)]),
        ] {
            let (runs, usage) = runs(&[(1, 0, 10), (1, 20, 10), (2, newer.0, newer.1)]);
            assert_eq!(summary(&runs), expected, "{newer:?}");
            for log in [1, 2] {
                let parts: Vec<_> = expected.iter().filter(|part| part.0 == log).collect();
                assert_eq!(usage.of(log).bytes, parts.iter().map(|part| part.3).sum::<u64>());
                assert_eq!(usage.of(log).entries, parts.iter().map(|part| u64::from(part.2)).sum::<u64>());
                assert_eq!(usage.of(log).parts, parts.len() as u64);
            }
        }
    }

    #[test]
    fn an_older_part_that_comes_later_only_fills_gaps() {
        let (runs, usage) = runs(&[(2, 3, 2), (3, 8, 4), (1, 0, 20)]);
        let expected = [(1, 0, 3, 30), (2, 3, 2, 20), (1, 5, 3, 30), (3, 8, 4, 40), (1, 12, 8, 80)];
        assert_eq!(summary(&runs), expected);
        assert_eq!(
            [usage.of(1), usage.of(2)].map(|log| (log.bytes, log.entries, log.parts)),
            [(140, 14, 3), (20, 2, 1)]
        );
        assert_eq!(runs.find(EntryId(13)).map(|part| part.slot_of(EntryId(13))), Some(13));
    }

    #[test]
    fn a_part_whose_slots_cannot_be_read_is_split_in_proportion() {
        let (mut runs, mut usage) = (Runs::default(), Usage::default());
        runs.add(part(1, 0, 10), &Offsets::default(), &mut usage);
        runs.add(part(2, 2, 1), &Offsets::default(), &mut usage);
        assert_eq!(summary(&runs), [(1, 0, 2, 20), (2, 2, 1, 10), (1, 3, 7, 70)]);
    }

    #[test]
    fn a_copy_takes_over_what_still_lies_in_the_old_logs() {
        let (mut runs, mut usage) = runs(&[(1, 0, 10), (2, 10, 5), (3, 15, 5), (5, 4, 2)]);
        let copy = Part::of(4, 0, 20, 100, 200);
        runs.move_to(&copy, &[1, 3], &mut usage);
        assert_eq!(
            summary(&runs),
            [(4, 0, 4, 40), (5, 4, 2, 20), (4, 6, 4, 40), (2, 10, 5, 50), (4, 15, 5, 50)]
        );
        assert_eq!(runs.find(EntryId(7)).map(|part| part.slot_of(EntryId(7))), Some(107));
        assert_eq!([usage.of(1).bytes, usage.of(3).bytes, usage.of(4).bytes], [0, 0, 130]);
        runs.move_to(&Part::of(6, 6, 9, 0, 90), &[4, 2], &mut usage);
        assert_eq!(summary(&runs), [(4, 0, 4, 40), (5, 4, 2, 20), (6, 6, 9, 90), (4, 15, 5, 50)]);
    }
}
