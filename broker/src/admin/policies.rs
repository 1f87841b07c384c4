//! A namespace's policies one by one: each path is one property of the stored record.

use axum::response::{IntoResponse, NoContent, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use magnetar_common::topic_name::NamespaceName;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::{AdminError, AdminResult};
use super::extract::{Body, InPath, Namespace, Params};
use super::{Routes, Service, targets};
use crate::namespace::{Policies, StoreError};
use crate::policies::{DEAD_LETTER_POLICY, DeadLetterPolicy, ENTRY_FILTERS, are_entry_filters};
use crate::service::BrokerService;

pub(super) const BACKLOG_QUOTAS: &str = "backlog_quota_map";

/// Path, property of the record, and what may be in it. Checked before it is stored, because Pulsar's tools read the
/// record back into typed classes.
const POLICIES: &[(&str, &str, Kind)] = &[
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

#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A whole number that is not negative.
    Count,
    Flag,
    Text,
    List,
    Object,
    /// A [`DeadLetterPolicy`].
    DeadLetters,
    /// Names of the filters that a broker has.
    EntryFilters,
}

impl Kind {
    pub(super) fn fits(self, value: &Value) -> bool {
        match self {
            Kind::Count => value.is_u64(),
            Kind::Flag => value.is_boolean(),
            Kind::Text => value.is_string(),
            Kind::List => value.is_array(),
            Kind::Object => value.is_object(),
            Kind::DeadLetters => DeadLetterPolicy::deserialize(value).is_ok(),
            Kind::EntryFilters => are_entry_filters(value),
        }
    }

    pub(super) fn called(self) -> &'static str {
        match self {
            Kind::Count => "a whole number from 0",
            Kind::Flag => "true or false",
            Kind::Text => "a JSON string",
            Kind::List => "a JSON array",
            Kind::Object => "a JSON object",
            Kind::EntryFilters => r#"{"entryFilterNames": "properties"}: the only filter there is"#,
            Kind::DeadLetters => {
                r#"{"maxRedeliverCount": 3}, with "deadLetterTopic" if it is not to be {topic}-{subscription}-DLQ"#
            }
        }
    }
}

pub(super) fn routes() -> Routes {
    Router::new()
        .route("/namespaces/{tenant}/{namespace}/backlogQuotaMap", get(backlog_quotas))
        .route(
            "/namespaces/{tenant}/{namespace}/backlogQuota",
            post(set_backlog_quota).delete(remove_backlog_quota),
        )
        .route("/namespaces/{tenant}/{namespace}/{policy}", get(read).post(write).put(write).delete(remove))
}

#[derive(Deserialize)]
struct PolicyPath {
    policy: String,
}

impl PolicyPath {
    fn find(&self) -> AdminResult<(&'static str, Kind)> {
        let found = POLICIES.iter().find(|(path, ..)| *path == self.policy);
        let (_, property, kind) =
            found.ok_or_else(|| AdminError::not_found(format!("a policy called {}", self.policy)))?;
        Ok((property, *kind))
    }
}

async fn read(
    service: Service,
    Namespace(name): Namespace,
    InPath(path): InPath<PolicyPath>,
) -> AdminResult<Response> {
    let (property, _) = path.find()?;
    Ok(match property_of(&service, &name, property).await? {
        Some(value) => Json(value).into_response(),
        None => NoContent.into_response(),
    })
}

async fn write(
    service: Service,
    Namespace(name): Namespace,
    InPath(path): InPath<PolicyPath>,
    body: Body,
) -> AdminResult<NoContent> {
    let (property, kind) = path.find()?;
    let value: Value = body.json()?;
    if !value.is_null() && !kind.fits(&value) {
        return Err(AdminError::precondition(format!("{} is set to {}", path.policy, kind.called())));
    }
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
    let (property, _) = path.find()?;
    change(&service, &name, |record| {
        record.remove(property);
    })
    .await
}

async fn backlog_quotas(service: Service, Namespace(name): Namespace) -> AdminResult<Json<Value>> {
    let quotas = property_of(&service, &name, BACKLOG_QUOTAS).await?;
    Ok(Json(quotas.unwrap_or_else(|| json!({}))))
}

pub(super) fn quota_type(params: &Params) -> AdminResult<&str> {
    match params.get("backlogQuotaType") {
        None => Ok("destination_storage"),
        Some(kind @ ("destination_storage" | "message_age")) => Ok(kind),
        Some(other) => Err(AdminError::precondition(format!(
            "{other} is no backlog quota type; use destination_storage or message_age"
        ))),
    }
}

async fn set_backlog_quota(
    service: Service,
    Namespace(name): Namespace,
    params: Params,
    body: Body,
) -> AdminResult<NoContent> {
    let kind = quota_type(&params)?;
    let quota: Map<String, Value> = body.json()?;
    change(&service, &name, |record| {
        object_at(record, BACKLOG_QUOTAS).insert(kind.to_owned(), Value::Object(quota.clone()));
    })
    .await
}

async fn remove_backlog_quota(
    service: Service,
    Namespace(name): Namespace,
    params: Params,
) -> AdminResult<NoContent> {
    let kind = quota_type(&params)?;
    change(&service, &name, |record| {
        if let Some(Value::Object(quotas)) = record.get_mut(BACKLOG_QUOTAS) {
            quotas.remove(kind);
        }
    })
    .await
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

/// The object below a property; made anew if there is none.
pub(super) fn object_at<'a>(
    record: &'a mut Map<String, Value>,
    property: &str,
) -> &'a mut Map<String, Value> {
    let value = record.entry(property).or_insert(Value::Null);
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("made an object just above")
}
