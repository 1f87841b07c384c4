//! `/clusters`.

use axum::response::NoContent;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use super::error::{AdminError, AdminResult};
use super::extract::{Body, InPath};
use super::{Routes, Service};
use crate::namespace::ClusterData;

pub(super) fn routes() -> Routes {
    Router::new()
        .route("/clusters", get(list))
        .route("/clusters/{cluster}", get(read).put(create).post(update).delete(remove))
        // There are none yet; tools that list them get that.
        .route("/clusters/{cluster}/failureDomains", get(|| async { Json(json!({})) }))
}

async fn list(service: Service) -> AdminResult<Json<Vec<String>>> {
    Ok(Json(service.store.clusters().await?))
}

async fn read(service: Service, InPath(name): InPath<String>) -> AdminResult<Json<ClusterData>> {
    let found = service.store.cluster(&name).await?;
    found.map(Json).ok_or_else(|| AdminError::not_found(format!("cluster {name}")))
}

async fn create(service: Service, InPath(name): InPath<String>, body: Body) -> AdminResult<NoContent> {
    service.store.create_cluster(&name, &body.json()?).await?;
    Ok(NoContent)
}

async fn update(service: Service, InPath(name): InPath<String>, body: Body) -> AdminResult<NoContent> {
    service.store.update_cluster(&name, body.json()?).await?;
    Ok(NoContent)
}

async fn remove(service: Service, InPath(name): InPath<String>) -> AdminResult<NoContent> {
    if name == service.config.cluster {
        return Err(AdminError::precondition(format!("cluster {name} is the one this broker serves")));
    }
    service.store.delete_cluster(&name).await?;
    Ok(NoContent)
}
