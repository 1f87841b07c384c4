//! The ledger table: what this bookie knows of each ledger, and in which logs its entries lie.
//! The engine owns it behind its lock; it is rebuilt at start from the checkpoint, the logs' runs and the journal.
//! It must never say that an entry is absent when it is only unreadable: it speaks of places, not of contents.
//!
//! It also knows, exactly and at any moment, how much of each log is live: what is deleted or written again counts as
//! dead from that moment on.
//!
//! Memory, measured with a million ledgers (`tests.rs`): 109 bytes a ledger with its entries in one log (72 of them are
//! [`Ledger`], with its only [`Part`] inside; the rest are hash maps), 95 more when a second log comes, then 24 to 29 a
//! log: 252 with 4 logs, 398 with 10. Nothing an entry. A master key is kept once, however many ledgers have it; where
//! each ledger has its own, it is 77 bytes more.

mod keys;
mod ledger;
mod part;
mod runs;
mod table;
#[cfg(test)]
mod tests;
mod usage;

use magnetar_proto::ids::LedgerId;

use self::keys::Keys;
pub(crate) use self::ledger::Ledger;
pub(crate) use self::part::{Offsets, Part, Slot};
use self::table::Table;
pub(crate) use self::usage::LogUse;
use self::usage::Usage;
use crate::checkpoint::LedgerRow;
use crate::entry_log::{Log, Run};

/// All ledgers of the bookie.
#[derive(Debug, Default)]
pub(crate) struct Ledgers {
    table: Table,
    keys: Keys,
    usage: Usage,
    /// Forgotten without a trace, and perhaps still named by a checkpoint.
    gone: Vec<LedgerId>,
}

/// The ledger was first seen with another master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WrongKey;

