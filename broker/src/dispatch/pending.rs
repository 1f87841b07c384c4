//! Entries sent to a consumer and not acknowledged (Shared and Key_Shared).

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use magnetar_proto::ids::Position;

use super::ConsumerId;

/// Who holds an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    pub consumer: ConsumerId,
    /// Messages of the entry not acknowledged yet.
    pub messages: u32,
    pub tag: Option<u32>,
}

/// An entry is pending at no more than one consumer. Bounded by the limits on unacknowledged messages.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    entries: BTreeMap<Position, Held>,
    of_consumer: HashMap<ConsumerId, BTreeSet<Position>>,
}

impl Pending {
    pub(crate) fn insert(&mut self, position: Position, held: Held) {
        self.of_consumer.entry(held.consumer).or_default().insert(position);
        let before = self.entries.insert(position, held);
        debug_assert!(before.is_none(), "an entry was sent while another consumer held it");
    }

    pub(crate) fn get(&self, position: Position) -> Option<&Held> {
        self.entries.get(&position)
    }

    pub(crate) fn get_mut(&mut self, position: Position) -> Option<&mut Held> {
        self.entries.get_mut(&position)
    }

    pub(crate) fn remove(&mut self, position: Position) -> Option<Held> {
        let held = self.entries.remove(&position)?;
        if let Some(set) = self.of_consumer.get_mut(&held.consumer) {
            set.remove(&position);
            if set.is_empty() {
                self.of_consumer.remove(&held.consumer);
            }
        }
        Some(held)
    }

    /// Positions the consumer holds, in order.
    pub(crate) fn of(&self, consumer: ConsumerId) -> Vec<Position> {
        self.of_consumer.get(&consumer).map(|s| s.iter().copied().collect()).unwrap_or_default()
    }

    /// Positions up to and including `last`, in order.
    pub(crate) fn up_to(&self, last: Position) -> Vec<Position> {
        self.entries.range(..=last).map(|(p, _)| *p).collect()
    }
}
