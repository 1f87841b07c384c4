//! The storage engine: the ledger table and write cache behind one short lock, the journal and the flush thread.
//! The server applies a batch of requests in one [`Turn`]; what a turn accepted is durable when its token completes.
//! It must never know of sockets or wire formats, and never wait for anything while it holds its lock.

mod ahead;
#[cfg(test)]
mod checkpoint_tests;
mod compact;
#[cfg(test)]
mod compact_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod damage_tests;
mod dirs;
mod disk;
mod explain;
#[cfg(test)]
mod explain_tests;
mod findings;
mod flush;
mod gc;
mod listing;
mod load;
mod logs;
mod mode;
mod open;
mod overview;
mod pace;
mod read;
mod record;
mod scrub;
mod space;
#[cfg(test)]
mod space_tests;
#[cfg(test)]
mod sync_failure_tests;
#[cfg(test)]
mod tests;
mod turn;
mod waiters;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

pub(crate) use self::compact::{CompactError, Compaction, LogSpace};
use self::dirs::Dirs;
pub(crate) use self::disk::Disk;
use self::disk::OpenLog;
pub use self::explain::{LedgerReport, LogReport, SpaceReport};
pub(crate) use self::findings::Findings;
pub use self::findings::ScrubCounts;
use self::flush::FlushSignal;
pub(crate) use self::gc::Holding;
pub(crate) use self::listing::{LedgerFacts, LogFacts};
pub use self::mode::{Mode, ReadOnlyReason};
pub(crate) use self::read::{Lookup, Place};
pub(crate) use self::turn::{Add, Refused, Turn};
use self::waiters::Waiters;
pub(crate) use self::waiters::{LacWait, News};
use crate::cache::{ReadCache, WriteCache};
use crate::checkpoint::LogRow;
use crate::error::FatalError;
use crate::index::Ledgers;
use crate::journal::{DeviceOptions, Journal};
use crate::metrics::Metrics;

/// Sizes that the engine keeps to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) write_cache_bytes: usize,
    pub(crate) read_cache_bytes: usize,
    pub(crate) journal_bytes: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) journal_device: DeviceOptions,
    /// Free space of a disk below which the bookie goes read-only.
    pub(crate) free_bytes_min: u64,
}

/// Bytes that an entry takes in the write cache beside its body: map and vector slots, and its share of the index.
pub(crate) const ENTRY_OVERHEAD_BYTES: usize = 64;

/// Everything the lock guards.
struct State {
    ledgers: Ledgers,
    cache: WriteCache,
    logs: HashMap<u64, OpenLog>,
    /// Logs of the checkpoint that could not be opened. While there is one, nothing can be said to be absent.
    damaged_logs: Vec<LogRow>,
    /// Open logs that may once have held more entries than can be found in them. As long as one of them is open,
    /// nothing can be said to be absent either.
    incomplete_logs: Vec<u64>,
    next_log: u64,
    /// Bytes journalled since the last checkpoint began.
    journal_bytes: u64,
    /// Acknowledged journal records are missing: nothing can be said to be absent.
    incomplete: bool,
    mode: Mode,
    waiters: Waiters,
    /// Bytes that may be accepted until the free space is looked at again.
    space_credit: u64,
}

/// `T` is handed back when the records submitted with it are durable.
pub(crate) struct Engine<T> {
    disk: Disk,
    dirs: Dirs,
    limits: Limits,
    state: Mutex<State>,
    journal: Journal<T>,
    room: Arc<Semaphore>,
    reads: Arc<ReadCache>,
    flush: FlushSignal,
    failed: watch::Sender<Option<FatalError>>,
    metrics: Arc<Metrics>,
    mode: watch::Sender<Mode>,
    pub(crate) findings: Findings,
}

impl<T: Send + 'static> Engine<T> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while holding the engine's lock")
    }

    /// Waits until the write cache has room for `bytes` (see [`ENTRY_OVERHEAD_BYTES`]), at most half of the cache: the
    /// place where a full cache pushes back on the sockets. `None` when there is none and no flush can make any,
    /// because the disks are full: the adds must be refused. Cancel-safe.
    pub(crate) async fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let permits = u32::try_from(bytes).expect("a batch is bounded by the frame limit");
        if let Ok(room) = self.room.clone().try_acquire_many_owned(permits) {
            return Some(room);
        }
        // What fills the cache may be less than what starts a flush by itself.
        self.flush.request();
        let begun = self.metrics.now();
        let mut mode = self.mode();
        let room = tokio::select! {
            biased;
            room = self.room.clone().acquire_many_owned(permits) => {
                Some(room.expect("the engine never closes its room"))
            }
            _ = mode.wait_for(|mode| mode.is_exhausted()) => None,
        };
        self.metrics.storage.throttled_requests.add(1);
        self.metrics.storage.throttled.succeeded(self.metrics.now() - begun, 1);
        room
    }

    /// Of an engine without threads: makes durable what was accepted, at most a batch, and completes its tokens; false
    /// when there is nothing to do. Blocks.
    pub(crate) fn step_journal(&self) -> bool {
        self.journal.step()
    }

    /// Takes the lock for one batch of requests.
    pub(crate) fn turn(&self) -> Turn<'_, T> {
        Turn::new(self)
    }

    /// The first failure after which nothing is answered any more; `None` until then.
    pub(crate) fn failure(&self) -> watch::Receiver<Option<FatalError>> {
        self.failed.subscribe()
    }

    /// Makes everything durable outside of the journal, then ends the threads. Blocks. The caller has stopped all
    /// requests.
    pub(crate) fn close(&self) -> Result<(), FatalError> {
        self.flush.stop();
        // What a full disk does not take stays in the journal.
        let flushed = self.flush_now().map(drop);
        self.journal.stop();
        let failed = self.failed.borrow().clone();
        failed.map_or(flushed, Err)
    }

    /// Ends the threads without flushing: what a crash does. Waits for those of the journal, because the directory may be
    /// somebody else's afterwards; blocks for as long as the disk takes to write what is queued.
    pub(crate) fn abandon(&self) {
        self.flush.stop();
        self.journal.stop();
    }
}
