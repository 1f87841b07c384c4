//! Why a bookie does not start, and why a running one ends.

use std::io;
use std::sync::Arc;

use crate::checkpoint;
use crate::entry_log;
use crate::journal::ReplayError;

/// A failure after which the bookie answers nothing more: its process must end, and a new start replays the journal.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FatalError {
    /// The journal's write or sync failed. It is never retried: the kernel may have dropped what it could not write.
    #[error("the journal cannot be written: {0}")]
    Journal(Arc<io::Error>),
    #[error("an entry log cannot be written: {0}")]
    EntryLog(Arc<entry_log::OpenError>),
    #[error("the checkpoint cannot be replaced: {0}")]
    Checkpoint(Arc<io::Error>),
    /// The engine was closed under the caller.
    #[error("the bookie was stopped")]
    Stopped,
}

impl FatalError {
    pub(crate) fn journal(error: io::Error) -> Self {
        FatalError::Journal(Arc::new(error))
    }

    pub(crate) fn entry_log(error: entry_log::OpenError) -> Self {
        FatalError::EntryLog(Arc::new(error))
    }

    pub(crate) fn checkpoint(error: io::Error) -> Self {
        FatalError::Checkpoint(Arc::new(error))
    }
}

/// Why the stored state cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot read or write the data directories: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Checkpoint(#[from] checkpoint::ReadError),
    #[error("the checkpoint belongs to another bookie")]
    ForeignCheckpoint,
    #[error("entry log {log:016x}: {reason}")]
    EntryLog { log: u64, reason: entry_log::OpenError },
    #[error("{0}")]
    Journal(#[from] ReplayError),
    #[error("{0}")]
    Flush(#[from] FatalError),
}
