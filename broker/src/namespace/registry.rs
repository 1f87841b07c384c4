//! The topics in memory: loads each on first use, once at a time, and lets go of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, join_all};
use futures_util::stream::{self, StreamExt};
use magnetar_common::bundles::BundleRange;
use magnetar_common::topic_name::{NamespaceName, TopicName};
use tokio::sync::Semaphore;

use super::error::{LoadError, StoreError};
use super::loading::{LoadTopic, Purpose};
use super::ownership::Ownership;
use super::policies::{PartitionedTopicMetadata, Policies};
use super::store::NamespaceStore;
use crate::topic::{CloseReason, Departed, Handle, TopicError};

/// Topics that are opened at a time: enough to hide the latency of metadata and bookies, few enough that a broker that takes
/// over thousands of topics leaves both to the topics that are open already.
const LOADS_AT_A_TIME: usize = 64;

/// What first use may create, unless a namespace's policies say otherwise.
#[derive(Clone, Copy, Debug)]
pub struct AutoCreate {
    pub topics: bool,
    pub subscriptions: bool,
    pub partitions_max: u32,
}

/// A topic is here at most once, and a new load begins only when the last task of that topic has ended.
pub struct TopicRegistry {
    store: NamespaceStore,
    loader: Arc<dyn LoadTopic>,
    auto_create: AutoCreate,
    ownership: Arc<dyn Ownership>,
    loads: Semaphore,
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    /// No load begins any more.
    closed: bool,
    topics: HashMap<TopicName, Slot>,
}

type Loading = Shared<BoxFuture<'static, Result<Handle, TopicError>>>;

#[derive(Clone)]
enum Slot {
    Loading(Loading),
    /// Its task may have ended by itself since.
    Loaded(Handle),
}

impl TopicRegistry {
    pub fn new(
        store: NamespaceStore,
        loader: Arc<dyn LoadTopic>,
        auto_create: AutoCreate,
        ownership: Arc<dyn Ownership>,
    ) -> Arc<Self> {
        let (loads, slots) = (Semaphore::new(LOADS_AT_A_TIME), Mutex::default());
        Arc::new(TopicRegistry { store, loader, auto_create, ownership, loads, slots })
    }

    /// The topic's handle; loads it if it is not in memory, and creates it first if `create` and the namespace's
    /// policies allow. Concurrent calls share one load. Cancel-safe: a load that began goes on.
    pub async fn get_or_load(self: &Arc<Self>, topic: &TopicName, create: bool) -> Result<Handle, LoadError> {
        self.get_or_load_for(topic, create, Purpose::Read).await
    }

    /// [`Self::get_or_load`] for a use that is known. A topic that is being loaded was found admissible by whoever began that.
    pub async fn get_or_load_for(
        self: &Arc<Self>,
        topic: &TopicName,
        create: bool,
        purpose: Purpose,
    ) -> Result<Handle, LoadError> {
        if let Some(handle) = self.get(topic) {
            return Ok(handle);
        }
        self.check_owned(topic).await?;
        if !self.is_loading(topic) {
            // One that is being deleted is there until it has closed, and must not come back because of that.
            if let Some(closing) = self.closing(topic) {
                closing.closed().await;
            }
            self.admit(topic, create).await?;
        }
        Ok(self.load(topic, purpose)?.await?)
    }

    /// Creates a plain topic, or a partition, whatever the policies say of first use; `Exists` if it is there.
    pub async fn create(self: &Arc<Self>, topic: &TopicName) -> Result<Handle, LoadError> {
        self.check_owned(topic).await?;
        self.policies(topic).await?;
        let partitioned = topic.partition().is_none() && self.store.partitions(topic).await?.is_some();
        if partitioned || self.store.topic_exists(topic).await? {
            return Err(StoreError::Exists(format!("topic {topic}")).into());
        }
        Ok(self.load(topic, Purpose::Read)?.await?)
    }

