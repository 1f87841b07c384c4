//! Topics: listing, creation, deletion, statistics.

use super::Service;
use super::error::{AdminError, AdminResult};
use super::extract::{Force, NamespacePath, TopicPath};
use crate::namespace::LoadError;
use crate::service::BrokerService;
use crate::topic::{Handle, InternalStats, TopicStats};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use magnetar_common::topic_name::TopicName;
use magnetar_proto::ids::Position;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<BrokerService>> {
    let topic = "/persistent/{tenant}/{namespace}/{topic}";
    let below = |path: &str| format!("{topic}/{path}");
    Router::new()
        .route("/persistent/{tenant}/{namespace}", get(list))
        .route(topic, put(create).delete(remove))
        .route(&below("stats"), get(stats))
        .route(&below("internalStats"), get(internal_stats))
        .route(&below("internal-info"), get(internal_stats))
        .route(&below("lastMessageId"), get(last_message_id))
        .route(&below("unload"), put(unload))
        .route(&below("terminate"), post(terminate))
        .route(&below("permissions"), get(|| async { Json(json!({})) }))
}

/// An existing topic, loaded if necessary; a partitioned topic itself is none.
pub(super) async fn existing(service: &BrokerService, topic: &TopicName) -> AdminResult<Handle> {
    match service.topics.get_or_load(topic, false).await {
        Err(LoadError::Partitioned(_)) => Err(AdminError::precondition(format!(
            "{topic} is partitioned; ask for partitioned-stats, or for one of its partitions"
        ))),
        other => Ok(other?),
    }
}

/// A message id as the REST API writes it; -1:-1 stands for none.
pub(super) fn message_id(position: Option<Position>, topic: &TopicName) -> Value {
    let (ledger, entry) = position.map_or((-1, -1), |at| (at.ledger_id.to_wire(), at.entry_id.to_wire()));
    let partition = topic.partition().map_or(-1, i64::from);
    json!({ "ledgerId": ledger, "entryId": entry, "partitionIndex": partition })
}

async fn list(State(service): Service, Path(path): Path<NamespacePath>) -> AdminResult<Json<Vec<String>>> {
    let name = path.name()?;
    if service.store.namespace(&name).await?.is_none() {
        return Err(AdminError::not_found(format_args!("namespace {name}")));
    }
    let topics = service.store.topics(&name).await?;
    Ok(Json(topics.iter().map(TopicName::to_string).collect()))
}

async fn create(State(service): Service, Path(path): Path<TopicPath>) -> AdminResult<StatusCode> {
    service.topics.create(&path.name()?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(
    State(service): Service,
    Path(path): Path<TopicPath>,
    Query(query): Query<Force>,
) -> AdminResult<StatusCode> {
    service.topics.delete(&path.name()?, query.force).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn stats(State(service): Service, Path(path): Path<TopicPath>) -> AdminResult<Json<TopicStats>> {
    Ok(Json(existing(&service, &path.name()?).await?.stats().await?))
}

async fn internal_stats(
    State(service): Service,
    Path(path): Path<TopicPath>,
) -> AdminResult<Json<InternalStats>> {
    Ok(Json(existing(&service, &path.name()?).await?.internal_stats().await?))
}

async fn last_message_id(State(service): Service, Path(path): Path<TopicPath>) -> AdminResult<Json<Value>> {
    let topic = path.name()?;
    let last = existing(&service, &topic).await?.last_position().await?;
    Ok(Json(message_id(last, &topic)))
}

async fn unload(State(service): Service, Path(path): Path<TopicPath>) -> AdminResult<StatusCode> {
    let topic = path.name()?;
    if let Some(partitions) = service.store.partitions(&topic).await? {
        for partition in 0..partitions.partitions {
            service.topics.unload(&topic.with_partition(partition)).await?;
        }
        return Ok(StatusCode::NO_CONTENT);
    }
    if !service.store.topic_exists(&topic).await? {
        return Err(AdminError::not_found(format_args!("topic {topic}")));
    }
    service.topics.unload(&topic).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn terminate(State(service): Service, Path(path): Path<TopicPath>) -> AdminResult<Json<Value>> {
    let topic = path.name()?;
    let last = existing(&service, &topic).await?.terminate().await?;
    Ok(Json(message_id(last, &topic)))
}
