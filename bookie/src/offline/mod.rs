//! Tools for the directories of a bookie that does not run: what is in them, whether it is whole, what can be saved.
//! The command line calls them. Looking never writes: [`inspect`] and [`verify`] see the files through a storage that
//! refuses every write. Only [`repair`] writes, only when told to, and only while it holds the directories' locks.
//!
//! They must never call an entry whole that the engine could not serve, and never pass over bytes without naming them.

mod inspect;
mod inventory;
mod ledger;
mod log_check;
mod mend;
mod read_only;
mod repair;
mod report;
mod rewrite;
mod store;
#[cfg(test)]
mod tests;
mod verify;
mod walk;

use std::io;
use std::path::{Path, PathBuf};

pub use self::inspect::{inspect, inspect_file, inspect_ledger};
pub use self::inventory::{
    CheckpointState, FileState, IdentityState, Inventory, LedgerState, LogState, Records, RunState,
    SegmentState, SegmentUse,
};
pub use self::repair::{Repair, Repaired, Step, repair};
pub use self::report::{Finding, Verified, Weight, What};
pub use self::verify::verify;
use crate::identity::IdentityError;

/// The directories of one bookie, as its configuration names them.
#[derive(Clone, Debug)]
pub struct Dirs {
    pub journal_dir: PathBuf,
    /// In the configured order.
    pub ledger_dirs: Vec<PathBuf>,
}

impl Dirs {
    /// Every directory that holds a copy of the checkpoint, the journal's first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.journal_dir).chain(&self.ledger_dirs).map(PathBuf::as_path)
    }
}

/// Why a tool cannot do its work at all.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    #[error("cannot read {}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("directory {} does not exist: name the directories that the bookie is configured with", path.display())]
    NoDirectory { path: PathBuf },
    #[error("directory {} is in use by a running bookie: stop it first", path.display())]
    InUse { path: PathBuf },
    #[error("{0}")]
    Identity(#[from] IdentityError),
    #[error(
        "none of the directories has a readable identity stamp or checkpoint: they are not those of a bookie, or not all of them were named"
    )]
    NotABookie,
    #[error("{} is no file of a bookie: its name is neither a journal's, an entry log's, a checkpoint's nor a stamp's", path.display())]
    UnknownFile { path: PathBuf },
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
}

impl OfflineError {
    fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> OfflineError {
        let path = path.into();
        move |error| OfflineError::Io { path, error }
    }
}
