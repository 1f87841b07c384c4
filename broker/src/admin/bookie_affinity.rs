//! `/namespaces/…/persistence/bookieAffinity`: which bookies a namespace's ledgers may lie on.

use axum::response::{IntoResponse, NoContent, Response};
use axum::routing::get;
use axum::{Json, Router};

use super::error::{AdminError, AdminResult};
use super::extract::{Body, Namespace};
use super::{Routes, Service, targets};
use crate::namespace::BookieAffinityGroup;

pub(super) fn routes() -> Routes {
    let path = "/namespaces/{tenant}/{namespace}/persistence/bookieAffinity";
    Router::new().route(path, get(read).post(write).delete(remove))
}

async fn read(service: Service, Namespace(name): Namespace) -> AdminResult<Response> {
    targets::policies(&service, &name).await?;
    Ok(match service.store.bookie_affinity(&name).await? {
        Some(group) => Json(group).into_response(),
        None => NoContent.into_response(),
    })
}

/// What is stored already stays where it is: the group counts for new ledgers.
async fn write(service: Service, Namespace(name): Namespace, body: Body) -> AdminResult<NoContent> {
    targets::policies(&service, &name).await?;
    let group: BookieAffinityGroup = body.json()?;
    if group.primary.as_ref().is_none_or(|primary| primary.trim().is_empty()) {
        let text =
            "a bookie affinity group needs bookkeeperAffinityGroupPrimary: a group of the record /bookies";
        return Err(AdminError::precondition(text));
    }
    service.store.set_bookie_affinity(&name, Some(&group)).await?;
    Ok(NoContent)
}

async fn remove(service: Service, Namespace(name): Namespace) -> AdminResult<NoContent> {
    targets::policies(&service, &name).await?;
    service.store.set_bookie_affinity(&name, None).await?;
    Ok(NoContent)
}
