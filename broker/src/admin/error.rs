//! What an admin call answers when it cannot do as asked: a status code and `{"reason": …}`, as Pulsar's tools expect.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use magnetar_common::topic_name::InvalidName;
use serde_json::json;

use crate::namespace::{LoadError, StoreError};
use crate::topic::TopicError;

/// A refused or failed call. The reason says what to do next.
#[derive(Debug)]
pub(crate) struct AdminError {
    status: StatusCode,
    reason: String,
}

impl std::fmt::Display for AdminError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}

/// The result of every handler.
pub(crate) type AdminResult<T> = Result<T, AdminError>;

impl AdminError {
    /// 404: what the path names does not exist.
    pub(super) fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("{what} does not exist"))
    }

    /// 409: it exists already, or something still depends on it.
    pub(super) fn conflict(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, reason)
    }

    /// 412: a name or the state of things forbids it.
    pub(super) fn precondition(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, reason)
    }

    /// 400: the body cannot be used.
    pub(super) fn bad_request(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }

    /// 500: a damaged record, or a bug.
    pub(super) fn internal(error: impl std::fmt::Display) -> Self {
        Self::failed(StatusCode::INTERNAL_SERVER_ERROR, error)
    }

    /// Logged here because nobody above handles it.
    fn failed(status: StatusCode, error: impl std::fmt::Display) -> Self {
        tracing::warn!(%error, "admin call failed");
        Self::new(status, error.to_string())
    }

    pub(super) fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into() }
    }
}

impl From<crate::service::peer::PeerAnswer> for AdminError {
    /// The refusal of another broker, passed on.
    fn from(answer: crate::service::peer::PeerAnswer) -> Self {
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let said: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
        let reason = said.as_ref().and_then(|said| said["reason"].as_str()).map(str::to_owned);
        Self::new(status, reason.unwrap_or_else(|| String::from_utf8_lossy(&answer.body).into_owned()))
    }
}

impl From<InvalidName> for AdminError {
    fn from(error: InvalidName) -> Self {
        Self::precondition(error.to_string())
    }
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::NotFound(_) => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            StoreError::Exists(_)
            | StoreError::NotEmpty(_)
            | StoreError::Schema(_)
            | StoreError::Contended(_) => Self::conflict(error.to_string()),
            StoreError::Invalid(_) => Self::precondition(error.to_string()),
            StoreError::Corrupt { .. } => Self::internal(error),
            StoreError::Unplaced(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            StoreError::Metadata(_) => Self::failed(StatusCode::SERVICE_UNAVAILABLE, error),
        }
    }
}

impl From<LoadError> for AdminError {
    fn from(error: LoadError) -> Self {
        let status = match error {
            LoadError::InvalidName(error) => return error.into(),
            LoadError::Store(error) => return error.into(),
            LoadError::Topic(error) => return error.into(),
            LoadError::UnknownNamespace(_) | LoadError::NotFound(_) | LoadError::NoSuchPartition { .. } => {
                StatusCode::NOT_FOUND
            }
            LoadError::Partitioned(_) => StatusCode::METHOD_NOT_ALLOWED,
            LoadError::ShuttingDown | LoadError::NotServed(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<TopicError> for AdminError {
    fn from(error: TopicError) -> Self {
        let status = match &error {
            TopicError::NotFound | TopicError::SubscriptionNotFound(_) | TopicError::ConsumerNotFound => {
                StatusCode::NOT_FOUND
            }
            TopicError::Exists(_) => StatusCode::CONFLICT,
            TopicError::InUse(_)
            | TopicError::Invalid(_)
            | TopicError::ProducerBusy { .. }
            | TopicError::ProducerFenced(_)
            | TopicError::ConsumerBusy { .. }
            | TopicError::BacklogFull { .. }
            | TopicError::ConsumerAssign(_) => StatusCode::PRECONDITION_FAILED,
            TopicError::NotAllowed(_) | TopicError::Terminated => StatusCode::METHOD_NOT_ALLOWED,
            TopicError::NotReady(_) => StatusCode::SERVICE_UNAVAILABLE,
            TopicError::Persistence(_) | TopicError::Metadata(_) => {
                return Self::failed(StatusCode::SERVICE_UNAVAILABLE, error);
            }
        };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "reason": self.reason }))).into_response()
    }
}
