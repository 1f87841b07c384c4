//! Which segment files exist: the live ones in order, and the free ones waiting to be overwritten. Each is made ready for
//! its turn; before a disk is full, space is taken for the next one.
//!
//! A free file is only a name; recycling renames it, and its stale records are rejected by their segment id. The
//! directory is synced when a file takes a live name, never when it loses one: a file that comes back under its old
//! name after a crash lies below the checkpoint's floor and is freed again.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use magnetar_common::storage::{ALIGNMENT, AlignedBuffer, File, Storage};

use super::active::grow_zeros;
use super::ahead::Wanted;
use super::replay::has_no_trace;
use super::segment::{HEADER_BYTES, SegmentHeader, file_name, free_name};

/// Free files kept for reuse. The flush cadence frees a few segments at a time; more would only hold disk space.
const FREE_FILES_MAX: usize = 4;

const NO_SPACE: &str = "no space for a journal segment: free some on the journal's disk, then start again";

/// Zeros written at a time where a file is prepared: a batch of the segment being written waits for one of them at most.
pub(super) const ZEROS: usize = 256 << 10;

/// Enough for a restart on a full disk to fence what it is asked to.
const SHORT_SPARE_BYTES: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) segment: u64,
    pub(super) first_sequence: u64,
}

struct State {
    /// Ascending in both fields; the last one is being written.
    live: VecDeque<Segment>,
    free: Vec<PathBuf>,
    next_free_number: u64,
    /// See [`Files::reserve`]: for the segment being written, and for the one after it.
    reserved: (bool, bool),
}

pub(super) struct Files {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    /// Segments are written past the page cache.
    direct: bool,
    state: Mutex<State>,
}

impl Files {
    pub(super) fn new(
        storage: Arc<dyn Storage>,
        dir: &Path,
        direct: bool,
        live: Vec<Segment>,
        free: Vec<PathBuf>,
        next_free_number: u64,
    ) -> Self {
        let state = State { live: live.into(), free, next_free_number, reserved: (false, false) };
        Files { storage, dir: dir.to_owned(), direct, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while holding the segment list")
    }

    /// Begins a segment, in a file that was [prepared](Self::prepare) for it or in one that is made now; returns the file
    /// with the place of the first record. The header and the file's name are durable then.
    pub(super) fn begin(
        &self,
        header: &SegmentHeader,
        prepared: Option<Arc<dyn File>>,
    ) -> io::Result<(Arc<dyn File>, u64)> {
        let is_prepared = prepared.is_some();
        let file = match prepared {
            Some(file) => file,
            None => self.make(header.segment)?,
        };
        let first_record = self.put_header(&*file, &header.encode())?;
        if !is_prepared {
            self.storage.sync_dir(&self.dir)?;
        }
        let mut state = self.lock();
        state.reserved = (false, false);
        state.live.push_back(Segment { segment: header.segment, first_sequence: header.first_sequence });
        Ok((file, first_record))
    }

    /// Writes what stands at the beginning of a segment's file, durably; returns where the first record goes.
    fn put_header(&self, file: &dyn File, header: &[u8]) -> io::Result<u64> {
        let mut bytes = AlignedBuffer::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(header);
        if self.direct {
            bytes.pad();
        }
        file.write_durably_at(&bytes, 0)?;
        Ok(bytes.len() as u64)
    }

    /// A file under the live name of `segment`, which is not durable.
    fn make(&self, segment: u64) -> io::Result<Arc<dyn File>> {
        let path = self.dir.join(file_name(segment));
        let recycled = self.lock().free.pop();
        match recycled {
            Some(free) => {
                self.storage.rename(&free, &path)?;
                self.open(&path)
            }
            None => self.create(&path),
        }
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        if self.direct { self.storage.create_direct(path) } else { self.storage.create(path) }
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        if self.direct { self.storage.open_direct(path) } else { self.storage.open(path) }
    }

    /// A file under the live name of a segment that is to begin next, its space taken, marked, and its name durable.
    /// Written from end to end if that is wanted, unless it `is_urgent` before, which is asked between two pieces and may
    /// block. `None`: there is no space for it now. Blocks.
    pub(super) fn prepare(
        &self,
        wanted: Wanted,
        segment_bytes: u64,
        is_urgent: &dyn Fn() -> bool,
    ) -> io::Result<Option<Arc<dyn File>>> {
        let recycled = self.lock().free.pop();
        let (from, opened) = match recycled {
            Some(free) => {
                let opened = self.open(&free);
                (free, opened)
            }
            None => {
                let path = self.next_free_path();
                let created = self.create(&path);
                (path, created)
            }
        };
        let ready = opened.and_then(|file| {
            self.write_ahead(&*file, wanted.filled, segment_bytes, is_urgent)?;
            self.put_header(&*file, &SegmentHeader::encode_mark(wanted.instance, wanted.segment))?;
            Ok(file)
        });
        let file = match ready {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                if self.storage.exists(&from)? {
                    self.lock().free.push(from);
                }
                return Ok(None);
            }
            ready => ready?,
        };
        self.storage.rename(&from, &self.dir.join(file_name(wanted.segment)))?;
        self.storage.sync_dir(&self.dir)?;
        Ok(Some(file))
    }

