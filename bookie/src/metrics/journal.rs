//! What the journal thread does, a batch at a time.

use std::time::Duration;

use super::text::{Labels, Text};
use super::{Counter, Operation, Sizes};

/// One journal a bookie for now; upstream tells several apart by this label.
const LABELS: Labels<'static> = &[("journalIndex", "0")];

#[derive(Default)]
pub(crate) struct Journal {
    sync: Operation,
    creation: Operation,
    batch_entries: Sizes,
    batch_bytes: Sizes,
    write_bytes: Counter,
}

impl Journal {
    /// A batch of `records` in `bytes` was written and synced, or not, after `elapsed`.
    pub(crate) fn synced(&self, records: u64, bytes: u64, elapsed: Duration, durable: bool) {
        if !durable {
            self.sync.failed(elapsed, 1);
        } else {
            self.sync.succeeded(elapsed, 1);
            self.batch_entries.record(records);
            self.batch_bytes.record(bytes);
            self.write_bytes.add(bytes);
        }
    }

    /// A segment was begun, or not, after `elapsed`.
    pub(crate) fn began_segment<T, E>(&self, elapsed: Duration, result: &Result<T, E>) {
        self.creation.ended(elapsed, result);
    }

    pub(super) fn write(&self, text: &mut Text) {
        text.operation("bookie_journal_JOURNAL_SYNC", "Write and sync of a batch (ms)", LABELS, &self.sync);
        text.operation(
            "bookie_journal_JOURNAL_CREATION_LATENCY",
            "Beginning a segment file (ms)",
            LABELS,
            &self.creation,
        );
        let entries = "Records that one sync made durable";
        text.sizes("bookie_journal_JOURNAL_FORCE_WRITE_BATCH_ENTRIES", entries, LABELS, &self.batch_entries);
        let bytes = "Bytes that one sync made durable";
        text.sizes("bookie_journal_JOURNAL_FORCE_WRITE_BATCH_BYTES", bytes, LABELS, &self.batch_bytes);
        let written = "Bytes written to the journal";
        text.counter("bookie_journal_JOURNAL_WRITE_BYTES", written, LABELS, &self.write_bytes);
    }
}
