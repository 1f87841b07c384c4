//! The files of a stopped bookie: whose they are, what the checkpoint says, which logs there are.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use magnetar_common::storage::{DirLock, Storage};

use super::read_only::ReadOnly;
use super::{Dirs, OfflineError};
use crate::checkpoint::{self, Checkpoint, LogRow};
use crate::entry_log::format;
use crate::identity::{self, DataDir, Identity, IdentityError, InstanceId, LOCK};
use crate::journal::{ReplayFrom, segment};

/// See the module.
pub(super) struct Store {
    /// Refuses writes.
    pub(super) storage: Arc<dyn Storage>,
    pub(super) dirs: Dirs,
    /// What most of the stamps, the checkpoint and the journal's segments name.
    pub(super) instance: InstanceId,
    pub(super) stamps: Vec<Stamp>,
    pub(super) checkpoint: Result<Option<Checkpoint>, checkpoint::ReadError>,
    /// Ascending by log id.
    pub(super) logs: Vec<LogFile>,
    /// A bookie runs on these directories.
    pub(super) in_use: Option<PathBuf>,
    _locks: Vec<Box<dyn DirLock>>,
}

/// The identity stamp that a directory should have.
pub(super) struct Stamp {
    pub(super) path: PathBuf,
    pub(super) found: Result<Option<Identity>, IdentityError>,
    /// The file's bytes are exactly those that the identity is written with.
    pub(super) exact: bool,
}

/// A directory's lock, or `None` where none is needed.
type Locked = io::Result<Option<Box<dyn DirLock>>>;

/// An entry log: in a directory, or named by the checkpoint, or both.
pub(super) struct LogFile {
    pub(super) log: u64,
    pub(super) dir: u32,
    pub(super) path: PathBuf,
    pub(super) exists: bool,
    /// What the checkpoint says of it.
    pub(super) row: Option<LogRow>,
}

impl Store {
    /// Reads stamps, checkpoint and directory listings. A running bookie is noted, not refused. Blocks.
    pub(super) fn open(storage: &Arc<dyn Storage>, dirs: &Dirs) -> Result<Store, OfflineError> {
        Self::with(storage, dirs, &lock_existing)
    }

    /// Like [`Store::open`], and locks every directory: no bookie can start on them until this is dropped.
    pub(super) fn lock(storage: &Arc<dyn Storage>, dirs: &Dirs) -> Result<Store, OfflineError> {
        Self::with(storage, dirs, &|storage, dir| storage.lock(&dir.join(LOCK)).map(Some))
    }

    fn with(
        storage: &Arc<dyn Storage>,
        dirs: &Dirs,
        lock: &dyn Fn(&dyn Storage, &Path) -> Locked,
    ) -> Result<Store, OfflineError> {
        let all = || std::iter::once(&dirs.journal_dir).chain(&dirs.ledger_dirs);
        for dir in all() {
            if !storage.exists(dir).map_err(OfflineError::io(dir))? {
                return Err(OfflineError::NoDirectory { path: dir.clone() });
            }
        }
        let mut locks = Vec::new();
        let mut in_use = None;
        let mut locked: Vec<&Path> = Vec::new();
        for dir in all() {
            if locked.contains(&dir.as_path()) {
                continue;
            }
            locked.push(dir);
            match lock(&**storage, dir) {
                Ok(lock) => locks.extend(lock),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => in_use = Some(dir.clone()),
                Err(error) => return Err(OfflineError::io(dir)(error)),
            }
        }
        let storage: Arc<dyn Storage> = Arc::new(ReadOnly(storage.clone()));
        let data_dirs = identity::data_dirs(&dirs.journal_dir, &dirs.ledger_dirs);
        let stamps: Vec<Stamp> = data_dirs.iter().map(|dir| read_stamp(&storage, dir)).collect();
        let checkpoint = checkpoint::newest(&storage, dirs.all());
        let stamped = stamps.iter().filter_map(|stamp| Some(stamp.found.as_ref().ok()?.as_ref()?.instance));
        let in_checkpoint = checkpoint.as_ref().ok().and_then(Option::as_ref).map(|found| found.instance);
        let named: Vec<_> =
            stamped.chain(in_checkpoint).chain(in_segments(&storage, &dirs.journal_dir)).collect();
        let instance = most_named(&named).ok_or(OfflineError::NotABookie)?;
        let rows = checkpoint.as_ref().ok().and_then(Option::as_ref).map_or(&[][..], |found| &found.logs);
        let logs = list_logs(&storage, dirs, rows)?;
        Ok(Store { storage, dirs: dirs.clone(), instance, stamps, checkpoint, logs, in_use, _locks: locks })
    }

