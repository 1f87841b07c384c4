//! Finding entries, and reading those that only a log holds.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use magnetar_proto::ids::{EntryId, LedgerId};

use super::State;
use crate::cache::{Buffers, Key};
use crate::entry_log::{Extent, Log, Unreadable};
use crate::index::Ledger;

/// What the engine knows about an entry.
#[derive(Clone)]
pub(crate) enum Lookup {
    /// The entry's body, from the write cache.
    Here(Bytes),
    OnDisk(Place),
    /// The ledger is known, the entry is truly not here.
    NoEntry,
    /// The ledger is truly not known.
    NoLedger,
    /// A damaged log may or may not hold it.
    Unknown,
}

/// Where an entry lies.
#[derive(Clone)]
pub(crate) struct Place {
    pub(super) log: Arc<Log>,
    pub(super) slot_at: u64,
    /// How many entries from here on lie one after the other.
    pub(super) stretch: u64,
    pub(super) ledger: LedgerId,
    pub(super) entry: EntryId,
}

impl Place {
    pub(crate) fn entry(&self) -> EntryId {
        self.entry
    }

    /// The first entry after this one that must be looked up again.
    pub(crate) fn stretch_end(&self) -> EntryId {
        EntryId(self.entry.0.saturating_add(self.stretch))
    }

    /// How the read cache names a span from here on.
    pub(super) fn key(&self) -> Key {
        Key { ledger: self.ledger, log: self.log.id, first: self.entry }
    }

    /// Reads this entry and at most `count - 1` that follow it without a gap, within `max_bytes` together (the first is
    /// always read); at least one, or the error about the first. Past the read cache. Blocks.
    pub(crate) fn read(&self, count: u64, max_bytes: usize) -> Result<Vec<Bytes>, Unreadable> {
        self.load(&self.extent(count, max_bytes)?, &Arc::default())
    }

    /// Where this entry lies, and at most `count - 1` that follow it without a gap, within `max_bytes` together. Blocks.
    pub(super) fn extent(&self, count: u64, max_bytes: usize) -> Result<Extent, Unreadable> {
        self.log.extent(self.slot_at, count.min(self.stretch), max_bytes)
    }

    /// Reads the entries of an extent of this place, at least one, or the error about the first. Blocks.
    pub(super) fn load(&self, extent: &Extent, buffers: &Arc<Buffers>) -> Result<Vec<Bytes>, Unreadable> {
        let mut bodies = self.log.load(extent, buffers)?;
        let sound = bodies.iter().zip(self.entry.0..).take_while(|(body, entry)| {
            let mut ids = &body[..];
            ids.try_get_u64() == Ok(self.ledger.0) && ids.try_get_u64() == Ok(*entry)
        });
        let sound = sound.count();
        if sound == 0 {
            return Err(Unreadable::Damaged { offset: self.slot_at });
        }
        bodies.truncate(sound);
        Ok(bodies)
    }
}

impl State {
    pub(super) fn lookup(&self, ledger: LedgerId, entry: Option<EntryId>) -> Lookup {
        let unless_damaged = |absent| if self.misses_something() { Lookup::Unknown } else { absent };
        let Some(known) = self.ledgers.get(ledger).filter(|known| known.deleted_ms().is_none()) else {
            return unless_damaged(Lookup::NoLedger);
        };
        let Some(entry) = entry.or(known.last_entry()) else { return unless_damaged(Lookup::NoEntry) };
        if let Some(body) = self.cache.get(ledger, entry) {
            return Lookup::Here(body.clone());
        }
        match self.place(known, ledger, entry) {
            Some(place) => Lookup::OnDisk(place),
            None => unless_damaged(Lookup::NoEntry),
        }
    }

    /// Whether an entry that is not found may have been stored all the same.
    fn misses_something(&self) -> bool {
        let incomplete_log = || self.incomplete_logs.iter().any(|log| self.logs.contains_key(log));
        self.incomplete || !self.damaged_logs.is_empty() || incomplete_log()
    }

    fn place(&self, known: &Ledger, ledger: LedgerId, entry: EntryId) -> Option<Place> {
        let part = known.runs().find(entry)?;
        let log = self.logs.get(&part.log()).expect("a log is open as long as a part names it").log.clone();
        let slot_at = log.slot_at(part.slot_of(entry));
        Some(Place { log, slot_at, stretch: part.last().0 - entry.0 + 1, ledger, entry })
    }

    pub(super) fn entries(&self, ledger: LedgerId) -> Result<Vec<EntryId>, Lookup> {
        if self.misses_something() {
            return Err(Lookup::Unknown);
        }
        let known = self.ledgers.get(ledger).ok_or(Lookup::NoLedger)?;
        let flushed = known.runs().parts().iter();
        let flushed = flushed.flat_map(|part| (part.first().0..=part.last().0).map(EntryId));
        let all: BTreeSet<EntryId> = flushed.chain(self.cache.entries_of(ledger)).collect();
        Ok(all.into_iter().collect())
    }
}
