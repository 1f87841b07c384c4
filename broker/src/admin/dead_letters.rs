//! Dead letters: the policy of one subscription, the way back, and entries that other brokers send. Paths of our own.

use std::sync::Arc;

use axum::body::{Body as RawBody, to_bytes};
use axum::http::StatusCode;
use axum::response::{NoContent, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use magnetar_common::topic_name::TopicName;
use magnetar_proto::pulsar::entry;
use serde::Serialize;
use serde_json::{Map, Value};

use super::error::{AdminError, AdminResult};
use super::extract::{Body, Params, Subscription, Topic};
use super::policy_table::{object_at, or_nothing};
use super::{Routes, Service, targets};
use crate::policies::{DEAD_LETTER_POLICIES, DeadLetterPolicy};
use crate::service::BrokerService;
use crate::topic::{PeekedEntry, returned};

/// An entry is a message and what stands in front of it.
const METADATA_BYTES_MAX: usize = 1 << 20;

pub(super) fn routes() -> Routes {
    let of_subscription = Router::new()
        .route("/deadLetterPolicy", get(read).put(write).post(write).delete(remove))
        .route("/replayDeadLetters", post(replay));
    Router::new()
        .route("/{tenant}/{namespace}/{topic}/entry", put(store))
        .nest("/{tenant}/{namespace}/{topic}/subscription/{subscription}", of_subscription)
}

/// 204 while it has none of its own.
async fn read(
    service: Service,
    Topic(topic): Topic,
    Subscription(name): Subscription,
) -> AdminResult<Response> {
    let own = service.store.topic_policies(&topic).await?;
    let policy =
        own.and_then(|mut record| record.get_mut(DEAD_LETTER_POLICIES)?.as_object_mut()?.remove(&name));
    Ok(or_nothing(policy))
}

/// The subscription need not exist yet.
async fn write(
    service: Service,
    Topic(topic): Topic,
    Subscription(name): Subscription,
    body: Body,
) -> AdminResult<NoContent> {
    targets::policies(&service, topic.namespace()).await?;
    let policy: DeadLetterPolicy = body.json()?;
    let policy = serde_json::to_value(policy).map_err(AdminError::internal)?;
    let set = |record: &mut Map<String, Value>| {
        object_at(record, DEAD_LETTER_POLICIES).insert(name.clone(), policy.clone());
    };
    service.store.update_topic_policies(&topic, set).await?;
    Ok(NoContent)
}

async fn remove(
    service: Service,
    Topic(topic): Topic,
    Subscription(name): Subscription,
) -> AdminResult<NoContent> {
    let unset = |record: &mut Map<String, Value>| {
        if let Some(Value::Object(policies)) = record.get_mut(DEAD_LETTER_POLICIES) {
            policies.remove(&name);
            if policies.is_empty() {
                record.remove(DEAD_LETTER_POLICIES);
            }
        }
    };
    service.store.update_topic_policies(&topic, unset).await?;
    Ok(NoContent)
}

/// What [`replay`] did.
#[derive(Default, Serialize)]
struct Replayed {
    /// Entries stored in their topics again, durable there before they were acknowledged here.
    entries: u64,
    /// Entries that do not say where they belong; they stay.
    left: u64,
}

/// Moves what the subscription of a dead-letter topic has not acknowledged back to the topics it came from, where every
/// subscription gets it, as new messages. What arrives meanwhile is not moved. 412 with consumers connected: they would
/// get the same messages. It may be repeated after an error; an entry may then be twice in its topic.
async fn replay(
    service: Service,
    Topic(topic): Topic,
    Subscription(name): Subscription,
) -> AdminResult<Json<Replayed>> {
    let mut replayed = Replayed::default();
    for topic in targets::used(&service, &topic).await? {
        replay_topic(&service, &topic, &name, &mut replayed).await?;
    }
    Ok(Json(replayed))
}

async fn replay_topic(
    service: &Arc<BrokerService>,
    topic: &TopicName,
    subscription: &str,
    replayed: &mut Replayed,
) -> AdminResult<()> {
    let handle = targets::load(service, topic).await?;
    let stats = handle.stats().await?;
    let found = stats.subscriptions.get(subscription);
    let found = found.ok_or_else(|| AdminError::not_found(format!("subscription {subscription}")))?;
    if !found.consumers.is_empty() {
        let reason = format!("subscription {subscription} has consumers; close them first");
        return Err(AdminError::precondition(reason));
    }
    let Some(last) = handle.last_position().await? else { return Ok(()) };
    let mut left = 0;
    while let Some(entry) = handle.peek(subscription, left + 1).await? {
        if entry.position > last {
            break;
        }
        match send_back(service, &entry).await? {
            true => {
                handle.skip_ids(subscription, vec![entry.position]).await?;
                replayed.entries += 1;
            }
            false => left += 1,
        }
    }
    replayed.left += left;
    Ok(())
}

/// False: it does not say where it belongs.
async fn send_back(service: &Arc<BrokerService>, dead: &PeekedEntry) -> AdminResult<bool> {
    let now_ms = service.clock.unix_ms();
    let Ok(Some(back)) = returned(&dead.headers_and_payload, now_ms) else { return Ok(false) };
    for (topic, entry) in back {
        service.store_elsewhere(&topic, entry, None).await.map_err(|error| {
            let reason = format!("entry {} could not be stored in {topic}: {error}", dead.position);
            AdminError::new(StatusCode::SERVICE_UNAVAILABLE, reason)
        })?;
    }
    Ok(true)
}

/// Stores an entry (from 0x0e01 on) in a topic of this broker, for another broker. `subscription` is made first. A missing
/// topic is created.
async fn store(
    service: Service,
    Topic(topic): Topic,
    params: Params,
    body: RawBody,
) -> AdminResult<NoContent> {
    let bytes_max = service.config.max_message_bytes + METADATA_BYTES_MAX;
    let entry =
        to_bytes(body, bytes_max).await.map_err(|error| AdminError::bad_request(error.to_string()))?;
    entry::verify_checksum(&entry).map_err(|error| AdminError::bad_request(error.to_string()))?;
    let stored = service.store_here(&topic, entry, params.get("subscription")).await;
    stored.map_err(|error| AdminError::new(StatusCode::SERVICE_UNAVAILABLE, error))?;
    Ok(NoContent)
}