    /// The topic's handle if it is in memory.
    pub fn get(&self, topic: &TopicName) -> Option<Handle> {
        match self.slots().topics.get(topic) {
            Some(Slot::Loaded(handle)) if !handle.is_closed() => Some(handle.clone()),
            _ => None,
        }
    }

    /// Every topic in memory, in no order.
    pub fn loaded(&self) -> Vec<Handle> {
        let slots = self.slots();
        let live = slots.topics.values().filter_map(|slot| match slot {
            Slot::Loaded(handle) if !handle.is_closed() => Some(handle.clone()),
            _ => None,
        });
        live.collect()
    }

    /// How many partitions clients shall see: 0 for a plain topic. With `create`, a missing topic gets its
    /// partitioned-topic record here if that is what its first use creates.
    pub async fn partitions_for_use(&self, topic: &TopicName, create: bool) -> Result<u32, LoadError> {
        let policies = self.policies(topic).await?;
        if topic.partition().is_some() {
            return Ok(0);
        }
        if let Some(record) = self.store.partitions(topic).await? {
            return Ok(record.partitions);
        }
        if self.store.topic_exists(topic).await? || self.get(topic).is_some() {
            return Ok(0);
        }
        if !(create && self.may_create(&policies)) {
            return Err(LoadError::NotFound(topic.clone()));
        }
        match partitions_at_creation(&policies) {
            0 => Ok(0),
            partitions => self.create_partitions(topic, partitions).await,
        }
    }

    /// May the first consumer create a missing durable subscription?
    pub async fn may_create_subscription(&self, topic: &TopicName) -> Result<bool, LoadError> {
        let policies = self.policies(topic).await?;
        let allowed = policies.auto_subscription_creation.map(|rule| rule.allow_auto_subscription_creation);
        Ok(allowed.unwrap_or(self.auto_create.subscriptions))
    }

    /// Closes the topic's task; its clients come back and load it anew. A topic not in memory is fine.
    pub async fn unload(&self, topic: &TopicName) -> Result<(), LoadError> {
        let Some(handle) = self.settled(topic).await else { return Ok(()) };
        handle.close(CloseReason::Unload).await?;
        self.forget(&handle, topic);
        Ok(())
    }

    /// Deletes the topic with all its data and subscriptions; `InUse` with clients connected unless forced.
    pub async fn delete(self: &Arc<Self>, topic: &TopicName, force: bool) -> Result<(), LoadError> {
        // A partition can exist although the record that counts it is gone or smaller: it must go away all the same.
        let handle = match self.settled(topic).await {
            Some(handle) => handle,
            None if self.store.topic_exists(topic).await? => self.load(topic, Purpose::Read)?.await?,
            None => return Err(LoadError::NotFound(topic.clone())),
        };
        handle.close(CloseReason::Delete { force }).await?;
        self.forget(&handle, topic);
        Ok(())
    }

    /// Closes every topic of a bundle that this broker gives up, all at the same time, and gives their clients, who are yet to
    /// be told where to go. The bundle must not be owned any more: then no load begins, and those under way are closed when
    /// they end.
    pub async fn close_bundle(
        &self,
        namespace: &NamespaceName,
        range: BundleRange,
    ) -> Vec<(TopicName, Departed)> {
        let close = |topic: TopicName| async move {
            let handle = self.settled(&topic).await?;
            let departed = handle.hand_over().await;
            self.forget(&handle, &topic);
            Some((topic, departed))
        };
        let closed = join_all(self.of_bundle(namespace, range).into_iter().map(close)).await;
        closed.into_iter().flatten().collect()
    }

    /// Loads topics ahead of their clients; for those of which it says so, a ledger to write to is opened too. What cannot be
    /// loaded is left to its clients' first requests.
    pub async fn load_ahead(self: &Arc<Self>, topics: impl IntoIterator<Item = (TopicName, bool)>) {
        let load = |(topic, writable): (TopicName, bool)| async move {
            let purpose = if writable { Purpose::Publish } else { Purpose::Read };
            let loaded: Result<(), LoadError> = async {
                let handle = self.load(&topic, purpose)?.await?;
                if writable { Ok(handle.prepare().await?) } else { Ok(()) }
            }
            .await;
            if let Err(error) = loaded {
                tracing::debug!(%topic, %error, "load a topic ahead of its clients");
            }
        };
        stream::iter(topics).for_each_concurrent(LOADS_AT_A_TIME, load).await;
    }

