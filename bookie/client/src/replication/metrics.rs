//! What re-replication counts, under BookKeeper's names where the meaning is the same.
//!
//! Figures that only the elected auditor knows are 0 everywhere else: sum them over the bookies.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that others may read at any time.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, to: u64) {
        self.0.store(to, Ordering::Relaxed);
    }

    /// The number now.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All figures of one process.
#[derive(Debug, Default)]
pub struct Metrics {
    pub(crate) is_auditor: Count,
    pub(crate) under_replicated: Count,
    pub(crate) audits: Count,
    pub(crate) audits_failed: Count,
    pub(crate) audits_delayed: Count,
    pub(crate) ledgers_marked: Count,
    pub(crate) ledgers_checked: Count,
    pub(crate) ledgers_unreadable_record: Count,
    pub(crate) integrity_ledgers_checked: Count,
    pub(crate) integrity_ledgers_lacking: Count,
    pub(crate) rereplicated: Count,
    pub(crate) rereplication_failed: Count,
    pub(crate) ledgers_replicated: Count,
    pub(crate) ledgers_recovered: Count,
    pub(crate) entries_read: Count,
    pub(crate) bytes_read: Count,
    pub(crate) entries_written: Count,
    pub(crate) bytes_written: Count,
    pub(crate) entries_unreadable: Count,
    pub(crate) deferred: Count,
    pub(crate) entries_mended: Count,
    pub(crate) waiting: Count,
}

impl Metrics {
    /// Everything as Prometheus' text format, version 0.0.4.
    pub fn render(&self) -> String {
        let gauges = [
            ("auditor_is_leader", "1 where the cluster's auditor is", &self.is_auditor),
            (
                "auditor_NUM_UNDER_REPLICATED_LEDGERS",
                "Ledgers that are marked as lacking copies, as the auditor last counted them",
                &self.under_replicated,
            ),
            (
                "replication_worker_ledgers_waiting",
                "Marked ledgers that this worker tries again later",
                &self.waiting,
            ),
        ];
        let counters = [
            ("auditor_NUM_BOOKIE_AUDITS", "Looks through all ledgers", &self.audits),
            ("auditor_NUM_BOOKIE_AUDITS_FAILED", "Looks that failed and are repeated", &self.audits_failed),
            (
                "auditor_NUM_BOOKIE_AUDITS_DELAYED",
                "Bookies that went away and get time to come back",
                &self.audits_delayed,
            ),
            ("auditor_NUM_LEDGERS_MARKED", "Ledgers marked by this auditor", &self.ledgers_marked),
            ("auditor_NUM_LEDGERS_CHECKED", "Ledger records looked at", &self.ledgers_checked),
            (
                "auditor_NUM_LEDGERS_UNREADABLE_METADATA",
                "Ledger records that could not be understood",
                &self.ledgers_unreadable_record,
            ),
            (
                "bookie_integrity_LEDGERS_CHECKED",
                "Ledgers whose entries here were compared with the metadata",
                &self.integrity_ledgers_checked,
            ),
            (
                "bookie_integrity_LEDGERS_LACKING",
                "Ledgers that lacked entries here",
                &self.integrity_ledgers_lacking,
            ),
            (
                "replication_worker_NUM_FULL_OR_PARTIAL_LEDGERS_REPLICATED",
                "Ledgers that have all their copies again",
                &self.ledgers_replicated,
            ),
            ("replication_worker_NUM_LEDGERS_RECOVERED", "Abandoned ledgers closed", &self.ledgers_recovered),
            ("replication_worker_NUM_ENTRIES_READ", "Entries read to be copied", &self.entries_read),
            ("replication_worker_NUM_BYTES_READ", "Bytes of them", &self.bytes_read),
            ("replication_worker_NUM_ENTRIES_WRITTEN", "Copies made", &self.entries_written),
            ("replication_worker_NUM_BYTES_WRITTEN", "Bytes of them", &self.bytes_written),
            (
                "replication_worker_NUM_ENTRIES_UNABLE_TO_READ_FOR_REPLICATION",
                "Entries that no bookie could give when a copy was to be made",
                &self.entries_unreadable,
            ),
            (
                "bookie_integrity_ENTRIES_MENDED",
                "Damaged entries that got a good copy from other bookies",
                &self.entries_mended,
            ),
            (
                "replication_worker_NUM_DEFER_LEDGER_LOCK_RELEASE_OF_FAILED_LEDGER",
                "Ledgers put off after a failure",
                &self.deferred,
            ),
        ];
        let mut text = String::new();
        let mut tell = |kind: &str, name: &str, help: &str, value: &Count| {
            write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {}\n", value.get())
                .expect("a string takes everything");
        };
        gauges.iter().for_each(|(name, help, value)| tell("gauge", name, help, value));
        counters.iter().for_each(|(name, help, value)| tell("counter", name, help, value));
        let name = "replication_worker_rereplicate";
        let outcomes = [("true", &self.rereplicated), ("false", &self.rereplication_failed)];
        write!(text, "# HELP {name} Attempts to give a ledger all its copies\n# TYPE {name} summary\n")
            .expect("a string takes everything");
        for (success, value) in outcomes {
            writeln!(text, "{name}_count{{success=\"{success}\"}} {}", value.get())
                .expect("a string takes everything");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_told_with_its_kind() {
        let metrics = Metrics::default();
        metrics.entries_written.add(7);
        metrics.rereplication_failed.add(1);
        let text = metrics.render();
        for line in [
            "# TYPE replication_worker_NUM_ENTRIES_WRITTEN counter",
            "replication_worker_NUM_ENTRIES_WRITTEN 7",
            "replication_worker_rereplicate_count{success=\"false\"} 1",
            "auditor_NUM_UNDER_REPLICATED_LEDGERS 0",
        ] {
            assert!(text.lines().any(|told| told == line), "{line}");
        }
    }
}
