//! What a request is refused with: a wire code and a message.

use magnetar_common::topic_name::InvalidName;
use magnetar_proto::pulsar::api::{self, ServerError};

use crate::namespace::{LoadError, StoreError};
use crate::topic::TopicError;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) code: ServerError,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(code: ServerError, message: impl Into<String>) -> Self {
        Refusal { code, message: message.into() }
    }

    pub(super) fn not_allowed(message: impl Into<String>) -> Self {
        Refusal::new(ServerError::NotAllowedError, message)
    }

    pub(super) fn not_ready(message: impl Into<String>) -> Self {
        Refusal::new(ServerError::ServiceNotReady, message)
    }

    pub(super) fn answer(self, request_id: u64) -> api::CommandError {
        api::CommandError { request_id, error: self.code as i32, message: self.message }
    }
}

impl From<TopicError> for Refusal {
    fn from(error: TopicError) -> Self {
        Refusal::new(error.server_error(), error.to_string())
    }
}

impl From<LoadError> for Refusal {
    fn from(error: LoadError) -> Self {
        Refusal::new(error.server_error(), error.to_string())
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Refusal::new(error.server_error(), error.to_string())
    }
}

impl From<InvalidName> for Refusal {
    fn from(error: InvalidName) -> Self {
        Refusal::new(ServerError::InvalidTopicName, error.to_string())
    }
}
