//! Tenants.

use super::Service;
use super::error::{AdminError, AdminResult};
use super::extract::json_or_default;
use crate::namespace::TenantInfo;
use crate::service::BrokerService;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<BrokerService>> {
    Router::new()
        .route("/tenants", get(list))
        .route("/tenants/{tenant}", get(show).put(create).post(update).delete(remove))
}

async fn list(State(service): Service) -> AdminResult<Json<Vec<String>>> {
    Ok(Json(service.store.tenants().await?))
}

async fn show(State(service): Service, Path(tenant): Path<String>) -> AdminResult<Json<TenantInfo>> {
    let found = service.store.tenant(&tenant).await?;
    found.map(Json).ok_or_else(|| AdminError::not_found(format_args!("tenant {tenant}")))
}

async fn create(State(service): Service, Path(tenant): Path<String>, body: Bytes) -> AdminResult<StatusCode> {
    service.store.create_tenant(&tenant, &json_or_default(&body)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn update(State(service): Service, Path(tenant): Path<String>, body: Bytes) -> AdminResult<StatusCode> {
    service.store.update_tenant(&tenant, json_or_default(&body)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(State(service): Service, Path(tenant): Path<String>) -> AdminResult<StatusCode> {
    service.store.delete_tenant(&tenant).await?;
    Ok(StatusCode::NO_CONTENT)
}
