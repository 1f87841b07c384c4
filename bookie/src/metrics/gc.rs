//! Deleted ledgers and the space they give back.

use super::text::Text;
use super::{Counter, Operation};

#[derive(Default)]
pub(crate) struct Gc {
    /// Rounds of the collector.
    pub(crate) round: Operation,
    /// Rounds or parts of them that copy live entries out of sparse logs.
    pub(crate) compaction: Operation,
    pub(crate) minor_compactions: Counter,
    pub(crate) major_compactions: Counter,
    pub(crate) deleted_ledgers: Counter,
    /// Bytes of logs unlinked because no live ledger had entries in them.
    pub(crate) reclaimed_deletion_bytes: Counter,
    /// Bytes of logs unlinked because their live entries had been copied out, less the copies.
    pub(crate) reclaimed_compaction_bytes: Counter,
    /// Logs that could not be unlinked.
    pub(crate) failed_to_delete: Counter,
}

impl Gc {
    pub(super) fn write(&self, text: &mut Text) {
        text.operation("bookie_gc_THREAD_RUNTIME", "Rounds of garbage collection (ms)", &[], &self.round);
        text.operation("bookie_gc_COMPACT_RUNTIME", "Compactions (ms)", &[], &self.compaction);
        let mut counter = |name, help, value| text.counter(name, help, &[], value);
        counter("bookie_gc_MINOR_COMPACTION_TOTAL", "Minor compactions", &self.minor_compactions);
        counter("bookie_gc_MAJOR_COMPACTION_TOTAL", "Major compactions", &self.major_compactions);
        counter("bookie_gc_DELETED_LEDGER_TOTAL", "Deleted ledgers forgotten", &self.deleted_ledgers);
        counter(
            "bookie_gc_RECLAIMED_DELETION_SPACE_BYTES",
            "Bytes of entry logs unlinked as nothing in them was live",
            &self.reclaimed_deletion_bytes,
        );
        counter(
            "bookie_gc_RECLAIMED_COMPACTION_SPACE_BYTES",
            "Bytes of entry logs unlinked after compaction, less the copies",
            &self.reclaimed_compaction_bytes,
        );
        counter(
            "bookie_gc_RECLAIM_FAILED_TO_DELETE",
            "Entry logs that could not be unlinked",
            &self.failed_to_delete,
        );
    }
}
