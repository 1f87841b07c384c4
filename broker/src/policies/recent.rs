//! Policies read lately, so that many topics that are opened at the same time do not read those of their namespace each.
//!
//! What was read counts until anything about policies changes: this broker notes what it writes, and
//! [`follow`](super::follow()) what others have written. A topic that was opened with what had just changed is told of it by
//! `follow`.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join};
use magnetar_common::topic_name::{NamespaceName, TopicName};
use serde_json::{Map, Value};

use super::effective::TopicPolicies;
use super::source::{PolicySource, Shared, StoredPolicies};
use crate::namespace::{NamespaceStore, PolicyChanges, StoreError};
use crate::schemas::Rule;

/// Namespaces, and topics, that are remembered at most: for a hand-over of as many, at a few KiB each.
const REMEMBERED_MAX: usize = 4096;

/// Stored policies with a memory. Clones share it.
#[derive(Clone)]
pub struct RecentPolicies {
    store: NamespaceStore,
    memory: Arc<Mutex<Memory>>,
}

#[derive(Default)]
struct Memory {
    /// What is remembered was read after so many changes.
    changes: u64,
    namespaces: HashMap<NamespaceName, Arc<Shared>>,
    topics: HashMap<TopicName, Arc<Map<String, Value>>>,
}

impl RecentPolicies {
    /// Notes the changes made through `store` and its clones.
    pub fn new(store: NamespaceStore) -> Self {
        RecentPolicies { store, memory: Arc::default() }
    }

    /// What holds for new schemas of a topic.
    pub async fn schema_rule(&self, topic: &TopicName) -> Result<Rule, StoreError> {
        let (shared, own) = try_join(self.shared(topic.namespace()), self.own(topic)).await?;
        Ok(shared.schema_rule(&own))
    }

    /// Where they are read from.
    pub fn store(&self) -> &NamespaceStore {
        &self.store
    }

    fn changes(&self) -> &PolicyChanges {
        self.store.policy_changes()
    }

    /// What is remembered that is of now.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = self.changes().count();
        if memory.changes != changes {
            *memory = Memory { changes, ..Memory::default() };
        }
        memory
    }

    async fn shared(&self, namespace: &NamespaceName) -> Result<Arc<Shared>, StoreError> {
        let known = self.memory().namespaces.get(namespace).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let before = self.changes().count();
        let read = Arc::new(StoredPolicies(self.store.clone()).of_namespace(namespace).await?);
        let mut memory = self.memory();
        if memory.changes == before {
            remember(&mut memory.namespaces, namespace.clone(), &read);
        }
        Ok(read)
    }

    async fn own(&self, topic: &TopicName) -> Result<Arc<Map<String, Value>>, StoreError> {
        let base = topic.without_partition();
        let known = self.memory().topics.get(&base).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let before = self.changes().count();
        let read = Arc::new(StoredPolicies(self.store.clone()).own(&base).await?);
        let mut memory = self.memory();
        if memory.changes == before {
            remember(&mut memory.topics, base, &read);
        }
        Ok(read)
    }
}

fn remember<K: Eq + Hash, V>(known: &mut HashMap<K, Arc<V>>, key: K, read: &Arc<V>) {
    if known.len() >= REMEMBERED_MAX {
        known.clear();
    }
    known.insert(key, Arc::clone(read));
}

impl PolicySource for RecentPolicies {
    fn of(&self, topic: &TopicName) -> BoxFuture<'static, Result<TopicPolicies, StoreError>> {
        let (recent, topic) = (self.clone(), topic.clone());
        async move {
            let (shared, own) = try_join(recent.shared(topic.namespace()), recent.own(&topic)).await?;
            Ok(shared.with(&own))
        }
        .boxed()
    }

    fn changed(&self) {
        self.changes().note();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::Policies;
    use magnetar_common::layout;
    use magnetar_common::metadata::{Expect, MemoryStore, SharedMetadata};

    fn required(policies: &mut Policies, yes: bool) {
        policies.others.insert("encryption_required".into(), yes.into());
    }

    /// A namespace, and who reads its policies.
    async fn world() -> (SharedMetadata, NamespaceStore, RecentPolicies, TopicName) {
        let metadata: SharedMetadata = Arc::new(MemoryStore::new());
        let topic: TopicName = "persistent://public/default/t".parse().expect("a name");
        put(&metadata, &topic, false, Expect::Missing).await;
        let store = NamespaceStore::new(Arc::clone(&metadata));
        let recent = RecentPolicies::new(store.clone());
        (metadata, store, recent, topic)
    }

    /// As another broker does.
    async fn put(metadata: &SharedMetadata, topic: &TopicName, yes: bool, expect: Expect) {
        let mut policies = Policies::default();
        required(&mut policies, yes);
        let bytes = serde_json::to_vec(&policies).expect("JSON");
        metadata.put(&layout::namespace(topic.namespace()), bytes.into(), expect).await.expect("put");
    }

    async fn is_required(recent: &RecentPolicies, topic: &TopicName) -> bool {
        recent.of(topic).await.expect("policies").encryption_required
    }

    #[tokio::test]
    async fn what_was_read_holds_until_the_watch_tells_of_a_change() {
        let (metadata, _, recent, topic) = world().await;
        assert!(!is_required(&recent, &topic).await);
        put(&metadata, &topic, true, Expect::Any).await;
        assert!(!is_required(&recent, &topic).await, "nobody has told");
        recent.changed();
        assert!(is_required(&recent, &topic).await);
    }

    #[tokio::test]
    async fn what_this_broker_writes_holds_at_once() {
        let (_, store, recent, topic) = world().await;
        assert!(!is_required(&recent, &topic).await);
        let change = |policies: &mut Policies| {
            required(policies, true);
            Ok(())
        };
        store.update_namespace(topic.namespace(), change).await.expect("a change");
        assert!(is_required(&recent, &topic).await);
        let own = |own: &mut Map<String, Value>| _ = own.insert("encryption_required".into(), false.into());
        store.update_topic_policies(&topic, own).await.expect("a change");
        assert!(!is_required(&recent, &topic).await);
        store.delete_topic_policies(&topic).await.expect("a change");
        assert!(is_required(&recent, &topic).await);
    }
}
