//! One generation of the write cache: entries by ledger, in entry order.

use std::collections::HashMap;

use bytes::Bytes;
use magnetar_proto::ids::{EntryId, LedgerId};
use tokio::sync::OwnedSemaphorePermit;

/// See the module. Once it is being flushed it never changes.
#[derive(Default)]
pub(crate) struct Generation {
    ledgers: HashMap<LedgerId, Vec<(EntryId, Bytes)>>,
    /// How many entries that is.
    entries: u64,
    /// The room that these entries take, given back when the generation is dropped.
    room: Option<OwnedSemaphorePermit>,
}

impl Generation {
    /// Adds an entry; a second one with the same id replaces the first.
    pub(crate) fn insert(&mut self, ledger: LedgerId, entry: EntryId, body: Bytes) {
        let entries = self.ledgers.entry(ledger).or_default();
        self.entries += 1;
        match entries.last() {
            Some((last, _)) if *last >= entry => match entries.binary_search_by_key(&entry, |(id, _)| *id) {
                Ok(at) => {
                    entries[at].1 = body;
                    self.entries -= 1;
                }
                Err(at) => entries.insert(at, (entry, body)),
            },
            _ => entries.push((entry, body)),
        }
    }

    pub(crate) fn get(&self, ledger: LedgerId, entry: EntryId) -> Option<&Bytes> {
        let entries = self.ledgers.get(&ledger)?;
        let at = entries.binary_search_by_key(&entry, |(id, _)| *id).ok()?;
        Some(&entries[at].1)
    }

    /// Takes over the room that new entries were admitted with.
    pub(crate) fn hold(&mut self, room: OwnedSemaphorePermit) {
        match &mut self.room {
            Some(held) => held.merge(room),
            None => self.room = Some(room),
        }
    }

    /// Bytes of room held.
    pub(crate) fn bytes(&self) -> usize {
        self.room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ledgers.is_empty()
    }

    /// The entry ids held of a ledger, ascending.
    pub(crate) fn entries_of(&self, ledger: LedgerId) -> impl Iterator<Item = EntryId> + '_ {
        self.ledgers.get(&ledger).into_iter().flatten().map(|(entry, _)| *entry)
    }

    /// Forgets a ledger's entries; their room is given back with the generation.
    pub(crate) fn remove(&mut self, ledger: LedgerId) {
        self.entries -= self.ledgers.remove(&ledger).map_or(0, |entries| entries.len() as u64);
    }

    /// All entries ascending by (ledger, entry).
    pub(crate) fn sorted(&self) -> impl Iterator<Item = (LedgerId, EntryId, Bytes)> + '_ {
        let mut ledgers: Vec<_> = self.ledgers.iter().collect();
        ledgers.sort_unstable_by_key(|(ledger, _)| **ledger);
        ledgers.into_iter().flat_map(|(ledger, entries)| {
            entries.iter().map(move |(entry, body)| (*ledger, *entry, body.clone()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(n: u8) -> Bytes {
        Bytes::from(vec![n])
    }

    #[test]
    fn entries_come_out_sorted_whatever_their_order_of_arrival() {
        let mut generation = Generation::default();
        for (ledger, entry) in [(2, 5), (1, 3), (2, 1), (2, 9), (1, 0)] {
            generation.insert(LedgerId(ledger), EntryId(entry), body(entry as u8));
        }
        let order: Vec<_> = generation.sorted().map(|(l, e, b)| (l.0, e.0, b[0])).collect();
        assert_eq!(order, [(1, 0, 0), (1, 3, 3), (2, 1, 1), (2, 5, 5), (2, 9, 9)]);
    }

    #[test]
    fn the_newest_copy_of_an_entry_wins() {
        let mut generation = Generation::default();
        generation.insert(LedgerId(1), EntryId(1), body(1));
        generation.insert(LedgerId(1), EntryId(2), body(2));
        generation.insert(LedgerId(1), EntryId(1), body(9));
        assert_eq!(generation.get(LedgerId(1), EntryId(1)), Some(&body(9)));
        assert_eq!(generation.get(LedgerId(1), EntryId(3)), None);
        assert_eq!((generation.sorted().count(), generation.entries()), (2, 2));
        generation.remove(LedgerId(1));
        assert_eq!(generation.entries(), 0);
    }
}
