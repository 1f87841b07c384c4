//! Exclusive and Failover: one consumer at a time receives, entries are not tracked one by one.

use std::collections::BTreeMap;
use std::time::Duration;

use magnetar_proto::ids::Position;

use super::members::{Member, Members};
use super::ring::choose_by_topic;
use super::{Action, ConsumerId, ConsumerSpec, EntryInfo, JoinError, Offer, Want};

/// Time between the notice to a consumer that it became active and its first message, when another connected
/// consumer was active before: acknowledgements of that one are on their way (`activeConsumerFailoverDelayTimeMillis`).
pub(crate) const FAILOVER_DELAY: Duration = Duration::from_secs(1);

/// Entries whose redeliveries are counted. Clients name them, so they need not exist; what does not fit is not counted.
const COUNTED_MAX: usize = 10_000;

/// How the active consumer is chosen.
#[derive(Clone, Debug)]
pub enum ActiveRule {
    /// Only one consumer may be connected.
    Exclusive,
    /// Partition N: number N modulo the consumers of the best priority, sorted by name.
    Partition(u32),
    /// Topic without partitions: by the hash of its name on a ring of the consumers of the best priority.
    Topic(String),
}

/// The dispatcher of an Exclusive or Failover subscription.
#[derive(Debug)]
pub struct SingleActive {
    rule: ActiveRule,
    members: Members,
    active: Option<ConsumerId>,
    /// Dispatch rests until then after a change of the active consumer.
    resume_at: Option<Duration>,
    /// How often an entry was asked for again; kept until it is acknowledged.
    redeliveries: BTreeMap<Position, u32>,
}

impl SingleActive {
    pub fn new(rule: ActiveRule) -> Self {
        SingleActive {
            rule,
            members: Members::default(),
            active: None,
            resume_at: None,
            redeliveries: BTreeMap::new(),
        }
    }

    pub fn is_exclusive(&self) -> bool {
        matches!(self.rule, ActiveRule::Exclusive)
    }

    pub fn active(&self) -> Option<ConsumerId> {
        self.active
    }

    pub(super) fn members(&self) -> &Members {
        &self.members
    }

    pub(super) fn members_mut(&mut self) -> &mut Members {
        &mut self.members
    }

    pub(super) fn add(&mut self, spec: ConsumerSpec, now: Duration) -> Result<Vec<Action>, JoinError> {
        if self.is_exclusive()
            && let Some(holder) = self.active
        {
            return Err(JoinError::Busy { holder });
        }
        let before = self.active;
        self.members.add(&spec);
        self.elect();
        let mut actions = self.changed(before, now);
        if self.active == before && !self.is_exclusive() {
            actions.push(Action::Notify { consumer: spec.id, active: false });
        }
        Ok(actions)
    }

    pub(super) fn remove(&mut self, id: ConsumerId, now: Duration) -> Vec<Action> {
        let before = self.active;
        self.members.remove(id);
        self.elect();
        self.changed(before, now)
    }

    fn elect(&mut self) {
        let mut best: Vec<&Member> = self.members.as_slice().iter().collect();
        let Some(top) = best.first().map(|m| m.priority) else {
            self.active = None;
            return;
        };
        best.retain(|m| m.priority == top);
        best.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        let at = match &self.rule {
            ActiveRule::Exclusive => 0,
            ActiveRule::Partition(n) => *n as usize % best.len(),
            ActiveRule::Topic(topic) => {
                let names: Vec<&str> = best.iter().map(|m| &*m.name).collect();
                choose_by_topic(&names, topic).unwrap_or(0)
            }
        };
        self.active = Some(best[at].id);
    }

    fn changed(&mut self, before: Option<ConsumerId>, now: Duration) -> Vec<Action> {
        if self.active == before {
            return Vec::new();
        }
        // A consumer that left acknowledges nothing any more: no need to wait for it.
        let displaced = before.is_some_and(|id| self.members.get(id).is_some());
        self.resume_at = (displaced && self.active.is_some()).then(|| now + FAILOVER_DELAY);
        let mut actions = Vec::new();
        if !self.is_exclusive() {
            let notify = |m: &Member| Action::Notify { consumer: m.id, active: Some(m.id) == self.active };
            actions.extend(self.members.as_slice().iter().map(notify));
        }
        actions.push(Action::Rewind);
        actions
    }

    /// Rewinds for the active consumer; nothing for another one.
    pub(super) fn redeliver(&mut self, id: ConsumerId) -> Vec<Action> {
        if self.active == Some(id) { vec![Action::Rewind] } else { Vec::new() }
    }

    /// The active consumer gave these back.
    pub(super) fn count(&mut self, id: ConsumerId, positions: &[Position]) {
        if self.active != Some(id) {
            return;
        }
        for position in positions {
            if let Some(count) = self.redeliveries.get_mut(position) {
                *count += 1;
            } else if self.redeliveries.len() < COUNTED_MAX {
                self.redeliveries.insert(*position, 1);
            }
        }
    }

    pub(super) fn redeliveries(&self, position: Position) -> u32 {
        self.redeliveries.get(&position).copied().unwrap_or(0)
    }

    pub(super) fn acked(&mut self, position: Position) {
        self.redeliveries.remove(&position);
    }

    /// Everything before `first` is acknowledged.
    pub(super) fn acked_before(&mut self, first: Position) {
        self.redeliveries = self.redeliveries.split_off(&first);
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.resume_at
    }

    /// Acknowledgements may have come while dispatch rested, hence the second rewind.
    pub(super) fn on_timer(&mut self, now: Duration) -> Vec<Action> {
        if self.resume_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.resume_at = None;
        vec![Action::Rewind]
    }

    fn receiver(&self) -> Option<ConsumerId> {
        let active = self.active.filter(|_| self.resume_at.is_none())?;
        self.members.available(active).then_some(active)
    }

    /// Who receives and with how many permits, if no entry from `position` on was ever given back.
    pub(super) fn stream_from(&self, position: Position) -> Option<(ConsumerId, u64)> {
        let receiver = self.receiver()?;
        let permits = u64::try_from(self.members.get(receiver)?.permits).ok()?;
        let untouched = self.redeliveries.last_key_value().is_none_or(|(last, _)| *last < position);
        untouched.then_some((receiver, permits))
    }

    pub(super) fn streamed(&mut self, messages: u64) {
        let messages = i64::try_from(messages).unwrap_or(i64::MAX);
        if let Some(m) = self.active.and_then(|active| self.members.get_mut(active)) {
            m.permits = m.permits.saturating_sub(messages);
        }
    }

    pub(super) fn want(&mut self) -> Want {
        if self.receiver().is_some() { Want::New } else { Want::Nothing }
    }

    pub(super) fn offer(&mut self, entry: &EntryInfo) -> Offer {
        let Some(consumer) = self.receiver() else { return Offer::Refused };
        if let Some(m) = self.members.get_mut(consumer) {
            m.permits -= i64::from(entry.messages);
        }
        Offer::Send { consumer, redelivery_count: self.redeliveries(entry.position) }
    }
}
