//! What verifying in the background has done and found, for whoever shows it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use magnetar_proto::ids::{EntryId, LedgerId};

/// Damaged entries remembered; more are counted only.
const DAMAGED_MAX: usize = 10_000;

/// Counters since the start, and the damage known. All of it may be read at any moment.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    scrubbed_entries: AtomicU64,
    scrubbed_bytes: AtomicU64,
    scrub_passes: AtomicU64,
    damaged_count: AtomicU64,
    damaged: Mutex<BTreeMap<(LedgerId, EntryId), u64>>,
}

/// What verifying stored entries in the background has come to since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubCounts {
    /// Entries whose checksums were verified in the background, over all passes.
    pub scrubbed_entries: u64,
    /// Bytes of their records.
    pub scrubbed_bytes: u64,
    /// Passes over all logs that came to their end.
    pub scrub_passes: u64,
    /// Live entries found damaged, each counted once.
    pub damaged_entries: u64,
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl Findings {
    pub(crate) fn counts(&self) -> ScrubCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ScrubCounts {
            scrubbed_entries: read(&self.scrubbed_entries),
            scrubbed_bytes: read(&self.scrubbed_bytes),
            scrub_passes: read(&self.scrub_passes),
            damaged_entries: read(&self.damaged_count),
        }
    }

    /// Damaged entries and the log that each lies in, ascending; the first ten thousand found.
    pub(crate) fn damaged(&self) -> Vec<(LedgerId, EntryId, u64)> {
        let damaged = self.damaged.lock().expect("nothing panics while holding the damage");
        damaged.iter().map(|((ledger, entry), log)| (*ledger, *entry, *log)).collect()
    }

    pub(crate) fn count_scrubbed(&self, entries: u64, bytes: u64) {
        add(&self.scrubbed_entries, entries);
        add(&self.scrubbed_bytes, bytes);
    }

    pub(crate) fn count_scrub_pass(&self) {
        add(&self.scrub_passes, 1);
    }

    /// Notes a damaged entry; whether it was not known yet.
    pub(crate) fn note_damaged(&self, ledger: LedgerId, entry: EntryId, log: u64) -> bool {
        let mut damaged = self.damaged.lock().expect("nothing panics while holding the damage");
        if damaged.len() >= DAMAGED_MAX || damaged.insert((ledger, entry), log) == Some(log) {
            return false;
        }
        add(&self.damaged_count, 1);
        true
    }
}
