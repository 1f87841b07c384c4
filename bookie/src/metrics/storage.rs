//! Write cache, entry logs and checkpoints.

use super::text::Text;
use super::{Counter, Operation, Sizes};

#[derive(Default)]
pub(crate) struct Storage {
    /// Entries looked for and found in memory.
    pub(crate) write_cache_hits: Counter,
    /// Entries looked for and not found in memory.
    pub(crate) write_cache_misses: Counter,
    /// Reads of an entry log that the read cache, or what was read ahead, answered; and those that it did not.
    pub(crate) read_cache_hits: Counter,
    pub(crate) read_cache_misses: Counter,
    /// Batches that waited for room in the write cache, and how long.
    pub(crate) throttled: Operation,
    pub(crate) throttled_requests: Counter,
    /// Reads of an entry log: one entry, or a stretch of them.
    pub(crate) read_log: Operation,
    /// From the write cache to a durable checkpoint.
    pub(crate) flush: Operation,
    /// The part of it that writes the entry log.
    pub(crate) flush_log: Operation,
    /// Bytes of the logs that flushes wrote.
    pub(crate) flush_bytes: Sizes,
    /// The part of it that brings the checkpoint up to date.
    pub(crate) checkpoint: Operation,
    /// Bytes that this wrote, into all directories.
    pub(crate) checkpoint_bytes: Counter,
}

impl Storage {
    pub(super) fn write(&self, text: &mut Text) {
        let hits = "Entries asked for and found in the write cache";
        text.counter("bookie_write_cache_hits", hits, &[], &self.write_cache_hits);
        let misses = "Entries asked for and not in the write cache";
        text.counter("bookie_write_cache_misses", misses, &[], &self.write_cache_misses);
        let hits = "Reads of an entry log answered by the read cache";
        text.counter("bookie_read_cache_hits", hits, &[], &self.read_cache_hits);
        let misses = "Reads of an entry log that went to the file";
        text.counter("bookie_read_cache_misses", misses, &[], &self.read_cache_misses);
        let requests = "Batches of adds that had to wait for room in the write cache";
        text.counter("bookie_throttled_write_requests", requests, &[], &self.throttled_requests);
        text.operation(
            "bookie_throttled_write",
            "Waits for room in the write cache (ms)",
            &[],
            &self.throttled,
        );
        text.operation("bookie_read_entrylog_time", "Reads of an entry log (ms)", &[], &self.read_log);
        text.operation("bookie_flush", "Write cache to durable checkpoint (ms)", &[], &self.flush);
        text.operation("bookie_flush_entrylog", "Writing an entry log (ms)", &[], &self.flush_log);
        text.sizes("bookie_flush_size", "Bytes of the entry logs written", &[], &self.flush_bytes);
        let help = "Bringing the checkpoint up to date (ms)";
        text.operation("magnetar_bookie_checkpoint", help, &[], &self.checkpoint);
        let help = "Bytes of checkpoints written, into all directories";
        text.counter("magnetar_bookie_checkpoint_bytes", help, &[], &self.checkpoint_bytes);
    }
}
