//! Emptying bookies: an operator's wish is a record in the metadata store, which the bookie, the auditor and the workers
//! each act on. It holds until it is taken back.

use super::walk::Walk;
use magnetar_common::clock::SharedClock;
use magnetar_common::layout;
use magnetar_common::metadata::{Expect, MetadataError, Op, SharedMetadata};
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::bookkeeper::metadata_format::LedgerState;
use magnetar_proto::ids::LedgerId;
use std::collections::BTreeSet;

/// Ledgers shown of those that are left.
const EXAMPLES: usize = 10;

/// Asks for a bookie to be emptied: it turns read-only, and its copies are made elsewhere. Idempotent.
pub async fn request(store: &SharedMetadata, bookie: &BookieId) -> Result<(), MetadataError> {
    store.put(&layout::draining(bookie), bytes::Bytes::new(), Expect::Any).await.map(drop)
}

/// Takes the wish back. What has been copied stays where it is. Idempotent.
pub async fn cancel(store: &SharedMetadata, bookie: &BookieId) -> Result<(), MetadataError> {
    match store.delete(&layout::draining(bookie), Expect::Any).await {
        Err(MetadataError::NotFound { .. }) => Ok(()),
        other => other,
    }
}

/// The bookies to be emptied.
pub async fn draining(store: &SharedMetadata) -> Result<BTreeSet<BookieId>, MetadataError> {
    let names = store.children(layout::DRAINING).await?;
    Ok(names.iter().filter_map(|name| BookieId::new(name).ok()).collect())
}

/// How far emptying a bookie has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Ledgers that still name the bookie.
    pub ledgers: u64,
    /// Those of them that are not closed and name it in their last segment: they wait for their writers, or for a recovery.
    pub open: u64,
    /// Ledger records that could not be understood: whether they name the bookie is not known.
    pub unreadable: u64,
    /// Some of the ledgers, lowest ids first.
    pub examples: Vec<LedgerId>,
}

impl Progress {
    /// Whether no ledger needs the bookie any more.
    pub fn is_done(&self) -> bool {
        self.left() == 0
    }

    /// Ledgers that need the bookie, or may.
    pub fn left(&self) -> u64 {
        self.ledgers + self.unreadable
    }
}

/// Looks through all ledgers for those that name a bookie.
pub async fn progress(
    store: &SharedMetadata,
    clock: &SharedClock,
    bookie: &BookieId,
) -> Result<Progress, MetadataError> {
    let mut walk = Walk::new(store.clone(), clock.clone());
    let mut progress = Progress::default();
    while let Some(page) = walk.next(&mut progress.unreadable).await? {
        for (ledger, record) in page {
            if !record.segments.values().any(|ensemble| ensemble.contains(bookie)) {
                continue;
            }
            progress.ledgers += 1;
            let is_open = !matches!(record.state, LedgerState::Closed { .. });
            if is_open && record.last_segment().1.contains(bookie) {
                progress.open += 1;
            }
            if progress.examples.len() < EXAMPLES {
                progress.examples.push(ledger);
            }
        }
    }
    Ok(progress)
}

/// Why a bookie is not forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// It still serves.
    #[error("bookie {0} is registered, or was meanwhile: stop it first")]
    Registered(BookieId),
    /// It holds copies that are recorded nowhere else.
    #[error("{} ledgers still name bookie {bookie}: wait until they are copied", .progress.left())]
    Needed {
        /// The bookie.
        bookie: BookieId,
        /// Which ledgers.
        progress: Progress,
    },
    /// The store failed.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// Removes the identity of a bookie that serves no more and that no ledger needs, so that its name may be used anew.
pub async fn forget(
    store: &SharedMetadata,
    clock: &SharedClock,
    bookie: &BookieId,
) -> Result<(), ForgetError> {
    let registrations = [layout::bookie(bookie), layout::bookie_read_only(bookie)];
    for key in &registrations {
        if store.get(key).await?.is_some() {
            return Err(ForgetError::Registered(bookie.clone()));
        }
    }
    let cookie = layout::cookie(bookie);
    let known = store.get(&cookie).await?;
    let progress = progress(store, clock, bookie).await?;
    if !progress.is_done() {
        return Err(ForgetError::Needed { bookie: bookie.clone(), progress });
    }
    // To look through all ledgers takes minutes: it may have been started again since.
    let unregistered = registrations.map(|key| Op::Check { key, expect: Expect::Missing });
    let removed = match known {
        Some(known) => Op::Delete { key: cookie, expect: Expect::Version(known.version) },
        None => Op::Check { key: cookie, expect: Expect::Missing },
    };
    match store.transact(unregistered.into_iter().chain([removed]).collect()).await {
        Ok(_) => Ok(cancel(store, bookie).await?),
        Err(MetadataError::Conflict { key }) if key != layout::cookie(bookie) => {
            Err(ForgetError::Registered(bookie.clone()))
        }
        Err(error) => Err(error.into()),
    }
}
