//! `admin namespaces …` and `admin topics …` about dead letters: verbs of our own.

use anyhow::Result;
use serde_json::{Value, json};

use super::{NAMESPACE, TOPIC};
use crate::admin::call::Method::{Delete, Get, Post};
use crate::admin::verb::{Arg, Values, Verb, option};

const MAX: Arg =
    option("max-redeliver-count", Some('c'), "How often a message is delivered again before it is put aside")
        .required();
const TARGET: Arg =
    option("dead-letter-topic", Some('d'), "Where it goes; default is {topic}-{subscription}-DLQ");
const ONE: Arg = option("subscription", Some('s'), "Only for this subscription");
const SUBSCRIPTION: Arg = option("subscription", Some('s'), "Name of the subscription").required();

const OF_NAMESPACE: &str = "/admin/v2/namespaces/{namespace}/deadLetterPolicy";
const OF_TOPIC: &str = "/admin/v2/{topic}/deadLetterPolicy";
const OF_SUBSCRIPTION: &str = "/admin/v2/{topic}/subscription/{subscription}/deadLetterPolicy";

fn policy(values: &Values) -> Result<Option<Value>> {
    let mut policy = json!({ "maxRedeliverCount": values.count("max-redeliver-count")? });
    if let Some(target) = values.find("dead-letter-topic") {
        policy["deadLetterTopic"] = json!(target);
    }
    Ok(Some(policy))
}

const SET: &str = "Let the broker put messages aside that are given back too often";
const SHOW: &str = "When messages are put aside, and where";
const REMOVE: &str = "Deliver messages as often as they are given back";

pub(super) const OF_NAMESPACES: &[Verb] = &[
    Verb::new("set-dead-letter-policy", Post, OF_NAMESPACE, &[NAMESPACE, MAX, TARGET], SET).body(policy),
    Verb::new("get-dead-letter-policy", Get, OF_NAMESPACE, &[NAMESPACE], SHOW),
    Verb::new("remove-dead-letter-policy", Delete, OF_NAMESPACE, &[NAMESPACE], REMOVE),
];

pub(super) const OF_TOPICS: &[Verb] = &[
    Verb::new("set-dead-letter-policy", Post, OF_TOPIC, &[TOPIC, ONE, MAX, TARGET], SET)
        .or("subscription", OF_SUBSCRIPTION)
        .body(policy),
    Verb::new("get-dead-letter-policy", Get, OF_TOPIC, &[TOPIC, ONE], SHOW)
        .or("subscription", OF_SUBSCRIPTION),
    Verb::new("remove-dead-letter-policy", Delete, OF_TOPIC, &[TOPIC, ONE], REMOVE)
        .or("subscription", OF_SUBSCRIPTION),
    Verb::new(
        "replay-dead-letters",
        Post,
        "/admin/v2/{topic}/subscription/{subscription}/replayDeadLetters",
        &[TOPIC, SUBSCRIPTION],
        "Move what a subscription of a dead-letter topic holds back to where it came from",
    ),
];
