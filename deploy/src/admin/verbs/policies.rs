//! `admin namespaces get-… / set-… / remove-…`: the policies of a namespace.

use anyhow::Result;
use serde_json::{Value, json};

use super::NAMESPACE;
use crate::admin::call::Method::{Delete, Get, Post};
use crate::admin::convert::{bytes, number, seconds};
use crate::admin::verb::{Arg, Values, Verb, flag, option};

const MEBIBYTE: i64 = 1 << 20;

fn retention(values: &Values) -> Result<Option<Value>> {
    let (size, time) = (bytes(values.get("size")?)?, seconds(values.get("time")?)?);
    // Less than a unit is one: 0 would mean to keep nothing.
    let in_units = |value: i64, unit: i64| if value > 0 { (value + unit - 1) / unit } else { value };
    Ok(Some(json!({
        "retentionSizeInMB": in_units(size, MEBIBYTE),
        "retentionTimeInMinutes": in_units(time, 60),
    })))
}

fn time_to_live(values: &Values) -> Result<Option<Value>> {
    Ok(Some(json!(seconds(values.get("messageTTL")?)?)))
}

fn backlog_quota(values: &Values) -> Result<Option<Value>> {
    let size = values.find("limit").map_or(Ok(-1), bytes)?;
    let time = values.find("limitTime").map_or(Ok(-1), seconds)?;
    Ok(Some(json!({"limitSize": size, "limitTime": time, "policy": values.get("policy")?})))
}

fn persistence(values: &Values) -> Result<Option<Value>> {
    Ok(Some(json!({
        "bookkeeperEnsemble": values.count("bookkeeper-ensemble")?,
        "bookkeeperWriteQuorum": values.count("bookkeeper-write-quorum")?,
        "bookkeeperAckQuorum": values.count("bookkeeper-ack-quorum")?,
        "managedLedgerMaxMarkDeleteRate": 0,
    })))
}

fn enabled(values: &Values) -> Result<Option<Value>> {
    Ok(Some(json!(values.find("enable").is_some())))
}

fn strategy(values: &Values) -> Result<Option<Value>> {
    Ok(Some(json!(values.get("compatibility")?.to_uppercase())))
}

fn threshold(values: &Values) -> Result<Option<Value>> {
    Ok(Some(json!(bytes(values.get("threshold")?)?)))
}

fn max(values: &Values) -> Result<Option<Value>> {
    number(values.get("max")?).map(Some)
}

const ENABLE: Arg = flag("enable", Some('e'), "Switch on; without it, off");
const QUOTA_TYPE: Arg = option("type", Some('t'), "destination_storage (default) or message_age");
const MAX: Arg = option("max", Some('c'), "How many; 0 is without limit").required();

const BACK: &str = "Back to the broker's default";

