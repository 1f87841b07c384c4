//! The policies that one topic has in front of its namespace's.

use axum::response::{NoContent, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Map, Value, json};

use super::error::AdminResult;
use super::extract::{Body, InPath, Params, Topic};
use super::policies::property_of;
use super::policy_table::{BACKLOG_QUOTAS, Kind, Policy, PolicyPath, or_nothing, with_quota, without_quota};
use super::{Routes, Service, targets};
use crate::policies::{DEAD_LETTER_POLICY, ENTRY_FILTERS};

/// The properties are those of a namespace's record.
const POLICIES: &[Policy] = &[
    ("retention", "retention_policies", Kind::Object),
    ("messageTTL", "message_ttl_in_seconds", Kind::Count),
    ("deduplicationEnabled", "deduplicationEnabled", Kind::Flag),
    ("maxProducers", "max_producers_per_topic", Kind::Count),
    ("maxConsumers", "max_consumers_per_topic", Kind::Count),
    ("maxConsumersPerSubscription", "max_consumers_per_subscription", Kind::Count),
    ("maxSubscriptionsPerTopic", "max_subscriptions_per_topic", Kind::Count),
    ("maxUnackedMessagesOnConsumer", "max_unacked_messages_per_consumer", Kind::Count),
    ("maxUnackedMessagesOnSubscription", "max_unacked_messages_per_subscription", Kind::Count),
    ("subscriptionTypesEnabled", "subscription_types_enabled", Kind::List),
    ("delayedDelivery", "delayed_delivery_policies", Kind::Object),
    ("compactionThreshold", "compaction_threshold", Kind::Count),
    ("deadLetterPolicy", DEAD_LETTER_POLICY, Kind::DeadLetters),
    (ENTRY_FILTERS, ENTRY_FILTERS, Kind::EntryFilters),
    ("schemaCompatibilityStrategy", "schema_compatibility_strategy", Kind::Text),
    ("schemaValidationEnforced", "schema_validation_enforced", Kind::Flag),
];

pub(super) fn routes() -> Routes {
    Router::new()
        .route("/{tenant}/{namespace}/{topic}/backlogQuotaMap", get(backlog_quotas))
        .route(
            "/{tenant}/{namespace}/{topic}/backlogQuota",
            post(set_backlog_quota).delete(remove_backlog_quota),
        )
        .route("/{tenant}/{namespace}/{topic}/{policy}", get(read).post(write).put(write).delete(remove))
}

/// `applied=true` asks for what holds, whether it was set for the topic or for its namespace.
async fn read(
    service: Service,
    Topic(topic): Topic,
    InPath(path): InPath<PolicyPath>,
    params: Params,
) -> AdminResult<Response> {
    let (property, _) = path.find(POLICIES)?;
    let own = service.store.topic_policies(&topic).await?.and_then(|mut record| record.remove(property));
    let value = match own {
        None if params.flag("applied") => property_of(&service, topic.namespace(), property).await?,
        own => own,
    };
    Ok(or_nothing(value))
}

/// Numbers and flags come in the body or, from some tools, in the query under the policy's name.
async fn write(
    service: Service,
    Topic(topic): Topic,
    InPath(path): InPath<PolicyPath>,
    params: Params,
    body: Body,
) -> AdminResult<NoContent> {
    targets::policies(&service, topic.namespace()).await?;
    let value: Value = match params.get(&path.policy) {
        Some(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
        None => body.json()?,
    };
    let (property, value) = path.checked(POLICIES, value)?;
    let set = |record: &mut Map<String, Value>| {
        record.insert(property.to_owned(), value.clone());
    };
    service.store.update_topic_policies(&topic, set).await?;
    Ok(NoContent)
}

async fn remove(
    service: Service,
    Topic(topic): Topic,
    InPath(path): InPath<PolicyPath>,
) -> AdminResult<NoContent> {
    let (property, _) = path.find(POLICIES)?;
    let unset = |record: &mut Map<String, Value>| {
        record.remove(property);
    };
    service.store.update_topic_policies(&topic, unset).await?;
    Ok(NoContent)
}

async fn backlog_quotas(service: Service, Topic(topic): Topic) -> AdminResult<Json<Value>> {
    let own = service.store.topic_policies(&topic).await?;
    Ok(Json(own.and_then(|mut record| record.remove(BACKLOG_QUOTAS)).unwrap_or_else(|| json!({}))))
}

async fn set_backlog_quota(
    service: Service,
    Topic(topic): Topic,
    params: Params,
    body: Body,
) -> AdminResult<NoContent> {
    targets::policies(&service, topic.namespace()).await?;
    service.store.update_topic_policies(&topic, with_quota(&params, body.json()?)?).await?;
    Ok(NoContent)
}

async fn remove_backlog_quota(
    service: Service,
    Topic(topic): Topic,
    params: Params,
) -> AdminResult<NoContent> {
    service.store.update_topic_policies(&topic, without_quota(&params)?).await?;
    Ok(NoContent)
}
