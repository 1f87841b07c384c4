//! Where a topic's policies come from.

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join};
use magnetar_common::topic_name::{NamespaceName, TopicName};
use magnetar_ledger::placement::Isolation;
use serde_json::{Map, Value};

use super::effective::TopicPolicies;
use crate::namespace::{NamespaceStore, StoreError};
use crate::schemas::{Rule, Strategy};

/// Tells what holds for a topic now.
pub trait PolicySource: Send + Sync + 'static {
    /// Reads the policies. On an error nothing is known of them: the caller must not act as if none were set.
    fn of(&self, topic: &TopicName) -> BoxFuture<'static, Result<TopicPolicies, StoreError>>;

    /// The watch has told that policies may be others than those read before.
    fn changed(&self) {}
}

/// The same for every topic; for tests and for topics outside of any namespace.
pub struct Fixed(pub TopicPolicies);

impl PolicySource for Fixed {
    fn of(&self, _: &TopicName) -> BoxFuture<'static, Result<TopicPolicies, StoreError>> {
        std::future::ready(Ok(self.0.clone())).boxed()
    }
}

/// Policies as the admin API stores them.
pub struct StoredPolicies(pub NamespaceStore);

impl PolicySource for StoredPolicies {
    fn of(&self, topic: &TopicName) -> BoxFuture<'static, Result<TopicPolicies, StoreError>> {
        let (stored, topic) = (StoredPolicies(self.0.clone()), topic.clone());
        async move {
            let (shared, own) = try_join(stored.of_namespace(topic.namespace()), stored.own(&topic)).await?;
            Ok(shared.with(&own))
        }
        .boxed()
    }
}

/// What all topics of a namespace have in common.
pub(super) struct Shared {
    policies: Map<String, Value>,
    isolation: Isolation,
}

impl Shared {
    /// What holds for the topic with these policies of its own.
    pub(super) fn with(&self, own: &Map<String, Value>) -> TopicPolicies {
        TopicPolicies { isolation: self.isolation.clone(), ..TopicPolicies::new(&self.policies, own) }
    }

    /// What holds for new schemas of that topic.
    pub(super) fn schema_rule(&self, own: &Map<String, Value>) -> Rule {
        let find = |name: &str| own.get(name).or_else(|| self.policies.get(name));
        let text = |name: &str| find(name).and_then(Value::as_str).filter(|text| *text != "UNDEFINED");
        let flag = |name: &str| find(name).and_then(Value::as_bool);
        let older = || text("schema_auto_update_compatibility_strategy");
        let strategy = text("schema_compatibility_strategy").or_else(older);
        Rule {
            strategy: strategy.map_or_else(Strategy::default, Strategy::parse),
            auto_update: flag("is_allow_auto_update_schema").unwrap_or(true),
            enforced: flag("schema_validation_enforced").unwrap_or(false),
        }
    }
}

impl StoredPolicies {
    pub(super) async fn of_namespace(&self, namespace: &NamespaceName) -> Result<Shared, StoreError> {
        let (policies, group) =
            try_join(self.0.namespace(namespace), self.0.bookie_affinity(namespace)).await?;
        let policies = match policies {
            Some(policies) => as_object(serde_json::to_value(policies)),
            None => Map::new(),
        };
        let group = group.unwrap_or_default();
        let named = |names: &Option<String>| names.clone().unwrap_or_default();
        Ok(Shared { policies, isolation: Isolation::named(&named(&group.primary), &named(&group.secondary)) })
    }

    /// What one topic has in front of that.
    pub(super) async fn own(&self, topic: &TopicName) -> Result<Map<String, Value>, StoreError> {
        Ok(self.0.topic_policies(topic).await?.unwrap_or_default())
    }

    /// What holds for new schemas of a topic.
    pub async fn schema_rule(&self, topic: &TopicName) -> Result<Rule, StoreError> {
        let (shared, own) = try_join(self.of_namespace(topic.namespace()), self.own(topic)).await?;
        Ok(shared.schema_rule(&own))
    }
}

/// A record that came from JSON is an object again.
fn as_object(value: serde_json::Result<Value>) -> Map<String, Value> {
    match value {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::Policies;
    use bytes::Bytes;
    use magnetar_common::layout;
    use magnetar_common::metadata::{Expect, MemoryStore, SharedMetadata};
    use serde_json::json;
    use std::sync::Arc;

    /// The record as Pulsar's broker writes it.
    #[tokio::test]
    async fn the_bookies_of_a_namespace_are_read_from_pulsars_record_and_changed_in_it() {
        let metadata: SharedMetadata = Arc::new(MemoryStore::new());
        let topic: TopicName = "persistent://public/default/t".parse().expect("a name");
        let policies = serde_json::to_vec(&Policies::default()).expect("JSON");
        let key = layout::namespace(topic.namespace());
        metadata.put(&key, policies.into(), Expect::Missing).await.expect("put");
        let key = layout::local_policies(topic.namespace());
        let record = json!({
            "bundles": {"boundaries": ["0x00000000", "0xffffffff"], "numBundles": 1},
            "bookieAffinityGroup": {
                "bookkeeperAffinityGroupPrimary": "fast, near",
                "bookkeeperAffinityGroupSecondary": "slow"
            },
            "namespaceAntiAffinityGroup": null,
            "migrated": false
        });
        metadata.put(&key, record.to_string().into(), Expect::Missing).await.expect("put");
        let store = NamespaceStore::new(metadata.clone());
        let source = StoredPolicies(store.clone());
        let isolation = async || source.of(&topic).await.expect("policies").isolation;
        assert_eq!(isolation().await, Isolation::named("fast,near", "slow"));

        store.set_bookie_affinity(topic.namespace(), None).await.expect("removed");
        assert_eq!(isolation().await, Isolation::default());
        let bytes: Bytes = metadata.get(&key).await.expect("read").expect("there").bytes;
        let left: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!((&left["bundles"], &left["migrated"]), (&record["bundles"], &record["migrated"]));
    }
}
