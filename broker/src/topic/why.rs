//! Why nothing is delivered, or published: one sentence, and the evidence for it.

use serde::Serialize;
use serde_json::{Value, json};

use super::actor::Topic;
use super::error::TopicError;
use super::subscription::{Context, Subscription};
use super::timestamp::iso8601;
use crate::dispatch::{ConsumerId, WaitsFor};
use crate::managed_ledger::LedgerList;

/// `GET …/why`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// Nothing stands in the way at this moment.
    pub flowing: bool,
    /// The one reason that counts: ending it makes a difference.
    pub because: String,
    /// The numbers behind it.
    pub evidence: Value,
}

fn flowing(because: impl Into<String>) -> (bool, String) {
    (true, because.into())
}

fn stands(because: impl Into<String>) -> (bool, String) {
    (false, because.into())
}

impl Topic {
    /// Of a subscription, or (`None`) of publishing.
    pub(crate) fn why(&mut self, subscription: Option<&str>) -> Result<Why, TopicError> {
        let Some(name) = subscription else { return Ok(self.why_not_published()) };
        let (cx, subscriptions, _) = self.parts();
        let found = subscriptions.get(name);
        let found = found.ok_or_else(|| TopicError::SubscriptionNotFound(name.to_owned()))?;
        let (flowing, because) = found.why(&cx);
        Ok(Why { flowing, because, evidence: found.evidence(cx.ledgers) })
    }

    fn why_not_published(&self) -> Why {
        let bookies = self.in_flight.len();
        let (flowing, because) = if self.terminated {
            stands("the topic was terminated: nothing can be published to it any more")
        } else if let Some(breach) = self.housekeeping.breach {
            stands(breach.error().to_string())
        } else if self.producers.is_empty() {
            stands("no producer is connected")
        } else if !self.ml.is_writable() {
            stands("no ledger can be opened to write to: too few bookies are writable")
        } else if !self.deferred.is_empty() {
            stands(format!(
                "{} messages wait for the next ledger, which is being opened; {bookies} wait for bookies",
                self.deferred.len()
            ))
        } else if bookies > 0 {
            flowing(format!("{bookies} messages are on their way to the bookies"))
        } else if self.producers.waiting_len() > 0 && self.last_publish_ms == 0 {
            stands("producers wait for exclusive access, and the one that has it sent nothing yet")
        } else {
            flowing("everything that was sent is stored: the producers send nothing more")
        };
        let evidence = json!({
            "producers": self.producers.len(),
            "waitingProducers": self.producers.waiting_len(),
            "messagesAtBookies": bookies,
            "messagesDeferred": self.deferred.len(),
            "lastPublish": iso8601(self.last_publish_ms),
            "ledgerState": self.ml.stats().state,
        });
        Why { flowing, because, evidence }
    }
}

impl Subscription {
    /// From what stops everything to what stops a part.
    fn why(&self, cx: &Context<'_>) -> (bool, String) {
        if self.backlog(cx.ledgers) == 0 {
            return flowing("everything published was acknowledged: there is nothing to deliver");
        }
        if self.consumers.is_empty() {
            return stands(format!("no consumer is connected; {} entries wait", self.backlog(cx.ledgers)));
        }
        if let Some(at) = self.dispatcher.deadline() {
            let ms = at.saturating_sub(cx.now).as_millis();
            return stands(format!(
                "the active consumer changed; its predecessor has {ms} ms left for its acknowledgements"
            ));
        }
        self.why_of_consumers()
            .or_else(|| self.why_of_entries(cx))
            .unwrap_or_else(|| flowing("messages, permits and a consumer are there: delivery is under way"))
    }

