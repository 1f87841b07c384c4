//! The worker of one process: takes marked ledgers, one at a time, and repairs them.

use super::copy::CopyError;
use super::drain;
use super::jobs::Jobs;
use super::metrics::Metrics;
use super::pace::Pace;
use super::queue::Queue;
use super::repair::{Repair, RepairError, Repaired};
use super::session::Session;
use crate::client::Client;
use magnetar_common::metadata::{LeaseId, MetadataError};
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::ids::LedgerId;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Marks are looked through at least so often, whatever the watch says.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// A ledger that somebody else works on is looked at again after this.
const BUSY_PAUSE: Duration = Duration::from_secs(10);
/// After the metadata store failed.
const RETRY: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct Worker {
    pub(crate) client: Client,
    pub(crate) queue: Queue,
    pub(crate) me: BookieId,
    pub(crate) session: Session,
    pub(crate) metrics: Arc<Metrics>,
    /// What copying may take of the machines.
    pub(crate) pace: Mutex<Pace>,
    /// How long the writer of an open ledger has to leave a lost bookie by itself.
    pub(crate) grace: Duration,
    pub(crate) jobs: Jobs,
}

impl Worker {
    /// Works until cancelled. A cancelled repair has done no harm; its lock ends with the lease.
    pub(crate) async fn run(&mut self) {
        loop {
            let mut watch = self.queue.watch();
            let directory = self.client.directory().clone();
            let mut bookies = directory.now();
            loop {
                // Whatever woke this: what has changed must be noticed by the next look.
                let before = std::mem::replace(&mut bookies, directory.now());
                if *before != *bookies {
                    self.jobs.on_bookies_changed(self.now());
                }
                let due = match self.look_through().await {
                    Ok(Looked::All) => {
                        let due = self.jobs.next_due().map(|due| due.saturating_sub(self.now()));
                        due.unwrap_or(LOOK_INTERVAL).clamp(Duration::from_millis(10), LOOK_INTERVAL)
                    }
                    Ok(Looked::Disabled) => LOOK_INTERVAL,
                    Err(error) => {
                        tracing::warn!(%error, "cannot look for ledgers that lack copies");
                        self.clock_sleep(RETRY).await;
                        continue;
                    }
                };
                tokio::select! {
                    event = watch.next() => if event.is_none() { break },
                    () = directory.changed_from(&bookies) => {}
                    () = self.clock_sleep(due) => {}
                }
                // Marks come in bursts; whatever has gathered is seen by the same look.
                while let Some(Some(_)) = futures_util::FutureExt::now_or_never(watch.next()) {}
            }
            self.clock_sleep(RETRY).await;
        }
    }

    fn now(&self) -> Duration {
        self.client.env().clock.now()
    }

    fn clock_sleep(&self, duration: Duration) -> impl Future<Output = ()> + use<> {
        self.client.env().clock.sleep(duration)
    }

    /// Tries every marked ledger whose time has come.
    async fn look_through(&mut self) -> Result<Looked, MetadataError> {
        if self.queue.is_disabled().await? {
            return Ok(Looked::Disabled);
        }
        let marked = self.queue.all().await?;
        self.jobs.retain(&marked);
        let now = self.now();
        let mut due: Vec<LedgerId> =
            marked.into_iter().filter(|ledger| self.jobs.is_due(now, *ledger)).collect();
        // Workers that all began with the same ledger would wait for each other.
        self.client.env().random.shuffle(&mut due);
        self.jobs.sort(&mut due);
        for ledger in due {
            if self.queue.is_disabled().await? {
                return Ok(Looked::Disabled);
            }
            let lease = self.session.lease().await;
            self.work_on(ledger, lease).await?;
            self.metrics.waiting.set(self.jobs.reasons().count() as u64);
        }
        Ok(Looked::All)
    }

    async fn work_on(&mut self, ledger: LedgerId, lease: LeaseId) -> Result<(), MetadataError> {
        if !self.queue.lock(ledger, &self.me, lease).await? {
            self.jobs.busy(self.now(), ledger, BUSY_PAUSE);
            return Ok(());
        }
        // Read under the lock: an older one may be done already.
        if let Some((mark, version)) = self.queue.get(ledger).await? {
            let draining = drain::draining(self.client.metadata_store()).await?;
            let draining: Vec<BookieId> = draining.into_iter().collect();
            // The auditor may know that a bookie has left before it is heard of here. One that ends still answers for a
            // while, and the mark that its copies are sound would be the last that anybody looks at.
            self.client.directory().refresh().await?;
            let repair = Repair {
                client: &self.client,
                metrics: &self.metrics,
                pace: &self.pace,
                ledger,
                suspects: &mark.replicas,
                draining: &draining,
            };
            let (jobs, clock, grace) = (&mut self.jobs, self.client.env().clock.clone(), self.grace);
            let on_plan = |abandoned| match abandoned {
                true => jobs.may_recover(clock.now(), ledger, grace),
                false => {
                    jobs.settled(ledger);
                    false
                }
            };
            let repaired = tokio::select! {
                repaired = repair.run(on_plan) => repaired,
                // Somebody else may take the ledger now.
                () = self.session.lost() => return Ok(()),
            };
            match repaired {
                // The mark stays, and the ledger is due at once.
                Ok(Repaired::Complete) if self.is_changed(&draining).await? => self.jobs.done(ledger),
                Ok(Repaired::Complete) => {
                    if self.queue.unmark(ledger, version).await? {
                        self.metrics.ledgers_replicated.add(1);
                    }
                    self.metrics.rereplicated.add(1);
                    self.jobs.done(ledger);
                }
                Ok(Repaired::Open) => {}
                Err(error) => self.put_off(ledger, &error),
            }
        }
        self.queue.unlock(ledger, lease).await
    }

    /// Whether operators want other bookies emptied than when a repair began: it may have put its copies on one of them.
    async fn is_changed(&self, draining: &[BookieId]) -> Result<bool, MetadataError> {
        Ok(!drain::draining(self.client.metadata_store()).await?.iter().eq(draining))
    }

    fn put_off(&mut self, ledger: LedgerId, error: &RepairError) {
        let pause = self.jobs.failed(self.client.env().clock.now(), ledger, error.to_string());
        self.metrics.rereplication_failed.add(1);
        self.metrics.deferred.add(1);
        match error {
            RepairError::Copy(CopyError::Unreadable { .. }) => {
                tracing::error!(%ledger, %error, ?pause, "a ledger cannot be given its copies: bring back a bookie that has them");
            }
            _ => tracing::warn!(%ledger, %error, ?pause, "a ledger lacks copies still; trying again"),
        }
    }
}

/// What a look through the marks came to.
enum Looked {
    /// Every ledger that was due has been tried.
    All,
    /// An operator has stopped all re-replication.
    Disabled,
}
