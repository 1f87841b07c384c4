//! Path parameters and bodies as handlers want them.

use super::error::{AdminError, AdminResult};
use axum::body::Bytes;
use magnetar_common::topic_name::{Domain, NamespaceName, TopicName};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// `/{tenant}/{namespace}`.
#[derive(Deserialize)]
pub(super) struct NamespacePath {
    tenant: String,
    namespace: String,
}

impl NamespacePath {
    pub(super) fn name(&self) -> AdminResult<NamespaceName> {
        Ok(NamespaceName::new(&self.tenant, &self.namespace)?)
    }
}

/// `/persistent/{tenant}/{namespace}/{topic}`; the router has undone the percent-encoding.
#[derive(Deserialize)]
pub(super) struct TopicPath {
    tenant: String,
    namespace: String,
    topic: String,
}

impl TopicPath {
    pub(super) fn name(&self) -> AdminResult<TopicName> {
        let namespace = NamespaceName::new(&self.tenant, &self.namespace)?;
        Ok(TopicName::new(Domain::Persistent, namespace, &self.topic)?)
    }
}

/// `/persistent/{tenant}/{namespace}/{topic}/subscription/{subscription}`.
#[derive(Deserialize)]
pub(super) struct SubscriptionPath {
    #[serde(flatten)]
    topic: TopicPath,
    pub(super) subscription: String,
}

impl SubscriptionPath {
    pub(super) fn topic(&self) -> AdminResult<TopicName> {
        self.topic.name()
    }
}

/// `?force=true`.
#[derive(Deserialize)]
pub(super) struct Force {
    #[serde(default)]
    pub(super) force: bool,
}

/// The body as JSON, whatever its content type says: tools disagree about it.
pub(super) fn json<T: DeserializeOwned>(body: &Bytes) -> AdminResult<T> {
    serde_json::from_slice(body)
        .map_err(|error| AdminError::bad_request(format!("the body is not as expected: {error}")))
}

/// As [`json`]; an empty body, or `null`, is the default.
pub(super) fn json_or_default<T: DeserializeOwned + Default>(body: &Bytes) -> AdminResult<T> {
    if body.trim_ascii().is_empty() {
        Ok(T::default())
    } else {
        Ok(json::<Option<T>>(body)?.unwrap_or_default())
    }
}
