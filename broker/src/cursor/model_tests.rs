//! The cursor against the simplest thing that could be right: a set of acknowledged messages.

use super::*;
use crate::managed_ledger::{LedgerInfo, LedgerList, LedgerState};
use magnetar_proto::ids::{EntryId, LedgerId, Position};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Messages in every entry.
const BATCH: u32 = 3;

#[derive(Clone, Debug)]
enum Action {
    Ack(usize),
    AckBatch(usize, u64),
    AckCumulative(usize),
    AckCumulativeBatch(usize, u64),
    Restart,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (0usize..25).prop_map(Action::Ack),
        4 => ((0usize..25), (0u64..8)).prop_map(|(at, set)| Action::AckBatch(at, set)),
        1 => (0usize..25).prop_map(Action::AckCumulative),
        1 => ((0usize..25), (0u64..8)).prop_map(|(at, set)| Action::AckCumulativeBatch(at, set)),
        1 => Just(Action::Restart),
    ]
}

/// Ledgers of these sizes with ids 0, 10, 20…, then an open one with the last size confirmed.
fn ledgers(sizes: &[u64]) -> (LedgerList, Vec<Position>) {
    let (open, closed) = sizes.split_last().expect("there is a ledger");
    let info = |entries| LedgerInfo::new(LedgerState::Closed { entries, size: entries, closed_at_ms: 1 });
    let id = |index: usize| LedgerId(index as u64 * 10);
    let all: BTreeMap<_, _> = closed.iter().enumerate().map(|(i, n)| (id(i), info(*n))).collect();
    let mut list = LedgerList::new(all);
    list.push_open(id(closed.len()));
    let positions =
        |(i, n): (usize, &u64)| (0..*n).map(move |e| Position::new(id(i), EntryId(e))).collect::<Vec<_>>();
    let all: Vec<Position> = sizes.iter().enumerate().flat_map(positions).collect();
    if *open > 0 {
        list.confirm(Position::new(id(closed.len()), EntryId(open - 1)));
    }
    (list, all)
}

#[derive(Default)]
struct Model {
    acked: BTreeSet<(Position, u32)>,
}

impl Model {
    fn ack(&mut self, position: Position, remaining: u64) {
        self.acked.extend((0..BATCH).filter(|bit| remaining & (1 << bit) == 0).map(|bit| (position, bit)));
    }

    fn remaining(&self, position: Position) -> u64 {
        (0..BATCH).filter(|bit| !self.acked.contains(&(position, *bit))).map(|bit| 1 << bit).sum()
    }
}

fn check(cursor: &Cursor, model: &Model, list: &LedgerList, all: &[Position]) {
    let done = |position: &Position| model.remaining(*position) == 0;
    for position in all {
        assert_eq!(cursor.is_acked(*position), done(position), "{position}");
        let remaining = model.remaining(*position);
        let expected = (remaining != 0 && remaining != 0b111).then(|| vec![remaining]);
        assert_eq!(cursor.ack_set_of(*position), expected, "{position}");
        let untouched = all.iter().filter(|p| *p >= position).all(|p| model.remaining(*p) == 0b111);
        assert_eq!(cursor.is_untouched_from(*position), untouched, "{position}");
    }
    let contiguous = all.iter().take_while(|position| done(position)).count() as u64;
    assert_eq!(list.count_after(cursor.mark_delete()), all.len() as u64 - contiguous);
    let above = all.iter().filter(|position| done(position)).count() as u64 - contiguous;
    assert_eq!(cursor.individually_acked(), above);
    assert_eq!(
        cursor.ranges(usize::MAX).0.iter().map(|range| range.last.0 - range.first.0 + 1).sum::<u64>(),
        above
    );
}

proptest! {
    #[test]
    fn a_cursor_is_the_set_of_what_was_acknowledged(
        sizes in proptest::collection::vec(0u64..6, 1..5),
        actions in proptest::collection::vec(action(), 0..60),
    ) {
        let (list, all) = ledgers(&sizes);
        let mut cursor = Cursor::new(list.earliest());
        let mut model = Model::default();
        for action in actions {
            let pick = |at: usize| all.get(at % all.len().max(1)).copied();
            match action {
                Action::Ack(at) => if let Some(position) = pick(at) {
                    prop_assert_eq!(cursor.ack(position, &list), model.remaining(position) != 0);
                    model.ack(position, 0);
                },
                Action::AckBatch(at, remaining) => if let Some(position) = pick(at) {
                    let before = model.remaining(position);
                    model.ack(position, remaining);
                    let after = model.remaining(position);
                    let newly = (before ^ after).count_ones();
                    let expected = match after {
                        _ if newly == 0 => AckOutcome::Nothing,
                        0 => AckOutcome::Entry,
                        _ => AckOutcome::Partly { newly },
                    };
                    prop_assert_eq!(cursor.ack_batch(position, &[remaining], BATCH, &list), expected);
                },
                Action::AckCumulative(at) => if let Some(position) = pick(at) {
                    cursor.ack_cumulative(position, None, &list);
                    all.iter().filter(|p| **p <= position).for_each(|p| model.ack(*p, 0));
                },
                Action::AckCumulativeBatch(at, remaining) => if let Some(position) = pick(at) {
                    cursor.ack_cumulative(position, Some((&[remaining], BATCH)), &list);
                    all.iter().filter(|p| **p < position).for_each(|p| model.ack(*p, 0));
                    model.ack(position, remaining);
                },
                Action::Restart => {
                    let record = codec::encode(&cursor.snapshot());
                    let restored = Cursor::restore(&codec::decode(&record).unwrap(), &list);
                    check(&restored, &model, &list, &all);
                    cursor = restored;
                }
            }
            check(&cursor, &model, &list, &all);
        }
    }

    #[test]
    fn what_does_not_exist_cannot_be_acknowledged(ledger in 0u64..40, entry in 0u64..10) {
        let (list, all) = ledgers(&[2, 0, 3]);
        let mut cursor = Cursor::new(list.earliest());
        let position = Position::new(LedgerId(ledger), EntryId(entry));
        prop_assert_eq!(cursor.ack(position, &list), all.contains(&position));
        cursor.ack_cumulative(position, None, &list);
        prop_assert!(cursor.mark_delete() <= list.latest());
    }
}

#[test]
fn a_cursor_in_a_trimmed_ledger_moves_to_what_is_left() {
    let (mut list, _) = ledgers(&[2, 3, 1]);
    let mut cursor = Cursor::new(MarkDelete::before(LedgerId(0)));
    cursor.ack(Position::new(LedgerId(0), EntryId(1)), &list);
    cursor.ack(Position::new(LedgerId(10), EntryId(0)), &list);
    list.remove(LedgerId(0));
    cursor.fit(&list);
    assert_eq!(cursor.mark_delete(), Position::new(LedgerId(10), EntryId(0)).into());
    assert_eq!(cursor.individually_acked(), 0);
}
