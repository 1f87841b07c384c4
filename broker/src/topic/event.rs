//! What the tasks beside a topic's own report to it.
//!
//! One channel for all of them, and small values in it: a channel takes room for a block of these as soon as it is made, and
//! a broker has a topic's for each that is in memory.

use tokio::sync::mpsc;

use super::compaction;
use super::dead_letter::Departed;
use super::durability::Stored;
use super::expiry::Looked;
use super::reads::ReadDone;

/// Bounded by what may be under way: two reads and one cursor write per subscription, one look at the oldest entry, two steps
/// of a compaction, a hundred dead letters per subscription.
pub(crate) enum Event {
    Read(Box<ReadDone>),
    Stored(Stored),
    Looked(Box<Looked>),
    Compaction(Box<compaction::Event>),
    Departed(Box<Departed>),
}

const _: () = assert!(size_of::<Event>() <= 24);

/// The sending end.
#[derive(Clone)]
pub(crate) struct Events(mpsc::UnboundedSender<Event>);

impl Events {
    pub(crate) fn new() -> (Events, mpsc::UnboundedReceiver<Event>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Events(sender), receiver)
    }

    /// False: the topic is gone.
    pub(crate) fn tell(&self, event: impl Into<Event>) -> bool {
        self.0.send(event.into()).is_ok()
    }
}

impl From<ReadDone> for Event {
    fn from(done: ReadDone) -> Event {
        Event::Read(Box::new(done))
    }
}

impl From<Stored> for Event {
    fn from(stored: Stored) -> Event {
        Event::Stored(stored)
    }
}

impl From<Looked> for Event {
    fn from(looked: Looked) -> Event {
        Event::Looked(Box::new(looked))
    }
}

impl From<compaction::Event> for Event {
    fn from(event: compaction::Event) -> Event {
        Event::Compaction(Box::new(event))
    }
}

impl From<Departed> for Event {
    fn from(departed: Departed) -> Event {
        Event::Departed(Box::new(departed))
    }
}