    fn why_of_consumers(&self) -> Option<(bool, String)> {
        if let (total, true) = self.dispatcher.unacked_total() {
            return Some(stands(format!(
                "the subscription holds {total} unacknowledged messages, as many as it may; \
                 delivery goes on when half of them are acknowledged"
            )));
        }
        let active = self.dispatcher.active();
        let states = self.dispatcher.member_states();
        let receivers = || states.iter().filter(|state| active.is_none_or(|id| id == state.id));
        if receivers().any(crate::dispatch::MemberState::is_available) {
            return None;
        }
        let number = receivers().count();
        let count =
            |wanted: fn(&crate::dispatch::MemberState) -> bool| receivers().filter(|s| wanted(s)).count();
        let (permits, blocked, slow) =
            (count(|s| s.permits <= 0), count(|s| s.blocked), count(|s| !s.writable));
        Some(stands(if blocked == number {
            format!("all {number} consumers hold as many unacknowledged messages as they may")
        } else if slow == number {
            format!("the connections of all {number} consumers take no more bytes: the clients do not read")
        } else if permits == number {
            format!(
                "all {number} consumers are out of permits: their receiver queues are full and the applications take nothing"
            )
        } else {
            format!(
                "none of {number} consumers can take a message: {permits} without permits, \
                 {blocked} with too many unacknowledged messages, {slow} with a full connection"
            )
        }))
    }

    fn why_of_entries(&self, cx: &Context<'_>) -> Option<(bool, String)> {
        if let Some(at) = self.reads.deadline() {
            let ms = at.saturating_sub(cx.now).as_millis();
            return Some(stands(format!("entries could not be read from the bookies; next try in {ms} ms")));
        }
        if self.reads.pending() != (false, false) {
            return Some(flowing("entries are being read from the bookies"));
        }
        let unread = cx.ledgers.last_confirmed().is_some_and(|last| self.read_position <= last);
        if let Some(error) = self.departing.last_error() {
            return Some(stands(format!(
                "{} dead letters could not be stored: {error}",
                self.departing.len()
            )));
        }
        let waiting = self.dispatcher.waiting();
        if waiting.contains_key(&WaitsFor::Nothing) {
            return None;
        }
        if let Some((what, entries)) = waiting.iter().max_by_key(|(_, entries)| **entries)
            && (!unread || self.dispatcher.look_ahead_is_full())
        {
            let more = match unread {
                true => "; so many are held back that no further ones are looked at",
                false => "",
            };
            return Some(stands(format!("{entries} entries wait {}{more}", self.describe(*what))));
        }
        if unread {
            return None;
        }
        let delayed = self.delayed.len();
        if let Some(due) = self.delayed.next_due().filter(|_| delayed as u64 >= self.backlog(cx.ledgers)) {
            let at = iso8601(u64::try_from(due).unwrap_or(0));
            return Some(stands(format!("all {delayed} entries are delayed; the first falls due at {at}")));
        }
        Some(stands("every message was delivered and is not acknowledged: the consumers have them"))
    }

    fn describe(&self, what: WaitsFor) -> String {
        let name = |id: ConsumerId| self.consumers.get(&id).map_or("?", |consumer| &*consumer.name);
        match what {
            WaitsFor::Owner => "for a consumer whose hash ranges cover their keys".into(),
            WaitsFor::Draining(id) => format!(
                "because consumer '{}' has not acknowledged earlier messages of their keys, which belong to others now",
                name(id)
            ),
            WaitsFor::Consumer(id) => {
                format!(
                    "for consumer '{}', to which their keys belong and which can take nothing now",
                    name(id)
                )
            }
            WaitsFor::Nothing => "for nothing".into(),
        }
    }

    fn evidence(&self, list: &LedgerList) -> Value {
        let waiting = self.dispatcher.waiting();
        let waiting = waiting.iter().map(|(what, entries)| {
            json!({
                "entries": entries,
                "waiting": self.describe(*what),
            })
        });
        let (_, holes) = self.cursor.ranges(0);
        let active = self.dispatcher.active().and_then(|id| self.consumers.get(&id));
        json!({
            "type": self.kind.name(),
            "backlogEntries": self.backlog(list),
            "markDelete": self.cursor.mark_delete().to_string(),
            "readPosition": self.read_position.to_string(),
            "acknowledgedRanges": holes,
            "delayedEntries": self.delayed.len(),
            "departingDeadLetters": self.departing.len(),
            "replayEntries": self.dispatcher.replay_len(),
            "unackedMessages": self.dispatcher.unacked_total().0,
            "activeConsumer": active.map(|consumer| consumer.name.to_string()),
            "consumers": self.dispatcher.member_states(),
            "waiting": waiting.collect::<Vec<_>>(),
            "lastConsumed": iso8601(self.counters.last_consumed_ms),
            "lastAcknowledged": iso8601(self.counters.last_acked_ms),
        })
    }
}
