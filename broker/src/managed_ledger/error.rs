//! What can go wrong with a managed ledger.

use bytes::Bytes;
use magnetar_common::metadata::MetadataError;
use magnetar_ledger::LedgerError;

/// Why a managed ledger's operation failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MlError {
    /// Another owner has changed the topic's record: this one must stop, and look up who owns the topic.
    #[error("managed ledger {0} has a newer owner")]
    Fenced(String),
    /// The topic's record cannot be understood.
    #[error("the record of {name} cannot be understood: {reason}")]
    Corrupt {
        /// Which record.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A ledger failed: open the managed ledger anew.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The metadata store failed: try again later.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// Why an entry is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No ledger takes appends yet: wait for [`super::ManagedLedger::make_writable`].
    #[error("no ledger is open for appends yet")]
    NotWritable,
    /// A new ledger is being opened and as much waits for it as may.
    #[error("too much waits for a new ledger")]
    QueueFull,
    /// The topic is terminated.
    #[error("the topic is terminated")]
    Terminated,
    /// The managed ledger has failed: open it anew.
    #[error("the managed ledger has failed")]
    Failed,
}

/// A refused append: gives the entry back.
#[derive(Debug, thiserror::Error)]
#[error("the entry is not taken: {reason}")]
pub struct AppendRefused {
    /// Why.
    pub reason: Refusal,
    /// What was to be appended.
    pub entry: Bytes,
}
