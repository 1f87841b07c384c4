//! Verifying live entries of a log, a stretch at a time.

use super::Engine;
use super::logs::Live;
use crate::entry_log::format::ENTRY_HEADER_BYTES;

/// Most entries read at once.
const ENTRIES_PER_READ: u64 = 512;

/// The live entries of one log, on the way from the first to the last.
pub(crate) struct Scrub {
    live: Vec<Live>,
    next: usize,
}

impl<T: Send + 'static> Engine<T> {
    /// The logs that are open, oldest first.
    pub(crate) fn log_ids(&self) -> Vec<u64> {
        let mut logs: Vec<u64> = self.lock().logs.keys().copied().collect();
        logs.sort_unstable();
        logs
    }

    /// Begins to verify a log; `None` when it has gone, or its index cannot be read, which is reported. Blocks.
    pub(crate) fn begin_scrub(&self, log: u64) -> Option<Scrub> {
        let log = self.lock().logs.get(&log).map(|open| open.log.clone())?;
        let live = self.live_of(&log);
        let live = live.inspect_err(|error| {
            tracing::error!(log = log.id, %error, "the index of an entry log has become unreadable");
        });
        Some(Scrub { live: live.ok()?, next: 0 })
    }

    /// Verifies the next entries, about `bytes_max`, and returns their bytes; 0 at the end. What is damaged is noted in
    /// [`findings`](Engine::findings). Blocks.
    pub(crate) fn scrub_some(&self, scrub: &mut Scrub, bytes_max: usize) -> u64 {
        let (mut entries, mut bytes) = (0, 0);
        while let Some(live) = scrub.live.get_mut(scrub.next) {
            if live.is_done() {
                scrub.next += 1;
                continue;
            }
            if bytes >= bytes_max as u64 {
                break;
            }
            match live.place(ENTRIES_PER_READ).read(ENTRIES_PER_READ, bytes_max) {
                Ok(bodies) => {
                    bytes += bodies.iter().map(|body| (ENTRY_HEADER_BYTES + body.len()) as u64).sum::<u64>();
                    entries += bodies.len() as u64;
                    live.from.0 += bodies.len() as u64;
                }
                Err(reason) => {
                    self.note_unreadable(live, &reason.to_string());
                    // At least the slot was read; a log of nothing but damage must be paced as well.
                    bytes += ENTRY_HEADER_BYTES as u64;
                    entries += 1;
                    live.from.0 += 1;
                }
            }
        }
        self.findings.count_scrubbed(entries, bytes);
        bytes
    }

    fn note_unreadable(&self, live: &Live, reason: &str) {
        let (ledger, entry, log) = (live.ledger, live.from, live.log.id);
        let still_here = {
            let state = self.lock();
            let part = state.ledgers.get(ledger).and_then(|ledger| ledger.runs().find(entry));
            part.is_some_and(|part| part.log() == log)
        };
        if still_here && self.findings.note_damaged(ledger, entry, log) {
            tracing::error!(
                ledger = ledger.0,
                entry = entry.0,
                log,
                reason,
                "an entry has become unreadable"
            );
        }
    }
}
