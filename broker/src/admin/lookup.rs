//! HTTP lookup: which broker serves a topic, and in which bundle it falls.

use axum::routing::get;
use axum::{Extension, Json, Router};
use magnetar_common::topic_name::Domain;
use serde_json::{Value, json};

use super::error::AdminResult;
use super::extract::Topic;
use super::{Routes, Service, targets};

pub(super) fn routes() -> Routes {
    let topics = || {
        Router::new()
            .route("/{tenant}/{namespace}/{topic}", get(owner))
            .route("/{tenant}/{namespace}/{topic}/bundle", get(bundle))
    };
    Router::new()
        .nest("/lookup/v2/topic/persistent", topics().layer(Extension(Domain::Persistent)))
        .nest("/lookup/v2/topic/non-persistent", topics().layer(Extension(Domain::NonPersistent)))
}

async fn owner(service: Service, Topic(topic): Topic) -> AdminResult<Json<Value>> {
    targets::policies(&service, topic.namespace()).await?;
    let owner = service.ownership.owner(&topic).await?;
    // The C++ client fails without brokerUrlTls, be it empty.
    Ok(Json(json!({
        "brokerUrl": owner.broker_url,
        "brokerUrlTls": "",
        "httpUrl": owner.http_url,
        "httpUrlTls": "",
        "nativeUrl": owner.broker_url,
    })))
}

async fn bundle(service: Service, Topic(topic): Topic) -> AdminResult<String> {
    let policies = targets::policies(&service, topic.namespace()).await?;
    Ok(policies.bundles.find(topic.bundle_hash()))
}
