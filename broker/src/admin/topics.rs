//! One topic: created, deleted, looked at, unloaded, terminated.

use std::collections::BTreeMap;

use axum::response::NoContent;
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use magnetar_common::topic_name::Domain;
use serde_json::Value;

use super::error::{AdminError, AdminResult};
use super::extract::{Body, Namespace, Params, Topic};
use super::{Routes, Service, message_id, targets};
use crate::namespace::LoadError;
use crate::topic::{CompactionStatus, InternalStats, TopicStats, Why};

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
        .route("/{tenant}/{namespace}/{topic}/why", get(why))
        .route("/{tenant}/{namespace}/{topic}/truncate", delete(truncate))
        .route("/{tenant}/{namespace}/{topic}/compaction", get(compaction_status).put(compact))
        .route(
            "/{tenant}/{namespace}/{topic}/properties",
            get(properties).put(set_properties).delete(remove_property),
        )
}

async fn list(
    service: Service,
    domain: axum::Extension<Domain>,
    Namespace(name): Namespace,
    params: Params,
) -> AdminResult<Json<Vec<String>>> {
    targets::policies(&service, &name).await?;
    if domain.0 == Domain::NonPersistent {
        return Ok(Json(targets::non_persistent(&service, &name)));
    }
    let topics = targets::names(&service, &name, params.flag("includeSystemTopic")).await?;
    Ok(Json(topics.iter().map(ToString::to_string).collect()))
}

/// The body may carry the topic's properties.
async fn create(service: Service, Topic(topic): Topic, body: Body) -> AdminResult<NoContent> {
    if service.store.partitions(&topic).await?.is_some() {
        return Err(AdminError::conflict(format!("partitioned topic {topic} exists already")));
    }
    let properties = body.optional_json::<BTreeMap<String, String>>()?.unwrap_or_default();
    let handle = service.topics.create(&topic).await?;
    if !properties.is_empty() {
        handle.change_properties(changes(properties)).await?;
    }
    Ok(NoContent)
}

fn changes(properties: BTreeMap<String, String>) -> Vec<(String, Option<String>)> {
    properties.into_iter().map(|(key, value)| (key, Some(value))).collect()
}

async fn properties(service: Service, Topic(topic): Topic) -> AdminResult<Json<BTreeMap<String, String>>> {
    Ok(Json(targets::load(&service, &topic).await?.properties().await?))
}

async fn set_properties(service: Service, Topic(topic): Topic, body: Body) -> AdminResult<NoContent> {
    let properties = body.json::<BTreeMap<String, String>>()?;
    targets::load(&service, &topic).await?.change_properties(changes(properties)).await?;
    Ok(NoContent)
}

async fn remove_property(service: Service, Topic(topic): Topic, params: Params) -> AdminResult<NoContent> {
    let key = params.get("key").ok_or_else(|| AdminError::precondition("name the property: …?key=NAME"))?;
    targets::load(&service, &topic).await?.change_properties(vec![(key.to_owned(), None)]).await?;
    Ok(NoContent)
}

/// Why nothing is published.
async fn why(service: Service, Topic(topic): Topic) -> AdminResult<Json<Why>> {
    Ok(Json(targets::load(&service, &topic).await?.why(None).await?))
}

async fn truncate(service: Service, Topic(topic): Topic) -> AdminResult<NoContent> {
    for name in targets::used(&service, &topic).await? {
        targets::load(&service, &name).await?.truncate().await?;
    }
    Ok(NoContent)
}

/// Begins a compaction, of each partition of a partitioned topic. 409 while one is under way.
async fn compact(service: Service, Topic(topic): Topic) -> AdminResult<NoContent> {
    for name in targets::used(&service, &topic).await? {
        targets::load(&service, &name).await?.compact().await?;
    }
    Ok(NoContent)
}

/// Of a partitioned topic, what is most worth knowing of its partitions.
async fn compaction_status(service: Service, Topic(topic): Topic) -> AdminResult<Json<CompactionStatus>> {
    let mut most = CompactionStatus::default();
    for name in targets::used(&service, &topic).await? {
        let status = targets::load(&service, &name).await?.compaction_status().await?;
        if status.status > most.status {
            most = status;
        }
    }
    Ok(Json(most))
}

async fn remove(service: Service, Topic(topic): Topic, params: Params) -> AdminResult<NoContent> {
    if service.store.partitions(&topic).await?.is_some() {
        return Err(AdminError::precondition(format!(
            "topic {topic} is partitioned; delete it by its …/partitions path"
        )));
    }
    let deleted = service.topics.delete(&topic, params.flag("force")).await;
    // Also by a second try, after one that came no further. The next topic of that name must not have them.
    if topic.partition().is_none() && matches!(deleted, Ok(()) | Err(LoadError::NotFound(_))) {
        service.store.delete_topic_policies(&topic).await?;
    }
    Ok(deleted.map(|()| NoContent)?)
}

async fn stats(service: Service, Topic(topic): Topic, params: Params) -> AdminResult<Json<TopicStats>> {
    let mut stats = targets::load(&service, &topic).await?.measured_stats().await?;
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
