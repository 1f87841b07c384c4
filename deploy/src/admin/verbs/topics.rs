//! `admin topics …`, but for the subscriptions.

use anyhow::Result;
use serde_json::Value;

use super::{NAMESPACE, TOPIC};
use crate::admin::call::Method::{Delete, Get, Post, Put};
use crate::admin::convert::number;
use crate::admin::verb::{Arg, Values, Verb, flag, option, word};

const PARTITIONS: Arg = option("partitions", Some('p'), "How many partitions").required();
const FORCE: Arg = flag("force", Some('f'), "Although clients are connected");
const SUBSCRIPTION: Arg =
    Arg { required: false, ..word("subscription", "Ask about it; without one, about publishing") };

fn partitions(values: &Values) -> Result<Option<Value>> {
    number(values.get("partitions")?).map(Some)
}

pub(super) const VERBS: &[Verb] = &[
    Verb::new("list", Get, "/admin/v2/persistent/{namespace}", &[NAMESPACE], "Topics of a namespace"),
    Verb::new(
        "list-partitioned-topics",
        Get,
        "/admin/v2/persistent/{namespace}/partitioned",
        &[NAMESPACE],
        "Partitioned topics of a namespace",
    ),
    Verb::new("create", Put, "/admin/v2/{topic}", &[TOPIC], "Create a topic without partitions"),
    Verb::new("delete", Delete, "/admin/v2/{topic}", &[TOPIC, FORCE], "Delete a topic without partitions")
        .query(&[("force", "force")]),
    Verb::new(
        "create-partitioned-topic",
        Put,
        "/admin/v2/{topic}/partitions",
        &[TOPIC, PARTITIONS],
        "Create a partitioned topic",
    )
    .body(partitions),
    Verb::new(
        "update-partitioned-topic",
        Post,
        "/admin/v2/{topic}/partitions",
        &[TOPIC, PARTITIONS],
        "Add partitions",
    )
    .body(partitions),
    Verb::new(
        "get-partitioned-topic-metadata",
        Get,
        "/admin/v2/{topic}/partitions",
        &[TOPIC],
        "How many partitions there are",
    ),
    Verb::new(
        "delete-partitioned-topic",
        Delete,
        "/admin/v2/{topic}/partitions",
        &[TOPIC, FORCE],
        "Delete a topic with its partitions",
    )
    .query(&[("force", "force")]),
    Verb::new("stats", Get, "/admin/v2/{topic}/stats", &[TOPIC], "Rates, clients and backlogs"),
    Verb::new("stats-internal", Get, "/admin/v2/{topic}/internalStats", &[TOPIC], "Ledgers and cursors"),
    Verb::new(
        "partitioned-stats",
        Get,
        "/admin/v2/{topic}/partitioned-stats",
        &[TOPIC],
        "Of all partitions together",
    ),
    Verb::new(
        "why",
        Get,
        "/admin/v2/{topic}/why",
        &[TOPIC, SUBSCRIPTION],
        "Why nothing is delivered to a subscription, or nothing published",
    )
    .or("subscription", "/admin/v2/{topic}/subscription/{subscription}/why"),
    Verb::new(
        "truncate",
        Delete,
        "/admin/v2/{topic}/truncate",
        &[TOPIC],
        "Drop all messages, whatever retention says",
    ),
    Verb::new(
        "compact",
        Put,
        "/admin/v2/{topic}/compaction",
        &[TOPIC],
        "Begin a compaction: of the messages of a key only the newest stays for those who read compacted",
    ),
    Verb::new(
        "compaction-status",
        Get,
        "/admin/v2/{topic}/compaction",
        &[TOPIC],
        "What became of the last compaction",
    ),
    Verb::new("get-properties", Get, "/admin/v2/{topic}/properties", &[TOPIC], "Properties of the topic"),
    Verb::new("terminate", Post, "/admin/v2/{topic}/terminate", &[TOPIC], "Take no more messages, for ever"),
    Verb::new(
        "unload",
        Put,
        "/admin/v2/{topic}/unload",
        &[TOPIC],
        "Close the topic; clients come back by themselves",
    ),
    Verb::new("last-message-id", Get, "/admin/v2/{topic}/lastMessageId", &[TOPIC], "The latest message"),
    Verb::new("lookup", Get, "/lookup/v2/topic/{topic}", &[TOPIC], "The broker that serves the topic"),
    Verb::new(
        "bundle-range",
        Get,
        "/lookup/v2/topic/{topic}/bundle",
        &[TOPIC],
        "The bundle that the topic is in",
    ),
    Verb::new("permissions", Get, "/admin/v2/{topic}/permissions", &[TOPIC], "Who may do what"),
];
