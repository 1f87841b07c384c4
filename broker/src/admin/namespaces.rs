//! Namespaces: their policies, topics and bundles.

use super::Service;
use super::error::{AdminError, AdminResult};
use super::extract::{Force, NamespacePath, json, json_or_default};
use crate::namespace::Policies;
use crate::service::BrokerService;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Json, Router};
use magnetar_common::bundles::Bundles;
use magnetar_common::topic_name::{NamespaceName, TopicName};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

/// Policies that are kept for tools as Pulsar keeps them: path, and the property of the namespace's record.
const KEPT_POLICIES: [(&str, &str); 4] = [
    ("retention", "retention_policies"),
    ("messageTTL", "message_ttl_in_seconds"),
    ("persistence", "persistence"),
    ("deduplication", "deduplicationEnabled"),
];

pub(super) fn routes() -> Router<Arc<BrokerService>> {
    Router::new()
        .route("/namespaces/{tenant}", get(list))
        .route("/namespaces/{tenant}/{namespace}", get(show).put(create).delete(remove))
        .route("/namespaces/{tenant}/{namespace}/topics", get(topics))
        .route("/namespaces/{tenant}/{namespace}/bundles", get(bundles))
        .route("/namespaces/{tenant}/{namespace}/unload", put(unload))
        .route("/namespaces/{tenant}/{namespace}/replication", get(clusters).post(set_clusters))
        .route("/namespaces/{tenant}/{namespace}/permissions", get(|| async { Json(serde_json::json!({})) }))
        .route(
            "/namespaces/{tenant}/{namespace}/{policy}",
            get(policy).post(set_policy).delete(remove_policy),
        )
}

async fn list(State(service): Service, Path(tenant): Path<String>) -> AdminResult<Json<Vec<String>>> {
    let names = service.store.namespaces(&tenant).await?;
    Ok(Json(names.iter().map(NamespaceName::to_string).collect()))
}

async fn policies(service: &BrokerService, name: &NamespaceName) -> AdminResult<Policies> {
    let found = service.store.namespace(name).await?;
    found.ok_or_else(|| AdminError::not_found(format_args!("namespace {name}")))
}

async fn show(State(service): Service, Path(path): Path<NamespacePath>) -> AdminResult<Json<Policies>> {
    Ok(Json(policies(&service, &path.name()?).await?))
}

/// What may be said at creation. `bundles` may lack its boundaries.
#[derive(Default, Deserialize)]
struct Creation {
    bundles: Option<BundlesWanted>,
    #[serde(default)]
    replication_clusters: Vec<String>,
    #[serde(flatten)]
    others: std::collections::BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BundlesWanted {
    #[serde(default)]
    num_bundles: u32,
}

async fn create(
    State(service): Service,
    Path(path): Path<NamespacePath>,
    body: Bytes,
) -> AdminResult<StatusCode> {
    let wanted: Creation = json_or_default(&body)?;
    let count = wanted.bundles.map(|bundles| bundles.num_bundles).filter(|count| *count > 0);
    let mut clusters = wanted.replication_clusters;
    if clusters.is_empty() {
        clusters.push(service.config.cluster.clone());
    }
    let policies = Policies {
        replication_clusters: clusters,
        bundles: Bundles::even(count.unwrap_or(service.config.default_bundles)),
        others: wanted.others,
        ..Policies::default()
    };
    service.store.create_namespace(&path.name()?, &policies).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(
    State(service): Service,
    Path(path): Path<NamespacePath>,
    Query(query): Query<Force>,
) -> AdminResult<StatusCode> {
    let name = path.name()?;
    if query.force {
        policies(&service, &name).await?;
        for topic in service.store.partitioned_topics(&name).await? {
            service.topics.delete_partitioned(&topic, true).await?;
        }
        for topic in service.store.topics(&name).await? {
            service.topics.delete(&topic, true).await?;
        }
    }
    service.store.delete_namespace(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn topics(State(service): Service, Path(path): Path<NamespacePath>) -> AdminResult<Json<Vec<String>>> {
    let name = path.name()?;
    policies(&service, &name).await?;
    let topics = service.store.topics(&name).await?;
    Ok(Json(topics.iter().map(TopicName::to_string).collect()))
}

async fn bundles(State(service): Service, Path(path): Path<NamespacePath>) -> AdminResult<Json<Bundles>> {
    Ok(Json(policies(&service, &path.name()?).await?.bundles))
}

async fn unload(State(service): Service, Path(path): Path<NamespacePath>) -> AdminResult<StatusCode> {
    let name = path.name()?;
    policies(&service, &name).await?;
    for topic in service.store.topics(&name).await? {
        service.topics.unload(&topic).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn clusters(
    State(service): Service,
    Path(path): Path<NamespacePath>,
) -> AdminResult<Json<Vec<String>>> {
    Ok(Json(policies(&service, &path.name()?).await?.replication_clusters))
}

async fn set_clusters(
    State(service): Service,
    Path(path): Path<NamespacePath>,
    body: Bytes,
) -> AdminResult<StatusCode> {
    let clusters: Vec<String> = json(&body)?;
    let change = |policies: &mut Policies| {
        policies.replication_clusters.clone_from(&clusters);
        Ok(())
    };
    service.store.update_namespace(&path.name()?, change).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `/{tenant}/{namespace}/{policy}`.
#[derive(Deserialize)]
struct PolicyPath {
    #[serde(flatten)]
    namespace: NamespacePath,
    policy: String,
}

impl PolicyPath {
    fn property(&self) -> AdminResult<&'static str> {
        let known = KEPT_POLICIES.iter().find(|(path, _)| *path == self.policy);
        known
            .map(|(_, property)| *property)
            .ok_or_else(|| AdminError::not_found(format_args!("policy {}", self.policy)))
    }
}

async fn policy(State(service): Service, Path(path): Path<PolicyPath>) -> AdminResult<Json<Value>> {
    let property = path.property()?;
    let policies = policies(&service, &path.namespace.name()?).await?;
    Ok(Json(policies.others.get(property).cloned().unwrap_or(Value::Null)))
}

async fn set_policy(
    State(service): Service,
    Path(path): Path<PolicyPath>,
    body: Bytes,
) -> AdminResult<StatusCode> {
    let (property, value) = (path.property()?, json::<Value>(&body)?);
    let change = |policies: &mut Policies| {
        policies.others.insert(property.to_owned(), value.clone());
        Ok(())
    };
    service.store.update_namespace(&path.namespace.name()?, change).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove_policy(State(service): Service, Path(path): Path<PolicyPath>) -> AdminResult<StatusCode> {
    let property = path.property()?;
    let change = |policies: &mut Policies| {
        policies.others.remove(property);
        Ok(())
    };
    service.store.update_namespace(&path.namespace.name()?, change).await?;
    Ok(StatusCode::NO_CONTENT)
}