pub(super) const VERBS: &[Verb] = &[
    Verb::new(
        "set-retention",
        Post,
        "/admin/v2/namespaces/{namespace}/retention",
        &[
            NAMESPACE,
            option("size", Some('s'), "How much to keep of what is acknowledged, e.g. 10G; -1 without limit")
                .required(),
            option("time", Some('t'), "For how long, e.g. 3h, 7d; -1 for ever").required(),
        ],
        "Set how long acknowledged messages are kept",
    )
    .body(retention),
    Verb::new(
        "get-retention",
        Get,
        "/admin/v2/namespaces/{namespace}/retention",
        &[NAMESPACE],
        "How long acknowledged messages are kept",
    ),
    Verb::new("remove-retention", Delete, "/admin/v2/namespaces/{namespace}/retention", &[NAMESPACE], BACK),
    Verb::new(
        "set-message-ttl",
        Post,
        "/admin/v2/namespaces/{namespace}/messageTTL",
        &[
            NAMESPACE,
            option("messageTTL", None, "Age at which a message counts as acknowledged, e.g. 1h; 0 never")
                .required(),
        ],
        "Set the age at which messages expire",
    )
    .body(time_to_live),
    Verb::new(
        "get-message-ttl",
        Get,
        "/admin/v2/namespaces/{namespace}/messageTTL",
        &[NAMESPACE],
        "The age at which messages expire",
    ),
    Verb::new(
        "remove-message-ttl",
        Delete,
        "/admin/v2/namespaces/{namespace}/messageTTL",
        &[NAMESPACE],
        BACK,
    ),
    Verb::new(
        "set-backlog-quota",
        Post,
        "/admin/v2/namespaces/{namespace}/backlogQuota",
        &[
            NAMESPACE,
            option("limit", Some('l'), "How much may be waiting to be acknowledged, e.g. 10G"),
            option("limitTime", None, "How old the oldest of it may be, e.g. 1d"),
            option(
                "policy",
                Some('p'),
                "producer_request_hold, producer_exception or consumer_backlog_eviction",
            )
            .required(),
            QUOTA_TYPE,
        ],
        "Limit the backlog",
    )
    .query(&[("type", "backlogQuotaType")])
    .body(backlog_quota),
    Verb::new(
        "get-backlog-quotas",
        Get,
        "/admin/v2/namespaces/{namespace}/backlogQuotaMap",
        &[NAMESPACE],
        "Limits of the backlog",
    ),
    Verb::new(
        "remove-backlog-quota",
        Delete,
        "/admin/v2/namespaces/{namespace}/backlogQuota",
        &[NAMESPACE, QUOTA_TYPE],
        BACK,
    )
    .query(&[("type", "backlogQuotaType")]),
    Verb::new(
        "set-persistence",
        Post,
        "/admin/v2/namespaces/{namespace}/persistence",
        &[
            NAMESPACE,
            option("bookkeeper-ensemble", Some('e'), "Bookies that a ledger is spread over").required(),
            option("bookkeeper-write-quorum", Some('w'), "Copies of an entry").required(),
            option("bookkeeper-ack-quorum", Some('a'), "Copies that are waited for").required(),
        ],
        "Set how many bookies keep an entry (stored only; brokers go by their flags)",
    )
    .body(persistence),
    Verb::new(
        "get-persistence",
        Get,
        "/admin/v2/namespaces/{namespace}/persistence",
        &[NAMESPACE],
        "How many bookies keep an entry",
    ),
    Verb::new(
        "remove-persistence",
        Delete,
        "/admin/v2/namespaces/{namespace}/persistence",
        &[NAMESPACE],
        BACK,
    ),
    Verb::new(
        "set-deduplication",
        Post,
        "/admin/v2/namespaces/{namespace}/deduplication",
        &[NAMESPACE, ENABLE],
        "Set whether messages sent twice are dropped",
    )
    .body(enabled),
    Verb::new(
        "get-deduplication",
        Get,
        "/admin/v2/namespaces/{namespace}/deduplication",
        &[NAMESPACE],
        "Whether messages sent twice are dropped",
    ),
    Verb::new(
        "remove-deduplication",
        Delete,
        "/admin/v2/namespaces/{namespace}/deduplication",
        &[NAMESPACE],
        BACK,
    ),
    Verb::new(
        "set-schema-compatibility-strategy",
        Post,
        "/admin/v2/namespaces/{namespace}/schemaCompatibilityStrategy",
        &[
            NAMESPACE,
            option(
                "compatibility",
                Some('c'),
                "FULL, BACKWARD, FORWARD, BACKWARD_TRANSITIVE, …, ALWAYS_COMPATIBLE",
            )
            .required(),
        ],
        "Set which new schemas are let in",
    )
    .body(strategy),
    Verb::new(
        "get-schema-compatibility-strategy",
        Get,
        "/admin/v2/namespaces/{namespace}/schemaCompatibilityStrategy",
        &[NAMESPACE],
        "Which new schemas are let in",
    ),
    Verb::new(
        "remove-schema-compatibility-strategy",
        Delete,
        "/admin/v2/namespaces/{namespace}/schemaCompatibilityStrategy",
        &[NAMESPACE],
        BACK,
    ),
    Verb::new(
        "set-compaction-threshold",
        Post,
        "/admin/v2/namespaces/{namespace}/compactionThreshold",
        &[
            NAMESPACE,
            option(
                "threshold",
                Some('t'),
                "Size of what is not compacted at which compaction begins, e.g. 100M; 0 never",
            )
            .required(),
        ],
        "Set when topics are compacted",
    )
    .body(threshold),
    Verb::new(
        "get-compaction-threshold",
        Get,
        "/admin/v2/namespaces/{namespace}/compactionThreshold",
        &[NAMESPACE],
        "When topics are compacted",
    ),
    Verb::new(
        "remove-compaction-threshold",
        Delete,
        "/admin/v2/namespaces/{namespace}/compactionThreshold",
        &[NAMESPACE],
        BACK,
    ),
    Verb::new(
        "set-max-producers-per-topic",
        Post,
        "/admin/v2/namespaces/{namespace}/maxProducersPerTopic",
        &[NAMESPACE, MAX],
        "Set the most producers of a topic",
    )
    .body(max),
    Verb::new(
        "get-max-producers-per-topic",
        Get,
        "/admin/v2/namespaces/{namespace}/maxProducersPerTopic",
        &[NAMESPACE],
        "The most producers of a topic",
    ),
    Verb::new(
        "remove-max-producers-per-topic",
        Delete,
        "/admin/v2/namespaces/{namespace}/maxProducersPerTopic",
        &[NAMESPACE],
        BACK,
    ),
    Verb::new(
        "set-max-consumers-per-topic",
        Post,
        "/admin/v2/namespaces/{namespace}/maxConsumersPerTopic",
        &[NAMESPACE, MAX],
        "Set the most consumers of a topic",
    )
    .body(max),
    Verb::new(
        "get-max-consumers-per-topic",
        Get,
        "/admin/v2/namespaces/{namespace}/maxConsumersPerTopic",
        &[NAMESPACE],
        "The most consumers of a topic",
    ),
    Verb::new(
        "remove-max-consumers-per-topic",
        Delete,
        "/admin/v2/namespaces/{namespace}/maxConsumersPerTopic",
        &[NAMESPACE],
        BACK,
    ),
    Verb::new(
        "set-max-consumers-per-subscription",
        Post,
        "/admin/v2/namespaces/{namespace}/maxConsumersPerSubscription",
        &[NAMESPACE, MAX],
        "Set the most consumers of a subscription",
    )
    .body(max),
    Verb::new(
        "get-max-consumers-per-subscription",
        Get,
        "/admin/v2/namespaces/{namespace}/maxConsumersPerSubscription",
        &[NAMESPACE],
        "The most consumers of a subscription",
    ),
    Verb::new(
        "remove-max-consumers-per-subscription",
        Delete,
        "/admin/v2/namespaces/{namespace}/maxConsumersPerSubscription",
        &[NAMESPACE],
        BACK,
    ),
    Verb::new(
        "set-max-unacked-messages-per-consumer",
        Post,
        "/admin/v2/namespaces/{namespace}/maxUnackedMessagesPerConsumer",
        &[NAMESPACE, MAX],
        "Set the most unacknowledged messages of a consumer",
    )
    .body(max),
    Verb::new(
        "get-max-unacked-messages-per-consumer",
        Get,
        "/admin/v2/namespaces/{namespace}/maxUnackedMessagesPerConsumer",
        &[NAMESPACE],
        "The most unacknowledged messages of a consumer",
    ),
    Verb::new(
        "remove-max-unacked-messages-per-consumer",
        Delete,
        "/admin/v2/namespaces/{namespace}/maxUnackedMessagesPerConsumer",
        &[NAMESPACE],
        BACK,
    ),
    Verb::new(
        "set-max-unacked-messages-per-subscription",
        Post,
        "/admin/v2/namespaces/{namespace}/maxUnackedMessagesPerSubscription",
        &[NAMESPACE, MAX],
        "Set the most unacknowledged messages of a subscription",
    )
    .body(max),
    Verb::new(
        "get-max-unacked-messages-per-subscription",
        Get,
        "/admin/v2/namespaces/{namespace}/maxUnackedMessagesPerSubscription",
        &[NAMESPACE],
        "The most unacknowledged messages of a subscription",
    ),
    Verb::new(
        "remove-max-unacked-messages-per-subscription",
        Delete,
        "/admin/v2/namespaces/{namespace}/maxUnackedMessagesPerSubscription",
        &[NAMESPACE],
        BACK,
    ),
    Verb::new(
        "set-max-subscriptions-per-topic",
        Post,
        "/admin/v2/namespaces/{namespace}/maxSubscriptionsPerTopic",
        &[NAMESPACE, MAX],
        "Set the most subscriptions of a topic",
    )
    .body(max),
    Verb::new(
        "get-max-subscriptions-per-topic",
        Get,
        "/admin/v2/namespaces/{namespace}/maxSubscriptionsPerTopic",
        &[NAMESPACE],
        "The most subscriptions of a topic",
    ),
    Verb::new(
        "remove-max-subscriptions-per-topic",
        Delete,
        "/admin/v2/namespaces/{namespace}/maxSubscriptionsPerTopic",
        &[NAMESPACE],
        BACK,
    ),
    Verb::new(
        "set-max-topics-per-namespace",
        Post,
        "/admin/v2/namespaces/{namespace}/maxTopicsPerNamespace",
        &[NAMESPACE, MAX],
        "Set the most topics of the namespace (stored only)",
    )
    .body(max),
    Verb::new(
        "get-max-topics-per-namespace",
        Get,
        "/admin/v2/namespaces/{namespace}/maxTopicsPerNamespace",
        &[NAMESPACE],
        "The most topics of the namespace",
    ),
    Verb::new(
        "remove-max-topics-per-namespace",
        Delete,
        "/admin/v2/namespaces/{namespace}/maxTopicsPerNamespace",
        &[NAMESPACE],
        BACK,
    ),
];
