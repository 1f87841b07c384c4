//! `/tenants`.

use axum::response::NoContent;
use axum::routing::get;
use axum::{Json, Router};

use super::error::{AdminError, AdminResult};
use super::extract::{Body, InPath, Params};
use super::{Routes, Service, namespaces};
use crate::namespace::TenantInfo;

pub(super) fn routes() -> Routes {
    Router::new()
        .route("/tenants", get(list))
        .route("/tenants/{tenant}", get(read).put(create).post(update).delete(remove))
}

async fn list(service: Service) -> AdminResult<Json<Vec<String>>> {
    Ok(Json(service.store.tenants().await?))
}

async fn read(service: Service, InPath(name): InPath<String>) -> AdminResult<Json<TenantInfo>> {
    let found = service.store.tenant(&name).await?;
    found.map(Json).ok_or_else(|| AdminError::not_found(format!("tenant {name}")))
}

async fn create(service: Service, InPath(name): InPath<String>, body: Body) -> AdminResult<NoContent> {
    let info = body.optional_json()?.unwrap_or_default();
    service.store.create_tenant(&name, &info).await?;
    Ok(NoContent)
}

async fn update(service: Service, InPath(name): InPath<String>, body: Body) -> AdminResult<NoContent> {
    service.store.update_tenant(&name, body.json()?).await?;
    Ok(NoContent)
}

async fn remove(service: Service, InPath(name): InPath<String>, params: Params) -> AdminResult<NoContent> {
    if params.flag("force") {
        for namespace in service.store.namespaces(&name).await? {
            namespaces::delete_with_topics(&service, &namespace).await?;
        }
    }
    service.store.delete_tenant(&name).await?;
    Ok(NoContent)
}
