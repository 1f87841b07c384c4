//! Compaction: of the messages of a key only the newest stays, in a ledger beside the log, for those who read it so.
//!
//! Called by the topic's task, which owns the state ([`Compaction`]) and starts a [`job`] that reads and writes beside
//! it. It must never know of consumers: they get a [`Compacted`] to read from. The ledger's form, the name of the cursor
//! and the property that names the ledger are Pulsar's, so either system goes on with what the other has compacted.
//!
//! ```text
//! cursor `__compaction`: mark-delete = horizon, `CompactedTopicLedger` = what stands for everything up to there
//!
//! Reading ── the new ledger is recorded as a leftover ──> Writing ── closed ──> Publishing ── cursor durable ──> done
//! ```
//! A crash leaves the cursor as it was or as it is to be, and a ledger too many, which the cursor names: the next owner
//! deletes it. (Between a ledger's creation and that record there is a moment in which an empty ledger is left behind.)

mod compacted;
mod content;
mod entry;
mod job;
mod lifecycle;
#[cfg(test)]
mod model_tests;
mod newest;
mod options;
mod state;

pub(crate) use compacted::{Compacted, left_of};
pub(crate) use job::Event;
pub(crate) use state::{CURSOR, Compaction};
pub use state::{CompactionState, CompactionStatus};
