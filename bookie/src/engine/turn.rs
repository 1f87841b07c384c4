//! A turn: the engine's lock, held for one batch of requests, and the journal records they lead to.
//!
//! Records are queued while the lock is held, so the journal's order is the order in which state changed: an add
//! accepted before a fence precedes it in the journal, an add that was refused for it never enters.

use std::sync::MutexGuard;

use bytes::Bytes;
use magnetar_proto::ids::{EntryId, LedgerId};
use tokio::sync::OwnedSemaphorePermit;

use super::{Engine, Lookup, State};
use crate::index::Ledger;
use crate::journal::Submission;
use crate::journal::record::{ENTRY_BODY_BYTES_MIN, Record};

/// An entry to store.
#[derive(Clone, Debug)]
pub(crate) struct Add {
    pub(crate) ledger: LedgerId,
    pub(crate) entry: EntryId,
    /// The LAC that the body carries.
    pub(crate) last_add_confirmed: Option<EntryId>,
    pub(crate) master_key: [u8; 20],
    /// Recovery and re-replication adds are taken on fenced ledgers too.
    pub(crate) recovery: bool,
    /// At least [`ENTRY_BODY_BYTES_MIN`] bytes, beginning with both ids.
    pub(crate) body: Bytes,
}

/// Why a change is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Fenced,
    /// The ledger was first seen with another master key.
    WrongMasterKey,
    /// The bookie takes no such entries now.
    ReadOnly,
}

/// See the module.
pub(crate) struct Turn<'a, T: Send + 'static> {
    engine: &'a Engine<T>,
    pub(super) state: MutexGuard<'a, State>,
    records: Vec<Record>,
    /// Entries found in memory, and not found there.
    hits: u64,
    misses: u64,
    has_room: bool,
}

