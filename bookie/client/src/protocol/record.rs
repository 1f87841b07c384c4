//! What may become of a ledger's record: decided from the record as it was read, written by compare-and-set.
//!
//! Every function gives the record to write, or `None` when what was wanted is there already: so a write whose outcome is
//! unknown is settled by reading the record and asking again. Nothing here may guess.

use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::ids::EntryId;
use std::collections::BTreeMap;

/// The record says that the ledger is not the caller's to change (any more).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOurs {
    /// A recovery has begun or ended, or other bookies are in the ensemble than its writer put there.
    #[error("somebody else has taken the ledger over")]
    TakenOver,
    /// A ledger in recovery is open again: no rule of the protocol leads there.
    #[error("the ledger was opened again while it was being recovered")]
    Reopened,
}

/// The first step of a recovery: from then on the writer can record no other ensemble.
pub fn begin_recovery(record: &LedgerMetadata) -> Option<LedgerMetadata> {
    match record.state {
        LedgerState::Open => Some(LedgerMetadata { state: LedgerState::InRecovery, ..record.clone() }),
        LedgerState::InRecovery | LedgerState::Closed { .. } => None,
    }
}

/// The last step of a recovery that found the end `closed`, with the ensembles that it wrote to. A ledger that is closed
/// already stays as it is: another recovery was quicker, and what it found is the end.
pub fn close_recovered(
    record: &LedgerMetadata,
    closed: LedgerState,
    segments: &BTreeMap<EntryId, Vec<BookieId>>,
) -> Result<Option<LedgerMetadata>, NotOurs> {
    match record.state {
        LedgerState::InRecovery => {
            let mut record = LedgerMetadata { state: closed, ..record.clone() };
            let (start, _) = record.last_segment();
            assert!(segments.keys().all(|first| *first >= start), "segments are only added at the end");
            record.segments.extend(segments.iter().map(|(first, ensemble)| (*first, ensemble.clone())));
            Ok(Some(record))
        }
        LedgerState::Closed { .. } => Ok(None),
        LedgerState::Open => Err(NotOurs::Reopened),
    }
}

/// The writer's own end, as long as nobody else has begun to look for another one.
pub fn close_written(
    record: &LedgerMetadata,
    closed: LedgerState,
) -> Result<Option<LedgerMetadata>, NotOurs> {
    match record.state {
        LedgerState::Open => Ok(Some(LedgerMetadata { state: closed, ..record.clone() })),
        other if other == closed => Ok(None),
        LedgerState::InRecovery | LedgerState::Closed { .. } => Err(NotOurs::TakenOver),
    }
}

/// Other bookies from `first_entry` on, while the ledger is open and its last segment is still `before`.
pub fn change_ensemble(
    record: &LedgerMetadata,
    first_entry: EntryId,
    before: &[BookieId],
    ensemble: &[BookieId],
) -> Result<Option<LedgerMetadata>, NotOurs> {
    let (start, now) = record.last_segment();
    if record.state != LedgerState::Open || start > first_entry {
        return Err(NotOurs::TakenOver);
    }
    if now == ensemble {
        return Ok(None);
    }
    if now != before {
        return Err(NotOurs::TakenOver);
    }
    let mut record = record.clone();
    // Equal to the start of the last segment: that segment has no confirmed entry, so it is replaced.
    record.segments.insert(first_entry, ensemble.to_vec());
    Ok(Some(record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use magnetar_proto::bookkeeper::entry::DigestType;

    fn bookies(names: &str) -> Vec<BookieId> {
        names.split(' ').map(|name| BookieId::new(name).expect("an id")).collect()
    }

    fn record(state: LedgerState) -> LedgerMetadata {
        LedgerMetadata {
            ensemble_size: 3,
            write_quorum: 3,
            ack_quorum: 2,
            state,
            segments: BTreeMap::from([(EntryId(0), bookies("a b c")), (EntryId(5), bookies("a d c"))]),
            digest: DigestType::Crc32c,
            password: Bytes::new(),
            ctime_ms: None,
            custom: BTreeMap::new(),
            c_token: None,
        }
    }

    fn closed(last: u64) -> LedgerState {
        LedgerState::Closed { last_entry: Some(EntryId(last)), length: last + 1 }
    }

    fn changed(state: LedgerState, first: u64, before: &str) -> Result<Option<LedgerMetadata>, NotOurs> {
        change_ensemble(&record(state), EntryId(first), &bookies(before), &bookies("a d e"))
    }

    #[test]
    fn a_segment_with_confirmed_entries_is_kept_and_one_without_is_replaced() {
        let after = changed(LedgerState::Open, 9, "a d c").expect("ours").expect("a change");
        assert_eq!(after.segments.keys().map(|first| first.0).collect::<Vec<_>>(), [0, 5, 9]);
        let after = changed(LedgerState::Open, 5, "a d c").expect("ours").expect("a change");
        assert_eq!(after.segments.into_values().collect::<Vec<_>>(), [bookies("a b c"), bookies("a d e")]);
    }

    #[test]
    fn a_change_that_was_recorded_before_its_answer_was_lost_is_recognised() {
        let mut recorded = record(LedgerState::Open);
        recorded.segments.insert(EntryId(9), bookies("a d e"));
        let again = change_ensemble(&recorded, EntryId(9), &bookies("a d c"), &bookies("a d e"));
        assert_eq!(again, Ok(None));
    }

    #[test]
    fn a_ledger_in_other_hands_is_not_changed() {
        let taken = Err(NotOurs::TakenOver);
        assert_eq!(changed(LedgerState::InRecovery, 9, "a d c"), taken);
        assert_eq!(changed(closed(4), 9, "a d c"), taken);
        assert_eq!(changed(LedgerState::Open, 9, "a b c"), taken);
        assert_eq!(changed(LedgerState::Open, 4, "a d c"), taken);
    }

    #[test]
    fn a_closed_ledger_is_never_closed_at_another_end() {
        assert_eq!(close_written(&record(closed(7)), closed(7)), Ok(None));
        assert_eq!(close_written(&record(closed(7)), closed(6)), Err(NotOurs::TakenOver));
        assert_eq!(close_written(&record(LedgerState::InRecovery), closed(7)), Err(NotOurs::TakenOver));
        assert_eq!(close_recovered(&record(closed(7)), closed(8), &BTreeMap::new()), Ok(None));
        assert_eq!(begin_recovery(&record(closed(7))), None);
    }

    #[test]
    fn a_recovery_adds_its_segments_when_it_closes_and_not_before() {
        assert_eq!(begin_recovery(&record(LedgerState::Open)), Some(record(LedgerState::InRecovery)));
        let segments = BTreeMap::from([(EntryId(5), bookies("a d e"))]);
        let after = close_recovered(&record(LedgerState::InRecovery), closed(7), &segments);
        let after = after.expect("ours").expect("a change");
        assert_eq!((after.state, after.last_segment()), (closed(7), (EntryId(5), &bookies("a d e")[..])));
        let reopened = close_recovered(&record(LedgerState::Open), closed(7), &segments);
        assert_eq!(reopened, Err(NotOurs::Reopened));
    }
}
