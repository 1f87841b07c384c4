//! One topic: created, deleted, looked at, unloaded, terminated.

use axum::response::NoContent;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use magnetar_common::topic_name::Domain;
use serde_json::Value;

use super::error::{AdminError, AdminResult};
use super::extract::{Namespace, Params, Topic};
use super::{Routes, Service, message_id, targets};
use crate::topic::{InternalStats, TopicStats};

pub(super) fn routes() -> Routes {
    Router::new()
        .route("/{tenant}/{namespace}", get(list))
        .route("/{tenant}/{namespace}/{topic}", put(create).delete(remove))
        .route("/{tenant}/{namespace}/{topic}/stats", get(stats))
        .route("/{tenant}/{namespace}/{topic}/internalStats", get(internal_stats))
        .route("/{tenant}/{namespace}/{topic}/internal-info", get(internal_stats))
        .route("/{tenant}/{namespace}/{topic}/lastMessageId", get(last_message_id))
        .route("/{tenant}/{namespace}/{topic}/unload", put(unload))
        .route("/{tenant}/{namespace}/{topic}/terminate", post(terminate))
}

async fn list(
    service: Service,
    domain: axum::Extension<Domain>,
    Namespace(name): Namespace,
    params: Params,
) -> AdminResult<Json<Vec<String>>> {
    targets::policies(&service, &name).await?;
    if domain.0 == Domain::NonPersistent {
        return Ok(Json(Vec::new()));
    }
    let topics = targets::names(&service, &name, params.flag("includeSystemTopic")).await?;
    Ok(Json(topics.iter().map(ToString::to_string).collect()))
}

/// What the body may carry (properties) has no place in the topic yet, and is ignored.
async fn create(service: Service, Topic(topic): Topic) -> AdminResult<NoContent> {
    if service.store.partitions(&topic).await?.is_some() {
        return Err(AdminError::conflict(format!("partitioned topic {topic} exists already")));
    }
    service.topics.create(&topic).await?;
    Ok(NoContent)
}

async fn remove(service: Service, Topic(topic): Topic, params: Params) -> AdminResult<NoContent> {
    if service.store.partitions(&topic).await?.is_some() {
        return Err(AdminError::precondition(format!(
            "topic {topic} is partitioned; delete it by its …/partitions path"
        )));
    }
    service.topics.delete(&topic, params.flag("force")).await?;
    Ok(NoContent)
}

async fn stats(service: Service, Topic(topic): Topic, params: Params) -> AdminResult<Json<TopicStats>> {
    let mut stats = targets::load(&service, &topic).await?.stats().await?;
    if params.flag("excludePublishers") {
        stats.publishers.clear();
    }
    if params.flag("excludeConsumers") {
        for subscription in stats.subscriptions.values_mut() {
            subscription.consumers.clear();
        }
    }
    Ok(Json(stats))
}

async fn internal_stats(service: Service, Topic(topic): Topic) -> AdminResult<Json<InternalStats>> {
    Ok(Json(targets::load(&service, &topic).await?.internal_stats().await?))
}

async fn last_message_id(service: Service, Topic(topic): Topic) -> AdminResult<Json<Value>> {
    let last = targets::load(&service, &topic).await?.last_position().await?;
    Ok(Json(message_id::to_json(&topic, last)))
}

/// A topic that exists but is not in memory is as good as unloaded.
async fn unload(service: Service, Topic(topic): Topic) -> AdminResult<NoContent> {
    let topics = targets::of_topic(&service, &topic).await?;
    let plain = topics.first() == Some(&topic);
    if plain && !service.store.topic_exists(&topic).await? {
        return Err(AdminError::not_found(format!("topic {topic}")));
    }
    targets::unload(&service, topics).await?;
    Ok(NoContent)
}

async fn terminate(service: Service, Topic(topic): Topic) -> AdminResult<Json<Value>> {
    let last = targets::load(&service, &topic).await?.terminate().await?;
    Ok(Json(message_id::to_json(&topic, last)))
}
