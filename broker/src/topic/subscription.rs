//! A subscription: its cursor, its dispatcher and its consumers.

use std::collections::BTreeMap;
use std::time::Duration;

use hashbrown::HashMap;
use magnetar_proto::ids::Position;
use magnetar_proto::pulsar::message::Summary;

use super::consumer::Consumer;
use super::dead_letter::{Cemetery, Departing};
use super::delayed::Delayed;
use super::dispatching::REPLAY_PULL;
use super::durability::Durability;
use super::rate::Rate;
use super::reads::{Reads, Source};
use super::request::{KeySharedPolicy, Name, SubscriptionType};
use super::tail_cache::TailCache;
use crate::cursor::Cursor;
use crate::dispatch::{
    Action, ActiveRule, ConsumerId, Dispatcher, KeyShared, Limits, Shared, SingleActive, key_hash,
};
use crate::managed_ledger::LedgerList;

/// What a subscription borrows from its topic while it works.
pub(crate) struct Context<'a> {
    pub ledgers: &'a LedgerList,
    pub cache: &'a TailCache,
    /// `None` while nothing is durable.
    pub source: Option<Source>,
    /// What was compacted, for those who read it so; `None` while nothing was.
    pub compacted: Option<Source>,
    pub partition: Option<i32>,
    pub now: Duration,
    pub now_ms: u64,
    /// No entry will ever follow.
    pub terminated: bool,
    /// What was published longer ago is never delivered.
    pub ttl: Option<Duration>,
    /// Delivery times set by producers are honoured.
    pub delays: bool,
    /// Subscriptions filter by their properties.
    pub filters: bool,
    /// For messages that are given back too often.
    pub cemetery: Cemetery<'a>,
}

/// Counters that stats show.
#[derive(Default)]
pub(crate) struct Counters {
    pub out: Rate,
    pub redelivered: Rate,
    pub acked: Rate,
    pub expired: Rate,
    pub accepted: u64,
    pub rejected: u64,
    pub last_expire_ms: u64,
    pub last_flow_ms: u64,
    pub last_consumed_ms: u64,
    pub last_acked_ms: u64,
    pub last_mark_delete_ms: u64,
}

/// Invariant: every entry between mark-delete and `read_position` is acknowledged, or a departing dead letter, or (where the dispatcher tracks
/// entries) pending, in the replay set or delayed, or (where it does not) sent to the active consumer.
pub(crate) struct Subscription {
    pub name: Name,
    pub kind: SubscriptionType,
    /// All consumers asked for what compaction has left, in place of what it stands for.
    pub read_compacted: bool,
    pub key_shared: KeySharedPolicy,
    pub cursor: Cursor,
    /// `None`: not durable, gone with its last consumer.
    pub durability: Option<Durability>,
    pub dispatcher: Dispatcher,
    pub consumers: HashMap<ConsumerId, Consumer>,
    /// The next entry to be looked at is at or after it.
    pub read_position: Position,
    pub reads: Reads,
    pub delayed: Delayed,
    pub departing: Departing,
    pub properties: BTreeMap<String, String>,
    pub counters: Counters,
    /// Not durable, and its consumers were sent away by a seek: when to give up waiting for them.
    pub forsaken_at: Option<Duration>,
    /// An entry that only the compacted ledger still has was given out since the last rewind.
    pub given_before_all: bool,
    /// Something happened after which dispatch may get further.
    pub due: bool,
}

/// Which entries belong together for this subscription type; see `EntryInfo::tag`.
pub(crate) fn tag(kind: SubscriptionType, entry: &Summary) -> Option<u32> {
    match kind {
        SubscriptionType::KeyShared => {
            Some(match entry.ordering_key.as_ref().or(entry.partition_key.as_ref()) {
                Some(key) => key_hash(key),
                // Messages without a key spread over the consumers.
                None => {
                    let producer = String::from_utf8_lossy(&entry.producer_name);
                    key_hash(format!("{producer}-{}", entry.sequence_id).as_bytes())
                }
            })
        }
        SubscriptionType::Shared => entry.chunk.as_ref().map(|chunk| {
            let producer = entry.producer_name.iter();
            key_hash(&producer.chain(&chunk.uuid).copied().collect::<Vec<u8>>())
        }),
        SubscriptionType::Exclusive | SubscriptionType::Failover => None,
    }
}

