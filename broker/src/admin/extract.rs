//! What a request says, parsed once: names out of the path, flags out of the query, bodies whatever type they claim.

use std::collections::HashMap;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use bytes::Bytes;
use magnetar_common::topic_name::{Domain, NamespaceName, TopicName};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::{AdminError, AdminResult};

/// A longer name of a subscription would not fit into a metadata key everywhere.
const SUBSCRIPTION_BYTES_MAX: usize = 1024;

/// `{tenant}/{namespace}` of the path.
pub(super) struct Namespace(pub(super) NamespaceName);

/// `{tenant}/{namespace}/{topic}` of the path; the domain comes with the router, as an extension. The topic's local
/// name is percent-decoded exactly once.
pub(super) struct Topic(pub(super) TopicName);

/// Other parameters of the path.
pub(super) struct InPath<T>(pub(super) T);

/// `{subscription}` of the path.
pub(super) struct Subscription(pub(super) String);

/// The query.
pub(super) struct Params(HashMap<String, String>);

/// The body. Its content type does not count: tools send JSON under several.
pub(super) struct Body(Bytes);

#[derive(Deserialize)]
struct NamespacePath {
    tenant: String,
    namespace: String,
}

#[derive(Deserialize)]
struct TopicPath {
    topic: String,
}

#[derive(Deserialize)]
struct SubscriptionPath {
    subscription: String,
}

async fn path<T, S>(parts: &mut Parts, state: &S) -> AdminResult<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    match Path::from_request_parts(parts, state).await {
        Ok(Path(value)) => Ok(value),
        Err(rejection) => Err(AdminError::bad_request(rejection.body_text())),
    }
}

impl<T, S> FromRequestParts<S> for InPath<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> AdminResult<Self> {
        Ok(Self(path(parts, state).await?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Namespace {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> AdminResult<Self> {
        let NamespacePath { tenant, namespace } = path(parts, state).await?;
        Ok(Self(NamespaceName::new(&tenant, &namespace)?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Topic {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> AdminResult<Self> {
        let Namespace(namespace) = Namespace::from_request_parts(parts, state).await?;
        let TopicPath { topic } = path(parts, state).await?;
        let domain = parts.extensions.get::<Domain>().copied().unwrap_or(Domain::Persistent);
        Ok(Self(TopicName::new(domain, namespace, &topic)?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Subscription {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> AdminResult<Self> {
        let SubscriptionPath { subscription } = path(parts, state).await?;
        if subscription.is_empty()
            || subscription.len() > SUBSCRIPTION_BYTES_MAX
            || subscription.contains(char::is_control)
        {
            return Err(AdminError::precondition(
                "a subscription's name must have 1 to 1024 printable characters",
            ));
        }
        Ok(Self(subscription))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> AdminResult<Self> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(values)) => Ok(Self(values)),
            Err(rejection) => Err(AdminError::bad_request(rejection.body_text())),
        }
    }
}

impl Params {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// False unless it says `true`.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = AdminError;

    async fn from_request(request: Request, state: &S) -> AdminResult<Self> {
        match Bytes::from_request(request, state).await {
            Ok(bytes) => Ok(Self(bytes)),
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                let reason = format!("the body is larger than {} bytes", super::BODY_BYTES_MAX);
                Err(AdminError::new(StatusCode::PAYLOAD_TOO_LARGE, reason))
            }
            Err(rejection) => Err(AdminError::bad_request(rejection.body_text())),
        }
    }
}

impl Body {
    /// The body as JSON of type `T`.
    pub(super) fn json<T: DeserializeOwned>(&self) -> AdminResult<T> {
        serde_json::from_slice(&self.0)
            .map_err(|error| AdminError::bad_request(format!("the body is not as expected: {error}")))
    }

    /// `None` for no body and for `null`.
    pub(super) fn optional_json<T: DeserializeOwned>(&self) -> AdminResult<Option<T>> {
        if self.0.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        self.json()
    }
}
