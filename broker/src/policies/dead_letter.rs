//! After how many redeliveries a message is put aside, and where.

use std::collections::BTreeMap;

use magnetar_common::topic_name::TopicName;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Property of the records: the policy of all subscriptions.
pub const DEAD_LETTER_POLICY: &str = "magnetar_dead_letter_policy";

/// Property of a topic's record: single subscriptions' policies by their names.
pub const DEAD_LETTER_POLICIES: &str = "magnetar_subscription_dead_letter_policies";

/// What clients call their dead-letter topics ends like this.
const SUFFIX: &str = "-DLQ";

/// Named as in Pulsar's `DeadLetterPolicy`, which is a client's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeadLetterPolicy {
    /// A message is delivered once and so many times again; given back once more it is put aside.
    pub max_redeliver_count: u32,
    /// Default: `{topic}-{subscription}-DLQ`, the topic without its partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter_topic: Option<TopicText>,
}

/// Text that is a topic's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicText(TopicName);

impl TryFrom<String> for TopicText {
    type Error = magnetar_common::topic_name::InvalidName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Ok(TopicText(text.parse()?))
    }
}

impl From<TopicText> for String {
    fn from(TopicText(name): TopicText) -> Self {
        name.to_string()
    }
}

/// The policies of a topic's subscriptions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterPolicies {
    of_all: Option<DeadLetterPolicy>,
    of_subscriptions: BTreeMap<String, DeadLetterPolicy>,
}

impl DeadLetterPolicies {
    /// The topic's own record wins. What is no policy was not stored by the admin API, and is none.
    pub fn new(namespace: &Map<String, Value>, topic: &Map<String, Value>) -> Self {
        let parse = |value: &Value| serde_json::from_value(value.clone()).ok();
        let of_all = topic.get(DEAD_LETTER_POLICY).or_else(|| namespace.get(DEAD_LETTER_POLICY));
        let single = topic.get(DEAD_LETTER_POLICIES).and_then(Value::as_object);
        DeadLetterPolicies {
            of_all: of_all.and_then(parse),
            of_subscriptions: single
                .into_iter()
                .flatten()
                .filter_map(|(name, value)| Some((name.clone(), parse(value)?)))
                .collect(),
        }
    }

    /// How often a message of the subscription may be redelivered, and where it goes then. `None`: there is no limit. A
    /// dead-letter topic has no further one, unless it is named.
    pub fn of(&self, topic: &str, subscription: &str) -> Option<(u32, TopicName)> {
        let policy = self.of_subscriptions.get(subscription).or(self.of_all.as_ref())?;
        let topic: TopicName = topic.parse().ok()?;
        let base = topic.without_partition();
        let target = match &policy.dead_letter_topic {
            Some(TopicText(target)) => target.clone(),
            None if base.local().ends_with(SUFFIX) => return None,
            None => format!("{base}-{subscription}{SUFFIX}").parse().ok()?,
        };
        (target.without_partition() != base).then_some((policy.max_redeliver_count, target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TOPIC: &str = "persistent://public/default/t";

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    fn of(namespace: Value, topic: Value, name: &str) -> Option<(u32, String)> {
        let policies = DeadLetterPolicies::new(&object(namespace), &object(topic));
        policies.of(name, "s").map(|(max, target)| (max, target.to_string()))
    }

    #[test]
    fn a_subscriptions_policy_wins_over_its_topics_and_that_over_the_namespaces() {
        let policy = |max: u32| json!({ "maxRedeliverCount": max });
        let namespace = json!({ DEAD_LETTER_POLICY: policy(1) });
        let default = Some(format!("{TOPIC}-s-DLQ"));
        let max = |topic: Value| of(namespace.clone(), topic, TOPIC);
        assert_eq!(max(json!({})), Some(1).zip(default.clone()));
        assert_eq!(max(json!({ DEAD_LETTER_POLICY: policy(2) })), Some(2).zip(default.clone()));
        let own = json!({ DEAD_LETTER_POLICY: policy(2), DEAD_LETTER_POLICIES: { "s": policy(3) } });
        assert_eq!(max(own), Some(3).zip(default));
        assert_eq!(of(json!({}), json!({}), TOPIC), None);
    }

    #[test]
    fn all_partitions_share_a_dead_letter_topic_and_dead_letters_stay_where_they_are() {
        let namespace = json!({ DEAD_LETTER_POLICY: { "maxRedeliverCount": 0 } });
        let target = of(namespace.clone(), json!({}), &format!("{TOPIC}-partition-3"));
        assert_eq!(target, Some((0, format!("{TOPIC}-s-DLQ"))));
        assert_eq!(of(namespace, json!({}), &format!("{TOPIC}-s-DLQ")), None);
        let itself = json!({ DEAD_LETTER_POLICY: { "maxRedeliverCount": 0, "deadLetterTopic": "t" } });
        assert_eq!(of(itself, json!({}), TOPIC), None);
    }

    #[test]
    fn what_is_no_policy_is_told_apart() {
        let parse = |value: Value| serde_json::from_value::<DeadLetterPolicy>(value).is_ok();
        assert!(parse(json!({ "maxRedeliverCount": 3, "deadLetterTopic": "public/default/d" })));
        assert!(!parse(json!({ "maxRedeliverCount": -1 })));
        assert!(!parse(json!({ "maxRedeliverCount": 3, "deadLetterTopic": "a/b" })));
        assert!(!parse(json!({ "maxRedelivery": 3 })));
    }
}
