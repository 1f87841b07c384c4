//! What is done to all topics of a namespace: list them, drop backlogs and subscriptions.

use std::sync::Arc;

use axum::response::NoContent;
use axum::routing::{get, post};
use axum::{Json, Router};
use magnetar_common::topic_name::NamespaceName;

use super::change::{What, Which};
use super::error::AdminResult;
use super::extract::{Namespace, Params, Subscription};
use super::{Routes, Service, change, targets};
use crate::service::BrokerService;

pub(super) fn routes() -> Routes {
    Router::new()
        .route("/namespaces/{tenant}/{namespace}/topics", get(list))
        .route("/namespaces/{tenant}/{namespace}/clearBacklog", post(clear_backlogs))
        .route("/namespaces/{tenant}/{namespace}/clearBacklog/{subscription}", post(clear_backlog))
        .route("/namespaces/{tenant}/{namespace}/unsubscribe/{subscription}", post(unsubscribe))
}

async fn list(
    service: Service,
    Namespace(name): Namespace,
    params: Params,
) -> AdminResult<Json<Vec<String>>> {
    targets::policies(&service, &name).await?;
    if params.get("mode") == Some("NON_PERSISTENT") {
        return Ok(Json(targets::non_persistent(&service, &name)));
    }
    let topics = targets::names(&service, &name, params.flag("includeSystemTopic")).await?;
    Ok(Json(topics.iter().map(ToString::to_string).collect()))
}

async fn clear_backlogs(service: Service, Namespace(name): Namespace) -> AdminResult<NoContent> {
    on_each(&service, &name, Which::All, What::SkipAll).await
}

async fn clear_backlog(
    service: Service,
    Namespace(name): Namespace,
    Subscription(subscription): Subscription,
) -> AdminResult<NoContent> {
    on_each(&service, &name, Which::NamedIfPresent(subscription), What::SkipAll).await
}

async fn unsubscribe(
    service: Service,
    Namespace(name): Namespace,
    Subscription(subscription): Subscription,
) -> AdminResult<NoContent> {
    on_each(&service, &name, Which::NamedIfPresent(subscription), What::Delete { force: false }).await
}

async fn on_each(
    service: &Arc<BrokerService>,
    name: &NamespaceName,
    which: Which,
    what: What,
) -> AdminResult<NoContent> {
    targets::policies(service, name).await?;
    let topics = targets::stored(service, name).await?;
    change::apply(service, topics, which, what).await?;
    Ok(NoContent)
}