    /// The hashes of a bundle's topics in memory.
    pub fn hashes(&self, namespace: &NamespaceName, range: BundleRange) -> Vec<u32> {
        self.of_bundle(namespace, range).iter().map(TopicName::bundle_hash).collect()
    }

    fn of_bundle(&self, namespace: &NamespaceName, range: BundleRange) -> Vec<TopicName> {
        let slots = self.slots();
        let of_bundle =
            |topic: &&TopicName| topic.namespace() == namespace && range.contains(topic.bundle_hash());
        slots.topics.keys().filter(of_bundle).cloned().collect()
    }

    /// Closes every topic, all at the same time, and lets no new one in. Failures are logged: a topic that could not
    /// be closed is recovered at its next load.
    pub async fn shutdown(&self) {
        let topics = {
            let mut slots = self.slots();
            slots.closed = true;
            std::mem::take(&mut slots.topics)
        };
        let close = |(topic, slot): (TopicName, Slot)| async move {
            let handle = match slot {
                Slot::Loaded(handle) => handle,
                Slot::Loading(loading) => match loading.await {
                    Ok(handle) => handle,
                    Err(_) => return,
                },
            };
            if let Err(error) = handle.close(CloseReason::Shutdown).await {
                tracing::warn!(%topic, %error, "topic was not closed cleanly; its next load recovers it");
            }
        };
        join_all(topics.into_iter().map(close)).await;
    }

    /// A request for a topic that is just being handed over waits until it is, so that the next lookup finds its new owner.
    async fn check_owned(&self, topic: &TopicName) -> Result<(), LoadError> {
        if self.ownership.is_owned(topic) {
            return Ok(());
        }
        self.ownership.settled(topic).await;
        Err(LoadError::NotServed(topic.clone()))
    }

    async fn admit(&self, topic: &TopicName, create: bool) -> Result<(), LoadError> {
        let policies = self.policies(topic).await?;
        let base = topic.without_partition();
        match (self.store.partitions(&base).await?, topic.partition()) {
            (Some(record), Some(partition)) if partition < record.partitions => return Ok(()),
            (Some(record), Some(_)) => {
                return Err(LoadError::NoSuchPartition { topic: base, partitions: record.partitions });
            }
            (Some(_), None) => return Err(LoadError::Partitioned(base)),
            (None, _) => {}
        }
        if self.store.topic_exists(topic).await? || (create && self.may_create(&policies)) {
            Ok(())
        } else {
            Err(LoadError::NotFound(topic.clone()))
        }
    }

    async fn policies(&self, topic: &TopicName) -> Result<Policies, LoadError> {
        match self.store.namespace(topic.namespace()).await? {
            Some(policies) if !policies.deleted => Ok(policies),
            _ => Err(LoadError::UnknownNamespace(topic.namespace().clone())),
        }
    }

    fn may_create(&self, policies: &Policies) -> bool {
        let allowed = policies.auto_topic_creation.as_ref().map(|rule| rule.allow_auto_topic_creation);
        allowed.unwrap_or(self.auto_create.topics)
    }

    async fn create_partitions(&self, topic: &TopicName, partitions: u32) -> Result<u32, LoadError> {
        let record = PartitionedTopicMetadata { partitions, ..PartitionedTopicMetadata::default() };
        match self.store.create_partitioned(topic, &record, self.auto_create.partitions_max).await {
            Ok(()) => Ok(partitions),
            // Somebody else was faster; what counts is what is stored.
            Err(StoreError::Exists(_)) => {
                Ok(self.store.partitions(topic).await?.map_or(0, |record| record.partitions))
            }
            Err(other) => Err(other.into()),
        }
    }

