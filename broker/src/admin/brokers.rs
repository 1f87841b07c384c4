//! The broker itself: who it is, and whether it works.

use super::Service;
use super::error::{AdminError, AdminResult};
use crate::service::BrokerService;
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use magnetar_common::metadata::Expect;
use serde_json::{Value, json};
use std::sync::Arc;

/// Written and read by the health check; nothing else uses it.
const HEALTH_KEY: &str = "/magnetar/health";

pub(super) fn routes() -> Router<Arc<BrokerService>> {
    Router::new()
        .route("/brokers", get(list))
        .route("/brokers/health", get(health))
        .route("/brokers/version", get(|| async { env!("CARGO_PKG_VERSION") }))
        .route("/brokers/leaderBroker", get(leader))
        .route("/brokers/internal-configuration", get(internal_configuration))
        .route("/brokers/configuration/values", get(|| async { Json(json!({})) }))
        .route("/brokers/{cluster}", get(list_of_cluster))
}

/// `host:port` of the admin REST, by which tools name a broker.
fn id(service: &BrokerService) -> String {
    service.advertised.http_url.trim_start_matches("http://").to_owned()
}

async fn list(State(service): Service) -> Json<Vec<String>> {
    Json(vec![id(&service)])
}

async fn list_of_cluster(
    State(service): Service,
    Path(cluster): Path<String>,
) -> AdminResult<Json<Vec<String>>> {
    if cluster == service.config.cluster {
        Ok(Json(vec![id(&service)]))
    } else {
        Err(AdminError::not_found(format_args!("cluster {cluster}")))
    }
}

/// A metadata write and read: what every topic needs first.
async fn health(State(service): Service) -> AdminResult<&'static str> {
    let unavailable = |error: magnetar_common::metadata::MetadataError| {
        AdminError::from(crate::namespace::StoreError::from(error))
    };
    let now = service.clock.unix_ms().to_string();
    service.metadata.put(HEALTH_KEY, now.into(), Expect::Any).await.map_err(unavailable)?;
    service.metadata.get(HEALTH_KEY).await.map_err(unavailable)?;
    Ok("ok")
}

async fn leader(State(service): Service) -> Json<Value> {
    let http = &service.advertised.http_url;
    Json(json!({ "brokerId": id(&service), "serviceUrl": http }))
}

async fn internal_configuration() -> Json<Value> {
    Json(json!({
        "metadataStoreUrl": "embedded",
        "configurationMetadataStoreUrl": "embedded",
        "ledgersRootPath": "/ledgers",
        "bookkeeperMetadataServiceUri": "embedded",
        "stateStorageServiceUrl": null,
    }))
}
