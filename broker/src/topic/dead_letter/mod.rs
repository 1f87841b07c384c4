//! Dead letters: a message that was given back too often is stored in another topic, then acknowledged.
//!
//! A dispatcher counts how often each entry was asked for again; dispatch hands an entry over the limit to
//! [`Departing`], a plain state machine, and a task stores it elsewhere. It is acknowledged only once it is durable
//! there: a crash in between leaves it in both topics, never in none. Counts live in memory, as Pulsar's do: a topic
//! that is loaded anew begins to count anew. A consumer that leaves is no verdict on what it held.

mod departing;
mod letter;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use magnetar_common::topic_name::TopicName;
use magnetar_proto::ids::Position;

pub(crate) use departing::Departing;
pub use letter::{Returned, returned};

use super::actor::Topic;
use super::event::Events;
use super::request::Name;
use super::subscription::{Context, Subscription};
use super::tail_cache::Entry;
use crate::policies::DeadLetterPolicies;
use departing::Letter;
use letter::{Origin, letter};

/// Stores entries in other topics, wherever those are served.
pub trait StoreElsewhere: Send + Sync + 'static {
    /// Resolves once the entry (from 0x0e01 on) is durable there and a subscription of that topic will keep it. After an
    /// error it may be there, and may not. Ends by itself, within some seconds of what the topic takes.
    fn store(&self, topic: TopicName, entry: Bytes) -> BoxFuture<'static, Result<(), String>>;
}

/// How an entry's departure ended.
pub(crate) struct Departed {
    subscription: Name,
    token: u64,
    position: Position,
    result: Result<(), String>,
}

/// What dead letters need of their topic.
pub(crate) struct Cemetery<'a> {
    pub topic: &'a str,
    pub policies: &'a DeadLetterPolicies,
    pub elsewhere: &'a Arc<dyn StoreElsewhere>,
    pub done: &'a Events,
}

/// What to do with an entry that is about to be sent.
#[derive(PartialEq, Eq)]
pub(crate) enum Verdict {
    Deliver,
    /// It is on its way to the dead-letter topic.
    Departs,
    /// It is to depart, but too many are on their way; some arrive.
    Waits,
}

impl Topic {
    pub(crate) fn on_departed(&mut self, departed: Departed) {
        let name = departed.subscription.clone();
        self.with_subscription(&name, |subscription, cx| subscription.on_departed(departed, cx));
        self.release_due = true;
    }
}

impl Subscription {
    /// Entries that a request to redeliver counts against. Where one consumer receives everything in order and asks for
    /// all of it again, that is the first one: it is what keeps the others back.
    pub(crate) fn note_given_back(&mut self, cx: &Context<'_>) -> Vec<Position> {
        let first = self.first_position(cx.ledgers);
        self.dispatcher.acked_before(first);
        let delivered = first < self.read_position && !self.departing.holds(first);
        delivered.then_some(first).into_iter().collect()
    }

    pub(crate) fn judge(
        &mut self,
        entry: &Entry,
        tag: Option<u32>,
        ack_set: &[u64],
        cx: &Context<'_>,
    ) -> Verdict {
        let position = entry.position;
        if self.departing.holds(position) {
            return Verdict::Departs;
        }
        let redeliveries = self.dispatcher.redeliveries(position);
        if redeliveries == 0 || self.read_compacted || self.durability.is_none() {
            return Verdict::Deliver;
        }
        let limit = cx.cemetery.policies.of(cx.cemetery.topic, &self.name);
        let Some((max, target)) = limit.filter(|(max, _)| redeliveries > *max) else {
            return Verdict::Deliver;
        };
        if self.departing.is_full() {
            // Behind one that waits nothing else is sent. Where none can be stored that could be for ever.
            return if self.departing.is_failing() { Verdict::Deliver } else { Verdict::Waits };
        }
        let reason = format!("given back {redeliveries} times; the policy allows {max} redeliveries");
        let origin = Origin {
            topic: cx.cemetery.topic,
            subscription: &self.name,
            position,
            partition: cx.partition,
            reason: &reason,
        };
        let entry = match letter(&entry.bytes, ack_set, &origin, cx.now_ms) {
            Ok(entry) => entry,
            Err(error) => {
                // Somebody may understand it one day; nobody would if it were put aside without its bytes.
                tracing::warn!(topic = cx.cemetery.topic, %position, error, "make a dead letter");
                return Verdict::Deliver;
            }
        };
        tracing::info!(topic = cx.cemetery.topic, subscription = %self.name, %position, %target, reason, "dead letter");
        self.dispatcher.acked(position);
        let letter = Letter { topic: target, entry, tag };
        self.departing.begin(position, letter.clone());
        self.store_elsewhere(position, letter, cx);
        Verdict::Departs
    }

    fn store_elsewhere(&self, position: Position, letter: Letter, cx: &Context<'_>) {
        let store = cx.cemetery.elsewhere.store(letter.topic, letter.entry);
        let (done, subscription, token) =
            (cx.cemetery.done.clone(), self.name.clone(), self.departing.token());
        tokio::spawn(async move {
            let result = store.await;
            // The topic may be gone by now; whoever opens it next finds the entry not acknowledged.
            done.tell(Departed { subscription, token, position, result });
        });
    }

    fn on_departed(&mut self, departed: Departed, cx: &Context<'_>) {
        let position = departed.position;
        if departed.token != self.departing.token() {
            return;
        }
        match departed.result {
            Ok(()) => {
                self.departing.stored(position);
                self.ack_entry(position, cx);
            }
            Err(error) => match self.departing.give_up(position) {
                Some(letter) => self.take_back(vec![(position, letter)], cx.ledgers),
                None if self.departing.failed(position, &error, cx.now) => {
                    let topic = cx.cemetery.topic;
                    tracing::warn!(topic, subscription = %self.name, %position, error, "store a dead letter; trying again");
                }
                None => {}
            },
        }
        self.due = true;
    }

    /// Tries those again whose time has come.
    pub(crate) fn retry_departures(&mut self, cx: &Context<'_>) {
        for (position, letter) in self.departing.take_due(cx.now) {
            if self.cursor.is_acked(position) {
                self.departing.stored(position);
            } else {
                self.store_elsewhere(position, letter, cx);
            }
        }
    }

    /// The policy changed: what could not be stored so far goes back to the consumers, and is counted anew.
    pub(crate) fn recall_departures(&mut self, ledgers: &crate::managed_ledger::LedgerList) {
        let recalled = self.departing.recall();
        self.take_back(recalled, ledgers);
    }

    fn take_back(&mut self, recalled: Vec<(Position, Letter)>, ledgers: &crate::managed_ledger::LedgerList) {
        if recalled.is_empty() {
            return;
        }
        if self.dispatcher.tracks_entries() {
            recalled.into_iter().for_each(|(position, letter)| self.dispatcher.replay(position, letter.tag));
        } else {
            self.rewind(ledgers);
        }
        self.due = true;
    }
}
