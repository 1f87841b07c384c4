//! A topic's entries: an ordered list of ledgers, of which the last one takes the appends.
//!
//! Owned by one topic actor, which appends through it, waits on [`ManagedLedger::next`] and reads through a
//! [`MlReader`]. It must never know what an entry means, who produced it or who has yet to consume it. What is decided
//! (navigation, rollover, trim, what waits for a new ledger) is in plain files without IO; [`ManagedLedger`] is the thin
//! shell that gives them ledgers, metadata and time.

mod backlog;
mod closing;
mod config;
mod error;
mod housekeeping;
mod info;
mod info_store;
mod ledger_list;
mod mark;
mod open;
mod queue;
mod reader;
mod rollover;
mod shell;
mod tail;
mod trim;

#[cfg(test)]
mod handover_tests;
#[cfg(test)]
pub(crate) mod test_cluster;
#[cfg(test)]
pub(crate) mod test_store;
#[cfg(test)]
mod tests;

pub use config::{MlConfig, MlEnv, Retention};
pub use error::{AppendRefused, MlError, Refusal};
pub use housekeeping::MlStats;
pub(crate) use info_store::put_checked;
pub use ledger_list::{LedgerInfo, LedgerList, LedgerState};
pub use mark::MarkDelete;
pub use open::{Found, exists};
pub use reader::MlReader;
pub use shell::{ManagedLedger, MlEvent};

/// The property under which a topic's epoch is kept.
pub const TOPIC_EPOCH_PROPERTY: &str = "pulsar.topic.epoch";
