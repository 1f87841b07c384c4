//! What can go wrong with a ledger, a variant for each way a caller would act.

use crate::placement::PlacementError;
use bytes::Bytes;
use magnetar_common::metadata::MetadataError;
use magnetar_proto::ids::{EntryId, LedgerId};

/// Why a ledger operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// Somebody else has taken the ledger over: stop writing, and open the topic anew.
    #[error("ledger {0} has been fenced by a newer owner")]
    Fenced(LedgerId),
    /// Too few bookies answer. Writing: open a new ledger. Reading or recovering: try again later.
    #[error(
        "ledger {ledger}: too few bookies answer ({reason}); check that the bookies run, and that none is read-only because \
         its disk is full"
    )]
    NotEnoughBookies {
        /// The ledger.
        ledger: LedgerId,
        /// What was missing.
        reason: String,
    },
    /// There are fewer writable bookies than a new ledger needs.
    #[error(
        "a new ledger needs {needed} writable bookies and there are {found}; start more, or lower the ensemble size"
    )]
    TooFewRegistered {
        /// The ensemble size asked for.
        needed: usize,
        /// Registered writable bookies.
        found: usize,
    },
    /// There are bookies enough, but none that may hold this ledger's copies: its isolation group or the racks forbid it.
    #[error("no bookies for the ledger: {0}")]
    Placement(#[from] PlacementError),
    /// The ledger does not exist in the metadata store.
    #[error("ledger {0} does not exist")]
    NoSuchLedger(LedgerId),
    /// Every replica says that the entry does not exist.
    #[error("entry {1} of ledger {0} does not exist")]
    NoSuchEntry(LedgerId, EntryId),
    /// No replica has a readable copy now; some could not be asked. Never to be taken for absence.
    #[error("entry {entry} of ledger {ledger} cannot be read: {reason}")]
    Unreadable {
        /// The ledger.
        ledger: LedgerId,
        /// The entry.
        entry: EntryId,
        /// What the replicas said.
        reason: String,
    },
    /// As much waits to be acknowledged as may. Append again when [`Writer::next`](crate::Writer::next) has told of a
    /// confirmation; nothing is lost, and the writer goes on by itself.
    #[error(
        "ledger {ledger}: {in_flight_bytes} bytes wait to be acknowledged{}; append again when some of them are",
        if *.awaiting_metadata { ", for the metadata store does not answer" } else { "" }
    )]
    Busy {
        /// The ledger.
        ledger: LedgerId,
        /// Payload bytes that are not acknowledged.
        in_flight_bytes: usize,
        /// Nothing is acknowledged before the metadata store answers: too many bookies failed, and who takes their place
        /// has to be recorded first.
        awaiting_metadata: bool,
    },
    /// The password or the quorums do not fit the ledger.
    #[error("ledger {0}: the password is wrong")]
    Unauthorized(LedgerId),
    /// The metadata store failed; try again later.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The TLS files for connections to bookies cannot be used.
    #[error("{0}")]
    Tls(String),
    /// The ledger's metadata record cannot be understood.
    #[error("ledger {ledger}: {reason}")]
    DamagedMetadata {
        /// The ledger.
        ledger: LedgerId,
        /// What is wrong.
        reason: String,
    },
}

/// A refused append. Gives the payload back.
#[derive(Debug, thiserror::Error)]
#[error("the ledger takes no more entries: {error}")]
pub struct AppendError {
    /// Why.
    pub error: LedgerError,
    /// What was to be appended.
    pub payload: Bytes,
}
