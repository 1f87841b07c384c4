//! Where a topic's policies come from.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use magnetar_common::topic_name::TopicName;
use serde_json::{Map, Value};

use super::effective::TopicPolicies;
use crate::namespace::{NamespaceStore, StoreError};
use crate::schemas::{Rule, Strategy};

/// Tells what holds for a topic now.
pub trait PolicySource: Send + Sync + 'static {
    /// Reads the policies. On an error nothing is known of them: the caller must not act as if none were set.
    fn of(&self, topic: &TopicName) -> BoxFuture<'static, Result<TopicPolicies, StoreError>>;
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
        let (store, topic) = (self.0.clone(), topic.clone());
        async move {
            let namespace = match store.namespace(topic.namespace()).await? {
                Some(policies) => as_object(serde_json::to_value(policies)),
                None => Map::new(),
            };
            let own = store.topic_policies(&topic).await?.unwrap_or_default();
            Ok(TopicPolicies::new(&namespace, &own))
        }
        .boxed()
    }
}

impl StoredPolicies {
    /// What holds for new schemas of a topic.
    pub async fn schema_rule(&self, topic: &TopicName) -> Result<Rule, StoreError> {
        let namespace = match self.0.namespace(topic.namespace()).await? {
            Some(policies) => as_object(serde_json::to_value(policies)),
            None => Map::new(),
        };
        let own = self.0.topic_policies(topic).await?.unwrap_or_default();
        let find = |name: &str| own.get(name).or_else(|| namespace.get(name));
        let text = |name: &str| find(name).and_then(Value::as_str).filter(|text| *text != "UNDEFINED");
        let flag = |name: &str| find(name).and_then(Value::as_bool);
        let older = || text("schema_auto_update_compatibility_strategy");
        let strategy = text("schema_compatibility_strategy").or_else(older);
        Ok(Rule {
            strategy: strategy.map_or_else(Strategy::default, Strategy::parse),
            auto_update: flag("is_allow_auto_update_schema").unwrap_or(true),
            enforced: flag("schema_validation_enforced").unwrap_or(false),
        })
    }
}

/// A record that came from JSON is an object again.
fn as_object(value: serde_json::Result<Value>) -> Map<String, Value> {
    match value {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    }
}
