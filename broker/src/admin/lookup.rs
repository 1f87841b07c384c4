//! Lookup over HTTP, for clients whose service URL is an HTTP one.

use super::Service;
use super::error::{AdminError, AdminResult};
use crate::service::BrokerService;
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use magnetar_common::topic_name::{Domain, NamespaceName, TopicName};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<BrokerService>> {
    let topic = "/lookup/v2/topic/{domain}/{tenant}/{namespace}/{topic}";
    Router::new().route(topic, get(lookup)).route(&format!("{topic}/bundle"), get(bundle))
}

#[derive(Deserialize)]
struct LookupPath {
    domain: String,
    tenant: String,
    namespace: String,
    topic: String,
}

impl LookupPath {
    fn name(&self) -> AdminResult<TopicName> {
        let domain: Domain = self.domain.parse()?;
        Ok(TopicName::new(domain, NamespaceName::new(&self.tenant, &self.namespace)?, &self.topic)?)
    }
}

/// `brokerUrlTls` is always there: the C++ client refuses an answer without it.
async fn lookup(State(service): Service, Path(path): Path<LookupPath>) -> AdminResult<Json<Value>> {
    let topic = path.name()?;
    if service.store.namespace(topic.namespace()).await?.is_none() {
        return Err(AdminError::not_found(format_args!("namespace {}", topic.namespace())));
    }
    let owner = service.ownership.owner(&topic).await?;
    Ok(Json(json!({
        "brokerUrl": owner.broker_url,
        "brokerUrlTls": "",
        "httpUrl": owner.http_url,
        "httpUrlTls": "",
        "nativeUrl": owner.broker_url,
    })))
}

async fn bundle(State(service): Service, Path(path): Path<LookupPath>) -> AdminResult<String> {
    let topic = path.name()?;
    let policies = service.store.namespace(topic.namespace()).await?;
    let policies =
        policies.ok_or_else(|| AdminError::not_found(format_args!("namespace {}", topic.namespace())))?;
    Ok(policies.bundles.find(topic.bundle_hash()))
}
