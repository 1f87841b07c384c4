//! A connected consumer: where its messages go, and its counters.

use std::collections::BTreeMap;
use std::time::Duration;

use magnetar_proto::ids::Position;
use magnetar_proto::pulsar::api;

use super::departed::Client;
use super::rate::Rate;
use super::request::{ConsumerKey, Name, Subscribe};
use super::runs::{Addressee, Piece};
use super::tail_cache::Entry;
use crate::dispatch::ConsumerId;
use crate::protocol::outbound::Outbound;

/// Broker-originated commands carry it in place of a request id.
pub(crate) const NO_REQUEST: u64 = u64::MAX;

pub(crate) struct Consumer {
    pub id: ConsumerId,
    pub key: ConsumerKey,
    pub name: Name,
    pub outbound: Outbound,
    pub metadata: BTreeMap<String, String>,
    /// Latest epoch the client told; sent along so that it can drop what was under way before a redelivery.
    pub epoch: Option<u64>,
    pub connected_ms: u64,
    pub out: Rate,
    pub redelivered: Rate,
    pub acked: Rate,
    pub entries_out: u64,
    pub last_acked_ms: u64,
    pub last_consumed_ms: u64,
    pub last_flow_ms: u64,
    /// REACHED_END_OF_TOPIC was sent.
    pub told_end: bool,
}

/// What is particular to one delivery of an entry.
pub(crate) struct Delivery {
    pub redelivery_count: u32,
    /// Batch indexes still to be delivered; empty: all.
    pub ack_set: Vec<u64>,
    pub messages: u32,
    pub with_epoch: bool,
    pub partition: Option<i32>,
}

impl Consumer {
    pub(crate) fn new(id: ConsumerId, name: Name, request: Subscribe, now: Duration, now_ms: u64) -> Self {
        let rate = Rate::new(now);
        Consumer {
            id,
            key: request.key,
            name,
            outbound: request.outbound,
            metadata: request.metadata,
            epoch: request.consumer_epoch,
            connected_ms: now_ms,
            out: rate,
            redelivered: rate,
            acked: rate,
            entries_out: 0,
            last_acked_ms: 0,
            last_consumed_ms: 0,
            last_flow_ms: 0,
            told_end: false,
        }
    }

    /// Sends the stored bytes behind a MESSAGE command.
    pub(crate) fn send(&mut self, entry: &Entry, delivery: Delivery, now_ms: u64) {
        let command = api::CommandMessage {
            consumer_id: self.key.consumer_id,
            message_id: message_id(entry.position, delivery.partition),
            redelivery_count: Some(delivery.redelivery_count),
            ack_set: delivery.ack_set.into_iter().map(|word| word as i64).collect(),
            consumer_epoch: self.epoch.filter(|_| delivery.with_epoch),
        };
        self.out.add(u64::from(delivery.messages), entry.bytes.len());
        if delivery.redelivery_count > 0 {
            self.redelivered.add(u64::from(delivery.messages), entry.bytes.len());
        }
        self.entries_out += 1;
        self.last_consumed_ms = now_ms;
        self.outbound.send_with_payload(command.into(), entry.bytes.clone());
    }

    /// How it is addressed where entries are sent for the first time, to one consumer at a time.
    pub(crate) fn addressee(&self) -> Addressee {
        Addressee { consumer_id: self.key.consumer_id, epoch: self.epoch }
    }

    /// Sends neighbours that were encoded for its addressee.
    pub(crate) fn send_piece(&mut self, piece: &Piece, now_ms: u64) {
        self.out.add(piece.messages, piece.bytes);
        self.entries_out += piece.entries;
        self.last_consumed_ms = now_ms;
        self.outbound.send_part(piece.part.clone());
    }

    /// Who hears of its end.
    pub(crate) fn client(&self) -> Client {
        Client::Consumer(self.key, self.outbound.clone())
    }

    /// Tells the client that the consumer is gone.
    pub(crate) fn send_close(&self) {
        self.client().send_away(None);
    }

    pub(crate) fn send_active(&self, active: bool) {
        // Older clients do not know the command.
        if self.outbound.client().protocol >= 12 {
            self.outbound.send(
                api::CommandActiveConsumerChange {
                    consumer_id: self.key.consumer_id,
                    is_active: Some(active),
                }
                .into(),
            );
        }
    }

    /// Once per consumer, and only to clients which take it: the C++ and Go ones drop the connection on it.
    pub(crate) fn send_end_of_topic(&mut self) {
        if !std::mem::replace(&mut self.told_end, true)
            && self.outbound.client().version.starts_with("Pulsar-Java")
        {
            let consumer_id = self.key.consumer_id;
            self.outbound.send(api::CommandReachedEndOfTopic { consumer_id }.into());
        }
    }
}

/// A position as clients see it. No batch index: they take one as belonging to a single message.
pub(crate) fn message_id(position: Position, partition: Option<i32>) -> api::MessageIdData {
    api::MessageIdData {
        ledger_id: position.ledger_id.0,
        entry_id: position.entry_id.0,
        partition,
        ..Default::default()
    }
}
