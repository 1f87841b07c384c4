//! How much of each log is live.

use std::collections::HashMap;

use super::part::Part;

/// The live contents of one log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogUse {
    /// Length of the live entries' records.
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    /// Parts they form.
    pub(crate) parts: u64,
}

/// Exact at any moment: changed with every part that comes or goes.
#[derive(Debug, Default)]
pub(super) struct Usage(HashMap<u64, LogUse>);

impl Usage {
    pub(super) fn add(&mut self, part: &Part) {
        let log = self.0.entry(part.log()).or_default();
        log.bytes += part.bytes();
        log.entries += u64::from(part.count());
        log.parts += 1;
    }

    pub(super) fn remove(&mut self, part: &Part) {
        let log = self.0.get_mut(&part.log()).expect("only what was added is removed");
        log.bytes -= part.bytes();
        log.entries -= u64::from(part.count());
        log.parts -= 1;
        if log.parts == 0 {
            self.0.remove(&part.log());
        }
    }

    pub(super) fn of(&self, log: u64) -> LogUse {
        self.0.get(&log).copied().unwrap_or_default()
    }
}
