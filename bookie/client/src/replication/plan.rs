//! What a ledger needs so that every entry has all its copies again: a pure function of its record and of how its bookies
//! stand.
//!
//! It must never plan to replace a bookie of a segment whose end is not settled: there only a recovery may tell what exists.

use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::ids::EntryId;

/// How a bookie stands to the copies that a ledger's record says it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is no reason to doubt that it has them.
    Sound,
    /// It serves, and may lack some: it must be asked.
    Suspect,
    /// It has them, and is to hand them over.
    Leaving,
    /// It does not serve.
    Gone,
}

impl Standing {
    /// Of a bookie that serves or not, that is to be emptied or not, and that the ledger's mark names or not. Only who is to
    /// be emptied or is named is in doubt: one that is merely away for a moment gets its time to come back.
    pub fn of(serves: bool, is_draining: bool, is_suspect: bool) -> Self {
        match (serves, is_draining, is_suspect) {
            (_, false, false) => Self::Sound,
            (false, ..) => Self::Gone,
            (true, true, _) => Self::Leaving,
            (true, false, true) => Self::Suspect,
        }
    }
}

/// The part of a ledger that one bookie keeps in one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The first entry of the segment: its key in the record.
    pub segment: EntryId,
    /// The last entry of the segment. `None`: it has no entries, or, where it is `unsettled`, it is not known yet.
    pub last: Option<EntryId>,
    /// Where the bookie stands in the ensemble.
    pub slot: usize,
    /// Who is recorded there.
    pub bookie: BookieId,
    /// How that bookie stands; never [`Standing::Sound`].
    pub standing: Standing,
    /// Entries may still be added to the segment: only what lies below the last add confirmed is certain, and the record
    /// must not be changed.
    pub unsettled: bool,
}

/// What to do about a ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The ledger's end must be settled by a recovery before its last segment can be repaired.
    pub abandoned: bool,
    /// What can be repaired now, in the order of the segments.
    pub fragments: Vec<Fragment>,
}

impl Plan {
    /// Whether every copy is where the record says it is, as far as is known.
    pub fn is_empty(&self) -> bool {
        !self.abandoned && self.fragments.is_empty()
    }
}

/// The plan for a ledger.
pub fn plan(record: &LedgerMetadata, standing: impl Fn(&BookieId) -> Standing) -> Plan {
    let mut plan = Plan::default();
    let mut segments = record.segments.iter().peekable();
    while let Some((first, ensemble)) = segments.next() {
        let next = segments.peek().map(|(next, _)| **next);
        let (last, settled) = match (next, record.state) {
            (Some(next), _) => (next.0.checked_sub(1).map(EntryId), true),
            (None, LedgerState::Closed { last_entry, .. }) => (last_entry.filter(|last| last >= first), true),
            (None, LedgerState::Open | LedgerState::InRecovery) => (None, false),
        };
        for (slot, bookie) in ensemble.iter().enumerate() {
            let standing = standing(bookie);
            match standing {
                Standing::Sound => continue,
                Standing::Leaving | Standing::Gone if !settled => plan.abandoned = true,
                Standing::Suspect | Standing::Leaving | Standing::Gone => plan.fragments.push(Fragment {
                    segment: *first,
                    last,
                    slot,
                    bookie: bookie.clone(),
                    standing,
                    unsettled: !settled,
                }),
            }
        }
    }
    plan
}

