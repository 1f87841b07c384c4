//! The topic's task.

use std::sync::Arc;

use magnetar_common::Environment;
use magnetar_common::metadata::SharedMetadata;
use magnetar_common::topic_name::TopicName;

use super::error::TopicError;
use super::handle::Handle;
use super::names::ProducerNames;
use crate::dispatch::Limits;

/// What topics of a broker share. Cheap to clone.
#[derive(Clone)]
pub struct TopicEnv {
    pub metadata: SharedMetadata,
    pub environment: Environment,
    pub limits: TopicLimits,
    pub names: Arc<ProducerNames>,
    /// This broker's name in stats (`ownerBroker`).
    pub broker: Arc<str>,
}

/// Bounds of one topic's memory.
#[derive(Clone, Copy, Debug)]
pub struct TopicLimits {
    /// Bytes of the newest entries kept for consumers that keep up.
    pub tail_cache_bytes: usize,
    /// Bytes read from bookies ahead of what a subscription's consumers have taken.
    pub read_ahead_bytes: usize,
    pub dispatch: Limits,
}

impl Default for TopicLimits {
    fn default() -> Self {
        TopicLimits {
            tail_cache_bytes: 16 * 1024 * 1024,
            read_ahead_bytes: 4 * 1024 * 1024,
            dispatch: Limits::default(),
        }
    }
}

/// Opens the topic's managed ledger and cursors (creating the ledger if there is none), and starts its task.
pub async fn open(_env: TopicEnv, _name: TopicName) -> Result<Handle, TopicError> {
    Err(TopicError::NotReady("topics cannot be opened yet".into()))
}
