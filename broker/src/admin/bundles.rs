//! The bundles of a namespace: where they are cut, who has them, unloading and splitting them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::OriginalUri;
use axum::http::Uri;
use axum::response::{IntoResponse, NoContent, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use magnetar_common::bundles::{BundleRange, Bundles};
use magnetar_common::topic_name::NamespaceName;
use serde::Deserialize;

use super::error::{AdminError, AdminResult};
use super::extract::{Body, InPath, Namespace, Params};
use super::redirect::redirect;
use super::{Routes, Service, targets};
use crate::namespace::{BundleError, Cluster, HandOver, SplitAt};
use crate::service::BrokerService;

pub(super) fn routes() -> Routes {
    Router::new()
        .route("/bundles", get(served))
        .route("/namespaces/{tenant}/{namespace}/bundles", get(list))
        .route("/namespaces/{tenant}/{namespace}/unload", put(unload_all))
        .route("/namespaces/{tenant}/{namespace}/{bundle}/unload", put(unload))
        .route("/namespaces/{tenant}/{namespace}/{bundle}/split", put(split))
        .route("/namespaces/{tenant}/{namespace}/{bundle}/takeOver", put(take_over))
}

#[derive(Deserialize)]
struct BundlePath {
    bundle: String,
}

impl From<BundleError> for AdminError {
    fn from(error: BundleError) -> Self {
        match error {
            BundleError::Store(error) => error.into(),
            BundleError::NotHere(_) | BundleError::NotTaken(..) => Self::conflict(error.to_string()),
            BundleError::Unknown(..) | BundleError::NoSuchBoundary(_) | BundleError::NoSuchBroker(_) => {
                Self::precondition(error.to_string())
            }
        }
    }
}

/// `tenant/namespace/range` of every bundle that is served, with the HTTP address of its broker. The only broker of its cluster
/// serves all of them, and lists none.
async fn served(service: Service) -> AdminResult<Json<BTreeMap<String, String>>> {
    match &service.cluster {
        Some(cluster) => Ok(Json(cluster.owners().await?)),
        None => Ok(Json(BTreeMap::new())),
    }
}

async fn list(service: Service, Namespace(name): Namespace) -> AdminResult<Json<Bundles>> {
    Ok(Json(targets::bundles(&service, &name).await?))
}

/// The bundle of the path, if it is one.
async fn parse(service: &BrokerService, name: &NamespaceName, bundle: &str) -> AdminResult<BundleRange> {
    let unknown = || AdminError::precondition(format!("{bundle} is no bundle of namespace {name}"));
    let range: BundleRange = bundle.parse().map_err(|_| unknown())?;
    if targets::bundles(service, name).await?.has(range) { Ok(range) } else { Err(unknown()) }
}

async fn unload_all(service: Service, Namespace(name): Namespace) -> AdminResult<NoContent> {
    let bundles = targets::bundles(&service, &name).await?;
    let Some(cluster) = &service.cluster else {
        let topics = targets::loaded(&service, &name);
        targets::unload(&service, topics).await?;
        return Ok(NoContent);
    };
    for range in bundles.all() {
        match cluster.owner_of(&name, range).await? {
            Some(owner) if owner == service.advertised => match cluster.unload(&name, range, None).await {
                // Moved or split meanwhile: then its topics were closed, or belong to somebody else.
                Ok(()) | Err(BundleError::NotHere(_)) => {}
                Err(error) => return Err(error.into()),
            },
            Some(owner) => {
                let path = format!("/admin/v2/namespaces/{name}/{range}/unload");
                targets::at_peer(&service, &owner, "PUT", &path, b"").await?;
            }
            None => {}
        }
    }
    Ok(NoContent)
}

async fn unload(
    service: Service,
    Namespace(name): Namespace,
    InPath(BundlePath { bundle }): InPath<BundlePath>,
    params: Params,
    OriginalUri(uri): OriginalUri,
) -> AdminResult<Response> {
    let range = parse(&service, &name, &bundle).await?;
    let Some(cluster) = &service.cluster else {
        let mut topics = targets::loaded(&service, &name);
        topics.retain(|topic| range.contains(topic.bundle_hash()));
        targets::unload(&service, topics).await?;
        return Ok(NoContent.into_response());
    };
    if let Some(elsewhere) = elsewhere(&service, cluster, &name, range, &uri).await? {
        return Ok(elsewhere);
    }
    if cluster.owner_of(&name, range).await?.is_none() {
        // Nobody has it: as good as unloaded.
        return Ok(NoContent.into_response());
    }
    cluster.unload(&name, range, params.get("destinationBroker")).await?;
    Ok(NoContent.into_response())
}

async fn split(
    service: Service,
    Namespace(name): Namespace,
    InPath(BundlePath { bundle }): InPath<BundlePath>,
    params: Params,
    OriginalUri(uri): OriginalUri,
) -> AdminResult<Response> {
    let range = parse(&service, &name, &bundle).await?;
    let at = split_at(&params)?;
    let Some(cluster) = &service.cluster else {
        return Err(AdminError::precondition(
            "the only broker of a cluster has nobody to share bundles with",
        ));
    };
    if let Some(elsewhere) = elsewhere(&service, cluster, &name, range, &uri).await? {
        return Ok(elsewhere);
    }
    // A bundle that nobody has is claimed first: its owner splits it.
    if cluster.owner_of(&name, range).await?.is_none() {
        cluster.acquire(&name, range).await?;
    }
    let parts = cluster.split(&name, range, at).await?;
    if params.flag("unload") {
        for part in parts {
            cluster.unload(&name, part, None).await?;
        }
    }
    Ok(NoContent.into_response())
}

fn split_at(params: &Params) -> AdminResult<SplitAt> {
    match params.get("splitAlgorithmName").unwrap_or("range_equally_divide") {
        "range_equally_divide" => Ok(SplitAt::Middle),
        "topic_count_equally_divide" => Ok(SplitAt::TopicCount),
        other => Err(AdminError::precondition(format!(
            "{other} is not offered; use range_equally_divide or topic_count_equally_divide"
        ))),
    }
}

/// For brokers: the bundle's owner hands it over.
async fn take_over(
    service: Service,
    Namespace(name): Namespace,
    InPath(BundlePath { bundle }): InPath<BundlePath>,
    body: Body,
) -> AdminResult<NoContent> {
    let request: HandOver = body.json()?;
    let unknown = |_| AdminError::precondition(format!("{bundle} is no range of hashes"));
    let range: BundleRange = bundle.parse().map_err(unknown)?;
    let Some(cluster) = &service.cluster else {
        return Err(AdminError::precondition("the only broker of a cluster takes no bundles from others"));
    };
    cluster.take_over(&name, range, request).await?;
    Ok(NoContent)
}

/// The redirect to the bundle's owner, if that is another broker.
async fn elsewhere(
    service: &BrokerService,
    cluster: &Arc<Cluster>,
    name: &NamespaceName,
    range: BundleRange,
    uri: &Uri,
) -> AdminResult<Option<Response>> {
    let owner = cluster.owner_of(name, range).await?.filter(|owner| *owner != service.advertised);
    Ok(owner.map(|owner| redirect(&owner, uri, false)))
}
