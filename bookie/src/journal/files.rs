//! Which segment files exist: the live ones in order, and the free ones waiting to be overwritten.
//!
//! A free file is only a name; recycling renames it, and its stale records are rejected by their segment id. The
//! directory is synced when a file takes a live name, never when it loses one: a file that comes back under its old
//! name after a crash lies below the checkpoint's floor and is freed again.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use magnetar_common::storage::{AlignedBuffer, File, Storage};

use super::segment::{HEADER_BYTES, SegmentHeader, file_name, free_name};

/// Free files kept for reuse. The flush cadence frees a few segments at a time; more would only hold disk space.
const FREE_FILES_MAX: usize = 4;

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
        let state = State { live: live.into(), free, next_free_number };
        Files { storage, dir: dir.to_owned(), direct, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while holding the segment list")
    }

    /// Makes the file of a new segment, header durable, and returns it with the place of the first record.
    pub(super) fn begin(&self, header: &SegmentHeader) -> io::Result<(Arc<dyn File>, u64)> {
        let path = self.dir.join(file_name(header.segment));
        let recycled = self.lock().free.pop();
        if let Some(free) = &recycled {
            self.storage.rename(free, &path)?;
        }
        let file = match (recycled.is_some(), self.direct) {
            (true, true) => self.storage.open_direct(&path)?,
            (true, false) => self.storage.open(&path)?,
            (false, true) => self.storage.create_direct(&path)?,
            (false, false) => self.storage.create(&path)?,
        };
        let mut bytes = AlignedBuffer::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&header.encode());
        if self.direct {
            bytes.pad();
        }
        file.write_all_at(&bytes, 0)?;
        file.sync_data()?;
        self.storage.sync_dir(&self.dir)?;
        self.lock()
            .live
            .push_back(Segment { segment: header.segment, first_sequence: header.first_sequence });
        Ok((file, bytes.len() as u64))
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
