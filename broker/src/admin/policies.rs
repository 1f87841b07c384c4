//! A namespace's policies one by one: each path is one property of the stored record.

use axum::response::{NoContent, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use magnetar_common::topic_name::NamespaceName;
use serde_json::{Map, Value, json};

use super::error::{AdminError, AdminResult};
use super::extract::{Body, InPath, Namespace, Params};
use super::policy_table::{BACKLOG_QUOTAS, Kind, Policy, PolicyPath, or_nothing, with_quota, without_quota};
use super::{Routes, Service, targets};
use crate::namespace::{Policies, StoreError};
use crate::policies::{DEAD_LETTER_POLICY, ENTRY_FILTERS};
use crate::service::BrokerService;

const POLICIES: &[Policy] = &[
    ("retention", "retention_policies", Kind::Object),
    ("messageTTL", "message_ttl_in_seconds", Kind::Count),
    ("replication", "replication_clusters", Kind::List),
    ("allowedClusters", "allowed_clusters", Kind::List),
    ("persistence", "persistence", Kind::Object),
    ("deduplication", "deduplicationEnabled", Kind::Flag),
    ("deduplicationSnapshotInterval", "deduplicationSnapshotIntervalSeconds", Kind::Count),
    ("autoTopicCreation", "autoTopicCreationOverride", Kind::Object),
    ("autoSubscriptionCreation", "autoSubscriptionCreationOverride", Kind::Object),
    ("schemaCompatibilityStrategy", "schema_compatibility_strategy", Kind::Text),
    ("schemaAutoUpdateCompatibilityStrategy", "schema_auto_update_compatibility_strategy", Kind::Text),
    ("isAllowAutoUpdateSchema", "is_allow_auto_update_schema", Kind::Flag),
    ("schemaValidationEnforced", "schema_validation_enforced", Kind::Flag),
    ("maxProducersPerTopic", "max_producers_per_topic", Kind::Count),
    ("maxConsumersPerTopic", "max_consumers_per_topic", Kind::Count),
    ("maxConsumersPerSubscription", "max_consumers_per_subscription", Kind::Count),
    ("maxUnackedMessagesPerConsumer", "max_unacked_messages_per_consumer", Kind::Count),
    ("maxUnackedMessagesPerSubscription", "max_unacked_messages_per_subscription", Kind::Count),
    ("maxSubscriptionsPerTopic", "max_subscriptions_per_topic", Kind::Count),
    ("maxTopicsPerNamespace", "max_topics_per_namespace", Kind::Count),
    ("compactionThreshold", "compaction_threshold", Kind::Count),
    ("inactiveTopicPolicies", "inactive_topic_policies", Kind::Object),
    ("delayedDelivery", "delayed_delivery_policies", Kind::Object),
    ("subscriptionExpirationTime", "subscription_expiration_time_minutes", Kind::Count),
    ("subscriptionTypesEnabled", "subscription_types_enabled", Kind::List),
    ("deadLetterPolicy", DEAD_LETTER_POLICY, Kind::DeadLetters),
    (ENTRY_FILTERS, ENTRY_FILTERS, Kind::EntryFilters),
    ("encryptionRequired", "encryption_required", Kind::Flag),
    ("subscriptionAuthMode", "subscription_auth_mode", Kind::Text),
    ("properties", "properties", Kind::Object),
];

pub(super) fn routes() -> Routes {
    Router::new()
        .route("/namespaces/{tenant}/{namespace}/backlogQuotaMap", get(backlog_quotas))
        .route(
            "/namespaces/{tenant}/{namespace}/backlogQuota",
            post(set_backlog_quota).delete(remove_backlog_quota),
        )
        .route("/namespaces/{tenant}/{namespace}/{policy}", get(read).post(write).put(write).delete(remove))
}

async fn read(
    service: Service,
    Namespace(name): Namespace,
    InPath(path): InPath<PolicyPath>,
) -> AdminResult<Response> {
    let (property, _) = path.find(POLICIES)?;
    Ok(or_nothing(property_of(&service, &name, property).await?))
}

async fn write(
    service: Service,
    Namespace(name): Namespace,
    InPath(path): InPath<PolicyPath>,
    body: Body,
) -> AdminResult<NoContent> {
    let (property, value) = path.checked(POLICIES, body.json()?)?;
    change(&service, &name, |record| {
        record.insert(property.to_owned(), value.clone());
    })
    .await
}

async fn remove(
    service: Service,
    Namespace(name): Namespace,
    InPath(path): InPath<PolicyPath>,
) -> AdminResult<NoContent> {
    let (property, _) = path.find(POLICIES)?;
    change(&service, &name, |record| {
        record.remove(property);
    })
    .await
}

async fn backlog_quotas(service: Service, Namespace(name): Namespace) -> AdminResult<Json<Value>> {
    Ok(Json(property_of(&service, &name, BACKLOG_QUOTAS).await?.unwrap_or_else(|| json!({}))))
}

async fn set_backlog_quota(
    service: Service,
    Namespace(name): Namespace,
    params: Params,
    body: Body,
) -> AdminResult<NoContent> {
    change(&service, &name, with_quota(&params, body.json()?)?).await
}

async fn remove_backlog_quota(
    service: Service,
    Namespace(name): Namespace,
    params: Params,
) -> AdminResult<NoContent> {
    change(&service, &name, without_quota(&params)?).await
}

/// One property of the record; `None` while it is unset.
pub(super) async fn property_of(
    service: &BrokerService,
    name: &NamespaceName,
    property: &str,
) -> AdminResult<Option<Value>> {
    let policies = targets::policies(service, name).await?;
    let mut record = serde_json::to_value(policies).map_err(AdminError::internal)?;
    Ok(record.get_mut(property).map(Value::take).filter(|value| !value.is_null()))
}

/// Changes the record as JSON. 412 if what results are no policies. Properties that become `null` are removed.
pub(super) async fn change(
    service: &BrokerService,
    name: &NamespaceName,
    mut edit: impl FnMut(&mut Map<String, Value>) + Send,
) -> AdminResult<NoContent> {
    let apply = |policies: &mut Policies| {
        let invalid =
            |error: serde_json::Error| StoreError::Invalid(format!("these are no policies: {error}"));
        let mut record = match serde_json::to_value(&*policies).map_err(invalid)? {
            Value::Object(record) => record,
            other => return Err(StoreError::Invalid(format!("policies are no JSON object: {other}"))),
        };
        edit(&mut record);
        record.retain(|_, value| !value.is_null());
        *policies = serde_json::from_value(Value::Object(record)).map_err(invalid)?;
        Ok(())
    };
    service.store.update_namespace(name, apply).await?;
    Ok(NoContent)
}
