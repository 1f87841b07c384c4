//! What Shared and Key_Shared have in common: members, pending entries, the replay set, redelivery counts and the
//! limits on unacknowledged messages.

use hashbrown::HashMap;
use magnetar_proto::ids::Position;

use super::members::Members;
use super::pending::{Held, Pending};
use super::replay::Replay;
use super::{ConsumerId, EntryInfo, Limits, Offer};

/// Invariants: an entry is pending or in replay, never both; `unacked` = sum of the members' = sum over pending.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    pub members: Members,
    pub pending: Pending,
    pub replay: Replay,
    /// How often an entry was asked for again; kept until it is acknowledged.
    redeliveries: HashMap<Position, u32>,
    pub unacked: u32,
    /// The subscription holds too many unacknowledged messages; ends below half of the limit.
    pub blocked: bool,
    pub limits: Limits,
}

impl Pool {
    pub(crate) fn new(limits: Limits) -> Self {
        Pool { limits, ..Pool::default() }
    }

    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.blocked = self.unacked >= limits.unacked_per_subscription;
        self.members.set_unacked_max(limits.unacked_per_consumer);
    }

    /// Somebody can take something.
    pub(crate) fn open(&self) -> bool {
        !self.blocked && self.members.any_available()
    }

    /// New entries may be read although some are held back.
    pub(crate) fn may_look_ahead(&self) -> bool {
        let per_consumer = self.limits.look_ahead_per_consumer.saturating_mul(self.members.len().max(1));
        self.replay.len() < per_consumer.min(self.limits.look_ahead_per_subscription)
    }

    /// Charges the consumer with the entry.
    pub(crate) fn assign(&mut self, consumer: ConsumerId, entry: &EntryInfo, tag: Option<u32>) -> Offer {
        self.replay.remove(entry.position);
        self.pending.insert(entry.position, Held { consumer, messages: entry.messages, tag });
        self.unacked = self.unacked.saturating_add(entry.messages);
        if self.unacked >= self.limits.unacked_per_subscription {
            self.blocked = true;
        }
        if let Some(m) = self.members.get_mut(consumer) {
            m.permits -= i64::from(entry.messages);
            m.unacked = m.unacked.saturating_add(entry.messages);
            if m.unacked >= self.limits.unacked_per_consumer {
                m.blocked = true;
            }
        }
        Offer::Send { consumer, redelivery_count: self.redeliveries(entry.position) }
    }

    pub(crate) fn redeliveries(&self, position: Position) -> u32 {
        self.redeliveries.get(&position).copied().unwrap_or(0)
    }

    /// Keeps the entry back.
    pub(crate) fn hold(&mut self, position: Position, tag: Option<u32>) -> Offer {
        self.replay.add(position, tag);
        Offer::Held
    }

    fn lower(&mut self, consumer: ConsumerId, messages: u32) {
        self.unacked = self.unacked.saturating_sub(messages);
        if self.unacked < self.limits.unacked_per_subscription.div_ceil(2) {
            self.blocked = false;
        }
        if let Some(m) = self.members.get_mut(consumer) {
            m.unacked = m.unacked.saturating_sub(messages);
            if m.unacked < self.limits.unacked_per_consumer.div_ceil(2) {
                m.blocked = false;
            }
        }
    }

    /// Takes an entry off its consumer, if one has it.
    fn release(&mut self, position: Position) -> Option<Held> {
        let held = self.pending.remove(position)?;
        self.lower(held.consumer, held.messages);
        Some(held)
    }

    /// Forgets an acknowledged entry; returns who held it.
    pub(crate) fn acked(&mut self, position: Position) -> Option<Held> {
        self.redeliveries.remove(&position);
        self.replay.remove(position);
        self.release(position)
    }

    pub(crate) fn acked_partially(&mut self, position: Position, messages: u32) {
        let Some(held) = self.pending.get_mut(position) else { return };
        let fewer = messages.min(held.messages);
        held.messages -= fewer;
        let consumer = held.consumer;
        self.lower(consumer, fewer);
    }

    /// Forgets everything up to `last`; returns what was held.
    pub(crate) fn acked_up_to(&mut self, last: Position) -> Vec<Held> {
        self.replay.remove_up_to(last);
        self.redeliveries.retain(|p, _| *p > last);
        self.pending.up_to(last).into_iter().filter_map(|p| self.release(p)).collect()
    }

    /// Moves what the consumer holds (all, or those given) into the replay set. `count`: raise redelivery counts.
    pub(crate) fn take_back(
        &mut self,
        consumer: ConsumerId,
        positions: Option<&[Position]>,
        count: bool,
    ) -> Vec<Held> {
        let positions = match positions {
            Some(some) => some.to_vec(),
            None => self.pending.of(consumer),
        };
        let mut released = Vec::with_capacity(positions.len());
        for position in positions {
            if self.pending.get(position).is_none_or(|held| held.consumer != consumer) {
                continue;
            }
            if let Some(held) = self.release(position) {
                if count {
                    *self.redeliveries.entry(position).or_default() += 1;
                }
                self.replay.add(position, held.tag);
                released.push(held);
            }
        }
        released
    }
}
