//! Which ledgers of a topic may go.

use super::config::Retention;
use super::ledger_list::{LedgerList, LedgerState};
use super::mark::MarkDelete;
use magnetar_proto::ids::LedgerId;

/// The ledgers at the front of the list that every durable cursor has passed and that retention no longer holds.
///
/// `slowest` is the lowest durable mark-delete; `None` means that no durable cursor holds anything. The last ledger of
/// the list always stays, so that the topic's last position is never forgotten. Only a prefix goes: the entries that
/// remain have no gaps.
pub(super) fn trimmable(
    list: &LedgerList,
    slowest: Option<MarkDelete>,
    retention: Retention,
    now_ms: u64,
) -> Vec<LedgerId> {
    let mut remaining: u64 = list.iter().map(|(_, info)| info.closed_size()).sum();
    let mut gone = Vec::new();
    for (id, info) in list.iter().take(list.len().saturating_sub(1)) {
        let LedgerState::Closed { entries, size, closed_at_ms } = info.state else { break };
        let after = remaining - size;
        if !is_consumed(id, entries, slowest)
            || !is_released(retention, now_ms.saturating_sub(closed_at_ms), after)
        {
            break;
        }
        remaining = after;
        gone.push(id);
    }
    gone
}

/// When retention by time lets go of the first ledger, in ms since 1970. `None`: something else must happen first.
pub(super) fn next_release(
    list: &LedgerList,
    slowest: Option<MarkDelete>,
    retention: Retention,
) -> Option<u64> {
    let (id, info) = list.iter().next().filter(|_| list.len() > 1)?;
    let LedgerState::Closed { entries, closed_at_ms, .. } = info.state else { return None };
    let kept_ms = u64::try_from(retention.time?.as_millis()).ok()?;
    is_consumed(id, entries, slowest).then(|| closed_at_ms.saturating_add(kept_ms))
}

fn is_consumed(id: LedgerId, entries: u64, slowest: Option<MarkDelete>) -> bool {
    slowest.is_none_or(|mark| {
        mark.ledger_id > id || (mark.ledger_id == id && mark.next_position().entry_id.0 >= entries)
    })
}

fn is_released(retention: Retention, age_ms: u64, bytes_that_would_remain: u64) -> bool {
    retention.time.is_some_and(|time| u128::from(age_ms) >= time.as_millis())
        || retention.size_bytes.is_some_and(|size| bytes_that_would_remain >= size)
}

#[cfg(test)]
mod tests {
    use super::super::ledger_list::LedgerInfo;
    use super::*;
    use magnetar_proto::ids::{EntryId, Position};
    use std::time::Duration;

    /// Ledgers 1, 2, 3 of 10 entries and 100 bytes, closed at 1, 2 and 3 s, and the open ledger 4.
    fn list() -> LedgerList {
        let mut list = LedgerList::new(
            (1..=3)
                .map(|id| {
                    let state = LedgerState::Closed { entries: 10, size: 100, closed_at_ms: id * 1000 };
                    (LedgerId(id), LedgerInfo::new(state))
                })
                .collect(),
        );
        list.push_open(LedgerId(4));
        list
    }

    fn mark(ledger: u64, entry: u64) -> Option<MarkDelete> {
        Some(Position::new(LedgerId(ledger), EntryId(entry)).into())
    }

    #[test]
    fn a_ledger_goes_when_all_have_passed_it_and_retention_lets_it() {
        let none = Retention::NONE;
        let keep = |seconds: Option<u64>, size_bytes| Retention {
            time: seconds.map(Duration::from_secs),
            size_bytes,
        };
        let cases = [
            (mark(1, 8), none, 0, "a cursor still needs ledger 1"),
            (mark(1, 9), none, 1, "passed ledger 1 exactly"),
            (mark(3, 0), none, 2, "in ledger 3"),
            (mark(4, 5), none, 3, "the open one stays"),
            (None, none, 3, "no durable cursor"),
            (None, keep(None, None), 0, "kept for ever"),
            (None, keep(Some(3), None), 2, "old enough at 5 s: those closed at 1 and 2 s"),
            (None, keep(Some(60), Some(150)), 1, "200 bytes remain; 100 would be too few"),
            (None, keep(None, Some(100)), 2, "size decides"),
        ];
        for (slowest, retention, expected, why) in cases {
            assert_eq!(trimmable(&list(), slowest, retention, 5_000).len(), expected, "{why}");
        }
    }

    #[test]
    fn the_first_ledger_goes_when_its_time_is_over_and_everybody_has_passed_it() {
        let kept = |seconds| Retention { time: Some(Duration::from_secs(seconds)), size_bytes: None };
        assert_eq!(next_release(&list(), mark(1, 9), kept(60)), Some(61_000));
        assert_eq!(next_release(&list(), None, kept(60)), Some(61_000));
        assert_eq!(next_release(&list(), mark(1, 8), kept(60)), None);
        assert_eq!(next_release(&list(), None, Retention { time: None, size_bytes: Some(1) }), None);
    }

    #[test]
    fn the_last_ledger_stays_even_when_closed_and_consumed() {
        let mut list = list();
        list.remove(LedgerId(4));
        assert_eq!(trimmable(&list, None, Retention::NONE, 9_000), [LedgerId(1), LedgerId(2)]);
    }
}
