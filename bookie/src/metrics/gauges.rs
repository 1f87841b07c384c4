//! What is looked up at the moment of a scrape.

use std::path::PathBuf;

use super::text::Text;
use crate::engine::ScrubCounts;

/// Whether clients find the bookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerStatus {
    Writable,
    ReadOnly,
    /// Starting, stopping or failed.
    Unregistered,
}

/// See the module.
pub(crate) struct Gauges {
    pub(crate) status: ServerStatus,
    pub(crate) ledgers: u64,
    /// Live entries in logs, and entries in the write cache.
    pub(crate) entries: u64,
    pub(crate) write_cache_bytes: u64,
    pub(crate) write_cache_entries: u64,
    pub(crate) read_cache_bytes: u64,
    /// What verifying in the background has come to.
    pub(crate) scrubbed: ScrubCounts,
    pub(crate) logs: u64,
    pub(crate) log_bytes: u64,
    /// Logs of the checkpoint that cannot be opened.
    pub(crate) damaged_logs: u64,
    /// Records accepted and not yet durable.
    pub(crate) journal_queue: u64,
    /// Journal that a restart would replay.
    pub(crate) journal_bytes: u64,
    pub(crate) dirs: Vec<DirGauges>,
}

/// A ledger directory.
pub(crate) struct DirGauges {
    pub(crate) path: PathBuf,
    pub(crate) writable: bool,
    /// `None` when the file system does not say.
    pub(crate) space: Option<(u64, u64)>,
}

impl DirGauges {
    /// Percent in use.
    fn usage(&self) -> Option<f64> {
        let (free, total) = self.space.filter(|(_, total)| *total > 0)?;
        Some(100.0 - 100.0 * free as f64 / total as f64)
    }
}

impl Gauges {
    pub(super) fn write(&self, text: &mut Text) {
        let status = match self.status {
            ServerStatus::Writable => 1,
            ServerStatus::ReadOnly => 0,
            ServerStatus::Unregistered => -1,
        };
        let help = "1: takes adds, 0: read-only, -1: not registered";
        text.gauge("bookie_SERVER_STATUS", help, &[], status);
        let mut gauge = |name, help, value: u64| text.gauge(name, help, &[], value);
        gauge("bookie_ledgers_count", "Ledgers", self.ledgers);
        gauge(
            "bookie_entries_count",
            "Live entries in entry logs, and entries in the write cache",
            self.entries,
        );
        gauge("bookie_write_cache_size", "Bytes of the write cache in use", self.write_cache_bytes);
        gauge("bookie_write_cache_count", "Entries in the write cache", self.write_cache_entries);
        gauge("bookie_read_cache_size", "Bytes of the read cache in use", self.read_cache_bytes);
        gauge("bookie_gc_ACTIVE_ENTRY_LOG_TOTAL", "Entry logs", self.logs);
        gauge("bookie_gc_ACTIVE_ENTRY_LOG_SPACE_BYTES", "Bytes of all entry logs", self.log_bytes);
        gauge("bookie_gc_ACTIVE_LEDGER_TOTAL", "Ledgers", self.ledgers);
        gauge("magnetar_bookie_damaged_logs", "Entry logs that cannot be opened", self.damaged_logs);
        gauge("magnetar_bookie_journal_bytes", "Journal that a restart would replay", self.journal_bytes);
        let mut count = |name, help, value| text.count(name, help, &[], value);
        let ScrubCounts { scrubbed_entries, scrubbed_bytes, scrub_passes, damaged_entries } = self.scrubbed;
        let help = "Stored entries verified in the background";
        count("magnetar_bookie_scrubbed_entries", help, scrubbed_entries);
        let help = "Bytes of stored entries verified in the background";
        count("magnetar_bookie_scrubbed_bytes", help, scrubbed_bytes);
        count("magnetar_bookie_scrub_passes", "Passes over all entry logs", scrub_passes);
        count("magnetar_bookie_damaged_entries", "Stored entries found damaged", damaged_entries);
        let queue = "Records accepted and not yet durable";
        text.gauge("bookie_journal_JOURNAL_QUEUE_SIZE", queue, &[("journalIndex", "0")], self.journal_queue);
        let writable = self.dirs.iter().filter(|dir| dir.writable).count();
        text.gauge("bookie_ledger_writable_dirs", "Ledger directories that take entries", &[], writable);
        text.gauge("bookie_ledger_num_dirs", "Ledger directories", &[], self.dirs.len());
        for dir in &self.dirs {
            if let Some(usage) = dir.usage() {
                text.gauge(&usage_name(dir), "Percent of the directory's disk in use", &[], usage);
            }
        }
    }
}

/// Upstream puts the path into the name, with all that a name cannot hold as underscores.
fn usage_name(dir: &DirGauges) -> String {
    let path = dir.path.to_string_lossy();
    let path = path.replace(|letter: char| !letter.is_ascii_alphanumeric() && letter != ':', "_");
    format!("bookie_ledger_dir_{path}_usage")
}
