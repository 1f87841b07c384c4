//! The admin REST (`/admin/v2`, `/lookup/v2`, `/metrics`) as pulsar-admin, pulsarctl and curl call it.
//!
//! Called by the service, which serves [`router`] on the HTTP port. A handler turns a path and a body into one call of
//! the policy store, the topic registry or a topic's handle, and the outcome into a status code: it must never hold
//! state of its own, nor touch a ledger or a cursor.

mod brokers;
mod clusters;
mod error;
mod extract;
mod lookup;
mod namespaces;
mod partitions;
mod schemas;
mod subscriptions;
mod tenants;
mod topics;

use crate::service::BrokerService;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::get;
use error::AdminError;
use std::sync::Arc;

/// No admin body is larger: policies and schemas are a few KiB.
const BODY_BYTES_MAX: usize = 1 << 20;

type Service = axum::extract::State<Arc<BrokerService>>;

/// Every path that the HTTP port answers.
pub fn router(service: Arc<BrokerService>) -> Router {
    let admin = Router::new()
        .merge(brokers::routes())
        .merge(clusters::routes())
        .merge(tenants::routes())
        .merge(namespaces::routes())
        .merge(topics::routes())
        .merge(partitions::routes())
        .merge(subscriptions::routes())
        .merge(schemas::routes());
    Router::new()
        .nest("/admin/v2", admin)
        .merge(lookup::routes())
        .merge(crate::metrics::routes())
        .route("/status.html", get(|| async { "OK" }))
        .fallback(|| async { AdminError::not_found("this path (see Pulsar's admin REST v2)") })
        .method_not_allowed_fallback(|| async { StatusCode::METHOD_NOT_ALLOWED })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(service)
}
