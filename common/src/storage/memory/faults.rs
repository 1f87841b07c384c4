//! What goes wrong when a test says so: the n-th sync, the n-th write, a full disk.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The size that [`MemoryStorage`](super::MemoryStorage) claims to have.
const TOTAL_BYTES: u64 = 1 << 40;

/// The disk under the files: counts, and refuses. Its lock is the innermost.
#[derive(Default)]
pub(super) struct Disk {
    state: Mutex<DiskState>,
}

#[derive(Default)]
struct DiskState {
    /// Sum of the lengths of all files that have a name.
    used: u64,
    /// `None`: [`TOTAL_BYTES`].
    capacity: Option<u64>,
    syncs: u64,
    writes: u64,
    fail_sync: Option<u64>,
    fail_write: Option<(u64, io::ErrorKind)>,
}

impl Disk {
    fn lock(&self) -> MutexGuard<'_, DiskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    pub(super) fn writes(&self) -> u64 {
        self.lock().writes
    }

    pub(super) fn fail_nth_sync(&self, n: u64) {
        let mut state = self.lock();
        state.fail_sync = Some(state.syncs + n);
    }

    pub(super) fn fail_nth_write(&self, n: u64, kind: io::ErrorKind) {
        let mut state = self.lock();
        state.fail_write = Some((state.writes + n, kind));
    }

    pub(super) fn set_free(&self, bytes: u64) {
        let mut state = self.lock();
        state.capacity = Some(state.used.saturating_add(bytes));
    }

    /// Total and free bytes.
    pub(super) fn space(&self) -> (u64, u64) {
        let state = self.lock();
        let total = state.capacity.unwrap_or(TOTAL_BYTES);
        (total, total.saturating_sub(state.used))
    }

    /// Counts a sync.
    pub(super) fn sync(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.syncs += 1;
        if state.fail_sync == Some(state.syncs) { Err(io::Error::other("injected EIO")) } else { Ok(()) }
    }

    /// Counts a write.
    pub(super) fn write(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.writes += 1;
        match state.fail_write {
            Some((n, kind)) if n == state.writes => Err(kind.into()),
            _ => Ok(()),
        }
    }

    /// Takes space.
    pub(super) fn grow(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.lock();
        let used = state.used.saturating_add(bytes);
        if bytes > 0 && used > state.capacity.unwrap_or(TOTAL_BYTES) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.used = used;
        Ok(())
    }

    /// Gives space back.
    pub(super) fn shrink(&self, bytes: u64) {
        let mut state = self.lock();
        state.used = state.used.saturating_sub(bytes);
    }
}
