//! `/brokers`: which brokers there are, and whether this one works.

use axum::extract::OriginalUri;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{AdminError, AdminResult};
use super::extract::InPath;
use super::redirect::redirect;
use super::{Routes, Service};
use crate::namespace::Owner;
use crate::service::BrokerService;

pub(super) fn routes() -> Routes {
    Router::new()
        .route("/brokers", get(list))
        .route("/brokers/{cluster}", get(list_of_cluster))
        .route("/brokers/health", get(health))
        .route("/brokers/ready", get(health))
        .route("/brokers/leaderBroker", get(leader))
        .route("/brokers/{cluster}/{broker}/ownedNamespaces", get(owned))
        .route("/brokers/version", get(|| async { env!("CARGO_PKG_VERSION") }))
        .route("/brokers/internal-configuration", get(internal_configuration))
        .route("/brokers/configuration", get(|| async { Json(json!([])) }))
        .route("/brokers/configuration/values", get(|| async { Json(json!({})) }))
        .route("/brokers/configuration/runtime", get(runtime_configuration))
}

/// `host:port` of the HTTP port, as Pulsar names brokers.
fn broker_id(service: &BrokerService) -> &str {
    let url = service.advertised.http_url.as_str();
    url.strip_prefix("http://").unwrap_or(url)
}

async fn list(service: Service) -> Json<Value> {
    match &service.cluster {
        Some(cluster) => Json(json!(cluster.directory().now().keys().collect::<Vec<_>>())),
        None => Json(json!([broker_id(&service)])),
    }
}

#[derive(Deserialize)]
struct BrokerPath {
    cluster: String,
    broker: String,
}

/// The bundles that a broker serves. Which broker answers does not matter: the records tell.
async fn owned(
    service: Service,
    InPath(BrokerPath { cluster: name, broker }): InPath<BrokerPath>,
    OriginalUri(uri): OriginalUri,
) -> AdminResult<Response> {
    if name != service.config.cluster {
        return Err(AdminError::not_found(format!("a broker of cluster {name} here")));
    }
    let Some(cluster) = &service.cluster else { return Ok(Json(json!({})).into_response()) };
    if broker != cluster.id() {
        let brokers = cluster.directory().now();
        let record = brokers.get(&broker).ok_or_else(|| AdminError::not_found(format!("broker {broker}")))?;
        let owner =
            Owner { broker_url: record.pulsar_service_url.clone(), http_url: record.web_service_url.clone() };
        return Ok(redirect(&owner, &uri, false));
    }
    let status = json!({ "broker_assignment": "shared", "is_controlled": false, "is_active": true });
    let held = cluster.held();
    let owned = held.iter().map(|(namespace, range)| (format!("{namespace}/{range}"), status.clone()));
    Ok(Json(Value::Object(owned.collect())).into_response())
}

async fn list_of_cluster(service: Service, InPath(cluster): InPath<String>) -> AdminResult<Json<Value>> {
    if cluster != service.config.cluster {
        return Err(AdminError::not_found(format!("a broker of cluster {cluster} here")));
    }
    Ok(list(service).await)
}

/// Asks the metadata store, without which nothing works; a broker that cannot reach its bookies shows that at its
/// topics.
async fn health(service: Service) -> AdminResult<&'static str> {
    match service.store.cluster(&service.config.cluster).await? {
        Some(_) => Ok("ok"),
        None => Err(AdminError::not_found(format!("the record of cluster {}", service.config.cluster))),
    }
}

async fn leader(service: Service) -> AdminResult<Json<Value>> {
    let Some(cluster) = &service.cluster else {
        let url = &service.advertised.http_url;
        return Ok(Json(json!({ "brokerId": broker_id(&service), "serviceUrl": url })));
    };
    let leader = cluster.current_leader().await?.ok_or_else(|| AdminError::not_found("a leader"))?;
    Ok(Json(json!({ "brokerId": leader, "serviceUrl": format!("http://{leader}") })))
}

async fn internal_configuration() -> Json<Value> {
    Json(json!({
        "metadataStoreUrl": "magnetar",
        "configurationMetadataStoreUrl": "magnetar",
        "ledgersRootPath": "/ledgers",
        "bookkeeperMetadataServiceUri": "magnetar:/ledgers",
        "stateStorageServiceUrl": null,
    }))
}

async fn runtime_configuration(service: Service) -> Json<Value> {
    let config = &service.config;
    // Pulsar gives every value as text.
    Json(json!({
        "clusterName": config.cluster,
        "advertisedAddress": config.advertised_host(),
        "managedLedgerDefaultEnsembleSize": config.ensemble.to_string(),
        "managedLedgerDefaultWriteQuorum": config.write_quorum.to_string(),
        "managedLedgerDefaultAckQuorum": config.ack_quorum.to_string(),
        "maxMessageSize": config.max_message_bytes.to_string(),
        "allowAutoTopicCreation": config.auto_create_topics.to_string(),
        "allowAutoSubscriptionCreation": config.auto_create_subscriptions.to_string(),
        "defaultNumberOfNamespaceBundles": config.default_bundles.to_string(),
        "maxNumPartitionsPerPartitionedTopic": config.max_partitions.to_string(),
    }))
}
