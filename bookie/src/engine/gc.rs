//! Forgetting deleted ledgers, and unlinking logs that hold no live entry.

use magnetar_proto::ids::LedgerId;

use super::disk::OpenLog;
use super::flush::Progress;
use super::{Engine, State};
use crate::error::FatalError;
use crate::index::{Ledger, Part};

/// How long a ledger that was fenced when it was deleted keeps refusing adds: a writer that was paused for longer than
/// this finds its connection gone.
const REMEMBER_DELETED_MS: u64 = 7 * 24 * 3600 * 1000;

/// Ledgers visited under one hold of the engine's lock.
const LEDGERS_PER_TURN: usize = 512;

/// What a bookie holds of a ledger at one moment: any entry that comes changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holding {
    entries: u64,
    newest_log: u64,
    in_cache: bool,
}

impl Holding {
    /// Nothing has come since the last flush.
    pub(crate) fn is_at_rest(&self) -> bool {
        !self.in_cache
    }
}

impl State {
    fn holding(&self, ledger: LedgerId) -> Option<Holding> {
        let parts = self.ledgers.get(ledger)?.runs().parts();
        let in_cache = self.cache.entries_of(ledger).next().is_some();
        let entries = parts.iter().map(|part| u64::from(part.count())).sum();
        let newest_log = parts.iter().map(Part::log).max().unwrap_or(0);
        (in_cache || entries > 0).then_some(Holding { entries, newest_log, in_cache })
    }

    /// Whether all that a log holds is known. Of one that may hold more, that is not to become an absence.
    pub(super) fn may_drop(&self, log: u64) -> bool {
        !self.incomplete_logs.contains(&log)
    }
}

impl<T: Send + 'static> Engine<T> {
    /// Every ledger that may hold entries here.
    pub(crate) fn ledgers(&self) -> Vec<LedgerId> {
        self.collect_ledgers(|ledger| ledger.deleted_ms().is_none())
    }

    /// Whether a ledger may hold entries here.
    pub(crate) fn knows(&self, ledger: LedgerId) -> bool {
        self.lock().ledgers.get(ledger).is_some_and(|ledger| ledger.deleted_ms().is_none())
    }

    fn collect_ledgers(&self, which: impl Fn(&Ledger) -> bool) -> Vec<LedgerId> {
        let (mut ids, mut from) = (Vec::new(), Some(0));
        while let Some(place) = from {
            let state = self.lock();
            let (ledgers, next) = state.ledgers.walk(place, LEDGERS_PER_TURN);
            ids.extend(ledgers.filter(|ledger| which(ledger)).map(Ledger::id));
            from = next;
        }
        ids
    }

    /// Forgets ledgers that are proven to be deleted. A fenced one is remembered, without entries, so that it goes on
    /// to refuse adds. The space of their entries counts as dead at once.
    pub(crate) fn forget(&self, dead: &[LedgerId], now_ms: u64) {
        self.metrics.gc.deleted_ledgers.add(dead.len() as u64);
        for dead in dead.chunks(LEDGERS_PER_TURN) {
            let mut state = self.lock();
            for id in dead {
                if state.ledgers.get(*id).is_some_and(|ledger| ledger.deleted_ms().is_none()) {
                    state.cache.remove(*id);
                    state.ledgers.forget(*id, now_ms);
                    state.waiters.changed(*id);
                }
            }
        }
    }

    /// What is held of a ledger's entries; `None` when the ledger is not known, or nothing is.
    pub(crate) fn holding(&self, ledger: LedgerId) -> Option<Holding> {
        self.lock().holding(ledger)
    }

    /// Drops the entries of ledgers that other bookies hold, as far as what is held of them is still what the proof was
    /// made for; returns of how many. A fence is kept, and refuses ordinary adds as before. The space counts as dead at
    /// once.
    pub(crate) fn leave(&self, proven: &[(LedgerId, Holding)], now_ms: u64) -> u64 {
        let mut left = 0;
        for (ledger, holding) in proven {
            let mut state = self.lock();
            if state.holding(*ledger) != Some(*holding) || !holding.is_at_rest() {
                continue;
            }
            left += 1;
            if state.ledgers.get(*ledger).is_some_and(|known| known.fenced().is_some()) {
                state.ledgers.empty(*ledger);
            } else {
                state.ledgers.forget(*ledger, now_ms);
            }
            state.waiters.changed(*ledger);
        }
        left
    }

    /// Ends the memory of ledgers that were deleted long ago.
    pub(crate) fn expire_deleted(&self, now_ms: u64) {
        let expired = |ms: u64| now_ms.saturating_sub(ms) > REMEMBER_DELETED_MS;
        let old = self.collect_ledgers(|ledger| ledger.deleted_ms().is_some_and(expired));
        for old in old.chunks(LEDGERS_PER_TURN) {
            let mut state = self.lock();
            old.iter().for_each(|id| state.ledgers.forget(*id, now_ms));
        }
    }

    /// Unlinks logs without live entries and returns their bytes. Blocks.
    pub(crate) fn drop_dead_logs(&self) -> Result<u64, FatalError> {
        // A log that is coming into the index looks dead until its first runs have come.
        let mut progress = self.flush.hold();
        let dead: Vec<OpenLog> = {
            let mut state = self.lock();
            let is_dead = |log: &u64| state.ledgers.use_of(*log).entries == 0 && state.may_drop(*log);
            let dead: Vec<u64> = state.logs.keys().copied().filter(is_dead).collect();
            // The next checkpoint must not name them, and only then may the files go.
            dead.iter().filter_map(|log| state.logs.remove(log)).collect()
        };
        if dead.is_empty() { Ok(0) } else { self.drop_logs(&mut progress, dead) }
    }

    /// Unlinks logs that were taken out of the state, once the checkpoint does not name them; returns their bytes, 0
    /// when that has to wait. Blocks.
    pub(super) fn drop_logs(&self, progress: &mut Progress, logs: Vec<OpenLog>) -> Result<u64, FatalError> {
        if !self.write_checkpoint(progress)? {
            // The checkpoint before still names them. Another round tries again.
            self.lock().logs.extend(logs.into_iter().map(|open| (open.log.id, open)));
            return Ok(0);
        }
        let mut bytes = 0;
        for row in logs.iter().map(OpenLog::row) {
            tracing::info!(log = row.log, bytes = row.bytes, "removing an entry log without live entries");
            match self.disk.remove_log(&row) {
                Ok(()) => bytes += row.bytes,
                // Its directory may be lost. No checkpoint names it any more: the next start removes it.
                Err(error) => {
                    self.metrics.gc.failed_to_delete.add(1);
                    tracing::warn!(log = row.log, %error, "cannot remove an entry log");
                }
            }
        }
        Ok(bytes)
    }
}
