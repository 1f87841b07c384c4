//! The lease: kept, and when it ended, taken anew with whatever nobody else has taken meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use magnetar_common::bundles::BundleRange;
use magnetar_common::layout;
use magnetar_common::metadata::{Expect, Lease, LeaseId, MetadataError, Op, Watch, WatchEvent};
use magnetar_common::topic_name::NamespaceName;

use super::cluster::Cluster;
use super::table::{Bundle, State};
use crate::namespace::error::StoreError;

/// How often the process notes that it runs.
const PULSE: Duration = Duration::from_millis(200);
/// Between two tries while the store cannot be reached.
const RETRY: Duration = Duration::from_millis(300);
/// Between looks at who owns what, when etcd did not tell.
const CHECK_AGAIN: Duration = Duration::from_secs(2);
/// Bundles whose records are looked at or written at a time.
const AT_A_TIME: usize = 16;

impl Cluster {
    /// Whether this broker certainly still had its lease a moment ago. After a stop of the process (or of its machine) it
    /// does not know until it has asked.
    pub(super) fn is_in_session(&self) -> bool {
        let now = millis(self.clock.now());
        let silent = now.saturating_sub(self.pulse_ms.load(Ordering::Acquire));
        self.session.borrow().is_some() && silent < millis(self.lease / 2)
    }

    /// The lease to claim with.
    pub(super) fn lease(&self) -> Result<LeaseId, StoreError> {
        let lease = *self.session.borrow();
        lease.filter(|_| self.is_in_session()).ok_or_else(|| {
            StoreError::Unplaced(
                "this broker has lost its lease and is taking another; look it up again".into(),
            )
        })
    }

    pub(super) fn beat(&self) {
        self.pulse_ms.store(millis(self.clock.now()), Ordering::Release);
    }

    /// Writes the registration.
    pub(super) async fn announce(&self, lease: LeaseId) -> Result<(), MetadataError> {
        let json =
            serde_json::to_vec(&self.report()).map_err(|error| MetadataError::Refused(error.to_string()))?;
        let key = layout::broker(self.id());
        self.metadata.put_ephemeral(&key, json.into(), Expect::Any, lease).await.map(drop)
    }

    /// Runs until [`Cluster::stopped`](Cluster) is given, then ends the lease: whatever is still held is free for others.
    pub(super) async fn keep_session(self: Arc<Self>, first: Lease) {
        let mut lease = first;
        loop {
            if self.while_alive(&lease).await {
                lease.revoke().await;
                self.session.send_replace(None);
                return;
            }
            self.session.send_replace(None);
            tracing::warn!("the broker's lease has ended; taking another, and what nobody else has taken");
            drop(lease);
            lease = loop {
                if self.stopped.is_given() {
                    return;
                }
                match self.take_another().await {
                    Ok(lease) => break lease,
                    Err(error) => {
                        tracing::warn!(%error, "no lease yet; open topics stay open");
                        self.clock.sleep(RETRY).await;
                    }
                }
            };
            self.beat();
            self.session.send_replace(Some(lease.id()));
        }
    }

    /// True: stopped. False: the lease is lost.
    async fn while_alive(&self, lease: &Lease) -> bool {
        loop {
            tokio::select! {
                biased;
                () = self.stopped.given() => return true,
                () = lease.lost() => return false,
                () = self.clock.sleep(PULSE) => {}
            }
            if self.is_in_session() || self.still_registered(lease.id()).await {
                self.beat();
            }
        }
    }

    /// After a stop: an old registration means that the others have not given us up.
    async fn still_registered(&self, lease: LeaseId) -> bool {
        let found = self.metadata.get(&layout::broker(self.id())).await;
        matches!(found, Ok(Some(value)) if value.lease == Some(lease))
    }

    async fn take_another(self: &Arc<Self>) -> Result<Lease, MetadataError> {
        let lease = self.metadata.grant_lease(self.lease).await?;
        let mut outcomes = stream::iter(self.table.all())
            .map(|bundle| self.reaffirm(bundle, lease.id()))
            .buffer_unordered(AT_A_TIME);
        while let Some(outcome) = outcomes.next().await {
            outcome?;
        }
        drop(outcomes);
        self.announce(lease.id()).await?;
        Ok(lease)
    }

