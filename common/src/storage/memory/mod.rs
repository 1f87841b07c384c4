//! Files in memory that lose what was not synced, for tests of durability.

mod faults;
mod file;
#[cfg(test)]
mod tests;

use self::faults::Disk;
use self::file::{DirectFile, Fate, MemoryFile};
use super::{DirLock, File, Space, Storage};
use crate::random::SeededRandom;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A file system in memory. Clones share it; [`crash`](Self::crash) gives what a power cut would leave.
///
/// File contents are durable after `sync_data`, names after `sync_dir` of their directory. Files opened for direct
/// access refuse what is not aligned.
#[derive(Clone, Default)]
pub struct MemoryStorage {
    inner: Arc<Mutex<Inner>>,
    disk: Arc<Disk>,
}

#[derive(Default)]
struct Inner {
    dirs: BTreeSet<PathBuf>,
    /// Names as the process sees them.
    names: BTreeMap<PathBuf, Arc<MemoryFile>>,
    /// Names as a power cut would leave them.
    durable_names: BTreeMap<PathBuf, Arc<MemoryFile>>,
    locks: BTreeMap<PathBuf, Arc<AtomicBool>>,
    /// Files created below these fail their syncs, like those that were there already.
    failing: Vec<PathBuf>,
}

/// What a crash leaves of a file's unsynced bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// Nothing: the file is as of its last sync.
    Lost,
    /// All of it, as when the process dies and the machine lives.
    Kept,
    /// Some of it, as a power cut may leave it: every unsynced sector, length and name is kept or lost by itself, and
    /// the seed decides which.
    Torn {
        /// The same seed tears the same state alike.
        seed: u64,
    },
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.display().to_string())
}

impl MemoryStorage {
    /// An empty file system.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, path: &Path) -> io::Result<Arc<MemoryFile>> {
        self.lock().names.get(path).cloned().ok_or_else(|| missing(path))
    }

    fn add(&self, path: &Path) -> io::Result<Arc<MemoryFile>> {
        let mut inner = self.lock();
        if inner.names.contains_key(path) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, path.display().to_string()));
        }
        if !path.parent().is_some_and(|dir| inner.dirs.contains(dir)) {
            return Err(missing(path));
        }
        let fail_syncs = inner.failing.iter().any(|prefix| path.starts_with(prefix));
        let file = Arc::new(MemoryFile::new(self.disk.clone(), fail_syncs));
        inner.names.insert(path.to_owned(), file.clone());
        Ok(file)
    }

    /// A new file system with what would be left if everything stopped now. The old one stays as it is; its writers
    /// no longer matter. Orders to fail and the limit of space are not taken over.
    pub fn crash(&self, unsynced: Unsynced) -> Self {
        let mut fate = match unsynced {
            Unsynced::Lost => Fate::Lost,
            Unsynced::Kept => Fate::Kept,
            Unsynced::Torn { seed } => Fate::Torn(SeededRandom::new(seed)),
        };
        let inner = self.lock();
        let disk = Arc::new(Disk::default());
        let mut copies = BTreeMap::new();
        let paths: BTreeSet<_> = inner.names.keys().chain(inner.durable_names.keys()).collect();
        for path in paths {
            let (now, durable) = (inner.names.get(path), inner.durable_names.get(path));
            let same = matches!((now, durable), (Some(now), Some(durable)) if Arc::ptr_eq(now, durable));
            let named = if same || fate.keeps() { now } else { durable };
            if let Some(file) = named {
                copies.insert(path.clone(), Arc::new(file.after_crash(&mut fate, disk.clone())));
            }
        }
        let inner = Inner {
            dirs: inner.dirs.clone(),
            names: copies.clone(),
            durable_names: copies,
            locks: BTreeMap::new(),
            failing: Vec::new(),
        };
        Self { inner: Arc::new(Mutex::new(inner)), disk }
    }

    /// Every later sync of files whose path starts with `prefix` fails with EIO, also of files created later.
    pub fn fail_syncs(&self, prefix: &Path) {
        let mut inner = self.lock();
        inner.failing.push(prefix.to_owned());
        inner
            .names
            .iter()
            .filter(|(path, _)| path.starts_with(prefix))
            .for_each(|(_, file)| file.fail_syncs());
    }

    /// The `n`-th sync from now (1 is the next), of a file or of a directory, fails with EIO; those after it succeed, and
    /// do not make durable what the failed one was to. Replaces an earlier order.
    pub fn fail_nth_sync(&self, n: u64) {
        self.disk.fail_nth_sync(n);
    }

    /// Syncs of files and directories so far, failed ones included.
    pub fn syncs(&self) -> u64 {
        self.disk.syncs()
    }

    /// The `n`-th write from now (1 is the next) writes the first half of its bytes and fails with `kind`, those after
    /// it succeed: `StorageFull` is ENOSPC, `Other` does for EIO. Replaces an earlier order.
    pub fn fail_nth_write(&self, n: u64, kind: io::ErrorKind) {
        self.disk.fail_nth_write(n, kind);
    }

    /// Writes so far, failed ones included.
    pub fn writes(&self) -> u64 {
        self.disk.writes()
    }

    /// Leaves `bytes` of free space: [`space`](Storage::space) says so, and what would grow files beyond it fails with
    /// `StorageFull`. Removing and cutting files frees space again. File lengths are what counts.
    pub fn set_free(&self, bytes: u64) {
        self.disk.set_free(bytes);
    }

    /// A file's bytes as the process sees them.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.file(path)?.bytes())
    }

    /// Replaces a file's bytes, synced: damage, as a test wants it.
    pub fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.file(path)?.replace(bytes);
        Ok(())
    }
}

impl Storage for MemoryStorage {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.add(path)?)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.file(path)?)
    }

    fn create_direct(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(DirectFile(self.add(path)?)))
    }

    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(DirectFile(self.file(path)?)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inner = self.lock();
        if !inner.dirs.contains(dir) {
            return Err(missing(dir));
        }
        let names = inner.names.keys().chain(inner.dirs.iter());
        let mut names: Vec<_> = names
            .filter(|path| path.parent() == Some(dir))
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        let file = inner.names.remove(from).ok_or_else(|| missing(from))?;
        if let Some(replaced) = inner.names.insert(to.to_owned(), file) {
            replaced.unlink();
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.lock().names.remove(path).map(|file| file.unlink()).ok_or_else(|| missing(path))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let inner = self.lock();
        Ok(inner.names.contains_key(path) || inner.dirs.contains(path))
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        for ancestor in dir.ancestors() {
            inner.dirs.insert(ancestor.to_owned());
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync()?;
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.durable_names.retain(|path, _| path.parent() != Some(dir));
        let now = inner.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        inner.durable_names.extend(now.map(|(path, file)| (path.clone(), file.clone())));
        Ok(())
    }

    fn space(&self, _dir: &Path) -> io::Result<Space> {
        let (total, free) = self.disk.space();
        Ok(Space { total, free })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let held = MemoryStorage::lock(self).locks.entry(path.to_owned()).or_default().clone();
        if held.swap(true, Ordering::AcqRel) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemoryLock(held)))
    }
}

struct MemoryLock(Arc<AtomicBool>);

impl DirLock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
