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
/// After a check that could not be finished.
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
        loop {
            env.clock.sleep(wait).await;
            wait = match self.check().await {
                Ok(()) => self.interval,
                Err(error) => {
                    tracing::warn!(%error, "the integrity check could not be finished");
                    RETRY
                }
            };
        }
    }

    async fn check(&self) -> Result<(), MetadataError> {
        let clock = &self.client.env().clock;
        let mut walk = Walk::new(self.client.metadata_store().clone(), clock.clone());
        let (mut unreadable, mut checked, mut lacking) = (0, 0_u64, 0_u64);
        while let Some(page) = walk.next(&mut unreadable).await? {
            let mut doubtful = Vec::new();
            for (ledger, record) in page {
                if !record.segments.values().any(|ensemble| ensemble.contains(&self.me)) {
                    continue;
                }
                checked += 1;
                self.metrics.integrity_ledgers_checked.add(1);
                if self.lacks(ledger, &record).await {
                    doubtful.push(ledger);
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
                    // Deleted, or to be looked at by the next check.
                    Err(_) => continue,
                };
                if self.lacks(ledger, &record).await {
                    lacking += 1;
                    self.metrics.integrity_ledgers_lacking.add(1);
                    tracing::warn!(%ledger, bookie = %self.me, "this bookie lacks entries that it should have; marking the ledger");
                    let me = BTreeSet::from([self.me.clone()]);
                    self.queue.mark(ledger, &me, clock.unix_ms()).await?;
                }
            }
        }
        tracing::info!(checked, lacking, "compared what this bookie holds with the metadata");
        Ok(())
    }

    /// Whether the bookie lacks a settled entry. What cannot be told is no: it is neither there nor lacking, and the next
    /// check asks again.
    async fn lacks(&self, ledger: LedgerId, record: &LedgerMetadata) -> bool {
        let Ok(quorum) = quorum_of(ledger, record) else { return false };
        let bookies = self.client.directory().now();
        let Some(address) = bookies.info(&self.me).map(|info| info.address()) else { return false };
        let holdings = match info::entries(self.client.pool().context(), &address, ledger).await {
            Ok(None) => Holdings::default(),
            Ok(Some(list)) => match Holdings::decode(list) {
                Ok(holdings) => holdings,
                Err(_) => return false,
            },
            Err(error) => {
                tracing::debug!(%ledger, %error, "what this bookie holds of a ledger cannot be told");
                return false;
            }
        };
        let mine = |bookie: &BookieId| match *bookie == self.me {
            true => Standing::Suspect,
            false => Standing::Sound,
        };
        plan(record, mine).fragments.iter().filter(|fragment| !fragment.unsettled).any(|fragment| {
            fragment.last.is_some_and(|last| {
                holdings.missing(quorum, fragment.slot, fragment.segment, last).next().is_some()
            })
        })
    }
}
