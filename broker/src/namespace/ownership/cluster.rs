//! One broker among several: what it holds, what it knows of the others, and its tasks.
//!
//! The lease decides only who is asked; whoever opens a topic fences its ledgers. So while the metadata store cannot be
//! reached, topics that are open stay open: if another broker took them over, their next write fails.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use magnetar_common::Environment;
use magnetar_common::bundles::BundleRange;
use magnetar_common::clock::SharedClock;
use magnetar_common::layout;
use magnetar_common::metadata::{LeaseId, MetadataError, SharedMetadata};
use magnetar_common::shutdown::Signal;
use magnetar_common::topic_name::NamespaceName;
use magnetar_proto::checksum::crc32;
use tokio::sync::{Mutex, MutexGuard, watch};

use super::boundaries::Boundaries;
use super::directory::Directory;
use super::handover::Neighbours;
use super::probe::Probe;
use super::record::BrokerRecord;
use super::table::{Bundle, Table};
use crate::balance::{Isolation, Placement};
use crate::namespace::error::StoreError;
use crate::namespace::registry::TopicRegistry;
use crate::namespace::store::NamespaceStore;

/// Bundles share this many turns: few enough to be one array, enough that they seldom wait for each other.
const TURNS: usize = 64;

/// What a broker of a cluster is made with.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// Name of the cluster, whose isolation policies count.
    pub name: String,
    /// This broker, as others see it.
    pub record: BrokerRecord,
    /// A broker that is silent for this long loses its bundles. etcd counts in seconds, from 2.
    pub lease: Duration,
}

/// This broker's part in the cluster's ownership of bundles.
pub struct Cluster {
    pub(super) metadata: SharedMetadata,
    pub(super) name: String,
    pub(super) clock: SharedClock,
    pub(super) lease: Duration,
    /// The registration without its load.
    pub(super) record: BrokerRecord,
    /// The registration with the newest load that was measured.
    pub(super) reported: std::sync::Mutex<BrokerRecord>,
    /// The value of the keys of bundles that it owns.
    pub(super) owner_json: Bytes,
    pub(super) boundaries: Boundaries,
    pub(super) table: Table,
    pub(super) directory: Directory,
    pub(super) probe: Probe,
    pub(super) placement: std::sync::Mutex<Placement>,
    /// The lease that bundles are held by; `None` while there is none that certainly lives.
    pub(super) session: watch::Sender<Option<LeaseId>>,
    /// When the process was last seen running, in ms of the clock: one that was stopped has to ask again.
    pub(super) pulse_ms: AtomicU64,
    /// Whether this broker was the leader when it last looked.
    pub(super) leading: AtomicBool,
    /// Counts changes of bundles' owners, anybody's.
    pub(super) owners: watch::Sender<u64>,
    /// No bundle is taken any more.
    pub(super) draining: Signal,
    /// Ends the tasks, and the lease with them.
    pub(super) stopped: Signal,
    topics: OnceLock<Weak<TopicRegistry>>,
    neighbours: OnceLock<Arc<dyn Neighbours>>,
    turns: [Mutex<()>; TURNS],
}

impl Cluster {
    /// Joins the cluster: lists the brokers and starts following bundles. Nothing is owned, and nobody knows of this broker,
    /// before [`Self::register`].
    pub async fn join(
        metadata: SharedMetadata,
        environment: &Environment,
        settings: ClusterSettings,
    ) -> Result<Arc<Self>, StoreError> {
        let clock = Arc::clone(&environment.clock);
        let owner_json = serde_json::to_vec(&settings.record.bundle_owner())
            .map_err(|error| StoreError::Invalid(format!("this broker's addresses: {error}")))?;
        Ok(Arc::new(Self {
            boundaries: Boundaries::new(Arc::clone(&metadata)),
            table: Table::default(),
            directory: Directory::follow(Arc::clone(&metadata), Arc::clone(&clock)).await?,
            probe: Probe::new(Arc::clone(&environment.network), Arc::clone(&clock)),
            placement: std::sync::Mutex::default(),
            session: watch::Sender::new(None),
            pulse_ms: AtomicU64::new(0),
            leading: AtomicBool::new(false),
            owners: watch::Sender::new(0),
            draining: Signal::new(),
            stopped: Signal::new(),
            topics: OnceLock::new(),
            neighbours: OnceLock::new(),
            turns: std::array::from_fn(|_| Mutex::new(())),
            name: settings.name,
            lease: settings.lease,
            reported: std::sync::Mutex::new(settings.record.clone()),
            record: settings.record,
            owner_json: owner_json.into(),
            metadata,
            clock,
        }))
    }

