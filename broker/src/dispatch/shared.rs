//! Shared: round-robin over the consumers of the best priority that can take something.

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashMap;
use magnetar_proto::ids::Position;

use super::members::Members;
use super::pool::Pool;
use super::{Action, ConsumerId, ConsumerSpec, EntryInfo, JoinError, Limits, Offer, Want};

/// Chunked messages being dispatched at a time. A producer that never finishes its chunks must not grow the table, nor
/// keep others out of it: beyond this the oldest choice is forgotten.
pub(super) const CHUNKED_MAX: usize = 10_000;

/// The dispatcher of a Shared subscription.
#[derive(Debug)]
pub struct Shared {
    pub(super) pool: Pool,
    /// Whose turn it is, and how many entries are left in it.
    turn: Option<(ConsumerId, u32)>,
    /// Chosen consumer of each chunked message, from its first chunk sent to its last.
    chunks: HashMap<u32, ConsumerId>,
    /// The tags in `chunks` by age, among others that have gone; at most twice [`CHUNKED_MAX`].
    chosen_order: VecDeque<u32>,
}

impl Shared {
    pub fn new(limits: Limits) -> Self {
        Shared { pool: Pool::new(limits), turn: None, chunks: HashMap::new(), chosen_order: VecDeque::new() }
    }

    pub(super) fn members(&self) -> &Members {
        &self.pool.members
    }

    pub(super) fn members_mut(&mut self) -> &mut Members {
        &mut self.pool.members
    }

    pub(super) fn add(&mut self, spec: ConsumerSpec, _now: Duration) -> Result<Vec<Action>, JoinError> {
        self.pool.members.add(&spec);
        Ok(Vec::new())
    }

    pub(super) fn remove(&mut self, id: ConsumerId, _now: Duration) -> Vec<Action> {
        self.pool.take_back(id, None, false);
        self.chunks.retain(|_, c| *c != id);
        if self.turn.is_some_and(|(c, _)| c == id) {
            self.turn = None;
        }
        self.pool.members.remove(id);
        Vec::new()
    }

    pub(super) fn acked(&mut self, position: Position) {
        self.pool.acked(position);
    }

    pub(super) fn acked_up_to(&mut self, last: Position) {
        self.pool.acked_up_to(last);
    }

    pub(super) fn redeliver(&mut self, id: ConsumerId, positions: Option<&[Position]>) -> Vec<Action> {
        self.pool.take_back(id, positions, true);
        Vec::new()
    }

    pub(super) fn want(&mut self) -> Want {
        if !self.pool.open() {
            return Want::Nothing;
        }
        let candidates: Vec<Position> = self
            .pool
            .replay
            .iter()
            .filter(|(_, tag)| self.chosen(*tag).is_none_or(|c| self.pool.members.available(c)))
            .map(|(position, _)| position)
            .take(self.pool.limits.replay_batch)
            .collect();
        if !candidates.is_empty() {
            return Want::Replay(candidates);
        }
        if self.pool.may_look_ahead() { Want::New } else { Want::Nothing }
    }

    /// The consumer which must have the next chunk of this message.
    pub(super) fn chosen(&self, tag: Option<u32>) -> Option<ConsumerId> {
        tag.and_then(|tag| self.chunks.get(&tag).copied())
    }

    fn choose(&mut self, tag: u32, consumer: ConsumerId) {
        if self.chunks.insert(tag, consumer).is_some() {
            return;
        }
        self.chosen_order.push_back(tag);
        while self.chunks.len() > CHUNKED_MAX
            && let Some(oldest) = self.chosen_order.pop_front()
        {
            self.chunks.remove(&oldest);
        }
        if self.chosen_order.len() > 2 * CHUNKED_MAX {
            let chunks = &self.chunks;
            self.chosen_order.retain(|tag| chunks.contains_key(tag));
        }
    }

    pub(super) fn offer(&mut self, entry: &EntryInfo) -> Offer {
        if !self.pool.open() {
            return Offer::Refused;
        }
        let replayed = self.pool.replay.contains(entry.position);
        // A chunk held back goes out before the later chunks of its message.
        if !replayed && entry.tag.is_some_and(|tag| self.pool.replay.has_tag(tag)) {
            return self.pool.hold(entry.position, entry.tag);
        }
        let consumer = match self.chosen(entry.tag) {
            Some(chosen) if self.pool.members.available(chosen) => chosen,
            Some(_) => return self.pool.hold(entry.position, entry.tag),
            None => match self.pick() {
                Some(consumer) => consumer,
                None => return Offer::Refused,
            },
        };
        if let Some(tag) = entry.tag {
            if entry.last_chunk {
                self.chunks.remove(&tag);
            } else {
                self.choose(tag, consumer);
            }
        }
        self.pool.assign(consumer, entry, entry.tag)
    }

    /// Keeps to the consumer whose turn it is; else the next available one of the best priority.
    fn pick(&mut self) -> Option<ConsumerId> {
        let members = self.pool.members.as_slice();
        let best = members.iter().find(|m| m.available())?.priority;
        if let Some((current, left)) = self.turn
            && left > 0
            && members.iter().any(|m| m.id == current && m.priority == best && m.available())
        {
            self.turn = Some((current, left - 1));
            return Some(current);
        }
        let start = self.turn.and_then(|(c, _)| self.pool.members.index(c)).map_or(0, |i| i + 1);
        let n = members.len();
        let next = (0..n)
            .map(|i| &members[(start + i) % n])
            .find(|m| m.priority == best && m.available())
            .map(|m| m.id)?;
        self.turn = Some((next, self.pool.limits.round_robin_entries.saturating_sub(1)));
        Some(next)
    }
}
