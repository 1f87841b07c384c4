//! What an admin call answers when it cannot do as asked: a status code and `{"reason": …}`, as Pulsar's tools expect.

use crate::namespace::{LoadError, StoreError};
use crate::topic::TopicError;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use magnetar_common::topic_name::InvalidName;
use serde_json::json;

/// A refused or failed call. The reason says what to do next.
#[derive(Debug)]
pub(super) struct AdminError {
    status: StatusCode,
    reason: String,
}

/// The result of every handler.
pub(super) type AdminResult<T> = Result<T, AdminError>;

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

    /// 500 or 503, logged here because nobody above handles it.
    fn failed(status: StatusCode, error: &dyn std::fmt::Display) -> Self {
        tracing::warn!(%error, "admin call failed");
        Self::new(status, error.to_string())
    }

    fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into() }
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "reason": self.reason }))).into_response()
    }
}

impl From<InvalidName> for AdminError {
    fn from(error: InvalidName) -> Self {
        Self::precondition(error.to_string())
    }
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        let reason = error.to_string();
        match error {
            StoreError::NotFound(_) => Self::new(StatusCode::NOT_FOUND, reason),
            StoreError::Exists(_) | StoreError::NotEmpty(_) | StoreError::Contended(_) => {
                Self::conflict(reason)
            }
            StoreError::Invalid(_) => Self::precondition(reason),
            StoreError::Corrupt { .. } => Self::failed(StatusCode::INTERNAL_SERVER_ERROR, &reason),
            StoreError::Metadata(_) => Self::failed(StatusCode::SERVICE_UNAVAILABLE, &reason),
        }
    }
}

impl From<LoadError> for AdminError {
    fn from(error: LoadError) -> Self {
        let reason = error.to_string();
        match error {
            LoadError::InvalidName(error) => error.into(),
            LoadError::UnknownNamespace(_) | LoadError::NotFound(_) | LoadError::NoSuchPartition { .. } => {
                Self::new(StatusCode::NOT_FOUND, reason)
            }
            LoadError::Partitioned(_) | LoadError::NonPersistent(_) => Self::precondition(reason),
            LoadError::ShuttingDown => Self::new(StatusCode::SERVICE_UNAVAILABLE, reason),
            LoadError::Store(error) => error.into(),
            LoadError::Topic(error) => error.into(),
        }
    }
}

impl From<TopicError> for AdminError {
    fn from(error: TopicError) -> Self {
        let reason = error.to_string();
        match error {
            TopicError::NotFound | TopicError::SubscriptionNotFound(_) | TopicError::ConsumerNotFound => {
                Self::new(StatusCode::NOT_FOUND, reason)
            }
            TopicError::Exists(_) => Self::conflict(reason),
            TopicError::ProducerBusy { .. }
            | TopicError::ProducerFenced(_)
            | TopicError::ConsumerBusy { .. }
            | TopicError::ConsumerAssign(_)
            | TopicError::InUse(_)
            | TopicError::Terminated
            | TopicError::NotAllowed(_) => Self::precondition(reason),
            TopicError::Invalid(_) => Self::bad_request(reason),
            TopicError::NotReady(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, reason),
            TopicError::Persistence(_) | TopicError::Metadata(_) => {
                Self::failed(StatusCode::SERVICE_UNAVAILABLE, &reason)
            }
        }
    }
}
