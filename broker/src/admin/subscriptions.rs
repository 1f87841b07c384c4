//! Subscriptions of a topic; on a partitioned topic every call acts on all partitions.

use super::Service;
use super::error::{AdminError, AdminResult};
use super::extract::{Force, SubscriptionPath, TopicPath, json, json_or_default};
use super::topics::existing;
use crate::service::BrokerService;
use crate::topic::{Handle, PeekedEntry, SeekTarget, StartPosition};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use magnetar_common::topic_name::TopicName;
use magnetar_proto::ids::{EntryId, LedgerId, Position};
use magnetar_proto::pulsar::{entry, message};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A ledger id of this size means "the end", whatever the entry id says.
const LATEST_LEDGER: i64 = i64::MAX;

pub(super) fn routes() -> Router<Arc<BrokerService>> {
    let topic = "/persistent/{tenant}/{namespace}/{topic}";
    let subscription = format!("{topic}/subscription/{{subscription}}");
    let below = |path: &str| format!("{subscription}/{path}");
    Router::new()
        .route(&format!("{topic}/subscriptions"), get(list))
        .route(&subscription, put(create).delete(remove))
        .route(&below("skip_all"), post(skip_all))
        .route(&below("skip/{count}"), post(skip))
        .route(&below("resetcursor"), post(reset_to_id))
        .route(&below("resetcursor/{time}"), post(reset_to_time))
        .route(&below("expireMessages/{time}"), post(expire))
        .route(&below("position/{number}"), get(peek))
}

/// The topic, or all partitions of it.
async fn handles(service: &BrokerService, topic: &TopicName) -> AdminResult<Vec<Handle>> {
    let Some(record) = service.store.partitions(topic).await? else {
        return Ok(vec![existing(service, topic).await?]);
    };
    let mut handles = Vec::new();
    for partition in 0..record.partitions {
        handles.push(service.topics.get_or_load(&topic.with_partition(partition), true).await?);
    }
    Ok(handles)
}

async fn list(State(service): Service, Path(path): Path<TopicPath>) -> AdminResult<Json<BTreeSet<String>>> {
    let mut names = BTreeSet::new();
    for handle in handles(&service, &path.name()?).await? {
        names.extend(handle.subscriptions().await?);
    }
    Ok(Json(names))
}

/// A message id as tools send it: an object, or `"latest"` and `"earliest"`.
#[derive(Deserialize)]
#[serde(untagged)]
enum MessageId {
    Named(String),
    #[serde(rename_all = "camelCase")]
    At {
        ledger_id: i64,
        entry_id: i64,
        #[serde(default)]
        is_excluded: bool,
        #[serde(default)]
        properties: Option<BTreeMap<String, String>>,
    },
}

impl Default for MessageId {
    fn default() -> Self {
        Self::Named("latest".into())
    }
}

impl MessageId {
    fn start(&self) -> AdminResult<StartPosition> {
        match self {
            Self::Named(name) if name == "latest" => Ok(StartPosition::Latest),
            Self::Named(name) if name == "earliest" => Ok(StartPosition::Earliest),
            Self::Named(name) => Err(AdminError::bad_request(format!("{name:?} is no message id"))),
            Self::At { ledger_id: LATEST_LEDGER, .. } => Ok(StartPosition::Latest),
            Self::At { ledger_id, entry_id, is_excluded, .. } => {
                let Some(ledger_id) = LedgerId::from_wire(*ledger_id) else {
                    return Ok(StartPosition::Earliest);
                };
                let entry_id = EntryId::from_wire(*entry_id).unwrap_or(EntryId::ZERO);
                let entry_id = if *is_excluded { entry_id.next() } else { entry_id };
                Ok(StartPosition::At { position: Position { ledger_id, entry_id }, ack_set: Vec::new() })
            }
        }
    }

