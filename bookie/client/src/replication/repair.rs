//! Gives one marked ledger all its copies again.
//!
//! The order is: what is settled is copied; an abandoned end is recovered, which fences whoever still writes, once there are
//! bookies enough for a ledger after it; then its last segment is copied too. A bookie that serves but lacks entries gets them back in its place, without a change of the
//! record; one that does not serve, or is to be emptied, is replaced in the record after the copies are durable, never before.

use super::copy::{CopyError, Copying};
use super::holdings::{Holdings, MalformedList};
use super::metrics::Metrics;
use super::pace::Pace;
use super::plan::{Fragment, Standing, plan, replaced};
use crate::asking::Asking;
use crate::client::{Client, quorum_of};
use crate::error::LedgerError;
use crate::info::{self, AskError};
use crate::metadata;
use crate::placement::{self, Needs, PlacementError};
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::ids::{EntryId, LedgerId};
use std::collections::BTreeSet;
use std::sync::Mutex;

/// How often a ledger's record may change under one repair before it is left for later.
const SETBACKS_MAX: usize = 10;

/// How a repair ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repaired {
    /// Every copy is where the record says, or the ledger is gone.
    Complete,
    /// What is settled is complete; the end is open, and its writer has time yet.
    Open,
}

/// Why a ledger lacks copies still. Each is tried again later.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RepairError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("{0}")]
    Placement(#[from] PlacementError),
    #[error("{0}")]
    Copy(#[from] CopyError),
    #[error("what bookie {bookie} holds cannot be told: {error}")]
    Untold { bookie: BookieId, error: AskError },
    #[error("bookie {bookie}: {error}")]
    Malformed { bookie: BookieId, error: MalformedList },
    #[error("bookie {0} is not registered any more")]
    Left(BookieId),
    #[error("its record keeps changing")]
    Unsteady,
}

/// A repair of one ledger.
pub(crate) struct Repair<'a> {
    pub(crate) client: &'a Client,
    pub(crate) metrics: &'a Metrics,
    pub(crate) pace: &'a Mutex<Pace>,
    pub(crate) ledger: LedgerId,
    /// Bookies that the mark names.
    pub(crate) suspects: &'a BTreeSet<String>,
    /// Bookies to be emptied.
    pub(crate) draining: &'a [BookieId],
}

