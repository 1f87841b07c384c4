//! The policies of one topic: those of its namespace, with its own in front.

use std::time::Duration;

use magnetar_ledger::placement::Isolation;
use serde_json::{Map, Value};

use super::dead_letter::DeadLetterPolicies;
use super::entry_filters::{ENTRY_FILTERS, by_properties};
use crate::managed_ledger::Retention;

/// What to do when a backlog is larger or older than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaAction {
    /// Producers are sent away; they come back by themselves and wait (`producer_request_hold`).
    HoldProducers,
    /// Producers are sent away with an error that their application sees (`producer_exception`).
    RefuseProducers,
    /// The oldest entries are acknowledged for whoever is behind (`consumer_backlog_eviction`).
    Evict,
}

/// How much of the storage the backlog may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageQuota {
    pub bytes: u64,
    pub action: QuotaAction,
}

/// How old the backlog may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgeQuota {
    pub age: Duration,
    pub action: QuotaAction,
}

/// `None` is 'not limited' where the broker has no setting of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPolicies {
    pub retention: Retention,
    /// An entry published longer ago is acknowledged for every subscription, and never delivered.
    pub message_ttl: Option<Duration>,
    pub storage_quota: Option<StorageQuota>,
    pub age_quota: Option<AgeQuota>,
    pub deduplication: bool,
    pub producers_max: Option<u32>,
    pub consumers_max: Option<u32>,
    pub consumers_per_subscription_max: Option<u32>,
    pub subscriptions_max: Option<u32>,
    /// Unset: the broker's limit. `u32::MAX`: none.
    pub unacked_per_consumer: Option<u32>,
    /// Unset: the broker's limit. `u32::MAX`: none.
    pub unacked_per_subscription: Option<u32>,
    /// Names of the subscription types that may be used; empty: all.
    pub subscription_types: Vec<String>,
    /// Delivery times that producers set are honoured.
    pub delayed_delivery: bool,
    /// A producer that does not encrypt is refused.
    pub encryption_required: bool,
    /// Which bookies new ledgers may lie on.
    pub isolation: Isolation,
    /// Bytes published since the last compaction at which the next one begins.
    pub compaction_threshold: Option<u64>,
    /// When messages that are given back again and again are put aside.
    pub dead_letters: DeadLetterPolicies,
    /// Subscriptions get only what their own properties ask for.
    pub filter_by_properties: bool,
}

impl Default for TopicPolicies {
    fn default() -> Self {
        TopicPolicies {
            retention: Retention::NONE,
            message_ttl: None,
            storage_quota: None,
            age_quota: None,
            deduplication: false,
            producers_max: None,
            consumers_max: None,
            consumers_per_subscription_max: None,
            subscriptions_max: None,
            unacked_per_consumer: None,
            unacked_per_subscription: None,
            subscription_types: Vec::new(),
            delayed_delivery: true,
            encryption_required: false,
            isolation: Isolation::default(),
            compaction_threshold: None,
            dead_letters: DeadLetterPolicies::default(),
            filter_by_properties: false,
        }
    }
}

impl TopicPolicies {
    /// Reads Pulsar's record of a namespace, and a topic's own of the same form, which wins policy by policy. Neither says
    /// anything of bookies.
    pub fn new(namespace: &Map<String, Value>, topic: &Map<String, Value>) -> Self {
        let find =
            |name: &str| topic.get(name).or_else(|| namespace.get(name)).filter(|value| !value.is_null());
        let count = |name: &str| find(name).and_then(Value::as_u64);
        let limit = |name: &str| count(name).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
        let flag = |name: &str| find(name).and_then(Value::as_bool);
        // 0 switches the limit off, which is not the same as leaving it unset.
        let unacked = |name: &str| match count(name)? {
            0 => Some(u32::MAX),
            n => Some(u32::try_from(n).unwrap_or(u32::MAX)),
        };
        let quota = |kind: &str| {
            let own = topic.get("backlog_quota_map").and_then(|quotas| quotas.get(kind));
            own.or_else(|| namespace.get("backlog_quota_map").and_then(|quotas| quotas.get(kind)))
        };
        let types = find("subscription_types_enabled").and_then(Value::as_array);
        TopicPolicies {
            retention: find("retention_policies").map_or(Retention::NONE, retention),
            message_ttl: count("message_ttl_in_seconds").filter(|n| *n > 0).map(Duration::from_secs),
            storage_quota: quota("destination_storage").and_then(storage_quota),
            age_quota: quota("message_age").and_then(age_quota),
            deduplication: flag("deduplicationEnabled").unwrap_or(false),
            producers_max: limit("max_producers_per_topic"),
            consumers_max: limit("max_consumers_per_topic"),
            consumers_per_subscription_max: limit("max_consumers_per_subscription"),
            subscriptions_max: limit("max_subscriptions_per_topic"),
            unacked_per_consumer: unacked("max_unacked_messages_per_consumer"),
            unacked_per_subscription: unacked("max_unacked_messages_per_subscription"),
            subscription_types: types
                .into_iter()
                .flatten()
                .filter_map(|name| Some(name.as_str()?.to_owned()))
                .collect(),
            delayed_delivery: find("delayed_delivery_policies")
                .and_then(|policy| policy.get("active")?.as_bool())
                .unwrap_or(true),
            encryption_required: flag("encryption_required").unwrap_or(false),
            isolation: Isolation::default(),
            compaction_threshold: count("compaction_threshold").filter(|bytes| *bytes > 0),
            dead_letters: DeadLetterPolicies::new(namespace, topic),
            filter_by_properties: find(ENTRY_FILTERS).is_some_and(by_properties),
        }
    }

