//! Why a name could not be served.

use magnetar_common::metadata::MetadataError;
use magnetar_common::topic_name::{InvalidName, NamespaceName, TopicName};

use crate::schemas::Incompatible;
use crate::topic::TopicError;

/// Why a record was not read or changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// It, or what it belongs to, does not exist.
    #[error("{0} does not exist")]
    NotFound(String),
    #[error("{0} exists already")]
    Exists(String),
    /// Something still lives below it.
    #[error("{0} is not empty; delete what is in it first")]
    NotEmpty(String),
    /// The new value makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A schema may not follow those that are there.
    #[error(transparent)]
    Schema(#[from] Incompatible),
    /// Somebody else keeps changing the record.
    #[error("{0} is being changed by somebody else; try again")]
    Contended(String),
    /// A record that is not what Pulsar keeps there.
    #[error("record {key} is damaged: {reason}")]
    Corrupt { key: String, reason: String },
    #[error("metadata store: {0}")]
    Metadata(String),
    /// No broker serves the topic right now: look it up again.
    #[error("{0}")]
    Unplaced(String),
}

impl From<MetadataError> for StoreError {
    fn from(error: MetadataError) -> Self {
        StoreError::Metadata(error.to_string())
    }
}

/// Why a topic is not served.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    #[error("namespace {0} does not exist; create it, or use another one")]
    UnknownNamespace(NamespaceName),
    #[error("topic {0} does not exist and may not be created by its first use; create it first")]
    NotFound(TopicName),
    #[error("topic {topic} has only {partitions} partitions; look its metadata up again")]
    NoSuchPartition { topic: TopicName, partitions: u32 },
    #[error("topic {0} is partitioned; use its partitions, as clients do after asking for its metadata")]
    Partitioned(TopicName),
    #[error("topic {0} is not served by this broker; look it up again")]
    NotServed(TopicName),
    #[error("the broker is shutting down; look the topic up again")]
    ShuttingDown,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Topic(#[from] TopicError),
}
