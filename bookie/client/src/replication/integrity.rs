//! Compares what the metadata says that a bookie holds with what it holds, from time to time, and marks the ledgers of
//! which it lacks entries. Runs in the bookie's own process and asks over the wire like everybody else.
//!
//! Only what is settled is compared. An entry may be on its way for a moment after its segment has ended: so what lacks is
//! looked at twice, a while apart, before it is believed.

use super::holdings::Holdings;
use super::metrics::Metrics;
use super::plan::{Standing, plan};
use super::queue::Queue;
use super::walk::Walk;
use crate::client::{Client, quorum_of};
use crate::error::LedgerError;
use crate::info;
use magnetar_common::metadata::MetadataError;
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::bookkeeper::metadata_format::LedgerMetadata;
use magnetar_proto::ids::LedgerId;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Between the two looks at what lacks: longer than a writer waits for a bookie's answer.
const SETTLE: Duration = Duration::from_secs(15);
/// Between the questions about two ledgers: at most fifty a second.
const PAUSE: Duration = Duration::from_millis(20);
/// The first check begins within this time, at random: the bookies of a cluster that started together do not check together.
const FIRST_MAX: Duration = Duration::from_secs(300);
/// After a check that could not be finished, or that could not tell of every ledger; doubles from one to the next.
const RETRY: Duration = Duration::from_secs(60);

/// See the module.
pub(crate) struct Integrity {
    pub(crate) client: Client,
    pub(crate) queue: Queue,
    pub(crate) me: BookieId,
    pub(crate) metrics: Arc<Metrics>,
    /// Between two checks.
    pub(crate) interval: Duration,
}

impl Integrity {
    /// Checks again and again, until cancelled; the first time soon after the start, because a bookie that was away for less
    /// than makes it lost has missed entries all the same.
    pub(crate) async fn run(&self) {
        let env = self.client.env();
        let first = u64::try_from(self.interval.min(FIRST_MAX).as_millis()).unwrap_or(u64::MAX);
        let mut wait = Duration::from_millis(env.random.below(first));
        let mut retry = RETRY;
        loop {
            env.clock.sleep(wait).await;
            let is_whole = match self.check().await {
                Ok(untold) => untold == 0,
                Err(error) => {
                    tracing::warn!(%error, "the integrity check could not be finished");
                    false
                }
            };
            (wait, retry) = match is_whole {
                true => (self.interval, RETRY),
                false => (retry.min(self.interval), retry.saturating_mul(2)),
            };
        }
    }

    /// Gives how many ledgers it could tell nothing of.
    async fn check(&self) -> Result<u64, MetadataError> {
        let clock = &self.client.env().clock;
        let mut walk = Walk::new(self.client.metadata_store().clone(), clock.clone());
        let (mut unreadable, mut checked, mut lacking, mut untold) = (0, 0_u64, 0_u64, 0_u64);
        while let Some(page) = walk.next(&mut unreadable).await? {
            let mut doubtful = Vec::new();
            for (ledger, record) in page {
                if !record.segments.values().any(|ensemble| ensemble.contains(&self.me)) {
                    continue;
                }
                checked += 1;
                self.metrics.integrity_ledgers_checked.add(1);
                match self.lacks(ledger, &record).await {
                    Some(true) => doubtful.push(ledger),
                    Some(false) => {}
                    None => untold += 1,
                }
                clock.sleep(PAUSE).await;
            }
            if doubtful.is_empty() {
                continue;
            }
            clock.sleep(SETTLE).await;
            for ledger in doubtful {
                let record = match self.client.metadata(ledger).await {
                    Ok(record) => record,
                    Err(LedgerError::NoSuchLedger(_)) => continue,
                    Err(_) => {
                        untold += 1;
                        continue;
                    }
                };
                let lacks = self.lacks(ledger, &record).await;
                untold += u64::from(lacks.is_none());
                if lacks == Some(true) {
                    lacking += 1;
                    self.metrics.integrity_ledgers_lacking.add(1);
                    tracing::warn!(%ledger, bookie = %self.me, "this bookie lacks entries that it should have; marking the ledger");
                    let me = BTreeSet::from([self.me.clone()]);
                    self.queue.mark(ledger, &me, true, clock.unix_ms()).await?;
                }
            }
        }
        tracing::info!(checked, lacking, untold, "compared what this bookie holds with the metadata");
        Ok(untold)
    }

    /// Whether the bookie lacks a settled entry. `None`: that cannot be told now. It is neither there nor lacking, and is
    /// soon asked again.
    async fn lacks(&self, ledger: LedgerId, record: &LedgerMetadata) -> Option<bool> {
        let quorum = quorum_of(ledger, record).ok()?;
        let bookies = self.client.directory().now();
        let address = bookies.info(&self.me)?.address();
        let holdings = match info::entries(self.client.pool().context(), &address, ledger).await {
            Ok(None) => Holdings::default(),
            Ok(Some(list)) => Holdings::decode(list).ok()?,
            Err(error) => {
                tracing::debug!(%ledger, %error, "what this bookie holds of a ledger cannot be told");
                return None;
            }
        };
        let mine = |bookie: &BookieId| match *bookie == self.me {
            true => Standing::Suspect,
            false => Standing::Sound,
        };
        Some(plan(record, mine).fragments.iter().filter(|fragment| !fragment.unsettled).any(|fragment| {
            fragment.last.is_some_and(|last| {
                holdings.missing(quorum, fragment.slot, fragment.segment, last).next().is_some()
            })
        }))
    }
}
