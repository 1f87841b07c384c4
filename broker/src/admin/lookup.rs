//! HTTP lookup: which broker serves a topic, and in which bundle it falls.

use axum::extract::OriginalUri;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use magnetar_common::topic_name::Domain;
use serde_json::json;

use super::error::AdminResult;
use super::extract::{Params, Topic};
use super::redirect::redirect;
use super::{Routes, Service, targets};
use crate::namespace::{Asked, Located};

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

async fn owner(
    service: Service,
    Topic(topic): Topic,
    params: Params,
    OriginalUri(uri): OriginalUri,
) -> AdminResult<Response> {
    targets::policies(&service, topic.namespace()).await?;
    let asked = Asked { authoritative: params.flag("authoritative"), listener: params.get("listenerName") };
    let owner = match service.ownership.locate(&topic, asked).await? {
        Located::Serves(owner) => owner,
        Located::Ask { broker, authoritative } => return Ok(redirect(&broker, &uri, authoritative)),
    };
    // The C++ client fails without brokerUrlTls, be it empty.
    Ok(Json(json!({
        "brokerUrl": owner.broker_url,
        "brokerUrlTls": "",
        "httpUrl": owner.http_url,
        "httpUrlTls": "",
        "nativeUrl": owner.broker_url,
    }))
    .into_response())
}

async fn bundle(service: Service, Topic(topic): Topic) -> AdminResult<String> {
    let bundles = targets::bundles(&service, topic.namespace()).await?;
    Ok(bundles.find(topic.bundle_hash()))
}