    fn closing(&self, topic: &TopicName) -> Option<Handle> {
        match self.slots().topics.get(topic) {
            Some(Slot::Loaded(handle)) if handle.is_closed() => Some(handle.clone()),
            _ => None,
        }
    }

    fn is_loading(&self, topic: &TopicName) -> bool {
        let slots = self.slots();
        matches!(slots.topics.get(topic), Some(Slot::Loading(loading)) if !matches!(loading.peek(), Some(Err(_))))
    }

    fn load(self: &Arc<Self>, topic: &TopicName, purpose: Purpose) -> Result<Loading, LoadError> {
        let mut slots = self.slots();
        if slots.closed {
            return Err(LoadError::ShuttingDown);
        }
        // Under the same lock as the list of topics to close: no load slips in behind a hand-over.
        if !self.ownership.is_owned(topic) {
            return Err(LoadError::NotServed(topic.clone()));
        }
        let previous = match slots.topics.get(topic) {
            Some(Slot::Loaded(handle)) if !handle.is_closed() => {
                return Ok(std::future::ready(Ok(handle.clone())).boxed().shared());
            }
            Some(Slot::Loading(loading)) if !matches!(loading.peek(), Some(Err(_))) => {
                return Ok(loading.clone());
            }
            Some(Slot::Loaded(handle)) => Some(handle.clone()),
            _ => None,
        };
        let loading = self.start_load(topic.clone(), purpose, previous);
        slots.topics.insert(topic.clone(), Slot::Loading(loading.clone()));
        Ok(loading)
    }

    /// The load runs in a task of its own, so that no caller's cancellation leaves a topic half open.
    fn start_load(self: &Arc<Self>, topic: TopicName, purpose: Purpose, previous: Option<Handle>) -> Loading {
        let registry = Arc::clone(self);
        let load = tokio::spawn(async move {
            if let Some(previous) = previous {
                previous.closed().await;
            }
            let permit = registry.loads.acquire().await;
            let result = registry.loader.load(topic.clone(), purpose).await;
            drop(permit);
            registry.settle(&topic, &result);
            if let Ok(handle) = &result {
                registry.loader.loaded(topic, handle.clone()).await;
            }
            result
        });
        let outcome = async move {
            load.await.unwrap_or_else(|error| {
                tracing::error!(%error, "loading a topic panicked");
                Err(TopicError::NotReady(
                    "the topic could not be loaded because of a bug in the broker".into(),
                ))
            })
        };
        outcome.boxed().shared()
    }

    fn settle(&self, topic: &TopicName, result: &Result<Handle, TopicError>) {
        let mut slots = self.slots();
        if slots.closed {
            // The shutdown holds the load and closes what comes of it.
            return;
        }
        match result {
            Ok(handle) => {
                slots.topics.insert(topic.clone(), Slot::Loaded(handle.clone()));
            }
            Err(error) => {
                tracing::warn!(%topic, %error, "topic was not loaded; its clients will try again");
                slots.topics.remove(topic);
            }
        }
    }

    /// The topic's handle, after a load that is under way has ended.
    async fn settled(&self, topic: &TopicName) -> Option<Handle> {
        let slot = self.slots().topics.get(topic).cloned();
        match slot? {
            Slot::Loaded(handle) => (!handle.is_closed()).then_some(handle),
            Slot::Loading(loading) => loading.await.ok(),
        }
    }

    fn forget(&self, closed: &Handle, topic: &TopicName) {
        let mut slots = self.slots();
        if matches!(slots.topics.get(topic), Some(Slot::Loaded(handle)) if handle.same_topic(closed)) {
            slots.topics.remove(topic);
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Partitions of a topic that its first use creates; 0 for a plain one.
fn partitions_at_creation(policies: &Policies) -> u32 {
    match &policies.auto_topic_creation {
        Some(rule) if rule.topic_type.as_deref() == Some("partitioned") => {
            rule.default_num_partitions.unwrap_or(1)
        }
        _ => 0,
    }
}
