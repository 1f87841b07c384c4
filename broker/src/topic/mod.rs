//! One topic: its producers, its subscriptions and the managed ledger below them, owned by one task.
//!
//! Connections, the topic registry and the admin API call it through [`Handle`]. It must never know of sockets, HTTP,
//! namespaces or how frames look: what it sends leaves through an `Outbound`, what it may do arrives as values.

mod ack;
mod actor;
mod admin;
mod closing;
mod compaction;
mod compression;
mod consumer;
mod contents;
mod dead_letter;
mod deduplication;
mod delayed;
mod departed;
mod dispatching;
mod durability;
mod error;
mod event;
mod expiry;
mod filter;
mod finder;
mod handle;
mod housekeeping;
mod joining;
mod mailbox;
mod measure;
mod names;
mod producers;
mod publish;
mod quota;
mod rate;
mod reads;
mod request;
mod runs;
mod seek;
mod sequences;
mod snapshot;
mod stats;
mod subscribing;
mod subscription;
mod tail_cache;
#[cfg(test)]
mod tests;
pub(crate) mod timestamp;
mod volatile;
mod why;

pub use actor::{TopicEnv, TopicLimits, open};
pub use compaction::{CompactionState, CompactionStatus};
pub use dead_letter::{Returned, StoreElsewhere, returned};
pub use departed::Departed;
pub use error::{Holder, TopicError};
pub use handle::Handle;
pub use names::ProducerNames;
pub use request::{
    AccessMode, AddProducer, CloseReason, ConsumerKey, InitialPosition, KeySharedPolicy, LastMessageId,
    PeekedEntry, ProducerKey, ProducerReady, Publish, SeekTarget, StartPosition, Subscribe, SubscriptionType,
    Welcome,
};
pub use stats::{
    CompactionStats, ConsumerStats, CursorInternalStats, InternalStats, LedgerInternalStats, PublisherStats,
    SubscriptionStats, TopicStats,
};
pub use tail_cache::TailBudget;
pub use why::Why;
