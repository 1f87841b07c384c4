//! Ledgers by id: records in chunks that never move, found through small hash maps that grow one at a time.

use std::collections::HashMap;

use magnetar_proto::ids::LedgerId;

use super::ledger::Ledger;

/// Growing a hash map moves all of it, under the engine's lock: 64 small ones keep that below a millisecond with a
/// million ledgers.
const MAPS: usize = 64;

/// Records allocated at once.
const CHUNK: usize = 1024;

/// See the module. A ledger keeps its place until it is removed.
#[derive(Debug)]
pub(super) struct Table {
    places: [HashMap<LedgerId, u32>; MAPS],
    chunks: Vec<Vec<Option<Ledger>>>,
    free: Vec<u32>,
}

impl Default for Table {
    fn default() -> Self {
        Table { places: std::array::from_fn(|_| HashMap::new()), chunks: Vec::new(), free: Vec::new() }
    }
}

/// Ids of one bookie may be all even, or all have the same rest: their bits are mixed first.
fn map_of(id: LedgerId) -> usize {
    (id.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58) as usize
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.places.iter().map(HashMap::len).sum()
    }

    fn at(&self, place: u32) -> Option<&Ledger> {
        self.chunks.get(place as usize / CHUNK)?.get(place as usize % CHUNK)?.as_ref()
    }

    fn at_mut(&mut self, place: u32) -> &mut Option<Ledger> {
        &mut self.chunks[place as usize / CHUNK][place as usize % CHUNK]
    }

    pub(super) fn get(&self, id: LedgerId) -> Option<&Ledger> {
        self.at(*self.places[map_of(id)].get(&id)?)
    }

    pub(super) fn get_mut(&mut self, id: LedgerId) -> Option<&mut Ledger> {
        let place = *self.places[map_of(id)].get(&id)?;
        self.at_mut(place).as_mut()
    }

    /// The ledger, made known if it was not.
    pub(super) fn ensure(&mut self, id: LedgerId) -> &mut Ledger {
        let place = match self.places[map_of(id)].get(&id) {
            Some(place) => *place,
            None => {
                let place = self.take_place();
                self.places[map_of(id)].insert(id, place);
                place
            }
        };
        self.at_mut(place).get_or_insert_with(|| Ledger::new(id))
    }

    fn take_place(&mut self) -> u32 {
        if let Some(place) = self.free.pop() {
            return place;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let chunk = self.chunks.last_mut().expect("pushed above");
        chunk.push(None);
        u32::try_from(before + chunk.len() - 1).expect("memory ends before 2^32 ledgers")
    }

    pub(super) fn remove(&mut self, id: LedgerId) -> Option<Ledger> {
        let place = self.places[map_of(id)].remove(&id)?;
        self.free.push(place);
        self.at_mut(place).take()
    }

    /// The ledgers in the next `max` places from `from` on, and where to go on; `None` at the end. A walk in several
    /// steps sees every ledger that is there from its beginning to its end once.
    pub(super) fn walk(&self, from: usize, max: usize) -> (impl Iterator<Item = &Ledger>, Option<usize>) {
        let places = self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len());
        let to = places.min(from.saturating_add(max));
        let next = (to < places).then_some(to);
        ((from..to).filter_map(|place| self.at(place as u32)), next)
    }
}

impl Table {
    /// Like [`Table::walk`], to change ledgers on the way.
    pub(super) fn walk_mut(
        &mut self,
        from: usize,
        max: usize,
    ) -> (impl Iterator<Item = &mut Ledger>, Option<usize>) {
        let places = self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len());
        let to = places.min(from.saturating_add(max));
        let next = (to < places).then_some(to);
        let chunks = self.chunks.iter_mut().enumerate().skip(from / CHUNK);
        let ledgers = chunks.take_while(move |(at, _)| at * CHUNK < to).flat_map(move |(at, chunk)| {
            let within = |place: usize| place.saturating_sub(at * CHUNK).min(chunk.len());
            let (first, end) = (within(from), within(to));
            chunk[first..end].iter_mut().flatten()
        });
        (ledgers, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledgers_come_go_and_are_walked_in_steps() {
        let mut table = Table::default();
        for id in 0..3000 {
            assert_eq!(table.ensure(LedgerId(id)).id(), LedgerId(id));
        }
        for id in (0..3000).step_by(3) {
            assert_eq!(table.remove(LedgerId(id)).map(|ledger| ledger.id()), Some(LedgerId(id)));
            assert!(table.get(LedgerId(id)).is_none());
        }
        for id in 5000..6500 {
            table.ensure(LedgerId(id));
        }
        assert_eq!(table.chunks.len(), 4, "places are used again");
        let (mut seen, mut from) = (Vec::new(), Some(0));
        while let Some(place) = from {
            let (ledgers, next) = table.walk(place, 700);
            seen.extend(ledgers.map(|ledger| ledger.id().0));
            from = next;
        }
        let mut again = Vec::new();
        from = Some(0);
        while let Some(place) = from {
            let (ledgers, next) = table.walk_mut(place, 700);
            again.extend(ledgers.map(|ledger| ledger.id().0));
            from = next;
        }
        assert_eq!(again, seen);
        seen.sort_unstable();
        let expected: Vec<u64> = (0..3000).filter(|id| id % 3 != 0).chain(5000..6500).collect();
        assert_eq!(seen, expected);
        assert_eq!(table.len(), expected.len());
        assert_eq!(table.get_mut(LedgerId(5001)).map(|ledger| ledger.id()), Some(LedgerId(5001)));
    }
}