    /// Takes space for a whole segment, and fills what of it was never written.
    fn write_ahead(
        &self,
        file: &dyn File,
        filled: bool,
        segment_bytes: u64,
        is_urgent: &dyn Fn() -> bool,
    ) -> io::Result<()> {
        let end = segment_bytes.next_multiple_of(ALIGNMENT as u64);
        let mut offset = file.first_hole(0)?.min(end) / ALIGNMENT as u64 * ALIGNMENT as u64;
        if offset == end {
            return Ok(());
        }
        file.allocate(end)?;
        let mut zeros = AlignedBuffer::default();
        while filled && offset < end {
            grow_zeros(&mut zeros, ZEROS);
            let length = (end - offset).min(ZEROS as u64);
            file.write_all_at(&zeros[..length as usize], offset)?;
            offset += length;
            if offset < end && is_urgent() {
                break;
            }
        }
        file.sync_data()
    }

    fn next_free_path(&self) -> PathBuf {
        let mut state = self.lock();
        state.next_free_number += 1;
        self.dir.join(free_name(state.next_free_number))
    }

    /// Takes space for the rest of the segment being written, for a whole one after it, and for a short one with which a
    /// restart begins, so that the journal can go on for that long when others have filled the disk. What was taken stays
    /// taken, also over a crash; most calls find it so. Blocks.
    pub(super) fn reserve(&self, segment_bytes: u64) -> io::Result<()> {
        let (last, free, spare, (this, next)) = {
            let state = self.lock();
            (state.live.back().copied(), state.free.len(), state.free.last().cloned(), state.reserved)
        };
        // Headers and batches are padded to blocks.
        let segment_bytes = segment_bytes + 2 * ALIGNMENT as u64;
        if let Some(last) = last.filter(|_| !this) {
            self.allocate(&self.dir.join(file_name(last.segment)), segment_bytes)?;
        }
        match spare {
            _ if next => {}
            Some(spare) if free > 1 => self.allocate(&spare, segment_bytes)?,
            other => {
                if other.is_none() {
                    self.add_spare(segment_bytes.min(SHORT_SPARE_BYTES))?;
                }
                // The last one is the first to be used.
                self.add_spare(segment_bytes)?;
                self.storage.sync_dir(&self.dir)?;
            }
        }
        let mut state = self.lock();
        // Unless the next segment was begun meanwhile: then the next call looks again.
        if state.live.back().copied() == last {
            state.reserved = (true, true);
        }
        Ok(())
    }

    /// A file that has been renamed meanwhile is no error.
    fn allocate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let file = match self.storage.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        file.allocate(bytes)?;
        file.sync_data()
    }

    /// A free file that was never written.
    fn add_spare(&self, bytes: u64) -> io::Result<()> {
        let path = self.next_free_path();
        let file = self.storage.create(&path)?;
        file.allocate(bytes).and_then(|()| file.sync_data()).inspect_err(|_| {
            // What cannot be removed is found and used by the next start.
            let _ = self.storage.remove(&path);
        })?;
        self.lock().free.push(path);
        Ok(())
    }

    /// For a start on a full disk: a start before it may have begun a segment and written nothing. Its file will do once
    /// more, if it is that and holds no trace of a record, whole or damaged. Blocks.
    pub(super) fn give_back_unused(&self, unused: Option<u64>) -> io::Result<()> {
        let full = || io::Error::new(io::ErrorKind::StorageFull, NO_SPACE);
        let segment = unused.ok_or_else(full)?;
        let from = self.dir.join(file_name(segment));
        if !has_no_trace(self.storage.open(&from)?, segment)? {
            return Err(full());
        }
        let to = {
            let mut state = self.lock();
            let last = state.live.pop_back();
            assert!(last.is_some_and(|last| last.segment == segment), "the unused segment is the last one");
            state.next_free_number += 1;
            self.dir.join(free_name(state.next_free_number))
        };
        self.storage.rename(&from, &to)?;
        self.lock().free.push(to);
        Ok(())
    }

    /// The lowest segment needed to replay everything after `sequence`.
    pub(super) fn floor(&self, sequence: u64) -> u64 {
        let state = self.lock();
        let needed = state.live.iter().rev().find(|s| s.first_sequence <= sequence + 1);
        needed.or(state.live.front()).map_or(0, |s| s.segment)
    }

    /// Gives up every live segment below `floor`. Call only after a checkpoint that names this floor is durable.
    pub(super) fn free_below(&self, floor: u64) -> io::Result<()> {
        loop {
            let (from, to) = {
                let mut state = self.lock();
                match state.live.front() {
                    Some(first) if first.segment < floor && state.live.len() > 1 => {
                        let from = self.dir.join(file_name(first.segment));
                        state.live.pop_front();
                        let keep = state.free.len() < FREE_FILES_MAX;
                        state.next_free_number += u64::from(keep);
                        (from, keep.then(|| self.dir.join(free_name(state.next_free_number))))
                    }
                    _ => return Ok(()),
                }
            };
            match to {
                Some(to) => {
                    self.storage.rename(&from, &to)?;
                    self.lock().free.push(to);
                }
                None => self.storage.remove(&from)?,
            }
        }
    }

    #[cfg(test)]
    pub(super) fn live_segments(&self) -> Vec<u64> {
        self.lock().live.iter().map(|s| s.segment).collect()
    }
}
