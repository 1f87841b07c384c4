//! Where the bookie's files are, and the steps of a flush that touch them.

use std::io;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use magnetar_common::storage::Storage;
use magnetar_proto::ids::{EntryId, LedgerId};

use crate::checkpoint::{self, Checkpoint, Copies, LogRow};
use crate::entry_log::{self, Log, OpenError, Run, format};
use crate::identity::InstanceId;

/// Directories of one bookie and who it is.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) journal_dir: PathBuf,
    /// At least one. Each has a copy of the checkpoint, and so has the journal's.
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
    pub(super) fn read_checkpoint(&self) -> Result<(Copies, Option<Checkpoint>), checkpoint::ReadError> {
        Copies::open(&self.storage, self.dirs())
    }

    /// All of them, the journal's first.
    pub(super) fn dirs(&self) -> impl Iterator<Item = &Path> + Clone {
        iter::once(&self.journal_dir).chain(&self.ledger_dirs).map(PathBuf::as_path)
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

    /// Opens a log whose index is damaged; see [`Log::rebuild`].
    pub(super) fn rebuild_log(&self, row: &LogRow) -> Result<(OpenLog, Vec<Run>, bool), OpenError> {
        let path = self.log_path(row).ok_or(io::ErrorKind::NotFound).map_err(io::Error::from)?;
        let (log, runs, complete) = Log::rebuild(&self.storage, &path, row.log, self.instance)?;
        Ok((OpenLog { log: Arc::new(log), dir: row.dir }, runs, complete))
    }

    /// Removes what there is of a log that no checkpoint has come to name.
    pub(super) fn discard_log(&self, log: u64, dir: usize) {
        for name in [format::temporary_name(log), format::file_name(log)] {
            match self.storage.remove(&self.ledger_dirs[dir].join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(log, %error, "cannot remove an unfinished entry log; the next start does");
                }
                _ => {}
            }
        }
    }

    /// Writes log number `log` from sorted entries into ledger directory `dir`, and opens it. A failed attempt leaves
    /// nothing that takes space.
    pub(super) fn write_log(
        &self,
        dir: usize,
        log: u64,
        entries: impl Iterator<Item = (LedgerId, EntryId, Bytes)>,
    ) -> Result<(OpenLog, Vec<Run>), OpenError> {
        let path = &self.ledger_dirs[dir];
        let written = entry_log::write(&self.storage, path, self.instance, log, entries);
        if written.is_err() {
            // What cannot be removed now is removed at the next start.
            let _ = self.storage.remove(&path.join(format::temporary_name(log)));
        }
        self.open_log(&LogRow { log, dir: dir as u32, bytes: written? })
    }

    /// Unlinks a log that no durable checkpoint names any more.
    pub(super) fn remove_log(&self, row: &LogRow) -> io::Result<()> {
        match self.log_path(row) {
            Some(path) => self.storage.remove(&path),
            None => Ok(()),
        }
    }

    /// Every sealed log in the directories that can be listed, ascending by id.
    pub(super) fn sealed_logs(&self) -> io::Result<Vec<LogRow>> {
        let mut rows = Vec::new();
        for (dir, path) in self.listable() {
            for log in self.storage.list(path)?.iter().filter_map(|name| format::parse_file_name(name)) {
                let bytes = self.storage.open(&path.join(format::file_name(log)))?.len()?;
                rows.push(LogRow { log, dir: dir as u32, bytes });
            }
        }
        rows.sort_unstable_by_key(|row| row.log);
        Ok(rows)
    }

    /// Unlinks logs that were never finished: the journal has their entries.
    pub(super) fn remove_temporaries(&self) {
        for (_, path) in self.listable() {
            let names = self.storage.list(path).unwrap_or_default();
            for name in names.iter().filter(|name| format::is_temporary_name(name)) {
                // One that stays only takes space.
                let _ = self.storage.remove(&path.join(name));
            }
        }
    }

    /// The directories that are not lost.
    fn listable(&self) -> impl Iterator<Item = (usize, &Path)> {
        let dirs = self.ledger_dirs.iter().map(PathBuf::as_path).enumerate();
        dirs.filter(|(_, path)| self.storage.list(path).is_ok())
    }
}
