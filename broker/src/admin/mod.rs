//! The admin REST (`/admin/v2`, `/lookup/v2`, `/metrics`) as pulsar-admin, pulsarctl and curl call it.
//!
//! Called by the service, which serves [`router`] on the HTTP port. A handler turns a path and a body into one call of
//! the policy store, the topic registry or a topic's handle, and the outcome into a status code: it must never hold
//! state of its own, nor touch a ledger or a cursor.

mod bookie_affinity;
mod brokers;
mod bundles;
mod change;
mod clusters;
mod dead_letters;
mod entries;
mod error;
mod extract;
mod fan_out;
mod isolation;
mod lookup;
mod merge;
mod message_id;
mod namespace_topics;
mod namespaces;
mod partitions;
mod permissions;
mod policies;
mod policy_table;
mod redirect;
mod schemas;
mod subscriptions;
mod targets;
mod tenants;
#[cfg(test)]
mod tests;
mod to_its_end;
mod topic_policies;
mod topics;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::get;
use axum::{Extension, Router};
use magnetar_common::topic_name::Domain;

use crate::service::BrokerService;
use error::AdminError;
pub(crate) use targets::{at_peer, elsewhere, path_of};

/// No admin body is larger: policies and schemas are a few KiB.
const BODY_BYTES_MAX: usize = 1 << 20;

type Service = axum::extract::State<Arc<BrokerService>>;
type Routes = Router<Arc<BrokerService>>;

/// Every path that the HTTP port answers.
pub fn router(service: Arc<BrokerService>) -> Router {
    let of_topics = |domain: Domain| {
        let owner = Arc::clone(&service);
        Router::new()
            .merge(topics::routes())
            .merge(partitions::routes())
            .merge(subscriptions::routes())
            .merge(entries::routes())
            .merge(dead_letters::routes())
            .merge(topic_policies::routes())
            .merge(permissions::of_topics())
            .layer(middleware::from_fn_with_state(owner, redirect::to_owner))
            .layer(Extension(domain))
    };
    let admin = Router::new()
        .merge(brokers::routes())
        .merge(clusters::routes())
        .merge(isolation::routes())
        .merge(tenants::routes())
        .merge(bundles::routes())
        .merge(namespaces::routes())
        .merge(bookie_affinity::routes())
        .merge(namespace_topics::routes())
        .merge(policies::routes())
        .merge(permissions::of_namespaces())
        .merge(schemas::routes())
        .nest("/persistent", of_topics(Domain::Persistent))
        .nest("/non-persistent", of_topics(Domain::NonPersistent));
    Router::new()
        .nest("/admin/v2", admin)
        .merge(lookup::routes())
        .merge(crate::metrics::routes())
        .route("/status.html", get(|| async { "OK" }))
        .fallback(|| async { AdminError::not_found("this path of the admin REST v2") })
        .method_not_allowed_fallback(|| async {
            AdminError::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
        })
        .layer(middleware::from_fn(to_its_end::to_its_end))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(service)
}
