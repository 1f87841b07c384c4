//! One file in memory: its bytes, which of them are durable, and what a crash leaves.

use super::faults::Disk;
use crate::random::{Random, SeededRandom};
use crate::storage::{ALIGNMENT, File};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The unit in which a disk keeps or loses what was not synced.
pub(super) const SECTOR_BYTES: usize = 512;

/// Decides, one unsynced thing at a time, whether a crash keeps it.
pub(super) enum Fate {
    Lost,
    Kept,
    Torn(SeededRandom),
}

impl Fate {
    pub(super) fn keeps(&mut self) -> bool {
        match self {
            Fate::Lost => false,
            Fate::Kept => true,
            Fate::Torn(random) => random.next_u64() & 1 == 1,
        }
    }
}

pub(super) struct MemoryFile {
    state: Mutex<FileState>,
    disk: Arc<Disk>,
}

#[derive(Default)]
struct FileState {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    /// What the next sync makes durable. A failed sync forgets it, as a kernel does that marks pages clean after it
    /// could not write them: a sync tried again succeeds and has saved nothing.
    dirty: Vec<Range<usize>>,
    fail_syncs: bool,
    /// It has no name any more, and its bytes do not count.
    unlinked: bool,
}

impl FileState {
    /// Sets the length; new bytes are zero.
    fn resize(&mut self, disk: &Disk, length: usize) -> io::Result<()> {
        let now = self.bytes.len();
        if length > now && !self.unlinked {
            disk.grow((length - now) as u64)?;
        }
        if length < now {
            if !self.unlinked {
                disk.shrink((now - length) as u64);
            }
            self.mark_dirty(length..now);
        }
        self.bytes.resize(length, 0);
        Ok(())
    }

    fn mark_dirty(&mut self, range: Range<usize>) {
        match self.dirty.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.dirty.push(range),
        }
    }

    fn sync(&mut self) {
        self.synced.resize(self.bytes.len(), 0);
        for range in std::mem::take(&mut self.dirty) {
            let range = range.start.min(self.bytes.len())..range.end.min(self.bytes.len());
            self.synced[range.clone()].copy_from_slice(&self.bytes[range]);
        }
    }
}

fn range(offset: u64, length: usize) -> io::Result<Range<usize>> {
    let start = usize::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let end = start.checked_add(length).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(start..end)
}

impl MemoryFile {
    pub(super) fn new(disk: Arc<Disk>, fail_syncs: bool) -> Self {
        MemoryFile { state: Mutex::new(FileState { fail_syncs, ..FileState::default() }), disk }
    }

    fn lock(&self) -> MutexGuard<'_, FileState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    pub(super) fn fail_syncs(&self) {
        self.lock().fail_syncs = true;
    }

    /// Its last name is gone.
    pub(super) fn unlink(&self) {
        let mut state = self.lock();
        self.disk.shrink(state.bytes.len() as u64);
        state.unlinked = true;
    }

    /// Replaces the content, durably.
    pub(super) fn replace(&self, bytes: &[u8]) {
        let mut state = self.lock();
        self.disk.shrink(state.bytes.len() as u64);
        // Damage that a test does is never refused for lack of space.
        let _ = self.disk.grow(bytes.len() as u64);
        state.bytes = bytes.to_vec();
        state.synced = bytes.to_vec();
        state.dirty.clear();
    }

    /// What is left of it, on another disk.
    pub(super) fn after_crash(&self, fate: &mut Fate, disk: Arc<Disk>) -> MemoryFile {
        let state = self.lock();
        let (bytes, synced) = (&state.bytes, &state.synced);
        let length_kept = bytes.len() == synced.len() || fate.keeps();
        let length = if length_kept { bytes.len() } else { synced.len() };
        let mut left = vec![0; length];
        for start in (0..length).step_by(SECTOR_BYTES) {
            let end = length.min(start + SECTOR_BYTES);
            let kept = bytes.get(start..end) == synced.get(start..end) || fate.keeps();
            let source = if kept { bytes } else { synced };
            // Where the source is shorter than the file that is left, the sector reads as zero.
            let source = source.get(start..end.min(source.len())).unwrap_or_default();
            left[start..start + source.len()].copy_from_slice(source);
        }
        // A new disk has room.
        let _ = disk.grow(length as u64);
        let state = FileState { bytes: left.clone(), synced: left, ..FileState::default() };
        MemoryFile { state: Mutex::new(state), disk }
    }
}

impl File for MemoryFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let range = range(offset, buffer.len())?;
        let state = self.lock();
        buffer.copy_from_slice(state.bytes.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let failure = self.disk.write().err();
        // A failing write may have written a part.
        let written = if failure.is_some() { &bytes[..bytes.len() / 2] } else { bytes };
        let range = range(offset, written.len())?;
        let mut state = self.lock();
        if state.bytes.len() < range.end {
            state.resize(&self.disk, range.end)?;
        }
        state.bytes[range.clone()].copy_from_slice(written);
        state.mark_dirty(range);
        failure.map_or(Ok(()), Err)
    }

    fn sync_data(&self) -> io::Result<()> {
        let result = self.disk.sync();
        let mut state = self.lock();
        let result = if state.fail_syncs { Err(io::Error::other("injected EIO")) } else { result };
        match result {
            Ok(()) => state.sync(),
            Err(_) => state.dirty.clear(),
        }
        result
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().bytes.len() as u64)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let end = range(length, 0)?.end;
        let mut state = self.lock();
        if state.bytes.len() < end { state.resize(&self.disk, end) } else { Ok(()) }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let end = range(length, 0)?.end;
        self.lock().resize(&self.disk, end)
    }
}

/// A handle that insists on alignment, as the strictest disk would.
pub(super) struct DirectFile(pub(super) Arc<MemoryFile>);

impl DirectFile {
    fn check(memory: &[u8], offset: u64) -> io::Result<()> {
        let aligned = |n: usize| n.is_multiple_of(ALIGNMENT);
        if aligned(memory.as_ptr().addr()) && aligned(memory.len()) && offset.is_multiple_of(ALIGNMENT as u64)
        {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "a direct access that is not aligned"))
    }
}

impl File for DirectFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        Self::check(buffer, offset)?;
        self.0.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        Self::check(bytes, offset)?;
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.0.allocate(length)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.truncate(length)
    }

    fn is_direct(&self) -> bool {
        true
    }
}