/// A dispatcher without consumers.
pub(crate) fn dispatcher(
    kind: SubscriptionType,
    policy: &KeySharedPolicy,
    topic: &str,
    partition: Option<i32>,
    limits: Limits,
) -> Dispatcher {
    match kind {
        SubscriptionType::Exclusive => Dispatcher::SingleActive(SingleActive::new(ActiveRule::Exclusive)),
        SubscriptionType::Failover => {
            let rule = match partition.and_then(|n| u32::try_from(n).ok()) {
                Some(n) => ActiveRule::Partition(n),
                None => ActiveRule::Topic(topic.to_owned()),
            };
            Dispatcher::SingleActive(SingleActive::new(rule))
        }
        SubscriptionType::Shared => Dispatcher::Shared(Shared::new(limits)),
        SubscriptionType::KeyShared => {
            Dispatcher::KeyShared(KeyShared::new(policy.routing, policy.out_of_order, limits))
        }
    }
}

impl Subscription {
    /// Goes back to the first entry not acknowledged. For dispatchers that track entries the caller replaces or empties
    /// the dispatcher, or nothing was read yet.
    pub(crate) fn rewind(&mut self, ledgers: &LedgerList) {
        self.cursor.wait_before_all(self.read_compacted, ledgers);
        self.given_before_all = false;
        self.read_position = self.first_position(ledgers);
        self.reads.clear();
        self.delayed.clear();
        self.due = true;
    }

    pub(super) fn first_position(&self, ledgers: &LedgerList) -> Position {
        let mark = self.cursor.mark_delete();
        match self.read_compacted && ledgers.is_before_all(mark.ledger_id) {
            true => mark.next_position(),
            false => ledgers.next_after(mark),
        }
    }

    pub(crate) fn apply(&mut self, actions: Vec<Action>, ledgers: &LedgerList) {
        for action in actions {
            match action {
                Action::Rewind => self.rewind(ledgers),
                Action::Notify { consumer, active } => {
                    if let Some(consumer) = self.consumers.get(&consumer) {
                        consumer.send_active(active);
                    }
                }
            }
        }
        self.due = true;
    }

    /// Takes a consumer out; the others get what it held.
    pub(crate) fn remove_consumer(&mut self, id: ConsumerId, cx: &Context<'_>) {
        if self.consumers.remove(&id).is_none() {
            return;
        }
        let actions = self.dispatcher.remove(id, cx.now);
        self.apply(actions, cx.ledgers);
    }

    pub(crate) fn flow(&mut self, id: ConsumerId, permits: u32, now_ms: u64) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        consumer.last_flow_ms = now_ms;
        self.counters.last_flow_ms = now_ms;
        self.dispatcher.flow(id, permits);
        self.due = true;
    }

    pub(crate) fn redeliver(
        &mut self,
        id: ConsumerId,
        ids: &[Position],
        epoch: Option<u64>,
        cx: &Context<'_>,
    ) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        if epoch.is_some() {
            consumer.epoch = epoch;
        }
        let first;
        let ids = match (ids, self.dispatcher.tracks_entries()) {
            ([], true) => None,
            ([], false) => {
                first = self.note_given_back(cx);
                Some(first.as_slice())
            }
            (ids, _) => Some(ids),
        };
        let actions = self.dispatcher.redeliver(id, ids);
        self.apply(actions, cx.ledgers);
    }

    /// Entries not acknowledged.
    pub(crate) fn backlog(&self, ledgers: &LedgerList) -> u64 {
        let after = ledgers.count_after(self.cursor.mark_delete());
        after.saturating_sub(self.cursor.individually_acked())
    }

    /// The next moment at which something is to be done.
    pub(crate) fn deadline(&self, now: Duration, now_ms: u64) -> Option<Duration> {
        // What is overdue is pulled by dispatch, which needs no timer but something to happen.
        let pulled = !self.consumers.is_empty() && self.dispatcher.replay_len() < REPLAY_PULL;
        let delayed = self.delayed.next_due().filter(|_| pulled).map(|at| {
            let wait = u64::try_from(at).unwrap_or(0).saturating_sub(now_ms);
            now + Duration::from_millis(wait)
        });
        let durability = self.durability.as_ref().and_then(Durability::deadline);
        let departing = self.departing.deadline();
        let dispatcher = self.dispatcher.deadline();
        let all = [delayed, durability, dispatcher, self.reads.deadline(), departing, self.forsaken_at];
        all.into_iter().flatten().min()
    }

    /// Lets time pass. The cursor's persistence is the topic's business.
    pub(crate) fn on_timer(&mut self, cx: &Context<'_>) {
        let actions = self.dispatcher.on_timer(cx.now);
        if !actions.is_empty() {
            self.apply(actions, cx.ledgers);
        }
        self.reads.on_timer(cx.now);
        self.retry_departures(cx);
        self.due = true;
    }
}
