//! Who may do what: stored for namespaces and topics as Pulsar stores it. Nobody is authenticated yet, so nothing of
//! it is enforced.

use axum::response::NoContent;
use axum::routing::{get, post};
use axum::{Json, Router};
use magnetar_common::topic_name::NamespaceName;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::error::AdminResult;
use super::extract::{Body, InPath, Namespace, Topic};
use super::policies::{change, property_of};
use super::policy_table::object_at;
use super::{Routes, Service};
use crate::service::BrokerService;

const AUTH: &str = "auth_policies";
const OF_NAMESPACE: &str = "namespace_auth";
const OF_TOPICS: &str = "destination_auth";

/// What a role may be allowed, in Pulsar's words.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Produce,
    Consume,
    Functions,
    Sources,
    Sinks,
    Packages,
}

#[derive(Deserialize)]
struct RolePath {
    role: String,
}

pub(super) fn of_namespaces() -> Routes {
    Router::new().route("/namespaces/{tenant}/{namespace}/permissions", get(read_namespace)).route(
        "/namespaces/{tenant}/{namespace}/permissions/{role}",
        post(grant_namespace).delete(revoke_namespace),
    )
}

pub(super) fn of_topics() -> Routes {
    Router::new()
        .route("/{tenant}/{namespace}/{topic}/permissions", get(read_topic))
        .route("/{tenant}/{namespace}/{topic}/permissions/{role}", post(grant_topic).delete(revoke_topic))
}

async fn auth(service: &BrokerService, name: &NamespaceName) -> AdminResult<Value> {
    Ok(property_of(service, name, AUTH).await?.unwrap_or_default())
}

fn or_empty(value: &Value) -> Json<Value> {
    Json(if value.is_object() { value.clone() } else { json!({}) })
}

async fn edit(
    service: &BrokerService,
    name: &NamespaceName,
    mut edit: impl FnMut(&mut Map<String, Value>) + Send,
) -> AdminResult<NoContent> {
    change(service, name, |record| {
        let auth = object_at(record, AUTH);
        for property in [OF_NAMESPACE, OF_TOPICS, "subscription_auth_roles"] {
            object_at(auth, property);
        }
        edit(auth);
    })
    .await
}

async fn read_namespace(service: Service, Namespace(name): Namespace) -> AdminResult<Json<Value>> {
    Ok(or_empty(&auth(&service, &name).await?[OF_NAMESPACE]))
}

async fn grant_namespace(
    service: Service,
    Namespace(name): Namespace,
    InPath(RolePath { role }): InPath<RolePath>,
    body: Body,
) -> AdminResult<NoContent> {
    let actions: Vec<Action> = body.json()?;
    edit(&service, &name, |auth| {
        object_at(auth, OF_NAMESPACE).insert(role.clone(), json!(actions));
    })
    .await
}

async fn revoke_namespace(
    service: Service,
    Namespace(name): Namespace,
    InPath(RolePath { role }): InPath<RolePath>,
) -> AdminResult<NoContent> {
    edit(&service, &name, |auth| {
        object_at(auth, OF_NAMESPACE).remove(&role);
    })
    .await
}

/// The topic's own grants over those of its namespace.
async fn read_topic(service: Service, Topic(topic): Topic) -> AdminResult<Json<Value>> {
    let auth = auth(&service, topic.namespace()).await?;
    let Json(mut granted) = or_empty(&auth[OF_NAMESPACE]);
    if let (Some(all), Some(own)) = (granted.as_object_mut(), auth[OF_TOPICS][topic.as_str()].as_object()) {
        all.extend(own.clone());
    }
    Ok(Json(granted))
}

async fn grant_topic(
    service: Service,
    Topic(topic): Topic,
    InPath(RolePath { role }): InPath<RolePath>,
    body: Body,
) -> AdminResult<NoContent> {
    let actions: Vec<Action> = body.json()?;
    edit(&service, topic.namespace(), |auth| {
        let of_topic = object_at(object_at(auth, OF_TOPICS), topic.as_str());
        of_topic.insert(role.clone(), json!(actions));
    })
    .await
}

async fn revoke_topic(
    service: Service,
    Topic(topic): Topic,
    InPath(RolePath { role }): InPath<RolePath>,
) -> AdminResult<NoContent> {
    edit(&service, topic.namespace(), |auth| {
        let of_topics = object_at(auth, OF_TOPICS);
        object_at(of_topics, topic.as_str()).remove(&role);
        of_topics.retain(|_, granted| granted.as_object().is_some_and(|granted| !granted.is_empty()));
    })
    .await
}
