//! Single entries, to look at: peeked from a backlog, read by position, found by time.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use magnetar_proto::ids::{EntryId, LedgerId, Position};
use magnetar_proto::pulsar::api::MessageMetadata;
use magnetar_proto::pulsar::entry;
use prost::Message;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{AdminError, AdminResult};
use super::extract::{InPath, Subscription, Topic};
use super::{Routes, Service, message_id, targets};
use crate::topic::PeekedEntry;
use crate::topic::timestamp::iso8601;

pub(super) fn routes() -> Routes {
    Router::new()
        .route("/{tenant}/{namespace}/{topic}/subscription/{subscription}/position/{n}", get(peek))
        .route("/{tenant}/{namespace}/{topic}/ledger/{ledger}/entry/{entry}", get(read))
        .route("/{tenant}/{namespace}/{topic}/messageid/{unix_ms}", get(find_by_time))
}

#[derive(Deserialize)]
struct PeekPath {
    n: u64,
}

#[derive(Deserialize)]
struct PositionPath {
    ledger: u64,
    entry: u64,
}

#[derive(Deserialize)]
struct TimePath {
    unix_ms: u64,
}

async fn peek(
    service: Service,
    Topic(topic): Topic,
    Subscription(subscription): Subscription,
    InPath(PeekPath { n }): InPath<PeekPath>,
) -> AdminResult<Response> {
    let found = targets::load(&service, &topic).await?.peek(&subscription, n).await?;
    let entry = found.ok_or_else(|| AdminError::not_found(format!("message {n} of the backlog")))?;
    answer(entry)
}

async fn read(
    service: Service,
    Topic(topic): Topic,
    InPath(PositionPath { ledger, entry }): InPath<PositionPath>,
) -> AdminResult<Response> {
    let position = Position { ledger_id: LedgerId(ledger), entry_id: EntryId(entry) };
    let found = targets::load(&service, &topic).await?.read(position).await?;
    answer(found.ok_or_else(|| AdminError::not_found(format!("entry {position}")))?)
}

async fn find_by_time(
    service: Service,
    Topic(topic): Topic,
    InPath(TimePath { unix_ms }): InPath<TimePath>,
) -> AdminResult<Json<Value>> {
    let found = targets::load(&service, &topic).await?.find_by_time(unix_ms).await?;
    Ok(Json(message_id::to_json(&topic, found)))
}

/// The payload as it is stored (a batch as a whole, compressed if the producer compressed it); what the metadata says
/// goes into headers.
fn answer(peeked: PeekedEntry) -> AdminResult<Response> {
    let parts = entry::split(&peeked.headers_and_payload).map_err(AdminError::internal)?;
    let metadata = MessageMetadata::decode(parts.metadata).map_err(AdminError::internal)?;
    let headers = headers(peeked.position, &metadata);
    Ok((headers, parts.payload).into_response())
}

fn headers(position: Position, metadata: &MessageMetadata) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    // What cannot be in a header (line breaks in a key, say) is left out.
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("x-pulsar-message-id", position.to_string());
    set("x-pulsar-producer-name", metadata.producer_name.clone());
    set("x-pulsar-sequence-id", metadata.sequence_id.to_string());
    set("x-pulsar-publish-time", iso8601(metadata.publish_time));
    if let Some(time) = metadata.event_time.filter(|time| *time > 0) {
        set("x-pulsar-event-time", iso8601(time));
    }
    if let Some(key) = &metadata.partition_key {
        set("x-pulsar-partition-key", key.clone());
        set("x-pulsar-partition-key-b64-encoded", metadata.partition_key_b64_encoded().to_string());
    }
    if let Some(count) = metadata.num_messages_in_batch {
        // Its presence tells that the payload is a batch.
        set("x-pulsar-num-batch-message", count.to_string());
        set("x-pulsar-batch-size", metadata.uncompressed_size().to_string());
    }
    set("x-pulsar-is-encrypted", (!metadata.encryption_keys.is_empty()).to_string());
    set("x-pulsar-null-value", metadata.null_value().to_string());
    if !metadata.properties.is_empty() {
        let pairs = metadata.properties.iter().map(|property| (&property.key, &property.value));
        set("x-pulsar-property", json!(pairs.collect::<BTreeMap<_, _>>()).to_string());
    }
    headers
}
