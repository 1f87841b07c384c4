//! Recording that other bookies take the place of failed ones, while a ledger is being written.

use crate::client::Client;
use crate::error::LedgerError;
use crate::metadata::{self, Versioned};
use crate::placement::{self, Needs, Trust};
use crate::protocol::quorum::Slots;
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::ids::{EntryId, LedgerId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Between attempts while the metadata store does not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// A store that answers a read later than this is taken for silent. For so long nothing is acknowledged; a mistake costs a
/// second in which the ledger has a bookie less.
const SILENCE: Duration = Duration::from_millis(200);

/// Between looks whether it answers again, once a change was put off.
const POSTPONED: Duration = Duration::from_secs(1);

/// How an ensemble change ended.
pub(crate) enum Change {
    /// It is recorded: `slots` have other bookies now.
    Made { current: Versioned, slots: Slots },
    /// There is no bookie to choose. Nothing has been written.
    NoReplacement,
    /// The metadata store is silent, and the ledger can go on as it is. Nothing has been written.
    Postponed,
    /// The ledger is no longer ours to change.
    TakenOver,
}

/// Set while a change waits for the metadata store.
pub(crate) type AwaitsMetadata = Arc<AtomicBool>;

/// What is to be changed.
pub(crate) struct Request {
    pub(crate) id: LedgerId,
    pub(crate) first_entry: EntryId,
    pub(crate) failed: Slots,
    /// The ledger cannot go on without.
    pub(crate) required: bool,
}

/// Puts other bookies into the failed slots, from `first_entry` on, by compare-and-set: only while the ledger is open and
/// the failed bookies are still in their slots.
///
/// A change that is not required is not begun while the metadata store is silent: the ledger goes on with the bookies that
/// are left. But once the write has been tried it does not end before its fate is known: with the change recorded but the
/// writer going on with the old bookies, entries would be acknowledged that a new reader does not find.
pub(crate) async fn change(
    client: Client,
    mut current: Versioned,
    request: Request,
    awaits: AwaitsMetadata,
) -> Change {
    let Request { id, first_entry, failed, required } = request;
    let before = current.metadata.last_segment().1.to_vec();
    let needs = Needs::of_record(&current.metadata);
    let trust = if required { Trust::First } else { Trust::Only };
    let (ensemble, slots) = placement::replace(&client, &needs, &before, failed, trust);
    if slots.is_empty() {
        return Change::NoReplacement;
    }
    if !required {
        match answered_soon(&client, id).await {
            Some(Ok(read)) => current = read,
            None | Some(Err(LedgerError::Metadata(_))) => {
                tracing::warn!(ledger = %id, "the metadata store is silent; going on without the failed bookies");
                return Change::Postponed;
            }
            Some(Err(_)) => return Change::TakenOver,
        }
    }
    loop {
        let change = |record: &LedgerMetadata| with_segment(id, record, first_entry, &before, &ensemble);
        match metadata::update(client.metadata_store(), id, current, change).await {
            Ok(current) => {
                awaits.store(false, Ordering::Relaxed);
                return Change::Made { current, slots };
            }
            Err(LedgerError::Metadata(error)) => {
                tracing::warn!(ledger = %id, %error, "cannot record another ensemble; trying again");
            }
            Err(error) => {
                tracing::warn!(ledger = %id, %error, "the ledger is not ours any more");
                return Change::TakenOver;
            }
        }
        awaits.store(true, Ordering::Relaxed);
        current = loop {
            client.env().clock.sleep(RETRY_PAUSE).await;
            match metadata::read(client.metadata_store(), id).await {
                Ok(current) => break current,
                Err(LedgerError::Metadata(_)) => {}
                Err(_) => return Change::TakenOver,
            }
        };
    }
}

/// Resolves when the metadata store answers again, or says that the ledger is gone: then a change that was put off is worth
/// another try.
pub(crate) async fn answers_again(client: Client, id: LedgerId) {
    loop {
        client.env().clock.sleep(POSTPONED).await;
        if !matches!(answered_soon(&client, id).await, None | Some(Err(LedgerError::Metadata(_)))) {
            return;
        }
    }
}

/// The record, unless it takes too long.
async fn answered_soon(client: &Client, id: LedgerId) -> Option<Result<Versioned, LedgerError>> {
    tokio::select! {
        read = metadata::read(client.metadata_store(), id) => Some(read),
        () = client.env().clock.sleep(SILENCE) => None,
    }
}

/// The record with `ensemble` from `first_entry` on; `None` when it says so already.
fn with_segment(
    id: LedgerId,
    record: &LedgerMetadata,
    first_entry: EntryId,
    before: &[BookieId],
    ensemble: &[BookieId],
) -> Result<Option<LedgerMetadata>, LedgerError> {
    let (start, now) = record.last_segment();
    if record.state != LedgerState::Open || start > first_entry {
        return Err(LedgerError::Fenced(id));
    }
    if now == ensemble {
        return Ok(None);
    }
    if now != before {
        return Err(LedgerError::Fenced(id));
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
    use std::collections::BTreeMap;

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

    fn changed(state: LedgerState, first: u64, before: &str) -> Result<Option<LedgerMetadata>, LedgerError> {
        with_segment(LedgerId(1), &record(state), EntryId(first), &bookies(before), &bookies("a d e"))
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
        let again = with_segment(LedgerId(1), &recorded, EntryId(9), &bookies("a d c"), &bookies("a d e"));
        assert_eq!(again, Ok(None));
    }

    #[test]
    fn a_ledger_in_other_hands_is_not_changed() {
        let fenced = Err(LedgerError::Fenced(LedgerId(1)));
        assert_eq!(changed(LedgerState::InRecovery, 9, "a d c"), fenced);
        assert_eq!(changed(LedgerState::Closed { last_entry: None, length: 0 }, 9, "a d c"), fenced);
        assert_eq!(changed(LedgerState::Open, 9, "a b c"), fenced);
        assert_eq!(changed(LedgerState::Open, 4, "a d c"), fenced);
    }
}
