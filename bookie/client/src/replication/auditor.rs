//! The auditor: one process of the cluster, elected in the metadata store, that notices lost bookies and marks the ledgers
//! that name them.
//!
//! The key of the election is the one that Apache's auditors use over etcd, so that there is one auditor even in a mixed
//! cluster. Two at once would do no harm: marks are merged.

use super::audit::{Audit, AuditMachine, AuditSettings, Found};
use super::drain;
use super::metrics::Metrics;
use super::queue::Queue;
use super::session::Session;
use super::walk::Walk;
use crate::client::Client;
use magnetar_common::layout;
use magnetar_common::metadata::{Expect, LeaseId, MetadataError, SharedMetadata};
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::bookkeeper::underreplication::leader_path;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A follower looks at the election at least so often.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(30);
/// The auditor looks at registrations, wishes and settings at least so often.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// After the metadata store failed.
const RETRY: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct Auditor {
    pub(crate) client: Client,
    pub(crate) queue: Queue,
    pub(crate) me: BookieId,
    pub(crate) session: Session,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) settings: AuditSettings,
}

impl Auditor {
    /// Stands for election, and audits while elected, until cancelled.
    pub(crate) async fn run(&mut self) {
        loop {
            let mut watch = self.store().watch(&leader_path());
            let lease = self.session.lease().await;
            match self.stand(lease).await {
                Ok(true) => {
                    tracing::info!(bookie = %self.me, "elected auditor");
                    self.metrics.is_auditor.set(1);
                    let session = &self.session;
                    tokio::select! {
                        () = self.audit() => {}
                        () = session.lost() => tracing::warn!("the auditor's lease was lost"),
                    }
                    self.metrics.is_auditor.set(0);
                    self.metrics.under_replicated.set(0);
                }
                Ok(false) => {
                    tokio::select! {
                        _ = watch.next() => {}
                        () = self.sleep(FOLLOW_INTERVAL) => {}
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot stand for auditor");
                    self.sleep(RETRY).await;
                }
            }
        }
    }

    fn store(&self) -> &SharedMetadata {
        self.client.metadata_store()
    }

    fn now(&self) -> Duration {
        self.client.env().clock.now()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + use<> {
        self.client.env().clock.sleep(duration)
    }

    /// Whether this process is the auditor now.
    async fn stand(&self, lease: LeaseId) -> Result<bool, MetadataError> {
        let (key, name) = (leader_path(), format!("\"{}\"", self.me));
        match self.store().put_ephemeral(&key, name.clone().into(), Expect::Missing, lease).await {
            Ok(_) => return Ok(true),
            Err(MetadataError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
        let Some(value) = self.store().get(&key).await? else { return Ok(false) };
        if value.lease == Some(lease) {
            return Ok(true);
        }
        // Of an earlier life of this process: nobody else has its name.
        if value.bytes == name.as_bytes() {
            match self.store().delete(&key, Expect::Version(value.version)).await {
                Ok(()) | Err(MetadataError::Conflict { .. } | MetadataError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
            return match self.store().put_ephemeral(&key, name.into(), Expect::Missing, lease).await {
                Ok(_) => Ok(true),
                Err(MetadataError::Conflict { .. }) => Ok(false),
                Err(error) => Err(error),
            };
        }
        Ok(false)
    }

    async fn audit(&self) {
        let mut machine = AuditMachine::new(self.now(), self.settings);
        let directory = self.client.directory().clone();
        let mut wishes = self.store().watch(layout::DRAINING);
        loop {
            let bookies = directory.now();
            let before = machine.away();
            let registered =
                bookies.writable().chain(bookies.read_only()).map(|(id, _)| id.clone()).collect();
            machine.on_registered(self.now(), registered);
            self.metrics.audits_delayed.add(machine.away().saturating_sub(before) as u64);
            let wait = match self.step(&mut machine).await {
                Ok(Stepped::Looked) => machine.next_wake().saturating_sub(self.now()).min(LOOK_INTERVAL),
                Ok(Stepped::Disabled) => LOOK_INTERVAL,
                Err(error) => {
                    tracing::warn!(%error, "the audit cannot go on now");
                    RETRY
                }
            };
            tokio::select! {
                () = directory.changed_from(&bookies) => {}
                event = wishes.next() => if event.is_none() { return },
                () = self.sleep(wait) => {}
            }
        }
    }

    async fn step(&self, machine: &mut AuditMachine) -> Result<Stepped, MetadataError> {
        machine.on_delay(self.queue.delay().await?.unwrap_or(self.settings.delay));
        machine.on_draining(drain::draining(self.store()).await?);
        self.metrics.under_replicated.set(self.queue.all().await?.len() as u64);
        if self.queue.is_disabled().await? {
            return Ok(Stepped::Disabled);
        }
        let Some(audit) = machine.poll(self.now()) else { return Ok(Stepped::Looked) };
        if !audit.missing.is_empty() {
            tracing::warn!(bookies = ?audit.missing, "marking the ledgers of bookies that are lost or to be emptied");
        }
        let looked = self.look(&audit).await;
        self.metrics.audits.add(1);
        self.metrics.audits_failed.add(u64::from(looked.is_err()));
        let (found, failed) = match looked {
            Ok(found) => (Some(found), None),
            Err(error) => (None, Some(error)),
        };
        machine.on_audited(self.now(), &audit, found);
        match failed {
            None => Ok(Stepped::Looked),
            Some(error) => Err(error),
        }
    }

    /// Looks through all ledgers and marks those that need it.
    async fn look(&self, audit: &Audit) -> Result<Found, MetadataError> {
        let mut walk = Walk::new(self.store().clone(), self.client.env().clock.clone());
        let (mut named, mut news, mut unreadable) = (BTreeSet::new(), false, 0);
        while let Some(page) = walk.next(&mut unreadable).await? {
            self.metrics.ledgers_checked.add(page.len() as u64);
            for (ledger, record) in page {
                let mut missing = BTreeSet::new();
                for bookie in record.segments.values().flatten() {
                    if audit.missing.contains(bookie) {
                        missing.insert(bookie.clone());
                    }
                    if !named.contains(bookie) {
                        named.insert(bookie.clone());
                    }
                }
                if !missing.is_empty() {
                    let renewed = !missing.is_disjoint(&audit.fresh);
                    let now_ms = self.client.env().clock.unix_ms();
                    let marked = self.queue.mark(ledger, &missing, renewed, now_ms).await?;
                    self.metrics.ledgers_marked.add(u64::from(marked));
                    news |= marked;
                }
            }
        }
        self.metrics.ledgers_unreadable_record.add(unreadable);
        Ok(Found { named, news })
    }
}

/// What one step of the audit came to.
enum Stepped {
    /// What was due has been done.
    Looked,
    /// An operator has stopped all re-replication: what is due waits.
    Disabled,
}
