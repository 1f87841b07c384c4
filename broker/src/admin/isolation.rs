//! `/clusters/{cluster}/namespaceIsolationPolicies`: which brokers may serve which namespaces.

use axum::response::NoContent;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;

use super::error::{AdminError, AdminResult};
use super::extract::{Body, InPath};
use super::{Routes, Service};
use crate::balance::{Isolation, IsolationPolicies, IsolationPolicy};

pub(super) fn routes() -> Routes {
    Router::new().route("/clusters/{cluster}/namespaceIsolationPolicies", get(list)).route(
        "/clusters/{cluster}/namespaceIsolationPolicies/{policy}",
        get(read).post(write).delete(remove),
    )
}

#[derive(Deserialize)]
struct ClusterPath {
    cluster: String,
}

#[derive(Deserialize)]
struct PolicyPath {
    cluster: String,
    policy: String,
}

async fn list(
    service: Service,
    InPath(ClusterPath { cluster }): InPath<ClusterPath>,
) -> AdminResult<Json<IsolationPolicies>> {
    Ok(Json(service.store.isolation(&cluster).await?))
}

async fn read(
    service: Service,
    InPath(PolicyPath { cluster, policy }): InPath<PolicyPath>,
) -> AdminResult<Json<IsolationPolicy>> {
    let found = service.store.isolation(&cluster).await?.remove(&policy);
    found.map(Json).ok_or_else(|| AdminError::not_found(format!("isolation policy {policy}")))
}

/// What is served elsewhere already moves when it is unloaded.
async fn write(
    service: Service,
    InPath(PolicyPath { cluster, policy }): InPath<PolicyPath>,
    body: Body,
) -> AdminResult<NoContent> {
    let wanted: IsolationPolicy = body.json()?;
    if wanted.namespaces.is_empty() || wanted.primary.is_empty() {
        return Err(AdminError::precondition("an isolation policy needs namespaces and primary brokers"));
    }
    let alone = IsolationPolicies::from([(policy.clone(), wanted.clone())]);
    Isolation::compile(&alone).map_err(|error| AdminError::precondition(error.to_string()))?;
    let change = |policies: &mut IsolationPolicies| drop(policies.insert(policy.clone(), wanted.clone()));
    service.store.change_isolation(&cluster, change).await?;
    Ok(NoContent)
}

async fn remove(
    service: Service,
    InPath(PolicyPath { cluster, policy }): InPath<PolicyPath>,
) -> AdminResult<NoContent> {
    service.store.change_isolation(&cluster, |policies| drop(policies.remove(&policy))).await?;
    Ok(NoContent)
}
