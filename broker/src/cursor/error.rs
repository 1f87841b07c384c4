//! What can go wrong with a durable cursor.

use crate::managed_ledger::MlError;
use magnetar_common::metadata::MetadataError;
use magnetar_ledger::LedgerError;

/// Why a cursor's operation failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CursorError {
    /// Another owner has the cursor now: stop, and look up who owns the topic.
    #[error("cursor {0} has a newer owner")]
    Fenced(String),
    /// It exists already.
    #[error("cursor {0} exists")]
    Exists(String),
    /// It does not exist.
    #[error("cursor {0} does not exist")]
    NotFound(String),
    /// Its record cannot be understood.
    #[error("the record of cursor {name} cannot be understood: {reason}")]
    Corrupt {
        /// Which cursor.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// There is more to keep than an entry may hold. Nothing is confirmed until the oldest messages are acknowledged.
    #[error(
        "the acknowledgements of cursor {name} take {bytes} bytes, more than an entry may hold; acknowledge its oldest messages"
    )]
    TooLarge {
        /// Which cursor.
        name: String,
        /// Size of the record.
        bytes: usize,
    },
    /// Its ledger failed: try again.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The metadata store failed: try again.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

impl CursorError {
    /// Whether trying again is of no use: the topic must be opened anew.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Fenced(_) | Self::Exists(_) | Self::NotFound(_) | Self::Corrupt { .. } => true,
            Self::TooLarge { .. } | Self::Ledger(_) | Self::Metadata(_) => false,
        }
    }
}

impl From<MlError> for CursorError {
    fn from(error: MlError) -> Self {
        match error {
            MlError::Fenced(name) => Self::Fenced(name),
            MlError::Corrupt { name, reason } => Self::Corrupt { name, reason },
            MlError::Ledger(error) => Self::Ledger(error),
            MlError::Metadata(error) => Self::Metadata(error),
        }
    }
}
