//! Entries that were read and must be offered (again) before anything new.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use magnetar_proto::ids::Position;

/// Ordered by position. Positions only: the bytes are in the tail cache or are read again. Bounded by the look-ahead
/// limit plus what consumers may hold unacknowledged.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    entries: BTreeMap<Position, Option<u32>>,
    per_tag: HashMap<u32, u32>,
}

impl Replay {
    pub(crate) fn add(&mut self, position: Position, tag: Option<u32>) {
        let before = self.entries.insert(position, tag);
        if before == Some(tag) {
            return;
        }
        self.uncount(before.flatten());
        if let Some(tag) = tag {
            *self.per_tag.entry(tag).or_default() += 1;
        }
    }

    pub(crate) fn remove(&mut self, position: Position) -> bool {
        let Some(tag) = self.entries.remove(&position) else { return false };
        self.uncount(tag);
        true
    }

    fn uncount(&mut self, tag: Option<u32>) {
        if let Some(tag) = tag
            && let Some(n) = self.per_tag.get_mut(&tag)
        {
            *n -= 1;
            if *n == 0 {
                self.per_tag.remove(&tag);
            }
        }
    }

    pub(crate) fn remove_up_to(&mut self, last: Position) {
        while let Some((&first, _)) = self.entries.first_key_value()
            && first <= last
        {
            self.remove(first);
        }
    }

    pub(crate) fn contains(&self, position: Position) -> bool {
        self.entries.contains_key(&position)
    }

    /// An entry of this tag waits here.
    pub(crate) fn has_tag(&self, tag: u32) -> bool {
        self.per_tag.contains_key(&tag)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Position, Option<u32>)> + '_ {
        self.entries.iter().map(|(p, t)| (*p, *t))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}