    /// Takes a lease and tells the others. From here on bundles are claimed, for topics in `topics`. Returns once the
    /// registration is there.
    pub async fn register(
        self: &Arc<Self>,
        topics: &Arc<TopicRegistry>,
        neighbours: Arc<dyn Neighbours>,
    ) -> Result<(), MetadataError> {
        let _ = self.topics.set(Arc::downgrade(topics));
        let _ = self.neighbours.set(neighbours);
        let lease = self.metadata.grant_lease(self.lease).await?;
        self.announce(lease.id()).await?;
        self.beat();
        self.session.send_replace(Some(lease.id()));
        let boundaries = self.metadata.watch(layout::LOCAL_POLICIES);
        // Read by the first clients, before there was a watch to tell of changes.
        self.boundaries.forget_all();
        let owners = self.metadata.watch(layout::BUNDLE_OWNERS);
        tokio::spawn(Arc::clone(self).keep_session(lease));
        tokio::spawn(Arc::clone(self).follow_changes(boundaries, owners));
        tokio::spawn(Arc::clone(self).stand_for_leader());
        tokio::spawn(Arc::clone(self).keep_reporting());
        Ok(())
    }

    pub(super) fn report(&self) -> BrokerRecord {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where namespaces are cut.
    pub fn boundaries(&self) -> &Boundaries {
        &self.boundaries
    }

    /// The brokers that are registered.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// This broker's id: `host:port` of its HTTP port.
    pub fn id(&self) -> &str {
        &self.record.broker_id
    }

    /// Every bundle that this broker serves or is about to hand over, in order.
    pub fn held(&self) -> Vec<(NamespaceName, BundleRange)> {
        self.table.all()
    }

    /// Resolves once this broker takes no bundle any more.
    pub async fn left(&self) {
        self.draining.given().await;
    }

    /// The isolation policies as stored now. A pattern that cannot be used is as if there were no policies: better a broker
    /// that should not than none.
    pub async fn isolation(&self) -> Result<Isolation, StoreError> {
        let policies = NamespaceStore::new(Arc::clone(&self.metadata)).isolation(&self.name).await?;
        Ok(Isolation::compile(&policies).unwrap_or_else(|error| {
            tracing::warn!(%error, "the isolation policies cannot be used");
            Isolation::default()
        }))
    }

    /// For the leader: the next lookup of a bundle that nobody has sends to this broker.
    pub fn intend(&self, bundle: &str, broker: &str) {
        let mut placement = self.placement.lock().unwrap_or_else(PoisonError::into_inner);
        placement.intend(self.clock.now(), bundle, broker);
    }

    pub(super) fn topics(&self) -> Option<Arc<TopicRegistry>> {
        self.topics.get().and_then(Weak::upgrade)
    }

    pub(super) fn neighbours(&self) -> Option<&Arc<dyn Neighbours>> {
        self.neighbours.get()
    }

    /// Claims, releases and splits of a bundle happen one after the other.
    pub(super) async fn turn(&self, bundle: &Bundle) -> MutexGuard<'_, ()> {
        self.turns[turn_of(&bundle.0, bundle.1.low())].lock().await
    }

    /// The turn of a bundle and that of the part of it which begins at the boundary: the other part has the bundle's own.
    pub(super) async fn turn_of_parts(
        &self,
        bundle: &Bundle,
        boundary: u32,
    ) -> (MutexGuard<'_, ()>, Option<MutexGuard<'_, ()>>) {
        let turns = [turn_of(&bundle.0, bundle.1.low()), turn_of(&bundle.0, boundary)];
        // In order: nobody waits for one with a later one in hand.
        let [first, second] = [turns[0].min(turns[1]), turns[0].max(turns[1])];
        let held = self.turns[first].lock().await;
        let other = if first == second { None } else { Some(self.turns[second].lock().await) };
        (held, other)
    }
}

/// Bundles of a namespace seldom share one, so that they are handed over beside each other.
fn turn_of(namespace: &NamespaceName, low: u32) -> usize {
    let hash = crc32(namespace.as_str().as_bytes()) ^ crc32(&low.to_be_bytes());
    hash as usize % TURNS
}