impl Ledgers {
    /// Those remembered only to refuse adds included.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn get(&self, ledger: LedgerId) -> Option<&Ledger> {
        self.table.get(ledger)
    }

    /// The ledger, made known if it was not.
    pub(crate) fn ensure(&mut self, ledger: LedgerId) -> &mut Ledger {
        self.table.ensure(ledger)
    }

    /// The ledger, made known if it was not, and whether `key` became its master key just now.
    pub(crate) fn admit(
        &mut self,
        ledger: LedgerId,
        key: &[u8; 20],
    ) -> Result<(&mut Ledger, bool), WrongKey> {
        let known = self.table.ensure(ledger);
        match known.key() {
            Some(id) if self.keys.get(id) == key => Ok((known, false)),
            Some(_) => Err(WrongKey),
            None => {
                known.set_key(Some(self.keys.hold(key)));
                Ok((known, true))
            }
        }
    }

    /// Makes `key` the ledger's master key, unless it has one.
    pub(crate) fn restore_key(&mut self, ledger: LedgerId, key: &[u8; 20]) {
        // A journal that says otherwise than the checkpoint would have been refused when it was written.
        let _ = self.admit(ledger, key);
    }

    /// Runs of ledgers that are not known (any more) are dead: a ledger is always known before its first entry is
    /// flushed, until it is deleted.
    fn alive(&self, run: &Run) -> Option<&Ledger> {
        self.table.get(run.ledger).filter(|ledger| ledger.deleted_ms().is_none())
    }

    /// The slots whose offsets [`Ledgers::add_runs`] needs to know to take these runs.
    pub(crate) fn slots_to_cut(&self, log: &Log, runs: &[Run]) -> Vec<Slot> {
        let ledgers = runs.iter().filter_map(|run| Some((run, self.alive(run)?)));
        ledgers.flat_map(|(run, ledger)| ledger.runs.slots_to_cut(Part::new(log, run))).collect()
    }

    /// Takes the runs of a log. Of an entry that several logs hold, the copy in the highest counts. Where an offset is missing, the bytes on both sides of a
    /// cut are guessed.
    pub(crate) fn add_runs(&mut self, log: &Log, runs: &[Run], offsets: &Offsets) {
        for run in runs {
            if self.alive(run).is_some() {
                let ledger = self.table.ensure(run.ledger);
                ledger.note_entry(run.last());
                ledger.runs.add(Part::new(log, run), offsets, &mut self.usage);
            }
        }
    }

    /// Takes the entries of these runs of `log`, a copy of live entries of the logs `from`, from there.
    pub(crate) fn move_runs(&mut self, log: &Log, runs: &[Run], from: &[u64]) {
        for run in runs {
            if let Some(ledger) = self.table.get_mut(run.ledger) {
                ledger.runs.move_to(&Part::new(log, run), from, &mut self.usage);
            }
        }
    }

    /// Takes what a checkpoint says about a ledger.
    pub(crate) fn restore(&mut self, row: LedgerRow) {
        let ledger = self.table.ensure(row.ledger);
        if row.fenced {
            ledger.fence(0);
        }
        ledger.note_last_add_confirmed(row.last_add_confirmed);
        if let Some(body) = row.explicit_lac {
            ledger.set_explicit_lac(body);
        }
        if let Some(ms) = row.deleted_ms {
            ledger.set_deleted_ms(ms);
        }
        if let Some(key) = &row.master_key {
            self.restore_key(row.ledger, key);
        }
        self.table.ensure(row.ledger).recorded();
    }

    /// Drops a ledger and all its entries. One that was fenced is remembered as deleted at `now_ms`.
    pub(crate) fn forget(&mut self, ledger: LedgerId, now_ms: u64) {
        let Some(old) = self.table.remove(ledger) else { return };
        for part in old.runs.parts() {
            self.usage.remove(part);
        }
        match (old.fenced(), old.deleted_ms()) {
            (Some(sequence), None) => {
                let memory = self.table.ensure(ledger);
                memory.fence(sequence);
                memory.set_deleted_ms(now_ms);
                memory.set_key(old.key());
            }
            _ => {
                self.gone.push(ledger);
                old.key().into_iter().for_each(|key| self.keys.release(key));
            }
        }
    }

    /// Drops a ledger's entries. What else is known of it stays.
    pub(crate) fn empty(&mut self, ledger: LedgerId) {
        if let Some(known) = self.table.get_mut(ledger) {
            let runs = std::mem::take(&mut known.runs);
            runs.parts().iter().for_each(|part| self.usage.remove(part));
        }
    }

    /// The ledgers that the next checkpoint must no longer name. Those that have come back since are marked as changed.
    pub(crate) fn take_gone(&mut self) -> Vec<LedgerId> {
        let gone = std::mem::take(&mut self.gone);
        gone.iter().for_each(|ledger| self.mark_changed(*ledger));
        gone
    }

    /// The checkpoint that was to leave them out did not come about.
    pub(crate) fn put_back_gone(&mut self, gone: Vec<LedgerId>) {
        self.gone.extend(gone);
    }

    /// The checkpoint that was to say what has changed of this ledger did not come about.
    pub(crate) fn mark_changed(&mut self, ledger: LedgerId) {
        if let Some(known) = self.table.get_mut(ledger) {
            known.mark_changed();
        }
    }

    /// Visits ledgers like [`Ledgers::walk`]: shows what a checkpoint must say of each that has changed, and takes it as
    /// said; with `all`, of the others too. `take` learns whether it has changed.
    pub(crate) fn take_rows(
        &mut self,
        from: usize,
        max: usize,
        all: bool,
        mut take: impl FnMut(LedgerRow, bool),
    ) -> Option<usize> {
        let (ledgers, next) = self.table.walk_mut(from, max);
        for ledger in ledgers {
            let changed = ledger.is_changed();
            if changed || all {
                take(row(&self.keys, ledger), changed);
                ledger.recorded();
            }
        }
        next
    }

    /// The ledgers in the next `max` places from `from` on (0 to begin), and where to go on; `None` at the end. A walk
    /// in several steps sees every ledger that is there from its beginning to its end once.
    pub(crate) fn walk(&self, from: usize, max: usize) -> (impl Iterator<Item = &Ledger>, Option<usize>) {
        self.table.walk(from, max)
    }

    /// How much of a log is live.
    pub(crate) fn use_of(&self, log: u64) -> LogUse {
        self.usage.of(log)
    }
}

/// What a checkpoint must say about the ledger.
fn row(keys: &Keys, ledger: &Ledger) -> LedgerRow {
    LedgerRow {
        ledger: ledger.id,
        fenced: ledger.fenced().is_some(),
        master_key: ledger.key().map(|key| *keys.get(key)),
        last_add_confirmed: ledger.last_add_confirmed(),
        explicit_lac: ledger.explicit_lac().cloned(),
        deleted_ms: ledger.deleted_ms(),
    }
}