/// The record with `by` in the place of the fragment's bookie, in that segment only. `None`: the record is no longer what
/// was planned for, so that the plan must be made anew.
pub fn replaced(record: &LedgerMetadata, fragment: &Fragment, by: &BookieId) -> Option<LedgerMetadata> {
    let same =
        plan(record, |bookie| if *bookie == fragment.bookie { fragment.standing } else { Standing::Sound });
    if fragment.unsettled || !same.fragments.contains(fragment) {
        return None;
    }
    let mut record = record.clone();
    let ensemble = record.segments.get_mut(&fragment.segment)?;
    if ensemble.contains(by) {
        return None;
    }
    ensemble[fragment.slot] = by.clone();
    Some(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use magnetar_proto::bookkeeper::entry::DigestType;
    use std::collections::BTreeMap;

    fn id(name: &str) -> BookieId {
        BookieId::new(name).expect("an id")
    }

    fn record(state: LedgerState, segments: &[(u64, &str)]) -> LedgerMetadata {
        let segment = |(first, names): &(u64, &str)| (EntryId(*first), names.split(' ').map(id).collect());
        LedgerMetadata {
            ensemble_size: 3,
            write_quorum: 3,
            ack_quorum: 2,
            state,
            segments: segments.iter().map(segment).collect(),
            digest: DigestType::Crc32c,
            password: Bytes::new(),
            ctime_ms: None,
            custom: BTreeMap::new(),
            c_token: None,
        }
    }

    fn closed(last: u64) -> LedgerState {
        LedgerState::Closed { last_entry: Some(EntryId(last)), length: 1 }
    }

    fn gone(name: &str) -> impl Fn(&BookieId) -> Standing {
        move |bookie| if bookie.as_str() == name { Standing::Gone } else { Standing::Sound }
    }

    /// Segment, last entry and slot of each fragment.
    fn shapes(plan: &Plan) -> Vec<(u64, Option<u64>, usize)> {
        plan.fragments.iter().map(|f| (f.segment.0, f.last.map(|last| last.0), f.slot)).collect()
    }

    #[test]
    fn a_bookie_that_nobody_doubts_is_not_replaced_because_it_is_away_for_a_moment() {
        assert_eq!(Standing::of(false, false, false), Standing::Sound);
        assert_eq!(Standing::of(false, false, true), Standing::Gone);
        assert_eq!(Standing::of(false, true, false), Standing::Gone);
        assert_eq!(Standing::of(true, false, true), Standing::Suspect, "it may have everything");
        assert_eq!(Standing::of(true, true, true), Standing::Leaving);
    }

    #[test]
    fn every_segment_that_names_a_lost_bookie_is_a_fragment() {
        let record = record(closed(99), &[(0, "a b c"), (40, "a d c"), (70, "d b c")]);
        let plan = plan(&record, gone("a"));
        assert_eq!((plan.abandoned, shapes(&plan)), (false, vec![(0, Some(39), 0), (40, Some(69), 0)]));
    }

    #[test]
    fn segments_without_entries_are_fragments_too() {
        let empty = LedgerState::Closed { last_entry: None, length: 0 };
        assert_eq!(shapes(&plan(&record(empty, &[(0, "a b c")]), gone("b"))), [(0, None, 1)]);
        // The writer changed the ensemble and then wrote nothing more.
        let late = record(closed(9), &[(0, "x b c"), (10, "a b c")]);
        assert_eq!(shapes(&plan(&late, gone("a"))), [(10, None, 0)]);
    }

    #[test]
    fn the_last_segment_of_a_ledger_that_is_not_closed_waits_for_a_recovery() {
        for state in [LedgerState::Open, LedgerState::InRecovery] {
            let record = record(state, &[(0, "a b c"), (40, "a d c")]);
            let lost = plan(&record, gone("a"));
            assert_eq!((lost.abandoned, shapes(&lost)), (true, vec![(0, Some(39), 0)]));
            let moved_on = plan(&record, gone("b"));
            assert_eq!((moved_on.abandoned, shapes(&moved_on)), (false, vec![(0, Some(39), 1)]));
        }
    }

    #[test]
    fn a_bookie_that_came_back_does_not_cost_a_writer_its_ledger() {
        let record = record(LedgerState::Open, &[(0, "a b c")]);
        let plan = plan(&record, |_| Standing::Suspect);
        assert!(!plan.abandoned && plan.fragments.iter().all(|fragment| fragment.unsettled));
    }

    #[test]
    fn only_the_slot_and_the_segment_that_were_repaired_are_changed() {
        let before = record(closed(99), &[(0, "a b c"), (40, "a d c")]);
        let fragments = plan(&before, gone("a")).fragments;
        let after = replaced(&before, &fragments[0], &id("e")).expect("as planned");
        assert_eq!(after, record(closed(99), &[(0, "e b c"), (40, "a d c")]));
    }

    #[test]
    fn a_record_that_has_changed_is_planned_for_anew() {
        let before = record(LedgerState::Open, &[(0, "a b c"), (40, "d b c")]);
        let fragment = plan(&before, gone("a")).fragments.remove(0);
        let by = id("e");
        for other in [
            record(LedgerState::Open, &[(0, "x b c"), (40, "d b c")]),
            record(LedgerState::Open, &[(0, "a b c")]),
            record(LedgerState::Open, &[(0, "a b c"), (50, "d b c")]),
            record(closed(9), &[(0, "a b e"), (40, "d b c")]),
        ] {
            assert_eq!(replaced(&other, &fragment, &by), None, "{other:?}");
        }
        let written_on = record(closed(60), &[(0, "a b c"), (40, "d b c"), (55, "d x c")]);
        assert!(replaced(&written_on, &fragment, &by).is_some(), "later segments do not matter");
    }
}
