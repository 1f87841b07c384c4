//! Clusters.

use super::Service;
use super::error::{AdminError, AdminResult};
use super::extract::json;
use crate::namespace::ClusterData;
use crate::service::BrokerService;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<BrokerService>> {
    Router::new()
        .route("/clusters", get(list))
        .route("/clusters/{cluster}", get(show).put(create).post(update).delete(remove))
        .route("/clusters/{cluster}/failureDomains", get(|| async { Json(serde_json::json!({})) }))
        .route(
            "/clusters/{cluster}/namespaceIsolationPolicies",
            get(|| async { Json(serde_json::json!({})) }),
        )
}

async fn list(State(service): Service) -> AdminResult<Json<Vec<String>>> {
    Ok(Json(service.store.clusters().await?))
}

async fn show(State(service): Service, Path(cluster): Path<String>) -> AdminResult<Json<ClusterData>> {
    let found = service.store.cluster(&cluster).await?;
    found.map(Json).ok_or_else(|| AdminError::not_found(format_args!("cluster {cluster}")))
}

async fn create(
    State(service): Service,
    Path(cluster): Path<String>,
    body: Bytes,
) -> AdminResult<StatusCode> {
    service.store.create_cluster(&cluster, &json(&body)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn update(
    State(service): Service,
    Path(cluster): Path<String>,
    body: Bytes,
) -> AdminResult<StatusCode> {
    service.store.update_cluster(&cluster, json(&body)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(State(service): Service, Path(cluster): Path<String>) -> AdminResult<StatusCode> {
    service.store.delete_cluster(&cluster).await?;
    Ok(StatusCode::NO_CONTENT)
}
