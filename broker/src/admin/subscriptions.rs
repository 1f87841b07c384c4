//! Subscriptions. Of a partitioned topic, a call acts on all partitions.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::response::NoContent;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use magnetar_common::topic_name::TopicName;
use serde::Deserialize;

use super::change::{What, Which};
use super::error::AdminResult;
use super::extract::{Body, InPath, Params, Subscription, Topic};
use super::message_id::{MessageId, MessageIds};
use super::{Routes, Service, change, targets};
use crate::service::BrokerService;
use crate::topic::{SeekTarget, StartPosition, Why};

pub(super) fn routes() -> Routes {
    let of_subscription = Router::new()
        .route("/", put(create).delete(remove))
        .route("/skip_all", post(skip_all))
        .route("/skip/{count}", post(skip))
        .route("/skipByMessageIds", post(skip_ids))
        .route("/resetcursor", post(reset_to_message))
        .route("/resetcursor/{count}", post(reset_to_time))
        .route("/expireMessages/{count}", post(expire))
        .route("/why", get(why));
    Router::new()
        .route("/{tenant}/{namespace}/{topic}/subscriptions", get(list))
        .route("/{tenant}/{namespace}/{topic}/all_subscription/expireMessages/{count}", post(expire_all))
        .nest("/{tenant}/{namespace}/{topic}/subscription/{subscription}", of_subscription)
}

/// A number at the end of the path: messages, seconds or milliseconds since 1970.
#[derive(Deserialize)]
struct CountPath {
    count: u64,
}

async fn on_each(
    service: &Arc<BrokerService>,
    topic: &TopicName,
    which: Which,
    what: What,
) -> AdminResult<NoContent> {
    let topics = targets::of_topic(service, topic).await?;
    change::apply(service, topics, which, what).await?;
    Ok(NoContent)
}

async fn list(service: Service, Topic(topic): Topic) -> AdminResult<Json<BTreeSet<String>>> {
    let mut names = BTreeSet::new();
    for name in targets::of_topic(&service, &topic).await? {
        // A partition that was never used has none; asking it would create it.
        if name != topic && !service.store.topic_exists(&name).await? {
            continue;
        }
        names.extend(targets::load(&service, &name).await?.subscriptions().await?);
    }
    Ok(Json(names))
}

/// Without a body the subscription begins at the latest message.
async fn create(
    service: Service,
    Topic(topic): Topic,
    Subscription(name): Subscription,
    body: Body,
) -> AdminResult<NoContent> {
    let id = body.optional_json::<MessageId>()?;
    let start = id.as_ref().map_or(Ok(StartPosition::Latest), MessageId::start)?;
    let properties = id.map(MessageId::into_properties).unwrap_or_default();
    on_each(&service, &topic, Which::Named(name), What::Create { start, properties }).await
}

/// Why nothing is delivered. 405 for a partitioned topic: ask about a partition.
async fn why(
    service: Service,
    Topic(topic): Topic,
    Subscription(name): Subscription,
) -> AdminResult<Json<Why>> {
    Ok(Json(targets::load(&service, &topic).await?.why(Some(&name)).await?))
}

async fn remove(
    service: Service,
    Topic(topic): Topic,
    Subscription(name): Subscription,
    params: Params,
) -> AdminResult<NoContent> {
    let force = params.flag("force");
    on_each(&service, &topic, Which::Named(name), What::Delete { force }).await
}

async fn skip_all(
    service: Service,
    Topic(topic): Topic,
    Subscription(name): Subscription,
) -> AdminResult<NoContent> {
    on_each(&service, &topic, Which::Named(name), What::SkipAll).await
}

/// 405 for a partitioned topic: of which partition?
async fn skip(
    service: Service,
    Topic(topic): Topic,
    Subscription(name): Subscription,
    InPath(CountPath { count }): InPath<CountPath>,
) -> AdminResult<NoContent> {
    targets::load(&service, &topic).await?.skip(&name, count).await?;
    Ok(NoContent)
}

/// 405 for a partitioned topic: a message is in one partition.
async fn skip_ids(
    service: Service,
    Topic(topic): Topic,
    Subscription(name): Subscription,
    body: Body,
) -> AdminResult<NoContent> {
    let ids = body.json::<MessageIds>()?.positions()?;
    targets::load(&service, &topic).await?.skip_ids(&name, ids).await?;
    Ok(NoContent)
}

async fn reset_to_time(
    service: Service,
    Topic(topic): Topic,
    Subscription(name): Subscription,
    InPath(CountPath { count: unix_ms }): InPath<CountPath>,
) -> AdminResult<NoContent> {
    let target = SeekTarget::PublishTime(unix_ms);
    on_each(&service, &topic, Which::Named(name), What::Reset(target)).await
}

/// 405 for a partitioned topic: a message is in one partition.
async fn reset_to_message(
    service: Service,
    Topic(topic): Topic,
    Subscription(name): Subscription,
    body: Body,
) -> AdminResult<NoContent> {
    let target = SeekTarget::Id(body.json::<MessageId>()?.start()?);
    targets::load(&service, &topic).await?.reset_cursor(&name, target).await?;
    Ok(NoContent)
}

async fn expire(
    service: Service,
    Topic(topic): Topic,
    Subscription(name): Subscription,
    InPath(CountPath { count: age_seconds }): InPath<CountPath>,
) -> AdminResult<NoContent> {
    on_each(&service, &topic, Which::Named(name), What::Expire { age_seconds }).await
}

async fn expire_all(
    service: Service,
    Topic(topic): Topic,
    InPath(CountPath { count: age_seconds }): InPath<CountPath>,
) -> AdminResult<NoContent> {
    on_each(&service, &topic, Which::All, What::Expire { age_seconds }).await
}
