//! Key_Shared: the messages of a key go to one consumer, in order, and are unacknowledged at one consumer only.
//!
//! The rule of PIP-379 in one condition: an entry of hash slot `s` may go to the owner of `s` only if no other
//! consumer holds an entry of `s`. After a membership change moved `s`, its new owner therefore waits until the old
//! one has acknowledged or given back all it holds: the slot is *draining*. Only that slot waits, never a consumer.

use std::time::Duration;

use hashbrown::HashMap;
use magnetar_proto::ids::Position;

use super::members::Members;
use super::pending::Held;
use super::pool::Pool;
use super::ring::Ring;
use super::sticky::Sticky;
use super::{Action, ConsumerId, ConsumerSpec, EntryInfo, JoinError, Limits, Offer, WaitsFor, Want};

pub use super::sticky::STICKY_RANGE;

/// How hash slots are shared out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Routing {
    AutoSplit,
    Sticky,
}

#[derive(Debug)]
enum Owners {
    Ring(Ring),
    Sticky(Sticky),
}

/// The dispatcher of a Key_Shared subscription.
#[derive(Debug)]
pub struct KeyShared {
    pub(super) pool: Pool,
    owners: Owners,
    /// Order of a key may be given up for throughput: neither draining nor held-back entries block others.
    out_of_order: bool,
    /// Who holds entries of a slot, and how many. All entries of a slot are at one consumer (unless out of order).
    in_flight: HashMap<u32, (ConsumerId, u32)>,
}

impl KeyShared {
    pub fn new(routing: Routing, out_of_order: bool, limits: Limits) -> Self {
        let owners = match routing {
            Routing::AutoSplit => Owners::Ring(Ring::default()),
            Routing::Sticky => Owners::Sticky(Sticky::default()),
        };
        KeyShared { pool: Pool::new(limits), owners, out_of_order, in_flight: HashMap::new() }
    }

    pub fn routing(&self) -> Routing {
        match self.owners {
            Owners::Ring(_) => Routing::AutoSplit,
            Owners::Sticky(_) => Routing::Sticky,
        }
    }

    pub fn out_of_order(&self) -> bool {
        self.out_of_order
    }

    /// Slots that wait for their former owner, and the entries it still holds of them.
    pub fn draining(&self) -> (usize, u64) {
        let moved = self.in_flight.iter().filter(|(slot, (holder, _))| self.owner(**slot) != Some(*holder));
        moved.fold((0, 0), |(slots, entries), (_, (_, n))| (slots + 1, entries + u64::from(*n)))
    }

    pub(super) fn slot(&self, tag: Option<u32>) -> Option<u32> {
        let hash = tag.unwrap_or(0);
        Some(match self.owners {
            Owners::Ring(_) => Ring::slot(hash),
            Owners::Sticky(_) => hash % STICKY_RANGE,
        })
    }

    pub(super) fn owner(&self, slot: u32) -> Option<ConsumerId> {
        match &self.owners {
            Owners::Ring(ring) => ring.owner(slot),
            Owners::Sticky(sticky) => sticky.owner(slot),
        }
    }

    pub(super) fn members(&self) -> &Members {
        &self.pool.members
    }

    pub(super) fn members_mut(&mut self) -> &mut Members {
        &mut self.pool.members
    }

    pub(super) fn add(&mut self, spec: ConsumerSpec, _now: Duration) -> Result<Vec<Action>, JoinError> {
        match &mut self.owners {
            Owners::Ring(ring) => ring.add(spec.id, &spec.name),
            Owners::Sticky(sticky) => sticky.add(spec.id, &spec.ranges).map_err(JoinError::Ranges)?,
        }
        self.pool.members.add(&spec);
        Ok(Vec::new())
    }

    pub(super) fn remove(&mut self, id: ConsumerId, _now: Duration) -> Vec<Action> {
        match &mut self.owners {
            Owners::Ring(ring) => ring.remove(id),
            Owners::Sticky(sticky) => sticky.remove(id),
        }
        let released = self.pool.take_back(id, None, false);
        self.landed(&released);
        self.pool.members.remove(id);
        Vec::new()
    }

    /// These entries are at no consumer any longer.
    fn landed(&mut self, released: &[Held]) {
        for slot in released.iter().filter_map(|held| held.tag) {
            if let Some((_, n)) = self.in_flight.get_mut(&slot) {
                *n -= 1;
                if *n == 0 {
                    self.in_flight.remove(&slot);
                }
            }
        }
    }

    pub(super) fn acked(&mut self, position: Position) {
        if let Some(held) = self.pool.acked(position) {
            self.landed(&[held]);
        }
    }

    pub(super) fn acked_up_to(&mut self, last: Position) {
        let released = self.pool.acked_up_to(last);
        self.landed(&released);
    }

    pub(super) fn redeliver(&mut self, id: ConsumerId, positions: Option<&[Position]>) -> Vec<Action> {
        let released = self.pool.take_back(id, positions, true);
        self.landed(&released);
        Vec::new()
    }

    /// The consumer that may have an entry of this slot right now.
    fn ready(&self, slot: u32) -> Option<ConsumerId> {
        let owner = self.owner(slot)?;
        let free = self.drained_by(slot, owner).is_none();
        (free && self.pool.members.available(owner)).then_some(owner)
    }

    /// The former consumer of the slot that the owner has to wait for.
    fn drained_by(&self, slot: u32, owner: ConsumerId) -> Option<ConsumerId> {
        let (holder, _) = self.in_flight.get(&slot)?;
        (!self.out_of_order && *holder != owner).then_some(*holder)
    }

    pub(super) fn waits_for(&self, slot: u32) -> WaitsFor {
        let Some(owner) = self.owner(slot) else { return WaitsFor::Owner };
        match self.drained_by(slot, owner) {
            Some(holder) => WaitsFor::Draining(holder),
            None if !self.pool.members.available(owner) => WaitsFor::Consumer(owner),
            None => WaitsFor::Nothing,
        }
    }

    pub(super) fn want(&mut self) -> Want {
        if !self.pool.open() {
            return Want::Nothing;
        }
        // Many entries share few slots, and all entries of a slot fare alike within a pass.
        let mut fate: HashMap<u32, bool> = HashMap::new();
        let candidates: Vec<Position> = self
            .pool
            .replay
            .iter()
            .filter(|(_, slot)| {
                let slot = slot.unwrap_or(0);
                *fate.entry(slot).or_insert_with(|| self.ready(slot).is_some())
            })
            .map(|(position, _)| position)
            .take(self.pool.limits.replay_batch)
            .collect();
        if !candidates.is_empty() {
            return Want::Replay(candidates);
        }
        if self.pool.may_look_ahead() { Want::New } else { Want::Nothing }
    }

    pub(super) fn offer(&mut self, entry: &EntryInfo) -> Offer {
        if !self.pool.open() {
            return Offer::Refused;
        }
        let slot = self.slot(entry.tag);
        let key = slot.unwrap_or(0);
        let replayed = self.pool.replay.contains(entry.position);
        if !replayed && !self.pool.may_look_ahead() {
            return Offer::Refused;
        }
        let overtakes = !replayed && !self.out_of_order && self.pool.replay.has_tag(key);
        match self.ready(key) {
            Some(owner) if !overtakes => {
                self.in_flight.entry(key).and_modify(|(_, n)| *n += 1).or_insert((owner, 1));
                self.pool.assign(owner, entry, slot)
            }
            _ => self.pool.hold(entry.position, slot),
        }
    }
}