    /// Where the checkpoint's file is.
    pub(super) fn checkpoint_path(&self) -> PathBuf {
        self.dirs.ledger_dirs[0].join(checkpoint::NAME)
    }

    /// The checkpoint, when there is one and it can be read.
    pub(super) fn known_checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref().ok()?.as_ref()
    }

    /// Where a replay would begin; `None` when the checkpoint cannot be read.
    pub(super) fn replay_from(&self) -> Option<ReplayFrom> {
        match &self.checkpoint {
            Ok(Some(found)) => Some(ReplayFrom { floor: Some(found.floor), sequence: found.sequence }),
            Ok(None) => Some(ReplayFrom { floor: None, sequence: 0 }),
            Err(_) => None,
        }
    }
}

/// The instances that journal segments name.
fn in_segments(storage: &Arc<dyn Storage>, dir: &Path) -> Vec<InstanceId> {
    let header = |name: &String| {
        segment::parse_file_name(name)?;
        let file = storage.open(&dir.join(name)).ok()?;
        let mut bytes = [0; segment::HEADER_BYTES];
        file.read_exact_at(&mut bytes, 0).ok()?;
        Some(segment::SegmentHeader::decode(&bytes).ok()?.instance)
    };
    storage.list(dir).unwrap_or_default().iter().filter_map(header).collect()
}

/// What is named most often; of several, what is named first.
pub(super) fn most_named<T: PartialEq + Clone>(named: &[T]) -> Option<T> {
    let count = |one: &T| named.iter().filter(|other| *other == one).count();
    named.iter().rev().max_by_key(|one| count(one)).cloned()
}

/// Takes the lock of a directory that has been locked before. Where nothing can be written nobody else writes either.
fn lock_existing(storage: &dyn Storage, dir: &Path) -> Locked {
    let path = dir.join(LOCK);
    if !storage.exists(&path)? {
        return Ok(None);
    }
    match storage.lock(&path) {
        Ok(lock) => Ok(Some(lock)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn read_stamp(storage: &Arc<dyn Storage>, dir: &DataDir) -> Stamp {
    let path = dir.path.join(&dir.stamp);
    let found = dir.inspect(&**storage).map(|(identity, _)| identity);
    let expected = found.as_ref().ok().and_then(Option::as_ref).map(identity::encode);
    let bytes = || {
        let file = storage.open(&path)?;
        let mut bytes = vec![0; file.len()? as usize];
        file.read_exact_at(&mut bytes, 0)?;
        io::Result::Ok(bytes)
    };
    let exact = expected.is_some_and(|text| bytes().is_ok_and(|bytes| bytes == text.as_bytes()));
    Stamp { path, found, exact }
}

fn list_logs(storage: &Arc<dyn Storage>, dirs: &Dirs, rows: &[LogRow]) -> Result<Vec<LogFile>, OfflineError> {
    let mut logs = Vec::new();
    for (at, dir) in dirs.ledger_dirs.iter().enumerate() {
        for name in storage.list(dir).map_err(OfflineError::io(dir))? {
            let Some(log) = format::parse_file_name(&name) else { continue };
            let row = rows.iter().find(|row| row.log == log && row.dir as usize == at).copied();
            logs.push(LogFile { log, dir: at as u32, path: dir.join(name), exists: true, row });
        }
    }
    for row in rows {
        if logs.iter().any(|found| found.row.as_ref() == Some(row)) {
            continue;
        }
        let name = format::file_name(row.log);
        let path = dirs.ledger_dirs.get(row.dir as usize).map_or_else(
            || PathBuf::from(format!("<ledger directory {}, not configured>", row.dir)).join(&name),
            |dir| dir.join(&name),
        );
        logs.push(LogFile { log: row.log, dir: row.dir, path, exists: false, row: Some(*row) });
    }
    logs.sort_unstable_by_key(|found| (found.log, found.dir));
    Ok(logs)
}
