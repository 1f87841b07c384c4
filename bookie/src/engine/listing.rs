//! What operators see of ledgers and logs, a bounded portion at a time.

use std::path::PathBuf;

use magnetar_proto::ids::{EntryId, LedgerId};

use super::{Engine, State};
use crate::index::{Ledger, LogUse};

/// Ledgers or logs looked at under one hold of the engine's lock.
const ITEMS_PER_TURN: usize = 512;

/// A ledger, as far as this bookie knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LedgerFacts {
    pub(crate) ledger: LedgerId,
    pub(crate) fenced: bool,
    pub(crate) last_entry: Option<EntryId>,
    pub(crate) last_add_confirmed: Option<EntryId>,
    /// Stretches of entries in logs.
    pub(crate) runs: u64,
    /// Bytes of its entries in logs.
    pub(crate) live_bytes: u64,
    pub(crate) deleted: bool,
}

/// An entry log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogFacts {
    pub(crate) log: u64,
    pub(crate) dir: PathBuf,
    pub(crate) bytes: u64,
    /// What it holds, and how much of that is live; `None` when the log is damaged.
    pub(crate) contents: Option<(u64, LogUse)>,
}

/// Some of many, and where to go on.
pub(crate) struct Page<Item> {
    pub(crate) items: Vec<Item>,
    /// `None` at the end.
    pub(crate) next: Option<u64>,
}

impl<T: Send + 'static> Engine<T> {
    /// At most `max` ledgers from `from` on, which is 0 at first and `next` of the page before afterwards. Pages taken
    /// one after the other show every ledger that is there all the while once.
    pub(crate) fn ledger_page(&self, from: u64, max: usize) -> Page<LedgerFacts> {
        let mut page = Page { items: Vec::new(), next: Some(from) };
        while let Some(from) = page.next.filter(|_| page.items.len() < max) {
            let state = self.lock();
            let portion = ITEMS_PER_TURN.min(max - page.items.len());
            let (ledgers, next) = state.ledgers.walk(usize::try_from(from).unwrap_or(usize::MAX), portion);
            page.items.extend(ledgers.map(ledger_facts));
            page.next = next.map(|next| next as u64);
        }
        page
    }

    /// One ledger; `None` when it is not known.
    pub(crate) fn ledger_facts(&self, ledger: LedgerId) -> Option<LedgerFacts> {
        self.lock().ledgers.get(ledger).map(ledger_facts)
    }

    /// At most `max` logs with ids from `from` on, ascending.
    pub(crate) fn log_page(&self, from: u64, max: usize) -> Page<LogFacts> {
        let mut rows = self.lock().log_rows();
        rows.retain(|row| row.log >= from);
        let next = rows.get(max).map(|row| row.log);
        rows.truncate(max);
        let mut items = Vec::with_capacity(rows.len());
        for rows in rows.chunks(ITEMS_PER_TURN) {
            let state = self.lock();
            items.extend(rows.iter().map(|row| LogFacts {
                log: row.log,
                dir: self.disk.ledger_dirs.get(row.dir as usize).cloned().unwrap_or_default(),
                bytes: row.bytes,
                contents: state.contents(row.log),
            }));
        }
        Page { items, next }
    }
}

impl State {
    fn contents(&self, log: u64) -> Option<(u64, LogUse)> {
        Some((self.logs.get(&log)?.log.entries, self.ledgers.use_of(log)))
    }
}

fn ledger_facts(known: &Ledger) -> LedgerFacts {
    let parts = known.runs().parts();
    LedgerFacts {
        ledger: known.id(),
        fenced: known.fenced().is_some(),
        last_entry: known.last_entry(),
        last_add_confirmed: known.last_add_confirmed(),
        runs: parts.len() as u64,
        live_bytes: parts.iter().map(|part| part.bytes()).sum(),
        deleted: known.deleted_ms().is_some(),
    }
}
