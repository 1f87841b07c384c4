//! Forgetting deleted ledgers, and unlinking logs that hold no live ledger.

use std::collections::HashSet;

use magnetar_proto::ids::LedgerId;

use super::Engine;
use crate::error::FatalError;

/// How long a ledger that was fenced when it was deleted keeps refusing adds: a writer that was paused for longer than
/// this finds its connection gone.
const REMEMBER_DELETED_MS: u64 = 7 * 24 * 3600 * 1000;

impl<T: Send + 'static> Engine<T> {
    /// Every ledger that may hold entries here.
    pub(crate) fn ledgers(&self) -> Vec<LedgerId> {
        let state = self.lock();
        let live = state.ledgers.iter().filter(|(_, ledger)| ledger.deleted_ms.is_none());
        live.map(|(id, _)| id).collect()
    }

    /// Forgets ledgers that are proven to be deleted, and unlinks logs that nobody needs any more. Blocks.
    pub(crate) fn forget(&self, dead: &[LedgerId], now_ms: u64) -> Result<(), FatalError> {
        let unused = {
            let mut state = self.lock();
            for id in dead {
                state.cache.remove(*id);
                let Some(ledger) = state.ledgers.remove(*id) else { continue };
                if ledger.fenced.is_some() {
                    let memory = state.ledgers.ensure(*id);
                    memory.master_key = ledger.master_key;
                    memory.fenced = ledger.fenced;
                    memory.deleted_ms = Some(now_ms);
                }
            }
            let expired = |ms: u64| now_ms.saturating_sub(ms) > REMEMBER_DELETED_MS;
            let old: Vec<_> = state
                .ledgers
                .iter()
                .filter(|(_, l)| l.deleted_ms.is_some_and(expired))
                .map(|(id, _)| id)
                .collect();
            for id in &old {
                state.ledgers.remove(*id);
            }
            let in_use: HashSet<u64> = state.ledgers.logs_in_use().collect();
            let unused: Vec<u64> = state.logs.keys().copied().filter(|log| !in_use.contains(log)).collect();
            if dead.is_empty() && old.is_empty() && unused.is_empty() {
                return Ok(());
            }
            // The next checkpoint must not name them, and only then may the files go.
            unused.iter().filter_map(|log| state.logs.remove(log)).map(|open| open.row()).collect::<Vec<_>>()
        };
        self.checkpoint_now()?;
        for row in unused {
            tracing::info!(log = row.log, bytes = row.bytes, "removing an entry log without live ledgers");
            self.disk.remove_log(&row).map_err(FatalError::checkpoint)?;
        }
        Ok(())
    }
}
