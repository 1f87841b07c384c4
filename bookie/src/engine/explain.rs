//! Where the bytes of the data directories have gone: every file, and within entry logs every byte, has its place in
//! the sum.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;

use magnetar_proto::ids::LedgerId;

use super::Engine;
use crate::checkpoint;
use crate::entry_log::format;
use crate::index::{Ledger, Part};
use crate::journal::segment;

/// Ledgers visited under one hold of the engine's lock.
const LEDGERS_PER_TURN: usize = 512;

/// Bytes by what they are for; together they are what the file system counts for the files. Taken while the bookie
/// works, so that a log written meanwhile may be seen in part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpaceReport {
    /// Records of entries that can be read.
    pub live_bytes: u64,
    /// Records of entries that were deleted or written again, with their slots and index rows: what rewriting gives back.
    pub dead_bytes: u64,
    /// Headers, footers, and the slots and index rows of live entries.
    pub index_bytes: u64,
    /// Logs that the checkpoint names and that cannot be opened.
    pub unreadable_log_bytes: u64,
    /// Logs that are being written, or that a crash left: the next start removes those.
    pub unnamed_log_bytes: u64,
    /// Journal segments that a restart would read.
    pub journal_live_bytes: u64,
    /// Journal segments kept to be written again.
    pub journal_free_bytes: u64,
    /// The checkpoint.
    pub checkpoint_bytes: u64,
    /// Stamps and locks.
    pub identity_bytes: u64,
    /// What the file system adds to whole entry logs by its unit of allocation; negative where it saves.
    pub rounding_bytes: i64,
    /// Ascending by log.
    pub logs: Vec<LogReport>,
    /// Largest first.
    pub ledgers: Vec<LedgerReport>,
}

/// One entry log; the three parts are its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogReport {
    /// Its number.
    pub log: u64,
    /// As in [`SpaceReport`].
    pub live_bytes: u64,
    /// As in [`SpaceReport`].
    pub dead_bytes: u64,
    /// As in [`SpaceReport`].
    pub index_bytes: u64,
}

/// One ledger's entries in logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerReport {
    /// The ledger.
    pub ledger: LedgerId,
    /// Records of its entries.
    pub live_bytes: u64,
    /// How many they are.
    pub entries: u64,
}

impl SpaceReport {
    /// The sum of all parts.
    pub fn total_bytes(&self) -> u64 {
        let counted = self.live_bytes
            + self.dead_bytes
            + self.index_bytes
            + self.unreadable_log_bytes
            + self.unnamed_log_bytes
            + self.journal_live_bytes
            + self.journal_free_bytes
            + self.checkpoint_bytes
            + self.identity_bytes;
        counted.saturating_add_signed(self.rounding_bytes)
    }
}

impl<T: Send + 'static> Engine<T> {
    /// Accounts for every file of the data directories. Blocks; reads no entries.
    pub(crate) fn explain(&self) -> io::Result<SpaceReport> {
        let mut report = SpaceReport { ledgers: self.explain_ledgers(), ..SpaceReport::default() };
        let (mut logs, unreadable) = self.explain_logs();
        let dirs: BTreeSet<&Path> = self.disk.dirs().collect();
        for dir in dirs {
            for name in self.disk.storage.list(dir)? {
                let Some(allocated) = self.measure(&dir.join(&name))? else { continue };
                match format::parse_file_name(&name) {
                    Some(log) => match logs.remove(&log) {
                        Some(log) => report.add_log(log, allocated),
                        None if unreadable.contains(&log) => report.unreadable_log_bytes += allocated,
                        None => report.unnamed_log_bytes += allocated,
                    },
                    None => *report.place_of(&name) += allocated,
                }
            }
        }
        report.logs.sort_unstable_by_key(|log| log.log);
        Ok(report)
    }

    /// What a file takes; `None` when it has gone, or is a directory.
    fn measure(&self, path: &Path) -> io::Result<Option<u64>> {
        let file = match self.disk.storage.open(path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) => {
                return Ok(None);
            }
            opened => opened?,
        };
        Ok(Some(file.allocated_bytes()?))
    }

    /// The logs that are open, and the ids of those that could not be.
    fn explain_logs(&self) -> (HashMap<u64, LogReport>, BTreeSet<u64>) {
        let state = self.lock();
        let logs = state.logs.values().map(|open| {
            let (log, live_bytes) = (open.log.id, state.ledgers.use_of(open.log.id).bytes);
            let dead_bytes = state.log_space(&open.log).dead;
            let index_bytes = open.log.bytes.saturating_sub(live_bytes + dead_bytes);
            (log, LogReport { log, live_bytes, dead_bytes, index_bytes })
        });
        (logs.collect(), state.damaged_logs.iter().map(|row| row.log).collect())
    }

    fn explain_ledgers(&self) -> Vec<LedgerReport> {
        let (mut ledgers, mut from) = (Vec::new(), Some(0));
        while let Some(place) = from {
            let state = self.lock();
            let (some, next) = state.ledgers.walk(place, LEDGERS_PER_TURN);
            ledgers.extend(some.filter(|ledger| !ledger.runs().parts().is_empty()).map(explain_ledger));
            from = next;
        }
        ledgers.sort_unstable_by_key(|ledger| (u64::MAX - ledger.live_bytes, ledger.ledger));
        ledgers
    }
}

fn explain_ledger(ledger: &Ledger) -> LedgerReport {
    let parts = ledger.runs().parts();
    LedgerReport {
        ledger: ledger.id(),
        live_bytes: parts.iter().map(Part::bytes).sum(),
        entries: parts.iter().map(|part| u64::from(part.count())).sum(),
    }
}

impl SpaceReport {
    fn add_log(&mut self, log: LogReport, allocated: u64) {
        self.live_bytes += log.live_bytes;
        self.dead_bytes += log.dead_bytes;
        self.index_bytes += log.index_bytes;
        self.rounding_bytes += allocated as i64 - (log.live_bytes + log.dead_bytes + log.index_bytes) as i64;
        self.logs.push(log);
    }

    /// What a file that is no sealed log is for.
    fn place_of(&mut self, name: &str) -> &mut u64 {
        if format::is_temporary_name(name) {
            &mut self.unnamed_log_bytes
        } else if segment::parse_file_name(name).is_some() {
            &mut self.journal_live_bytes
        } else if segment::parse_free_name(name).is_some() {
            &mut self.journal_free_bytes
        } else if checkpoint::is_file_name(name) {
            &mut self.checkpoint_bytes
        } else {
            &mut self.identity_bytes
        }
    }
}
