//! One topic: its producers, its subscriptions and the managed ledger below them, owned by one task.
//!
//! Connections, the topic registry and the admin API call it through [`Handle`]. It must never know of frames,
//! sockets, HTTP or namespaces: what it sends leaves through an `Outbound`, what it may do arrives as values.
#![allow(dead_code, reason = "the task behind the handle lands next")]

mod actor;
mod error;
mod handle;
mod mailbox;
mod names;
mod request;
mod stats;

pub use actor::{TopicEnv, TopicLimits, open};
pub use error::{Holder, TopicError};
pub use handle::Handle;
pub use names::ProducerNames;
pub use request::{
    AccessMode, AddProducer, CloseReason, ConsumerKey, InitialPosition, KeySharedPolicy, LastMessageId,
    PeekedEntry, ProducerKey, ProducerReady, Publish, SeekTarget, StartPosition, Subscribe, SubscriptionType,
};
pub use stats::{
    CompactionStats, ConsumerStats, CursorInternalStats, InternalStats, LedgerInternalStats, PublisherStats,
    SubscriptionStats, TopicStats,
};
