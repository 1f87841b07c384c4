//! Entries on their way to the ledger, and the receipts for them.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use magnetar_common::budget::Ticket;
use magnetar_proto::ids::{EntryId, LedgerId, Position};
use magnetar_proto::pulsar::api;
use magnetar_proto::pulsar::message::{Summary, summarize_entry};

use super::actor::Topic;
use super::consumer::message_id;
use super::deduplication::Deduplication;
use super::error::TopicError;
use super::producers::{Producer, Producers};
use super::reads::with_checksum;
use super::request::{Name, ProducerKey, Publish};
use super::sequences::Numbered;
use super::tail_cache::Entry;
use crate::managed_ledger::{AppendRefused, Refusal};
use crate::protocol::outbound::Outbound;

/// An entry appended and not durable yet.
pub(crate) struct InFlight {
    position: Position,
    producer: ProducerKey,
    serial: u64,
    outbound: Outbound,
    sequence_id: u64,
    highest_sequence_id: Option<u64>,
    bytes: Bytes,
    summary: Summary,
    kind: Kind,
    /// Gives the bytes back to the publish budget when the receipt is out.
    _ticket: Ticket,
}

/// What is in flight.
enum Kind {
    /// An entry; with the producer's name and its numbers where deduplication counts them.
    Entry(Option<(Name, Numbered)>),
    /// A SEND that repeats an earlier one: nothing was appended, and it is receipted after what is at its position.
    Repeated,
}

/// When a SEND came.
#[derive(PartialEq, Eq)]
enum Sent {
    Now,
    /// The ledger could not take it at once.
    Before,
}

/// Position of the receipt for a repeated SEND: −1, −1 on the wire.
const REPEATED: Position = Position::new(LedgerId(u64::MAX), EntryId(u64::MAX));

/// In order of position. Bounded by the publish budget.
pub(crate) type InFlightQueue = VecDeque<InFlight>;

impl Topic {
    pub(crate) fn publish(&mut self, publish: Publish) {
        if self.deferred.is_empty() {
            return self.append(publish, Sent::Now);
        }
        if self.producers.get(publish.key).is_some_and(|producer| producer.closing.is_none()) {
            self.deferred.push_back(publish);
        }
    }

    /// Appends what the ledger could not take before, in order.
    pub(crate) fn retry_deferred(&mut self) {
        if self.deferred.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.deferred);
        let closing = |key: &ProducerKey| self.producers.get(*key).is_some_and(|p| p.closing.is_some());
        let closing: HashSet<_> = waiting.iter().map(|publish| publish.key).filter(closing).collect();
        for publish in waiting {
            match self.deferred.is_empty() {
                true => self.append(publish, Sent::Before),
                false => self.deferred.push_back(publish),
            }
        }
        closing.into_iter().for_each(|key| self.finish_closing(key));
    }

    fn append(&mut self, publish: Publish, sent: Sent) {
        let Some(producer) = self.producers.get_mut(publish.key) else { return };
        // What comes behind its CLOSE_PRODUCER is no producer's; what came before is.
        if sent == Sent::Now && producer.closing.is_some() {
            return;
        }
        if self.terminated {
            return refuse(producer, &publish, api::ServerError::TopicTerminatedError, "topic is terminated");
        }
        if publish.highest_sequence_id.is_some_and(|highest| highest < publish.sequence_id && highest > 0) {
            let text = "highest sequence id is below the lowest";
            return refuse(producer, &publish, api::ServerError::MetadataError, text);
        }
        let summary = match summarize_entry(&publish.headers_and_payload) {
            Ok(summary) => summary,
            Err(error) => {
                return refuse(producer, &publish, api::ServerError::MetadataError, &error.to_string());
            }
        };
        let highest = publish.highest_sequence_id.unwrap_or(publish.sequence_id);
        let deduplication = self.deduplication.as_mut();
        let (position, kind) = match deduplication {
            Some(known) if !known.is_new(&producer.name, highest, &summary) => match self.in_flight.back() {
                Some(last) => (last.position, Kind::Repeated),
                None => return receipt(&producer.outbound, &publish, REPEATED),
            },
            deduplication => match self.ml.append(publish.headers_and_payload.clone()) {
                Ok(position) => {
                    let now_ms = self.env.environment.clock.unix_ms();
                    let count = |known: &mut Deduplication| {
                        (producer.name.clone(), known.push(&producer.name, highest, &summary, now_ms))
                    };
                    (position, Kind::Entry(deduplication.map(count)))
                }
                Err(AppendRefused { reason: Refusal::QueueFull, .. }) => {
                    return self.deferred.push_back(publish);
                }
                Err(refused) => return self.fail(&refused.to_string()),
            },
        };
        let size = publish.headers_and_payload.len();
        producer.incoming.add(u64::from(summary.num_messages), size);
        if publish.is_chunk {
            producer.chunks.add(1, size);
            self.chunks_published = true;
        }
        producer.in_flight += 1;
        self.in_flight.push_back(InFlight {
            position,
            producer: publish.key,
            serial: producer.serial,
            outbound: producer.outbound.clone(),
            sequence_id: publish.sequence_id,
            highest_sequence_id: publish.highest_sequence_id,
            bytes: publish.headers_and_payload,
            summary,
            kind,
            _ticket: publish.ticket,
        });
    }

    /// Everything up to `up_to` is durable: receipts go out, and consumers may have it.
    pub(crate) fn on_confirmed(&mut self, up_to: Position) {
        let (now, now_ms) = (self.env.environment.clock.now(), self.env.environment.clock.unix_ms());
        self.housekeeping.note_entries();
        self.housekeeping.compaction_due |= self.policies.compaction_threshold.is_some();
        while self.in_flight.front().is_some_and(|entry| entry.position <= up_to) {
            let Some(entry) = self.in_flight.pop_front() else { break };
            entry.receipt();
            let counted = match entry.kind {
                Kind::Entry(counted) => counted,
                Kind::Repeated => {
                    self.settle(entry.producer, entry.serial);
                    continue;
                }
            };
            if let Some(((name, numbered), known)) = counted.zip(self.deduplication.as_mut()) {
                known.confirm(&name, numbered, now);
            }
            self.incoming.add(u64::from(entry.summary.num_messages), entry.bytes.len());
            self.entries_added += 1;
            self.last_publish_ms = now_ms;
            self.cache.push(Entry {
                position: entry.position,
                bytes: with_checksum(entry.bytes),
                summary: Arc::new(entry.summary),
            });
            self.settle(entry.producer, entry.serial);
        }
        if let Some(known) = &mut self.deduplication {
            known.confirmed(up_to);
        }
        self.release_due = true;
        self.plan_look();
        for subscription in self.subscriptions.values_mut() {
            subscription.due = true;
        }
    }

    fn settle(&mut self, key: ProducerKey, serial: u64) {
        let Some(producer) = self.producers.get_mut(key).filter(|p| p.serial == serial) else { return };
        producer.in_flight = producer.in_flight.saturating_sub(1);
        if producer.closing.is_some() {
            self.finish_closing(key);
        }
    }

    /// Answers a CLOSE_PRODUCER once nothing of what came before it is left.
    pub(crate) fn finish_closing(&mut self, key: ProducerKey) {
        // A topic that failed does not know what of it is stored.
        if self.failed.is_some() {
            return;
        }
        let Some(producer) = self.producers.get_mut(key).filter(|producer| producer.in_flight == 0) else {
            return;
        };
        if self.deferred.iter().any(|publish| publish.key == key) {
            return;
        }
        if let Some(reply) = producer.closing.take() {
            self.producers.remove(key);
            self.producer_left = true;
            // Nobody waits when the connection ended meanwhile.
            let _ = reply.send(Ok(()));
        }
    }
}

