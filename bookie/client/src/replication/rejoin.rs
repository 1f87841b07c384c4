//! Before an empty bookie takes a name that ledgers know.
//!
//! Such a bookie was wiped, and its identity removed, before its copies were made elsewhere. It would deny what was
//! acknowledged, and a recovery counts denials as proof. So, before it is announced: every ledger that it might still be
//! asked about in a recovery is recovered without it, and every ledger that names it is marked, so that it gets back what it
//! lacks.

use super::queue::Queue;
use super::walk::Walk;
use crate::client::Client;
use crate::error::LedgerError;
use magnetar_common::metadata::MetadataError;
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::bookkeeper::metadata_format::LedgerState;
use magnetar_proto::ids::LedgerId;
use std::collections::BTreeSet;

/// Why the bookie must not serve under this name yet.
#[derive(Debug, thiserror::Error)]
pub enum RejoinError {
    /// What it held of the ledger cannot be settled without it.
    #[error(
        "bookie {bookie} has no data, but open ledger {ledger} names it and cannot be recovered now ({error}): start the \
         other bookies first, bring back its data, or start it under another name"
    )]
    Unsettled {
        /// The bookie.
        bookie: BookieId,
        /// The ledger.
        ledger: LedgerId,
        /// What the recovery said.
        error: LedgerError,
    },
    /// Whether ledgers name it is not known.
    #[error(
        "{0} ledger records cannot be understood, so that nobody can tell whether they name bookie {1}, which has no data"
    )]
    Unknown(u64, BookieId),
    /// The store failed.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// Makes it safe for a bookie without data to serve as `bookie`. Gives the number of ledgers that name it. Idempotent.
pub async fn before_serving(client: &Client, bookie: &BookieId) -> Result<u64, RejoinError> {
    let (store, clock) = (client.metadata_store(), &client.env().clock);
    let queue = Queue::new(store.clone());
    let mut walk = Walk::new(store.clone(), clock.clone());
    let (mut unreadable, mut named) = (0, 0);
    while let Some(page) = walk.next(&mut unreadable).await? {
        for (ledger, record) in page {
            if !record.segments.values().any(|ensemble| ensemble.contains(bookie)) {
                continue;
            }
            named += 1;
            let is_open = !matches!(record.state, LedgerState::Closed { .. });
            if is_open && record.last_segment().1.contains(bookie) {
                match client.recover(ledger, &record.password).await {
                    Ok(_) | Err(LedgerError::NoSuchLedger(_)) => {}
                    Err(error) => {
                        return Err(RejoinError::Unsettled { bookie: bookie.clone(), ledger, error });
                    }
                }
            }
            queue.mark(ledger, &BTreeSet::from([bookie.clone()]), true, clock.unix_ms()).await?;
        }
    }
    match unreadable {
        0 => Ok(named),
        unreadable => Err(RejoinError::Unknown(unreadable, bookie.clone())),
    }
}