    /// The age at which entries are acknowledged for whoever has not: they expire, or are evicted.
    pub fn expiry(&self) -> Option<Duration> {
        let evicted =
            self.age_quota.filter(|quota| quota.action == QuotaAction::Evict).map(|quota| quota.age);
        self.message_ttl.into_iter().chain(evicted).min()
    }

    /// The shortest time after which an entry of the backlog may ask for something to be done.
    pub fn shortest_age(&self) -> Option<Duration> {
        [self.message_ttl, self.age_quota.map(|quota| quota.age)].into_iter().flatten().min()
    }
}

/// Negative: for ever, however much.
fn retention(policy: &Value) -> Retention {
    let number = |name: &str| policy.get(name).and_then(Value::as_i64).unwrap_or(0);
    Retention {
        time: u64::try_from(number("retentionTimeInMinutes"))
            .ok()
            .map(|n| Duration::from_secs(n.saturating_mul(60))),
        size_bytes: u64::try_from(number("retentionSizeInMB")).ok().map(|n| n.saturating_mul(1 << 20)),
    }
}

fn action(quota: &Value) -> QuotaAction {
    match quota.get("policy").and_then(Value::as_str) {
        Some("producer_exception") => QuotaAction::RefuseProducers,
        Some("consumer_backlog_eviction") => QuotaAction::Evict,
        _ => QuotaAction::HoldProducers,
    }
}

/// Older tools write `limit`. Negative or 0: no limit.
fn storage_quota(quota: &Value) -> Option<StorageQuota> {
    let limit = quota.get("limitSize").or_else(|| quota.get("limit"))?.as_i64()?;
    let bytes = u64::try_from(limit).ok().filter(|bytes| *bytes > 0)?;
    Some(StorageQuota { bytes, action: action(quota) })
}

fn age_quota(quota: &Value) -> Option<AgeQuota> {
    let seconds = u64::try_from(quota.get("limitTime")?.as_i64()?).ok().filter(|seconds| *seconds > 0)?;
    Some(AgeQuota { age: Duration::from_secs(seconds), action: action(quota) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn nothing_set_is_the_default() {
        assert_eq!(TopicPolicies::new(&Map::new(), &Map::new()), TopicPolicies::default());
    }

    #[test]
    fn pulsars_record_is_understood_and_the_topics_own_policies_win() {
        let namespace = object(json!({
            "retention_policies": {"retentionTimeInMinutes": 10, "retentionSizeInMB": -1},
            "message_ttl_in_seconds": 30,
            "backlog_quota_map": {
                "destination_storage": {"limitSize": 1000, "limitTime": -1, "policy": "producer_exception"},
                "message_age": {"limitSize": -1, "limitTime": 60, "policy": "consumer_backlog_eviction"},
            },
            "max_producers_per_topic": 0,
            "max_unacked_messages_per_consumer": 0,
            "deduplicationEnabled": true,
        }));
        let topic = object(json!({
            "message_ttl_in_seconds": 5,
            "max_consumers_per_topic": 2,
            "backlog_quota_map": {"destination_storage": {"limit": 7, "policy": "producer_request_hold"}},
        }));
        let expected = TopicPolicies {
            retention: Retention { time: Some(Duration::from_secs(600)), size_bytes: None },
            message_ttl: Some(Duration::from_secs(5)),
            storage_quota: Some(StorageQuota { bytes: 7, action: QuotaAction::HoldProducers }),
            age_quota: Some(AgeQuota { age: Duration::from_secs(60), action: QuotaAction::Evict }),
            deduplication: true,
            consumers_max: Some(2),
            unacked_per_consumer: Some(u32::MAX),
            ..TopicPolicies::default()
        };
        assert_eq!(TopicPolicies::new(&namespace, &topic), expected);
        assert_eq!(expected.shortest_age(), Some(Duration::from_secs(5)));
        assert_eq!(expected.expiry(), Some(Duration::from_secs(5)));
    }
}
