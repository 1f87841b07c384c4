//! `admin topics …` about subscriptions.

use anyhow::Result;
use serde_json::{Value, json};

use super::TOPIC;
use crate::admin::call::Method::{Delete, Get, Post, Put};
use crate::admin::convert::message_id;
use crate::admin::verb::{Arg, Values, Verb, flag, option};

const SUBSCRIPTION: Arg = option("subscription", Some('s'), "Name of the subscription").required();

fn position(values: &Values) -> Result<Option<Value>> {
    values.find("messageId").map(message_id).transpose()
}

fn positions(values: &Values) -> Result<Option<Value>> {
    let ids: Vec<Value> = values.all("messageId").into_iter().map(message_id).collect::<Result<_>>()?;
    Ok(Some(json!({"type": "messageId", "messageIds": ids})))
}

pub(super) const VERBS: &[Verb] = &[
    Verb::new(
        "subscriptions",
        Get,
        "/admin/v2/{topic}/subscriptions",
        &[TOPIC],
        "Names of the subscriptions",
    ),
    Verb::new(
        "create-subscription",
        Put,
        "/admin/v2/{topic}/subscription/{subscription}",
        &[
            TOPIC,
            SUBSCRIPTION,
            option("messageId", Some('m'), "Where it begins: ledger:entry, earliest or latest (default)"),
        ],
        "Create a subscription",
    )
    .body(position),
    Verb::new(
        "unsubscribe",
        Delete,
        "/admin/v2/{topic}/subscription/{subscription}",
        &[TOPIC, SUBSCRIPTION, flag("force", Some('f'), "Although consumers are connected")],
        "Delete a subscription",
    )
    .query(&[("force", "force")]),
    Verb::new(
        "clear-backlog",
        Post,
        "/admin/v2/{topic}/subscription/{subscription}/skip_all",
        &[TOPIC, SUBSCRIPTION],
        "Skip all messages",
    ),
    Verb::new(
        "skip",
        Post,
        "/admin/v2/{topic}/subscription/{subscription}/skip/{count}",
        &[TOPIC, SUBSCRIPTION, option("count", Some('n'), "How many").required()],
        "Skip messages",
    ),
    Verb::new(
        "skip-by-id",
        Post,
        "/admin/v2/{topic}/subscription/{subscription}/skipByMessageIds",
        &[
            TOPIC,
            SUBSCRIPTION,
            option("messageId", Some('m'), "Which: ledger:entry, more than once or with commas")
                .required()
                .many(),
        ],
        "Skip single messages, such as delayed ones that are not wanted any more",
    )
    .body(positions),
    Verb::new(
        "reset-cursor",
        Post,
        "/admin/v2/{topic}/subscription/{subscription}/resetcursor/{time:ago}",
        &[
            TOPIC,
            SUBSCRIPTION,
            option("time", Some('t'), "To messages published since so long ago, e.g. 2h"),
            option("messageId", Some('m'), "To a message: ledger:entry, earliest or latest"),
            option(
                "now",
                None,
                "Milliseconds since 1970 that --time counts back from, instead of the clock's",
            ),
        ],
        "Move a subscription back or forth",
    )
    .or("messageId", "/admin/v2/{topic}/subscription/{subscription}/resetcursor")
    .body(position),
    Verb::new(
        "expire-messages",
        Post,
        "/admin/v2/{topic}/subscription/{subscription}/expireMessages/{expireTime:seconds}",
        &[
            TOPIC,
            SUBSCRIPTION,
            option("expireTime", Some('t'), "Messages older than this, e.g. 1h").required(),
        ],
        "Skip messages by their age",
    ),
    Verb::new(
        "peek-messages",
        Get,
        "/admin/v2/{topic}/subscription/{subscription}/position/{position}",
        &[
            TOPIC,
            SUBSCRIPTION,
            option("position", Some('n'), "Which message of the backlog, from 1").required(),
        ],
        "The stored bytes of one message of the backlog",
    ),
];
