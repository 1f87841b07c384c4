//! Decides which consumer of a subscription gets which entry, for all four subscription types.
//!
//! Called by the topic actor: it feeds events (consumer joins, permits, acks, redeliveries) and offers entries one
//! by one; the answer says who gets the entry. It must never know of sockets, ledgers, cursors or the clock: time is
//! a parameter, entries are an [`EntryInfo`], so that a test runs every behaviour in microseconds.

mod key_shared;
mod limits;
mod members;
mod pending;
mod pool;
mod replay;
mod ring;
mod shared;
mod single_active;
mod stall;
mod sticky;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use magnetar_proto::checksum::murmur3_32;
use magnetar_proto::ids::Position;

pub use key_shared::{KeyShared, Routing, STICKY_RANGE};
pub use limits::Limits;
pub use shared::Shared;
pub use single_active::{ActiveRule, SingleActive};
pub use stall::{MemberState, WaitsFor};
pub use sticky::RangeConflict;

/// A consumer within one topic. Never used again after the consumer left, so that a late event of a departed
/// consumer cannot hit its successor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConsumerId(pub u64);

/// What a dispatcher has to know of a joining consumer.
#[derive(Clone, Debug)]
pub struct ConsumerSpec {
    pub id: ConsumerId,
    pub name: Arc<str>,
    /// Lower numbers are served first (Shared) or preferred as the active one (Failover).
    pub priority: i32,
    /// Hash ranges (inclusive) a STICKY Key_Shared consumer asks for; empty otherwise.
    pub ranges: Vec<(u32, u32)>,
}

/// What a dispatcher has to know of an entry.
#[derive(Clone, Copy, Debug)]
pub struct EntryInfo {
    pub position: Position,
    /// Messages still to be delivered: batch size less the batch indexes acknowledged already. At least 1.
    pub messages: u32,
    /// Entries of the same tag belong together: the hash of the key for Key_Shared, of (producer, chunk uuid) for
    /// Shared. `None`: any consumer will do.
    pub tag: Option<u32>,
    /// This is the last chunk of its message: the tag is not needed any longer (Shared).
    pub last_chunk: bool,
}

/// The answer to an offered entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offer {
    /// Send it to this consumer; permits and pending set are already charged.
    Send { consumer: ConsumerId, redelivery_count: u32 },
    /// Nobody may have it now; it waits in the replay set and the next entry may be offered.
    Held,
    /// No consumer can take anything: the entry was not taken, offer it again later.
    Refused,
}

/// What the dispatcher would look at next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Want {
    Nothing,
    /// These held or redelivered entries, in this order; stop at the first which is not in memory.
    Replay(Vec<Position>),
    /// Entries from the read position on.
    New,
}

/// What the topic must do after a membership change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send ACTIVE_CONSUMER_CHANGE (Failover only).
    Notify { consumer: ConsumerId, active: bool },
    /// The read position goes back to the first entry not acknowledged.
    Rewind,
}

/// Why a consumer was not let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JoinError {
    /// An exclusive subscription has its consumer.
    Busy { holder: ConsumerId },
    /// Sticky hash ranges overlap or are out of bounds.
    Ranges(RangeConflict),
}

/// Hash of a message key as Pulsar takes it: Murmur3, sign bit cleared.
pub fn key_hash(key: &[u8]) -> u32 {
    murmur3_32(key) & 0x7fff_ffff
}

/// One dispatcher of whatever type the subscription has at present.
pub enum Dispatcher {
    SingleActive(SingleActive),
    Shared(Shared),
    KeyShared(KeyShared),
}

macro_rules! each {
    ($self:ident, $d:ident => $e:expr) => {
        match $self {
            Dispatcher::SingleActive($d) => $e,
            Dispatcher::Shared($d) => $e,
            Dispatcher::KeyShared($d) => $e,
        }
    };
}

impl Dispatcher {
    /// Lets a consumer in with no permits.
    pub fn add(&mut self, spec: ConsumerSpec, now: Duration) -> Result<Vec<Action>, JoinError> {
        each!(self, d => d.add(spec, now))
    }

    /// Takes a consumer out; what it had pending becomes due for the others. Unknown ids change nothing.
    pub fn remove(&mut self, id: ConsumerId, now: Duration) -> Vec<Action> {
        each!(self, d => d.remove(id, now))
    }

    /// Adds permits, counted in messages; saturates.
    pub fn flow(&mut self, id: ConsumerId, permits: u32) {
        each!(self, d => d.members_mut().flow(id, permits));
    }

    /// Tells whether the consumer's connection takes more bytes.
    pub fn set_writable(&mut self, id: ConsumerId, writable: bool) {
        each!(self, d => d.members_mut().set_writable(id, writable));
    }

    /// These limits hold from now on, also for what was sent before.
    pub fn set_limits(&mut self, limits: Limits) {
        match self {
            Dispatcher::SingleActive(_) => {}
            Dispatcher::Shared(d) => d.pool.set_limits(limits),
            Dispatcher::KeyShared(d) => d.pool.set_limits(limits),
        }
    }

    /// What to look at next. Cheap when nothing can be done.
    pub fn want(&mut self) -> Want {
        each!(self, d => d.want())
    }

    /// Offers an entry, new or from the replay set.
    pub fn offer(&mut self, entry: &EntryInfo) -> Offer {
        each!(self, d => d.offer(entry))
    }

    /// Whether entries from `position` on need not be offered one by one: whoever receives may be sent them in order, up to
    /// the one with which the permits are used up, and [`Self::streamed`] is to be told.
    pub fn stream_from(&self, position: Position) -> Option<(ConsumerId, u64)> {
        match self {
            Dispatcher::SingleActive(d) => d.stream_from(position),
            Dispatcher::Shared(_) | Dispatcher::KeyShared(_) => None,
        }
    }