impl InFlight {
    fn receipt(&self) {
        let position = match self.kind {
            Kind::Entry(_) => self.position,
            Kind::Repeated => REPEATED,
        };
        self.outbound.send(
            api::CommandSendReceipt {
                producer_id: self.producer.producer_id,
                sequence_id: self.sequence_id,
                message_id: Some(message_id(position, None)),
                highest_sequence_id: self.highest_sequence_id,
            }
            .into(),
        );
    }
}

/// Answers a SEND that has nothing to wait for.
fn receipt(outbound: &Outbound, publish: &Publish, position: Position) {
    outbound.send(
        api::CommandSendReceipt {
            producer_id: publish.key.producer_id,
            sequence_id: publish.sequence_id,
            message_id: Some(message_id(position, None)),
            highest_sequence_id: publish.highest_sequence_id,
        }
        .into(),
    );
}

/// Answers one SEND with an error. The client reacts by reconnecting (or gives up on a terminated topic), so nothing
/// sent later overtakes it.
pub(crate) fn refuse(producer: &Producer, publish: &Publish, error: api::ServerError, text: &str) {
    producer.outbound.send(
        api::CommandSendError {
            producer_id: publish.key.producer_id,
            sequence_id: publish.highest_sequence_id.unwrap_or(0).max(publish.sequence_id),
            error: error.into(),
            message: text.to_owned(),
        }
        .into(),
    );
}

/// Makes a client's producer look the topic up and come back.
pub(crate) fn disconnect(producer: &Producer) {
    producer.client().send_away(None);
}

/// Sends everybody away for one that takes the topic by force. Who was connected comes back and learns then that its epoch
/// is over.
pub(crate) fn fence(producers: &mut Producers) {
    let error = TopicError::ProducerFenced("another producer took the topic by force".into());
    tell_waiting(producers, &error);
    producers.take_all().iter().for_each(disconnect);
}

/// Ends the wait for exclusive access: nothing else would ever answer those requests.
pub(crate) fn tell_waiting(producers: &mut Producers, error: &TopicError) {
    for waiting in producers.take_waiting() {
        waiting.outbound.send(
            api::CommandError {
                request_id: waiting.request_id(),
                error: error.server_error().into(),
                message: error.to_string(),
            }
            .into(),
        );
    }
}
