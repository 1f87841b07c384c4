//! Where the bookie's files are, and the steps of a flush that touch them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use magnetar_common::storage::Storage;

use crate::cache::Generation;
use crate::checkpoint::{self, Checkpoint, LogRow};
use crate::entry_log::{self, Log, OpenError, Run, format};
use crate::identity::InstanceId;

/// Directories of one bookie and who it is.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) journal_dir: PathBuf,
    /// At least one; the first also holds the checkpoint.
    pub(crate) ledger_dirs: Vec<PathBuf>,
    pub(crate) instance: InstanceId,
}

/// A log that is alive.
#[derive(Clone)]
pub(super) struct OpenLog {
    pub(super) log: Arc<Log>,
    pub(super) dir: u32,
}

impl OpenLog {
    pub(super) fn row(&self) -> LogRow {
        LogRow { log: self.log.id, dir: self.dir, bytes: self.log.bytes }
    }
}

impl Disk {
    fn checkpoint_dir(&self) -> &Path {
        &self.ledger_dirs[0]
    }

    pub(super) fn read_checkpoint(&self) -> Result<Option<Checkpoint>, checkpoint::ReadError> {
        checkpoint::read(&self.storage, self.checkpoint_dir())
    }

    pub(super) fn replace_checkpoint(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        checkpoint::replace(&self.storage, self.checkpoint_dir(), checkpoint)
    }

    fn log_path(&self, row: &LogRow) -> Option<PathBuf> {
        Some(self.ledger_dirs.get(row.dir as usize)?.join(format::file_name(row.log)))
    }

    /// Opens a log that the checkpoint names.
    pub(super) fn open_log(&self, row: &LogRow) -> Result<(OpenLog, Vec<Run>), OpenError> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "its directory is not configured");
        let path = self.log_path(row).ok_or_else(missing)?;
        let (log, runs) = Log::open(&self.storage, &path, row.log, self.instance)?;
        Ok((OpenLog { log: Arc::new(log), dir: row.dir }, runs))
    }

    /// Writes a generation as log number `log` and opens it.
    pub(super) fn write_log(
        &self,
        log: u64,
        generation: &Generation,
    ) -> Result<(OpenLog, Vec<Run>), OpenError> {
        let dir = (log % self.ledger_dirs.len() as u64) as u32;
        let path = &self.ledger_dirs[dir as usize];
        let bytes = entry_log::write(&self.storage, path, self.instance, log, generation.sorted())?;
        self.open_log(&LogRow { log, dir, bytes })
    }

    /// Unlinks a log that no durable checkpoint names any more.
    pub(super) fn remove_log(&self, row: &LogRow) -> io::Result<()> {
        match self.log_path(row) {
            Some(path) => self.storage.remove(&path),
            None => Ok(()),
        }
    }

    /// Unlinks what a crash left: unfinished logs, and finished ones that no checkpoint came to name. The journal still
    /// has their entries.
    pub(super) fn remove_leftovers(&self, alive: &[LogRow]) -> io::Result<()> {
        for (dir, path) in self.ledger_dirs.iter().enumerate() {
            for name in self.storage.list(path)? {
                let unnamed = format::parse_file_name(&name)
                    .is_some_and(|log| !alive.iter().any(|row| row.log == log && row.dir as usize == dir));
                if unnamed || format::is_temporary_name(&name) {
                    tracing::info!(file = %path.join(&name).display(), "removing an entry log that no checkpoint names");
                    self.storage.remove(&path.join(&name))?;
                }
            }
        }
        Ok(())
    }

    /// Free and total bytes over the ledger directories.
    pub(super) fn space(&self) -> io::Result<(u64, u64)> {
        let mut sum = (0, 0);
        for dir in &self.ledger_dirs {
            let space = self.storage.space(dir)?;
            sum = (sum.0 + space.free, sum.1 + space.total);
        }
        Ok(sum)
    }
}
