//! How the broker's errors appear on the wire: one exhaustive mapping for each kind of error.
//!
//! Messages tell what to do. Those of errors that a client retries must not contain the protocol's error names in
//! their joined form (`TopicNotFound` …): the Go client searches the text for them and would stop retrying.

use magnetar_proto::pulsar::api::ServerError;

use crate::namespace::{LoadError, StoreError};
use crate::topic::TopicError;

impl TopicError {
    pub fn server_error(&self) -> ServerError {
        match self {
            TopicError::ProducerBusy { .. } => ServerError::ProducerBusy,
            TopicError::ProducerFenced(_) => ServerError::ProducerFenced,
            TopicError::ConsumerBusy { .. } => ServerError::ConsumerBusy,
            TopicError::ConsumerAssign(_) => ServerError::ConsumerAssignError,
            TopicError::NotReady(_) => ServerError::ServiceNotReady,
            TopicError::Terminated => ServerError::TopicTerminatedError,
            TopicError::NotFound => ServerError::TopicNotFound,
            TopicError::SubscriptionNotFound(_) => ServerError::SubscriptionNotFound,
            // As upstream: clients know no code of its own for it.
            TopicError::ConsumerNotFound => ServerError::MetadataError,
            TopicError::NotAllowed(_) | TopicError::Exists(_) => ServerError::NotAllowedError,
            TopicError::Invalid(_) | TopicError::Metadata(_) => ServerError::MetadataError,
            // An unsubscribe while others are connected.
            TopicError::InUse(_) => ServerError::ConsumerBusy,
            TopicError::BacklogFull { hold: true, .. } => ServerError::ProducerBlockedQuotaExceededError,
            TopicError::BacklogFull { hold: false, .. } => ServerError::ProducerBlockedQuotaExceededException,
            TopicError::Persistence(_) => ServerError::PersistenceError,
        }
    }
}

impl StoreError {
    pub fn server_error(&self) -> ServerError {
        match self {
            StoreError::NotFound(_) => ServerError::TopicNotFound,
            StoreError::Invalid(_) | StoreError::Exists(_) | StoreError::NotEmpty(_) => {
                ServerError::NotAllowedError
            }
            StoreError::Schema(_) => ServerError::IncompatibleSchema,
            StoreError::Unplaced(_) => ServerError::ServiceNotReady,
            StoreError::Contended(_) | StoreError::Corrupt { .. } | StoreError::Metadata(_) => {
                ServerError::MetadataError
            }
        }
    }
}

impl LoadError {
    pub fn server_error(&self) -> ServerError {
        match self {
            LoadError::InvalidName(_) => ServerError::InvalidTopicName,
            LoadError::UnknownNamespace(_) | LoadError::NotFound(_) | LoadError::NoSuchPartition { .. } => {
                ServerError::TopicNotFound
            }
            LoadError::Partitioned(_) => ServerError::NotAllowedError,
            LoadError::ShuttingDown | LoadError::NotServed(_) => ServerError::ServiceNotReady,
            LoadError::Store(error) => error.server_error(),
            LoadError::Topic(error) => error.server_error(),
        }
    }
}

/// ServiceNotReady as the answer to a lookup makes clients drop the connection with everything on it; MetadataError
/// makes them repeat the lookup.
pub(super) fn for_lookup(code: ServerError) -> ServerError {
    match code {
        ServerError::ServiceNotReady => ServerError::MetadataError,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lookup_is_never_answered_with_service_not_ready() {
        let code = for_lookup(LoadError::ShuttingDown.server_error());
        assert_eq!(code, ServerError::MetadataError);
    }

    #[test]
    fn errors_that_are_retried_do_not_name_final_ones() {
        let retried = [LoadError::ShuttingDown.to_string(), TopicError::closed().to_string()];
        for message in retried {
            for name in
                ["TopicNotFound", "TopicTerminatedError", "ProducerFenced", "ConsumerBusy", "NotAllowedError"]
            {
                assert!(!message.contains(name), "{message}");
            }
        }
    }
}
