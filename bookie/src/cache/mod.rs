//! The write cache: every accepted entry that no entry log holds yet; and the read cache beside it (see `read`).
//! The engine fills it and reads from it; the flush thread takes it a generation at a time.
//! It must never grow beyond its room: who wants to add first waits for a permit, outside of any lock.

mod buffers;
mod generation;
mod read;
mod readers;
mod span;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use magnetar_proto::ids::{EntryId, LedgerId};
use tokio::sync::OwnedSemaphorePermit;

pub(crate) use self::buffers::{Buffers, POOLED_BYTES};
pub(crate) use self::generation::Generation;
pub(crate) use self::read::{Ahead, Found, ReadCache};
pub(crate) use self::span::{Filling, Key, Span};

/// Two generations: `active` takes entries, `flushing` is being written and only read.
#[derive(Default)]
pub(crate) struct WriteCache {
    active: Generation,
    flushing: Option<Arc<Generation>>,
}

impl WriteCache {
    pub(crate) fn insert(&mut self, ledger: LedgerId, entry: EntryId, body: Bytes) {
        self.active.insert(ledger, entry, body);
    }

    /// See [`Generation::hold`].
    pub(crate) fn hold(&mut self, room: OwnedSemaphorePermit) {
        self.active.hold(room);
    }

    pub(crate) fn get(&self, ledger: LedgerId, entry: EntryId) -> Option<&Bytes> {
        let flushing = || self.flushing.as_ref()?.get(ledger, entry);
        self.active.get(ledger, entry).or_else(flushing)
    }

    pub(crate) fn active(&self) -> &Generation {
        &self.active
    }

    /// Bytes of room held, and entries, of both generations.
    pub(crate) fn size(&self) -> (u64, u64) {
        let flushing = self.flushing.as_deref().into_iter();
        let generations = std::iter::once(&self.active).chain(flushing);
        generations.fold((0, 0), |sum, g| (sum.0 + g.bytes() as u64, sum.1 + g.entries()))
    }

    /// Makes the active generation the flushing one. The one before must have been released.
    pub(crate) fn swap(&mut self) -> Arc<Generation> {
        assert!(self.flushing.is_none(), "one flush at a time");
        let generation = Arc::new(std::mem::take(&mut self.active));
        self.flushing = Some(generation.clone());
        generation
    }

    /// Forgets the flushing generation: its entries are in the index now.
    /// Returned so that the caller can free it outside of its lock.
    pub(crate) fn release(&mut self) -> Option<Arc<Generation>> {
        self.flushing.take()
    }

    /// The entry ids held of a ledger, in no particular order, with repeats.
    pub(crate) fn entries_of(&self, ledger: LedgerId) -> impl Iterator<Item = EntryId> + '_ {
        let flushing = self.flushing.as_deref().into_iter().flat_map(move |g| g.entries_of(ledger));
        self.active.entries_of(ledger).chain(flushing)
    }

    /// Forgets a deleted ledger as far as its entries are not being flushed already.
    pub(crate) fn remove(&mut self, ledger: LedgerId) {
        self.active.remove(ledger);
    }
}
