//! The ledger table: what this bookie knows of each ledger, and in which logs its entries lie.
//! The engine owns it behind its lock; it is rebuilt at start from the checkpoint, the logs' runs and the journal.
//! It must never say that an entry is absent when it is only unreadable: it speaks of places, not of contents.

mod runs;

use std::collections::HashMap;

use bytes::Bytes;
use magnetar_proto::ids::{EntryId, LedgerId};

pub(crate) use self::runs::Runs;
use crate::checkpoint::LedgerRow;
use crate::entry_log::Run;

/// A ledger's state; facts only ever accumulate.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Fixed by the first add or fence.
    pub(crate) master_key: Option<[u8; 20]>,
    /// Journal sequence of the fence record (0: durable before this start); the ledger takes no ordinary adds.
    pub(crate) fenced: Option<u64>,
    /// Highest entry id accepted here.
    pub(crate) last_entry: Option<EntryId>,
    /// Highest LAC that any add carried.
    pub(crate) last_add_confirmed: Option<EntryId>,
    pub(crate) explicit_lac: Option<Bytes>,
    /// When a fenced ledger was deleted (Unix time, ms): it has no entries, and is remembered only to refuse adds.
    pub(crate) deleted_ms: Option<u64>,
    pub(crate) runs: Runs,
}

/// All ledgers of the bookie.
#[derive(Debug, Default)]
pub(crate) struct Ledgers {
    ledgers: HashMap<LedgerId, Ledger>,
}

impl Ledgers {
    pub(crate) fn get(&self, ledger: LedgerId) -> Option<&Ledger> {
        self.ledgers.get(&ledger)
    }

    /// The ledger, made known if it was not.
    pub(crate) fn ensure(&mut self, ledger: LedgerId) -> &mut Ledger {
        self.ledgers.entry(ledger).or_default()
    }

    /// Takes the runs of a log newer than all logs added before. Runs of ledgers that are not known (any more) are
    /// dead: a ledger is always known before its first entry is flushed, until it is deleted.
    pub(crate) fn add_log(&mut self, log: u64, runs: &[Run]) {
        for run in runs {
            let Some(ledger) = self.ledgers.get_mut(&run.ledger).filter(|ledger| ledger.deleted_ms.is_none())
            else {
                continue;
            };
            ledger.last_entry = ledger.last_entry.max(Some(run.last()));
            ledger.runs.push(log, *run);
        }
    }

    /// Takes what a checkpoint says about a ledger.
    pub(crate) fn restore(&mut self, row: LedgerRow) {
        let ledger = self.ensure(row.ledger);
        ledger.master_key = row.master_key;
        ledger.fenced = row.fenced.then_some(0);
        ledger.last_add_confirmed = row.last_add_confirmed;
        ledger.explicit_lac = row.explicit_lac;
        ledger.deleted_ms = row.deleted_ms;
    }

    /// Forgets a ledger.
    pub(crate) fn remove(&mut self, ledger: LedgerId) -> Option<Ledger> {
        self.ledgers.remove(&ledger)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (LedgerId, &Ledger)> {
        self.ledgers.iter().map(|(id, ledger)| (*id, ledger))
    }

    /// Those remembered only to refuse adds included.
    pub(crate) fn len(&self) -> usize {
        self.ledgers.len()
    }

    pub(crate) fn ids(&self) -> Vec<LedgerId> {
        self.ledgers.keys().copied().collect()
    }

    /// What a checkpoint must say about the ledger; `None` when it is not known (any more).
    pub(crate) fn row(&self, ledger: LedgerId) -> Option<LedgerRow> {
        let state = self.ledgers.get(&ledger)?;
        Some(LedgerRow {
            ledger,
            fenced: state.fenced.is_some(),
            master_key: state.master_key,
            last_add_confirmed: state.last_add_confirmed,
            explicit_lac: state.explicit_lac.clone(),
            deleted_ms: state.deleted_ms,
        })
    }

    /// Every log that some ledger has a run in, with repeats.
    pub(crate) fn logs_in_use(&self) -> impl Iterator<Item = u64> + '_ {
        self.ledgers.values().flat_map(|ledger| ledger.runs.iter().map(|at| at.log))
    }
}
