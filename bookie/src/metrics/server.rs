//! What clients ask for. A request's time runs from the moment it is read from the socket; an add ends when it is
//! durable, a read when its answer is queued.

use std::time::Duration;

use super::text::Text;
use super::{Counter, Operation};

/// What a request counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Add,
    /// Counted as an add too.
    RecoveryAdd,
    Read,
    /// A read that fences its ledger; not counted as a read.
    Fence,
    WriteLac,
    ReadLac,
    Force,
    ListEntries,
    Info,
}

const NAMES: [(Asked, &str, &str); 9] = [
    (Asked::Add, "bookkeeper_server_ADD_ENTRY_REQUEST", "Adds, from receipt to durable (ms)"),
    (Asked::RecoveryAdd, "bookie_BOOKIE_RECOVERY_ADD_ENTRY", "Adds of recovery and re-replication (ms)"),
    (Asked::Read, "bookkeeper_server_READ_ENTRY_REQUEST", "Reads that do not fence (ms)"),
    (Asked::Fence, "bookkeeper_server_READ_ENTRY_FENCE_REQUEST", "Reads that fence their ledger (ms)"),
    (Asked::WriteLac, "bookkeeper_server_WRITE_LAC_REQUEST", "Explicit LACs written (ms)"),
    (Asked::ReadLac, "bookkeeper_server_READ_LAC_REQUEST", "Explicit LACs read (ms)"),
    (Asked::Force, "bookkeeper_server_FORCE_LEDGER_REQUEST", "Requests to sync a ledger (ms)"),
    (
        Asked::ListEntries,
        "bookkeeper_server_GET_LIST_OF_ENTRIES_OF_LEDGER_REQUEST",
        "Requests for a ledger's entry ids (ms)",
    ),
    (Asked::Info, "bookkeeper_server_GET_BOOKIE_INFO_REQUEST", "Requests for the bookie's space (ms)"),
];

/// How many requests of each kind shared one fate.
#[derive(Default)]
pub(crate) struct Counts([u32; NAMES.len()]);

impl Counts {
    pub(crate) fn add(&mut self, asked: Asked) {
        self.0[asked as usize] += 1;
    }

    pub(crate) fn get(&self, asked: Asked) -> u64 {
        u64::from(self.0[asked as usize])
    }
}

#[derive(Default)]
pub(crate) struct Server {
    requests: [Operation; NAMES.len()],
    /// Adds, from the moment they have room in the write cache.
    add: Operation,
    /// Bytes of entries accepted.
    pub(crate) write_bytes: Counter,
    /// Bytes of entries answered.
    pub(crate) read_bytes: Counter,
}

impl Server {
    pub(crate) fn succeeded(&self, counts: &Counts, elapsed: Duration) {
        for (operation, times) in self.requests.iter().zip(counts.0) {
            operation.succeeded(elapsed, times.into());
        }
    }

    pub(crate) fn failed(&self, counts: &Counts, elapsed: Duration) {
        for (operation, times) in self.requests.iter().zip(counts.0) {
            operation.failed(elapsed, times.into());
        }
    }

    /// One request ended.
    pub(crate) fn ended(&self, asked: Asked, success: bool, elapsed: Duration) {
        let operation = &self.requests[asked as usize];
        match success {
            true => operation.succeeded(elapsed, 1),
            false => operation.failed(elapsed, 1),
        }
    }

    /// Adds became durable `elapsed` after they entered the write cache.
    pub(crate) fn added(&self, elapsed: Duration, times: u64) {
        self.add.succeeded(elapsed, times);
    }

    pub(super) fn write(&self, text: &mut Text) {
        for (asked, name, help) in NAMES {
            text.operation(name, help, &[], &self.requests[asked as usize]);
        }
        let add = "Adds, from the write cache to durable (ms)";
        text.operation("bookkeeper_server_ADD_ENTRY", add, &[], &self.add);
        let journal = "Adds, from the journal's queue to durable (ms)";
        let labels = &[("journalIndex", "0")];
        text.operation("bookie_journal_JOURNAL_ADD_ENTRY", journal, labels, &self.add);
        text.counter("bookie_WRITE_BYTES", "Bytes of entries accepted", &[], &self.write_bytes);
        text.counter("bookie_READ_BYTES", "Bytes of entries answered", &[], &self.read_bytes);
    }
}