    fn properties(&self) -> BTreeMap<String, String> {
        match self {
            Self::At { properties, .. } => properties.clone().unwrap_or_default(),
            Self::Named(_) => BTreeMap::new(),
        }
    }
}

async fn create(
    State(service): Service,
    Path(path): Path<SubscriptionPath>,
    body: Bytes,
) -> AdminResult<StatusCode> {
    let id: MessageId = json_or_default(&body)?;
    for handle in handles(&service, &path.topic()?).await? {
        handle.create_subscription(&path.subscription, id.start()?, id.properties()).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(
    State(service): Service,
    Path(path): Path<SubscriptionPath>,
    Query(query): Query<Force>,
) -> AdminResult<StatusCode> {
    for handle in handles(&service, &path.topic()?).await? {
        handle.delete_subscription(&path.subscription, query.force).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn skip_all(State(service): Service, Path(path): Path<SubscriptionPath>) -> AdminResult<StatusCode> {
    for handle in handles(&service, &path.topic()?).await? {
        handle.skip_all(&path.subscription).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct SkipPath {
    #[serde(flatten)]
    subscription: SubscriptionPath,
    count: String,
}

async fn skip(State(service): Service, Path(path): Path<SkipPath>) -> AdminResult<StatusCode> {
    let count = number(&path.count)?;
    let topic = path.subscription.topic()?;
    existing(&service, &topic).await?.skip(&path.subscription.subscription, count).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn number(text: &str) -> AdminResult<u64> {
    text.parse().map_err(|_| AdminError::precondition(format!("{text:?} is not a number")))
}

async fn reset_to_id(
    State(service): Service,
    Path(path): Path<SubscriptionPath>,
    body: Bytes,
) -> AdminResult<StatusCode> {
    let target = SeekTarget::Id(json::<MessageId>(&body)?.start()?);
    existing(&service, &path.topic()?).await?.reset_cursor(&path.subscription, target).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct TimePath {
    #[serde(flatten)]
    subscription: SubscriptionPath,
    time: String,
}

async fn reset_to_time(State(service): Service, Path(path): Path<TimePath>) -> AdminResult<StatusCode> {
    let time = number(&path.time)?;
    for handle in handles(&service, &path.subscription.topic()?).await? {
        handle.reset_cursor(&path.subscription.subscription, SeekTarget::PublishTime(time)).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn expire(State(service): Service, Path(path): Path<TimePath>) -> AdminResult<StatusCode> {
    let seconds = number(&path.time)?;
    for handle in handles(&service, &path.subscription.topic()?).await? {
        handle.expire(&path.subscription.subscription, seconds).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct PeekPath {
    #[serde(flatten)]
    subscription: SubscriptionPath,
    number: String,
}

async fn peek(State(service): Service, Path(path): Path<PeekPath>) -> AdminResult<Response> {
    let count = number(&path.number)?;
    let handle = existing(&service, &path.subscription.topic()?).await?;
    let found = handle.peek(&path.subscription.subscription, count).await?;
    let found = found.ok_or_else(|| AdminError::not_found(format_args!("message {count} of the backlog")))?;
    stored_message(&found)
}

/// The payload as stored, with what tools want to know of it in headers.
fn stored_message(found: &PeekedEntry) -> AdminResult<Response> {
    let damaged = |error: &dyn std::fmt::Display| {
        AdminError::precondition(format!("entry {}: {error}", found.position))
    };
    let parts = entry::split(&found.headers_and_payload).map_err(|error| damaged(&error))?;
    let summary = message::summarize(&parts.metadata).map_err(|error| damaged(&error))?;
    let mut response = parts.payload.into_response();
    let mut header = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    };
    header("x-pulsar-message-id", found.position.to_string());
    header("x-pulsar-publish-time", Value::from(summary.publish_time).to_string());
    header("x-pulsar-sequence-id", summary.sequence_id.to_string());
    if summary.is_batch {
        header("x-pulsar-num-batch-message", summary.num_messages.to_string());
    }
    Ok(response)
}