impl Repair<'_> {
    /// Repairs the ledger. `on_plan` is told of each plan whether the ledger is abandoned, and answers whether it may be
    /// recovered. Idempotent; cancelled or failed at any point, it leaves nothing worse than before.
    pub(crate) async fn run(&self, mut on_plan: impl FnMut(bool) -> bool) -> Result<Repaired, RepairError> {
        // Suspects that were asked and have everything now.
        let mut sound: BTreeSet<(EntryId, usize)> = BTreeSet::new();
        let mut setbacks = 0;
        while setbacks < SETBACKS_MAX {
            let record = match metadata::read(self.client.metadata_store(), self.ledger).await {
                Ok(current) => current.metadata,
                Err(LedgerError::NoSuchLedger(_)) => return Ok(Repaired::Complete),
                Err(error) => return Err(error.into()),
            };
            let plan = plan(&record, |bookie| self.standing(bookie));
            let may_recover = on_plan(plan.abandoned);
            let is_left = |fragment: &&Fragment| {
                // Whoever had everything when it was asked may have gone since, or be asked to go.
                fragment.standing != Standing::Suspect || !sound.contains(&(fragment.segment, fragment.slot))
            };
            // One at a time: every change of the record may change what is best for the next.
            if let Some(fragment) = plan.fragments.iter().find(is_left) {
                match self.repair(&record, fragment).await? {
                    End::Sound => drop(sound.insert((fragment.segment, fragment.slot))),
                    End::Replaced => {}
                    End::Changed => setbacks += 1,
                }
            } else if !plan.abandoned {
                return Ok(Repaired::Complete);
            } else if !may_recover {
                return Ok(Repaired::Open);
            } else {
                self.check_room(&record)?;
                tracing::info!(ledger = %self.ledger, "recovering an abandoned ledger");
                self.client.recover(self.ledger, &record.password).await?;
                self.metrics.ledgers_recovered.add(1);
                setbacks += 1;
            }
        }
        Err(RepairError::Unsteady)
    }

    /// A recovery takes an open ledger from its writer, if it has one still. That one goes on with fewer bookies than it began
    /// with, but needs all for its next ledger: where they are not there it would have to stop.
    fn check_room(&self, record: &LedgerMetadata) -> Result<(), PlacementError> {
        if record.state != LedgerState::Open {
            return Ok(());
        }
        let size = usize::try_from(record.ensemble_size).unwrap_or(usize::MAX);
        placement::ensemble(self.client, &Needs::of_record(record), size, self.draining).map(drop)
    }

    /// A mark that names nobody is about everybody.
    fn standing(&self, bookie: &BookieId) -> Standing {
        let is_suspect = self.suspects.is_empty() || self.suspects.contains(bookie.as_str());
        Standing::of(self.is_registered(bookie), self.draining.contains(bookie), is_suspect)
    }

    fn is_registered(&self, bookie: &BookieId) -> bool {
        self.client.directory().now().info(bookie).is_some()
    }

    fn is_writable(&self, bookie: &BookieId) -> bool {
        self.client.directory().now().writable().any(|(id, _)| id == bookie)
    }

    async fn repair(&self, record: &LedgerMetadata, fragment: &Fragment) -> Result<End, RepairError> {
        match fragment.standing {
            Standing::Sound => Ok(End::Sound),
            Standing::Suspect => self.refill(record, fragment).await,
            Standing::Leaving | Standing::Gone => self.replace(record, fragment).await,
        }
    }

    /// Gives a bookie that serves what it lacks.
    async fn refill(&self, record: &LedgerMetadata, fragment: &Fragment) -> Result<End, RepairError> {
        let last = match fragment.unsettled {
            true => Asking::plain(self.client, self.ledger, record)?.last_add_confirmed().await?,
            false => fragment.last,
        };
        let holdings = self.holdings(&fragment.bookie).await?;
        match self.copy_missing(record, fragment, last, &holdings, &fragment.bookie).await {
            // A read-only bookie may take copies, and need not.
            Err(RepairError::Copy(CopyError::NotTaken { .. }))
                if !fragment.unsettled && !self.is_writable(&fragment.bookie) =>
            {
                self.replace(record, fragment).await
            }
            other => other.map(|()| End::Sound),
        }
    }

    /// Puts another bookie in the place of the fragment's, once it has everything.
    async fn replace(&self, record: &LedgerMetadata, fragment: &Fragment) -> Result<End, RepairError> {
        let (needs, ensemble) = (Needs::of_record(record), &record.segments[&fragment.segment]);
        let by = placement::replacement(self.client, &needs, ensemble, fragment.slot, self.draining)?;
        // Bookies drop entries of closed ledgers that do not name them, once nothing has come for a while. One entry written
        // now makes what they looked at before no proof any more: what is there after it stays until the record names it.
        self.copy_some(record, fragment, fragment.last, &Holdings::default(), &by, 1).await?;
        // What an earlier attempt, or an earlier place in the ledger, left there need not be copied again.
        let holdings = self.holdings(&by).await?;
        self.copy_missing(record, fragment, fragment.last, &holdings, &by).await?;
        self.record(fragment, &by).await
    }

    /// By compare-and-set, and only where the record still says what the copies were made for.
    async fn record(&self, fragment: &Fragment, by: &BookieId) -> Result<End, RepairError> {
        let store = self.client.metadata_store();
        let current = metadata::read(store, self.ledger).await?;
        let changed = Mutex::new(false);
        let is_recorded = |record: &LedgerMetadata| {
            record.segments.get(&fragment.segment).is_some_and(|ensemble| ensemble[fragment.slot] == *by)
        };
        let change = |record: &LedgerMetadata| {
            let after = replaced(record, fragment, by);
            let lost = after.is_none() && !is_recorded(record);
            *changed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = lost;
            Ok(after)
        };
        metadata::update(store, self.ledger, current, change).await?;
        if changed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            return Ok(End::Changed);
        }
        tracing::info!(
            ledger = %self.ledger, segment = %fragment.segment, gone = %fragment.bookie, %by, "copies are complete again"
        );
        Ok(End::Replaced)
    }

    async fn copy_missing(
        &self,
        record: &LedgerMetadata,
        fragment: &Fragment,
        last: Option<EntryId>,
        holdings: &Holdings,
        to: &BookieId,
    ) -> Result<(), RepairError> {
        self.copy_some(record, fragment, last, holdings, to, usize::MAX).await
    }

    /// Copies at most so many of the entries that `holdings` lacks.
    async fn copy_some(
        &self,
        record: &LedgerMetadata,
        fragment: &Fragment,
        last: Option<EntryId>,
        holdings: &Holdings,
        to: &BookieId,
        max: usize,
    ) -> Result<(), RepairError> {
        let Some(last) = last.filter(|last| *last >= fragment.segment) else { return Ok(()) };
        let quorum = quorum_of(self.ledger, record)?;
        let ensemble = &record.segments[&fragment.segment];
        let away: Vec<BookieId> =
            ensemble.iter().filter(|bookie| !self.is_registered(bookie)).cloned().collect();
        let missing = holdings.missing(quorum, fragment.slot, fragment.segment, last).take(max);
        let copying = Copying::new(self.client, self.metrics, self.pace, self.ledger, quorum, record);
        let copied = copying.copy(missing, ensemble, &away, to).await?;
        if copied > 0 {
            tracing::info!(ledger = %self.ledger, segment = %fragment.segment, %to, copied, "copied entries");
        }
        Ok(())
    }

    async fn holdings(&self, bookie: &BookieId) -> Result<Holdings, RepairError> {
        let bookies = self.client.directory().now();
        let address = bookies.info(bookie).ok_or_else(|| RepairError::Left(bookie.clone()))?.address();
        match info::entries(self.client.pool().context(), &address, self.ledger).await {
            Ok(None) => Ok(Holdings::default()),
            Ok(Some(list)) => {
                let malformed = |error| RepairError::Malformed { bookie: bookie.clone(), error };
                Holdings::decode(list).map_err(malformed)
            }
            Err(error) => Err(RepairError::Untold { bookie: bookie.clone(), error }),
        }
    }
}

/// How the repair of one fragment ended.
enum End {
    /// Its bookie has everything.
    Sound,
    /// Another bookie has, and is recorded.
    Replaced,
    /// The record is another one than was planned for.
    Changed,
}
