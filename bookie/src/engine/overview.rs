//! What the engine holds, in figures: for metrics and the control service.

use std::sync::Arc;

use super::Engine;
use crate::metrics::{DirGauges, Gauges, Metrics, ServerStatus};

impl<T: Send + 'static> Engine<T> {
    /// Where everything about this bookie is counted.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Bytes and entries of the write cache, and bytes of journal, that no checkpoint covers.
    pub(crate) fn not_in_logs(&self) -> (u64, u64, u64) {
        let state = self.lock();
        let (bytes, entries) = state.cache.size();
        (bytes, entries, state.journal_bytes)
    }

    /// The figures of this moment. Asks the file system for space: blocks.
    pub(crate) fn gauges(&self, status: ServerStatus) -> Gauges {
        let dirs = self.disk.ledger_dirs.iter().enumerate().map(|(at, path)| DirGauges {
            path: path.clone(),
            writable: self.dirs.has_space(at),
            space: self.disk.storage.space(path).ok().map(|space| (space.free, space.total)),
        });
        let dirs = dirs.collect();
        let durable = self.journal.durable();
        let state = self.lock();
        let (write_cache_bytes, write_cache_entries) = state.cache.size();
        let logs =
            state.logs.values().map(|open| (open.log.bytes, state.ledgers.use_of(open.log.id).entries));
        let (log_bytes, entries) = logs.fold((0, 0), |sum, log| (sum.0 + log.0, sum.1 + log.1));
        Gauges {
            status,
            ledgers: state.ledgers.len() as u64,
            entries: entries + write_cache_entries,
            write_cache_bytes,
            write_cache_entries,
            read_cache_bytes: self.reads.bytes() as u64,
            scrubbed: self.findings.counts(),
            logs: state.logs.len() as u64,
            log_bytes,
            damaged_logs: state.damaged_logs.len() as u64,
            journal_queue: self.journal.last_assigned() - durable,
            journal_bytes: state.journal_bytes,
            dirs,
        }
    }
}