    /// Entries with so many messages were sent to the consumer that [`Self::stream_from`] named.
    pub fn streamed(&mut self, messages: u64) {
        match self {
            Dispatcher::SingleActive(d) => d.streamed(messages),
            Dispatcher::Shared(_) | Dispatcher::KeyShared(_) => {}
        }
    }

    /// The entry is acknowledged as a whole: forget everything about it.
    pub fn acked(&mut self, position: Position) {
        match self {
            Dispatcher::SingleActive(d) => d.acked(position),
            Dispatcher::Shared(d) => d.acked(position),
            Dispatcher::KeyShared(d) => d.acked(position),
        }
    }

    /// `messages` more indexes of a batch are acknowledged, others remain.
    pub fn acked_partially(&mut self, position: Position, messages: u32) {
        match self {
            Dispatcher::SingleActive(_) => {}
            Dispatcher::Shared(d) => d.pool.acked_partially(position, messages),
            Dispatcher::KeyShared(d) => d.pool.acked_partially(position, messages),
        }
    }

    /// Everything up to and including `position` is acknowledged (skip, expiry, cumulative).
    pub fn acked_up_to(&mut self, position: Position) {
        match self {
            Dispatcher::SingleActive(_) => {}
            Dispatcher::Shared(d) => d.acked_up_to(position),
            Dispatcher::KeyShared(d) => d.acked_up_to(position),
        }
    }

    /// The consumer wants entries again: those given, or all it holds. Raises their redelivery count. Where one consumer
    /// receives at a time it gets everything again, but only those given count.
    pub fn redeliver(&mut self, id: ConsumerId, positions: Option<&[Position]>) -> Vec<Action> {
        match self {
            Dispatcher::SingleActive(d) => {
                d.count(id, positions.unwrap_or_default());
                d.redeliver(id)
            }
            Dispatcher::Shared(d) => d.redeliver(id, positions),
            Dispatcher::KeyShared(d) => d.redeliver(id, positions),
        }
    }

    /// How often the entry was asked for again.
    pub fn redeliveries(&self, position: Position) -> u32 {
        match self {
            Dispatcher::SingleActive(d) => d.redeliveries(position),
            Dispatcher::Shared(d) => d.pool.redeliveries(position),
            Dispatcher::KeyShared(d) => d.pool.redeliveries(position),
        }
    }

    /// Everything before `first` is acknowledged: its counts need not be kept where entries are not tracked.
    pub fn acked_before(&mut self, first: Position) {
        if let Dispatcher::SingleActive(d) = self {
            d.acked_before(first);
        }
    }

    /// Puts an entry which nobody holds into the replay set (a delayed message fell due).
    pub fn replay(&mut self, position: Position, tag: Option<u32>) {
        match self {
            Dispatcher::SingleActive(_) => {}
            Dispatcher::Shared(d) => d.pool.replay.add(position, tag),
            Dispatcher::KeyShared(d) => d.pool.replay.add(position, d.slot(tag)),
        }
    }

    /// Next moment at which [`Dispatcher::on_timer`] has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        match self {
            Dispatcher::SingleActive(d) => d.deadline(),
            _ => None,
        }
    }

    /// Lets time pass.
    pub fn on_timer(&mut self, now: Duration) -> Vec<Action> {
        match self {
            Dispatcher::SingleActive(d) => d.on_timer(now),
            _ => Vec::new(),
        }
    }

    /// Who receives, when only one does.
    pub fn active(&self) -> Option<ConsumerId> {
        match self {
            Dispatcher::SingleActive(d) => d.active(),
            _ => None,
        }
    }

    /// Several consumers receive at a time, and entries are tracked one by one.
    pub fn tracks_entries(&self) -> bool {
        !matches!(self, Dispatcher::SingleActive(_))
    }

    /// Permits left; negative by less than one batch.
    pub fn permits(&self, id: ConsumerId) -> i64 {
        each!(self, d => d.members().get(id).map_or(0, |m| m.permits))
    }

    /// Messages sent to the consumer and not acknowledged (0 where they are not tracked), and whether that blocks it.
    pub fn unacked(&self, id: ConsumerId) -> (u32, bool) {
        each!(self, d => d.members().get(id).map_or((0, false), |m| (m.unacked, m.blocked)))
    }

    /// Messages sent and not acknowledged over all consumers, and whether the subscription is blocked by them.
    pub fn unacked_total(&self) -> (u32, bool) {
        match self {
            Dispatcher::SingleActive(_) => (0, false),
            Dispatcher::Shared(d) => (d.pool.unacked, d.pool.blocked),
            Dispatcher::KeyShared(d) => (d.pool.unacked, d.pool.blocked),
        }
    }

    /// Messages of the entry that its consumer has not acknowledged; `None` if nobody holds it, or nobody keeps count.
    pub fn held_messages(&self, position: Position) -> Option<u32> {
        match self {
            Dispatcher::SingleActive(_) => None,
            Dispatcher::Shared(d) => d.pool.pending.get(position).map(|held| held.messages),
            Dispatcher::KeyShared(d) => d.pool.pending.get(position).map(|held| held.messages),
        }
    }

    /// Entries in the replay set.
    pub fn replay_len(&self) -> usize {
        match self {
            Dispatcher::SingleActive(_) => 0,
            Dispatcher::Shared(d) => d.pool.replay.len(),
            Dispatcher::KeyShared(d) => d.pool.replay.len(),
        }
    }
}
