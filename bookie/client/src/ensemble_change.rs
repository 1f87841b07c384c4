//! Recording that other bookies take the place of failed ones, while a ledger is being written.

use crate::client::Client;
use crate::error::LedgerError;
use crate::metadata::{self, Versioned};
use crate::placement::{self, Needs, Trust};
use crate::protocol::quorum::Slots;
use crate::protocol::record;
use magnetar_proto::bookkeeper::metadata_format::LedgerMetadata;
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
        let change = |record: &LedgerMetadata| {
            let changed = record::change_ensemble(record, first_entry, &before, &ensemble);
            changed.map_err(|_| LedgerError::Fenced(id))
        };
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
