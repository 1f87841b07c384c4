//! Files in memory that lose what was not synced, for tests of durability.

use super::{DirLock, File, Space, Storage};
use crate::random::{Random, SeededRandom};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The size that [`MemoryStorage`] claims to have.
const TOTAL_BYTES: u64 = 1 << 40;

/// A file system in memory. Clones share it; [`crash`](Self::crash) gives what a power cut would leave.
///
/// File contents are durable after `sync_data`, names after `sync_dir` of their directory.
#[derive(Clone, Default)]
pub struct MemoryStorage {
    inner: Arc<Mutex<Inner>>,
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

#[derive(Default)]
struct MemoryFile {
    state: Mutex<FileState>,
}

#[derive(Default, Clone)]
struct FileState {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    fail_syncs: bool,
}

/// The unit in which a disk keeps or loses what was not synced.
const SECTOR_BYTES: usize = 512;

/// Decides, one unsynced thing at a time, whether a crash keeps it.
enum Fate {
    Lost,
    Kept,
    Torn(SeededRandom),
}

impl Fate {
    fn keeps(&mut self) -> bool {
        match self {
            Fate::Lost => false,
            Fate::Kept => true,
            Fate::Torn(random) => random.next_u64() & 1 == 1,
        }
    }
}

impl FileState {
    fn after_crash(&self, fate: &mut Fate) -> MemoryFile {
        let length_kept = self.bytes.len() == self.synced.len() || fate.keeps();
        let length = if length_kept { self.bytes.len() } else { self.synced.len() };
        let mut left = vec![0; length];
        for start in (0..length).step_by(SECTOR_BYTES) {
            let end = length.min(start + SECTOR_BYTES);
            let kept = self.bytes.get(start..end) == self.synced.get(start..end) || fate.keeps();
            let source = if kept { &self.bytes } else { &self.synced };
            // Where the source is shorter than the file that is left, the sector reads as zero.
            let source = source.get(start..end.min(source.len())).unwrap_or_default();
            left[start..start + source.len()].copy_from_slice(source);
        }
        let state = FileState { bytes: left.clone(), synced: left, fail_syncs: false };
        MemoryFile { state: Mutex::new(state) }
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.display().to_string())
}

impl MemoryStorage {
    /// An empty file system.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new file system with what would be left if everything stopped now. The old one stays as it is; its writers
    /// no longer matter.
    pub fn crash(&self, unsynced: Unsynced) -> Self {
        let mut fate = match unsynced {
            Unsynced::Lost => Fate::Lost,
            Unsynced::Kept => Fate::Kept,
            Unsynced::Torn { seed } => Fate::Torn(SeededRandom::new(seed)),
        };
        let inner = guard(&self.inner);
        let mut copies = BTreeMap::new();
        let paths: BTreeSet<_> = inner.names.keys().chain(inner.durable_names.keys()).collect();
        for path in paths {
            let (now, durable) = (inner.names.get(path), inner.durable_names.get(path));
            let same = matches!((now, durable), (Some(now), Some(durable)) if Arc::ptr_eq(now, durable));
            let named = if same || fate.keeps() { now } else { durable };
            if let Some(file) = named {
                copies.insert(path.clone(), Arc::new(guard(&file.state).after_crash(&mut fate)));
            }
        }
        let inner = Inner {
            dirs: inner.dirs.clone(),
            names: copies.clone(),
            durable_names: copies,
            locks: BTreeMap::new(),
            failing: Vec::new(),
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Every later sync of files whose path starts with `prefix` fails with EIO, also of files created later.
    pub fn fail_syncs(&self, prefix: &Path) {
        let mut inner = guard(&self.inner);
        inner.failing.push(prefix.to_owned());
        for (path, file) in &inner.names {
            if path.starts_with(prefix) {
                guard(&file.state).fail_syncs = true;
            }
        }
    }

    /// A file's bytes as the process sees them.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = guard(&self.inner).names.get(path).cloned().ok_or_else(|| missing(path))?;
        Ok(guard(&file.state).bytes.clone())
    }

    /// Replaces a file's bytes, synced: damage, as a test wants it.
    pub fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = guard(&self.inner).names.get(path).cloned().ok_or_else(|| missing(path))?;
        let mut state = guard(&file.state);
        state.bytes = bytes.to_vec();
        state.synced = bytes.to_vec();
        Ok(())
    }
}

impl Storage for MemoryStorage {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut inner = guard(&self.inner);
        if inner.names.contains_key(path) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, path.display().to_string()));
        }
        if !path.parent().is_some_and(|dir| inner.dirs.contains(dir)) {
            return Err(missing(path));
        }
        let file = Arc::new(MemoryFile::default());
        guard(&file.state).fail_syncs = inner.failing.iter().any(|prefix| path.starts_with(prefix));
        inner.names.insert(path.to_owned(), file.clone());
        Ok(file)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(guard(&self.inner).names.get(path).cloned().ok_or_else(|| missing(path))?)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inner = guard(&self.inner);
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
        let mut inner = guard(&self.inner);
        let file = inner.names.remove(from).ok_or_else(|| missing(from))?;
        inner.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        guard(&self.inner).names.remove(path).map(drop).ok_or_else(|| missing(path))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let inner = guard(&self.inner);
        Ok(inner.names.contains_key(path) || inner.dirs.contains(path))
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut inner = guard(&self.inner);
        for ancestor in dir.ancestors() {
            inner.dirs.insert(ancestor.to_owned());
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = guard(&self.inner);
        let inner = &mut *inner;
        inner.durable_names.retain(|path, _| path.parent() != Some(dir));
        let now = inner.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        inner.durable_names.extend(now.map(|(path, file)| (path.clone(), file.clone())));
        Ok(())
    }

    fn space(&self, _dir: &Path) -> io::Result<Space> {
        let inner = guard(&self.inner);
        let used: u64 = inner.names.values().map(|file| guard(&file.state).bytes.len() as u64).sum();
        Ok(Space { total: TOTAL_BYTES, free: TOTAL_BYTES.saturating_sub(used) })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let held = guard(&self.inner).locks.entry(path.to_owned()).or_default().clone();
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

fn range(offset: u64, length: usize) -> io::Result<std::ops::Range<usize>> {
    let start = usize::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let end = start.checked_add(length).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(start..end)
}

impl File for MemoryFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let range = range(offset, buffer.len())?;
        let state = guard(&self.state);
        buffer.copy_from_slice(state.bytes.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let range = range(offset, bytes.len())?;
        let mut state = guard(&self.state);
        if state.bytes.len() < range.end {
            state.bytes.resize(range.end, 0);
        }
        state.bytes[range].copy_from_slice(bytes);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = guard(&self.state);
        if state.fail_syncs {
            return Err(io::Error::other("injected EIO"));
        }
        state.synced = state.bytes.clone();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(guard(&self.state).bytes.len() as u64)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let end = range(length, 0)?.end;
        let mut state = guard(&self.state);
        if state.bytes.len() < end {
            state.bytes.resize(end, 0);
        }
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let end = range(length, 0)?.end;
        guard(&self.state).bytes.resize(end, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_keeps_what_was_synced_and_named_durably() -> io::Result<()> {
        let storage = MemoryStorage::new();
        let dir = Path::new("/d");
        storage.create_dir_all(dir)?;
        let file = storage.create(&dir.join("a"))?;
        file.write_all_at(b"one", 0)?;
        file.sync_data()?;
        assert!(!storage.crash(Unsynced::Lost).exists(&dir.join("a"))?);
        storage.sync_dir(dir)?;
        file.write_all_at(b"two", 0)?;
        assert_eq!(storage.crash(Unsynced::Lost).read(&dir.join("a"))?, b"one");
        assert_eq!(storage.crash(Unsynced::Kept).read(&dir.join("a"))?, b"two");
        Ok(())
    }

    #[test]
    fn a_sync_told_to_fail_fails_and_makes_nothing_durable() -> io::Result<()> {
        let storage = MemoryStorage::new();
        storage.create_dir_all(Path::new("/d"))?;
        let path = Path::new("/d/a");
        let file = storage.create(path)?;
        storage.sync_dir(Path::new("/d"))?;
        file.write_all_at(b"one", 0)?;
        storage.fail_syncs(Path::new("/d"));
        assert!(file.sync_data().is_err());
        assert_eq!(storage.crash(Unsynced::Lost).read(path)?, b"");
        Ok(())
    }

    /// A file of two sectors, both rewritten but not synced, and a new name that is not durable.
    fn half_written() -> io::Result<MemoryStorage> {
        let storage = MemoryStorage::new();
        storage.create_dir_all(Path::new("/d"))?;
        let file = storage.create(Path::new("/d/a"))?;
        file.write_all_at(&[1; 2 * SECTOR_BYTES], 0)?;
        file.sync_data()?;
        storage.sync_dir(Path::new("/d"))?;
        file.write_all_at(&[2; 2 * SECTOR_BYTES], 0)?;
        file.write_all_at(&[3; 10], 2 * SECTOR_BYTES as u64)?;
        storage.create(Path::new("/d/b"))?;
        Ok(storage)
    }

    #[test]
    fn a_torn_crash_keeps_or_loses_each_sector_length_and_name_by_itself() -> io::Result<()> {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let storage = half_written()?;
            let left = storage.crash(Unsynced::Torn { seed });
            let bytes = left.read(Path::new("/d/a"))?;
            assert_eq!(bytes, storage.crash(Unsynced::Torn { seed }).read(Path::new("/d/a"))?);
            let (first, rest) = bytes.split_at(SECTOR_BYTES);
            let (second, tail) = rest.split_at(SECTOR_BYTES);
            for sector in [first, second, tail] {
                assert!(sector.windows(2).all(|pair| pair[0] == pair[1]), "a sector is never mixed");
            }
            seen.insert((first[0], second[0], tail.first().copied(), left.exists(Path::new("/d/b"))?));
        }
        // Old or new for each of both sectors; tail absent, zero or written; name absent or there.
        assert_eq!(seen.len(), 2 * 2 * 3 * 2);
        Ok(())
    }

    #[test]
    fn syncs_fail_for_files_created_after_the_order_too() -> io::Result<()> {
        let storage = MemoryStorage::new();
        storage.create_dir_all(Path::new("/d"))?;
        storage.fail_syncs(Path::new("/d"));
        let file = storage.create(Path::new("/d/a"))?;
        assert!(file.sync_data().is_err());
        assert!(storage.crash(Unsynced::Kept).open(Path::new("/d/a"))?.sync_data().is_ok());
        Ok(())
    }
}
