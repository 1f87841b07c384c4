//! `/namespaces`: the namespaces themselves.

use axum::response::NoContent;
use axum::routing::get;
use axum::{Json, Router};
use magnetar_common::bundles::{BUNDLES_MAX, Bundles};
use magnetar_common::topic_name::NamespaceName;
use serde_json::{Map, Value};

use super::error::{AdminError, AdminResult};
use super::extract::{Body, InPath, Namespace, Params};
use super::{Routes, Service, targets};
use crate::namespace::Policies;
use crate::service::BrokerService;

pub(super) fn routes() -> Routes {
    Router::new()
        .route("/namespaces/{tenant}", get(list))
        .route("/namespaces/{tenant}/{namespace}", get(read).put(create).post(create).delete(remove))
}

async fn list(service: Service, InPath(tenant): InPath<String>) -> AdminResult<Json<Vec<String>>> {
    let names = service.store.namespaces(&tenant).await?;
    Ok(Json(names.iter().map(ToString::to_string).collect()))
}

async fn read(service: Service, Namespace(name): Namespace) -> AdminResult<Json<Policies>> {
    Ok(Json(targets::policies(&service, &name).await?))
}

async fn create(service: Service, Namespace(name): Namespace, body: Body) -> AdminResult<NoContent> {
    let policies = first_policies(&service, body.optional_json()?.unwrap_or_default())?;
    service.store.create_namespace(&name, &policies).await?;
    match &service.cluster {
        Some(cluster) => cluster.boundaries().reset(&name, &policies.bundles).await?,
        // Nor does what was set for an earlier one of that name count.
        None => service.store.set_bookie_affinity(&name, None).await?,
    }
    Ok(NoContent)
}

async fn remove(service: Service, Namespace(name): Namespace, params: Params) -> AdminResult<NoContent> {
    if params.flag("force") {
        delete_with_topics(&service, &name).await?;
    } else {
        service.store.delete_namespace(&name).await?;
    }
    Ok(NoContent)
}

/// Deletes a namespace with all that is in it, whoever uses it. Can be repeated after a failure.
pub(super) async fn delete_with_topics(service: &BrokerService, name: &NamespaceName) -> AdminResult<()> {
    for topic in service.store.partitioned_topics(name).await? {
        targets::delete_partitioned(service, &topic, true).await?;
    }
    for topic in service.store.topics(name).await? {
        targets::delete(service, &topic, true).await?;
    }
    Ok(service.store.delete_namespace(name).await?)
}

/// The policies of a new namespace out of what tools send: often nothing, often with every unset policy as `null`,
/// and bundles as a bare number.
fn first_policies(service: &BrokerService, mut wanted: Map<String, Value>) -> AdminResult<Policies> {
    wanted.retain(|_, value| !value.is_null());
    let bundles = match wanted.remove("bundles") {
        Some(value) => parse_bundles(service, value)?,
        None => Bundles::even(service.config.default_bundles),
    };
    let mut policies: Policies = serde_json::from_value(Value::Object(wanted))
        .map_err(|error| AdminError::bad_request(format!("these are no policies: {error}")))?;
    policies.bundles = bundles;
    if policies.replication_clusters.is_empty() {
        policies.replication_clusters = vec![service.config.cluster.clone()];
    }
    Ok(policies)
}

fn parse_bundles(service: &BrokerService, value: Value) -> AdminResult<Bundles> {
    let has_boundaries = value["boundaries"].as_array().is_some_and(|boundaries| !boundaries.is_empty());
    if has_boundaries {
        return serde_json::from_value(value)
            .map_err(|error| AdminError::precondition(format!("these are no bundles: {error}")));
    }
    match value["numBundles"].as_u64() {
        None | Some(0) => Ok(Bundles::even(service.config.default_bundles)),
        Some(count) => match u32::try_from(count) {
            Ok(count) if count <= BUNDLES_MAX => Ok(Bundles::even(count)),
            _ => Err(AdminError::precondition(format!("a namespace may have 1 to {BUNDLES_MAX} bundles"))),
        },
    }
}