    /// Makes a bundle that is held ours under this lease, or gives it up if somebody else has it: its topics close at once.
    pub(super) async fn reaffirm(&self, bundle: Bundle, lease: LeaseId) -> Result<(), MetadataError> {
        let turn = self.turn(&bundle).await;
        // What is being released goes its own way.
        if self.table.state(&bundle) != Some(State::Serving) || self.hold(&bundle, lease).await? {
            return Ok(());
        }
        tracing::warn!(namespace = %bundle.0, range = %bundle.1, "another broker has taken this bundle; closing its topics");
        self.table.begin_release(&bundle);
        if let Some(topics) = self.topics() {
            topics.close_bundle(&bundle.0, bundle.1).await;
        }
        self.table.remove(&bundle);
        drop(turn);
        Ok(())
    }

    /// False: it is somebody else's, or no bundle any more.
    async fn hold(&self, bundle: &Bundle, lease: LeaseId) -> Result<bool, MetadataError> {
        let key = layout::bundle_owner(&bundle.0, bundle.1);
        loop {
            let put = |expect| Op::Put {
                key: key.clone(),
                value: self.owner_json.clone(),
                expect,
                lease: Some(lease),
            };
            let ops = match self.metadata.get(&key).await? {
                Some(found) if found.lease == Some(lease) => return Ok(true),
                // Left by our earlier lease.
                Some(found) if found.bytes == self.owner_json => vec![put(Expect::Version(found.version))],
                Some(_) => return Ok(false),
                None => {
                    let cut = match self.boundaries.read(&bundle.0).await {
                        Ok(cut) => cut,
                        Err(StoreError::Metadata(reason)) => return Err(MetadataError::Unavailable(reason)),
                        Err(_) => return Ok(false),
                    };
                    if !cut.bundles.has(bundle.1) {
                        return Ok(false);
                    }
                    let boundaries = layout::local_policies(&bundle.0);
                    let check = Op::Check { key: boundaries, expect: Expect::Version(cut.version) };
                    vec![check, put(Expect::Missing)]
                }
            };
            match self.metadata.transact(ops).await {
                Ok(_) => return Ok(true),
                Err(MetadataError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Hears of every change of boundaries and owners.
    pub(super) async fn follow_changes(self: Arc<Self>, mut boundaries: Watch, mut owners: Watch) {
        loop {
            tokio::select! {
                () = self.stopped.given() => return,
                event = boundaries.next() => match event {
                    Some(WatchEvent::Changed { key, .. } | WatchEvent::Deleted { key }) => {
                        if let Some(namespace) = namespace_of(&key, layout::LOCAL_POLICIES) {
                            self.boundaries.forget(&namespace);
                        }
                    }
                    Some(WatchEvent::Resync) => self.boundaries.forget_all(),
                    None => return,
                },
                event = owners.next() => match event {
                    Some(WatchEvent::Deleted { key }) => {
                        self.note_change();
                        if let Some(bundle) = bundle_of(&key) {
                            self.check_held(vec![bundle]);
                        }
                    }
                    Some(WatchEvent::Changed { .. }) => self.note_change(),
                    Some(WatchEvent::Resync) => {
                        self.note_change();
                        self.check_held(self.table.all());
                    }
                    None => return,
                },
            }
        }
    }

    fn note_change(&self) {
        self.owners.send_modify(|count| *count += 1);
    }

    /// A record of ours went, and not by our own hand: it is written again, or the bundle is given up.
    fn check_held(self: &Arc<Self>, bundles: Vec<Bundle>) {
        let serving = |bundle: &Bundle| self.table.state(bundle) == Some(State::Serving);
        let bundles: Vec<Bundle> = bundles.into_iter().filter(serving).collect();
        // Without a session the next one looks at everything.
        let Some(lease) = self.session.borrow().filter(|_| !bundles.is_empty()) else { return };
        let cluster = Arc::clone(self);
        tokio::spawn(async move {
            let mut left = bundles;
            loop {
                let mut failed = Vec::new();
                for bundle in left {
                    // The next session looks at everything.
                    if cluster.stopped.is_given() || *cluster.session.borrow() != Some(lease) {
                        return;
                    }
                    if let Err(error) = cluster.reaffirm(bundle.clone(), lease).await {
                        tracing::warn!(%error, "cannot check who owns a bundle that this broker serves; trying again");
                        failed.push(bundle);
                    }
                }
                if failed.is_empty() {
                    return;
                }
                left = failed;
                cluster.clock.sleep(CHECK_AGAIN).await;
            }
        });
    }
}

fn namespace_of(key: &str, parent: &str) -> Option<NamespaceName> {
    key.strip_prefix(parent)?.strip_prefix('/')?.parse().ok()
}

fn bundle_of(key: &str) -> Option<Bundle> {
    let (namespace, range) = key.rsplit_once('/')?;
    let range: BundleRange = range.parse().ok()?;
    Some((namespace_of(namespace, layout::BUNDLE_OWNERS)?, range))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