impl<'a, T: Send + 'static> Turn<'a, T> {
    pub(super) fn new(engine: &'a Engine<T>) -> Self {
        Turn { engine, state: engine.lock(), records: Vec::new(), hits: 0, misses: 0, has_room: true }
    }

    /// Every add of this turn is refused: there is no room for it.
    pub(crate) fn refuse_adds(&mut self) {
        self.has_room = false;
    }

    /// Stores an entry; readers see it at once, it is durable when the turn's token completes. Storing an entry id
    /// again replaces the copy. The turn must be finished with the room for all its entries.
    pub(crate) fn add(&mut self, add: Add) -> Result<(), Refused> {
        assert!(add.body.len() >= ENTRY_BODY_BYTES_MIN, "the codec checks the length");
        let mode = self.state.mode;
        if !self.has_room || mode.is_exhausted() || (mode.is_read_only() && !add.recovery) {
            return Err(Refused::ReadOnly);
        }
        let Add { ledger, entry, body, .. } = add;
        let known = self.admit(ledger, &add.master_key)?;
        if known.deleted_ms().is_some() || (known.fenced().is_some() && !add.recovery) {
            return Err(Refused::Fenced);
        }
        known.note_entry(entry);
        known.note_last_add_confirmed(add.last_add_confirmed);
        let lac = known.last_add_confirmed();
        self.state.waiters.advanced(ledger, lac);
        self.state.cache.insert(ledger, entry, body.clone());
        self.records.push(Record::Entry(body));
        Ok(())
    }

    /// Fences a ledger, known or not. True when this is durable already; otherwise it is once the token completes.
    pub(crate) fn fence(&mut self, ledger: LedgerId, master_key: &[u8; 20]) -> Result<bool, Refused> {
        let durable = self.engine.journal.durable();
        let next = self.engine.journal.last_assigned() + 1;
        let known = self.admit(ledger, master_key)?;
        match known.fenced() {
            Some(sequence) => Ok(sequence <= durable),
            None => {
                self.records.push(Record::Fence { ledger });
                let sequence = next + self.records.len() as u64 - 1;
                self.state.ledgers.ensure(ledger).fence(sequence);
                self.state.waiters.changed(ledger);
                Ok(false)
            }
        }
    }

    /// Stores the explicit LAC blob of a ledger; fenced ledgers take it too.
    pub(crate) fn write_lac(
        &mut self,
        ledger: LedgerId,
        master_key: &[u8; 20],
        lac: Option<EntryId>,
        body: Bytes,
    ) -> Result<(), Refused> {
        if self.state.mode.is_read_only() {
            return Err(Refused::ReadOnly);
        }
        let known = self.admit(ledger, master_key)?;
        if known.deleted_ms().is_some() {
            return Err(Refused::Fenced);
        }
        known.set_explicit_lac(body.clone());
        known.note_last_add_confirmed(lac);
        let lac = known.last_add_confirmed();
        self.state.waiters.advanced(ledger, lac);
        self.state.waiters.changed(ledger);
        self.records.push(Record::ExplicitLac { ledger, body });
        Ok(())
    }

    /// Checks the master key, or records the one that a ledger is first seen with.
    fn admit(&mut self, ledger: LedgerId, master_key: &[u8; 20]) -> Result<&mut Ledger, Refused> {
        let admitted = self.state.ledgers.admit(ledger, master_key);
        let (known, first) = admitted.map_err(|_| Refused::WrongMasterKey)?;
        if first {
            self.records.push(Record::MasterKey { ledger, key: *master_key });
        }
        Ok(known)
    }

    /// Finds an entry, or the last one of the ledger.
    pub(crate) fn lookup(&self, ledger: LedgerId, entry: Option<EntryId>) -> Lookup {
        self.state.lookup(ledger, entry)
    }

    /// Like [`Turn::lookup`], counted as a hit or a miss of the write cache.
    pub(crate) fn lookup_counted(&mut self, ledger: LedgerId, entry: Option<EntryId>) -> Lookup {
        let found = self.lookup(ledger, entry);
        match found {
            Lookup::Here(_) => self.hits += 1,
            _ => self.misses += 1,
        }
        found
    }

    /// The highest LAC that this bookie knows of the ledger.
    pub(crate) fn last_add_confirmed(&self, ledger: LedgerId) -> Option<EntryId> {
        self.state.ledgers.get(ledger)?.last_add_confirmed()
    }

    /// The explicit LAC blob last written.
    pub(crate) fn explicit_lac(&self, ledger: LedgerId) -> Option<Bytes> {
        self.state.ledgers.get(ledger)?.explicit_lac().cloned()
    }

    /// Every entry id held of a ledger, ascending; `None` when that cannot be said for sure or the ledger is unknown.
    pub(crate) fn entries(&self, ledger: LedgerId) -> Result<Vec<EntryId>, Lookup> {
        self.state.entries(ledger)
    }

    /// Queues what was accepted. `token` completes when that and everything before it is durable, also when nothing
    /// was accepted. `room` is what the accepted entries were admitted with.
    pub(crate) fn finish(mut self, room: Option<OwnedSemaphorePermit>, token: Option<T>) {
        let records = std::mem::take(&mut self.records);
        let has_entries = records.iter().any(|record| matches!(record, Record::Entry(_)));
        let bytes: usize = records.iter().map(Record::encoded_len).sum();
        if let Some(room) = room.filter(|_| has_entries) {
            self.state.cache.hold(room);
        }
        self.state.journal_bytes += bytes as u64 + self.engine.journal.take_padding_bytes();
        if bytes > 0 {
            self.engine.spend_space(&mut self.state, bytes as u64);
        }
        if !records.is_empty() || token.is_some() {
            self.engine.journal.submit(Submission { records, token });
        }
        if self.state.flush_is_due(&self.engine.limits) {
            self.engine.flush.request();
        }
    }
}

impl<T: Send + 'static> Drop for Turn<'_, T> {
    /// State that changed without its record being queued would be visible but never durable.
    fn drop(&mut self) {
        let records = std::mem::take(&mut self.records);
        if !records.is_empty() {
            self.engine.journal.submit(Submission { records, token: None });
        }
        if self.hits + self.misses > 0 {
            self.engine.metrics.storage.write_cache_hits.add(self.hits);
            self.engine.metrics.storage.write_cache_misses.add(self.misses);
        }
    }
}
