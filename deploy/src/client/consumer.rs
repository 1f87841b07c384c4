//! A consumer of one subscription of one topic: permits, entries, acknowledgements.
//!
//! Called by: `client consume` and `perf consume`, each from one task that owns it.
//! Must never know: what a payload means.

use bytes::Bytes;
use magnetar_proto::pulsar::Command;
use magnetar_proto::pulsar::api::command_ack::AckType;
use magnetar_proto::pulsar::api::command_subscribe::InitialPosition;
pub(crate) use magnetar_proto::pulsar::api::command_subscribe::SubType;
use magnetar_proto::pulsar::api::{
    CommandAck, CommandCloseConsumer, CommandFlow, CommandSubscribe, CompressionType, MessageIdData,
};
use magnetar_proto::pulsar::message::Summary;
use magnetar_proto::pulsar::{batch, entry, message};
use tokio::sync::mpsc;

use super::ClientError;
use super::connection::{Connection, Delivery};

/// Acknowledgements sent in one command at most: keeps the command small beside its frame limit.
const ACKS_MAX: usize = 1000;

/// What to subscribe to.
#[derive(Clone, Debug)]
pub(crate) struct Subscribe {
    pub(crate) topic: String,
    pub(crate) subscription: String,
    pub(crate) kind: SubType,
    /// Where a subscription begins that does not exist yet: at the topic's first message, else behind its last.
    pub(crate) from_earliest: bool,
    /// Messages that may be on their way to us, above 0.
    pub(crate) queue: u32,
}

/// A consumer.
pub(crate) struct Consumer {
    connection: Connection,
    id: u64,
    queue: u32,
    /// Messages received since the last FLOW.
    used: u32,
    acks: Vec<MessageIdData>,
    deliveries: mpsc::UnboundedReceiver<Delivery>,
}

/// One stored entry: a message or a batch.
#[derive(Debug)]
pub(crate) struct Entry {
    id: MessageIdData,
    ack_set: Vec<i64>,
    summary: Summary,
    payload: Bytes,
}

/// One message of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) key: Option<String>,
    pub(crate) payload: Bytes,
}

impl Consumer {
    pub(super) async fn subscribe(connection: Connection, wanted: Subscribe) -> Result<Self, ClientError> {
        let id = connection.next_id();
        let deliveries = connection.register_consumer(id);
        let position = if wanted.from_earliest { InitialPosition::Earliest } else { InitialPosition::Latest };
        let ask = |request_id| {
            Command::Subscribe(Box::new(CommandSubscribe {
                topic: wanted.topic,
                subscription: wanted.subscription,
                sub_type: wanted.kind as i32,
                consumer_id: id,
                request_id,
                initial_position: Some(position as i32),
                ..Default::default()
            }))
        };
        connection.request(ask).await?;
        let consumer = Self { connection, id, queue: wanted.queue, used: 0, acks: Vec::new(), deliveries };
        consumer.flow(wanted.queue);
        Ok(consumer)
    }

    /// The next entry, its checksum verified; permits are renewed on the way. Cancel-safe.
    pub(crate) async fn receive(&mut self) -> Result<Entry, ClientError> {
        let Some(delivery) = self.deliveries.recv().await else {
            return Err(self.connection.closed().unwrap_or_else(|| ClientError::Closed("consumer".into())));
        };
        let entry = Entry::parse(delivery)?;
        self.used += entry.count();
        if self.used * 2 >= self.queue {
            self.flow(self.used);
            self.used = 0;
        }
        Ok(entry)
    }

    /// Acknowledges a whole entry, at the latest with the next [`Consumer::flush_acks`].
    pub(crate) fn ack(&mut self, entry: &Entry) {
        self.acks.push(entry.id.clone());
        if self.acks.len() >= ACKS_MAX {
            self.flush_acks();
        }
    }

    /// Acknowledges only the first `messages` of an entry's messages, as [`Consumer::ack`] does: the others are delivered
    /// to whoever comes next.
    pub(crate) fn ack_first(&mut self, entry: &Entry, messages: usize) {
        self.acks.push(MessageIdData {
            ack_set: entry.remaining_after(messages),
            batch_size: i32::try_from(entry.summary.num_messages).ok(),
            ..entry.id.clone()
        });
    }

    /// Sends the acknowledgements that have gathered.
    pub(crate) fn flush_acks(&mut self) {
        if self.acks.is_empty() {
            return;
        }
        let ack = CommandAck {
            consumer_id: self.id,
            ack_type: AckType::Individual as i32,
            message_id: std::mem::take(&mut self.acks),
            ..Default::default()
        };
        self.connection.send(Command::Ack(ack));
    }

    /// Sends what is left to acknowledge and closes the consumer; the subscription stays.
    pub(crate) async fn close(mut self) -> Result<(), ClientError> {
        self.flush_acks();
        let id = self.id;
        let ask = |request_id| {
            Command::CloseConsumer(CommandCloseConsumer { consumer_id: id, request_id, ..Default::default() })
        };
        self.connection.request(ask).await.map(drop)
    }

    fn flow(&self, permits: u32) {
        self.connection.send(Command::Flow(CommandFlow { consumer_id: self.id, message_permits: permits }));
    }
}

impl Entry {
    fn parse(Delivery { command, entry }: Delivery) -> Result<Self, ClientError> {
        let broken = |reason: String| ClientError::Protocol(format!("message from the broker: {reason}"));
        let parts = entry::split(&entry).map_err(|error| broken(error.to_string()))?;
        entry::verify_checksum(&parts.headers_and_payload).map_err(|error| broken(error.to_string()))?;
        let summary = message::summarize(&parts.metadata).map_err(|error| broken(error.to_string()))?;
        Ok(Self { id: command.message_id, ack_set: command.ack_set, summary, payload: parts.payload })
    }

    /// Messages to be delivered: those acknowledged before (by index) are left out.
    fn count(&self) -> u32 {
        if self.ack_set.is_empty() {
            return self.summary.num_messages;
        }
        (0..self.summary.num_messages).filter(|index| self.is_live(*index)).count() as u32
    }

    /// Bit i of the set says that message i is still to be delivered; no set means all are.
    fn is_live(&self, index: u32) -> bool {
        let word = self.ack_set.get((index / 64) as usize).copied();
        self.ack_set.is_empty() || word.is_some_and(|word| (word >> (index % 64)) & 1 == 1)
    }

    /// The set of messages that are left when the first `messages` of those to be delivered are acknowledged.
    fn remaining_after(&self, messages: usize) -> Vec<i64> {
        let mut set = vec![0_i64; self.summary.num_messages.div_ceil(64) as usize];
        for index in (0..self.summary.num_messages).filter(|index| self.is_live(*index)).skip(messages) {
            set[(index / 64) as usize] |= 1 << (index % 64);
        }
        set
    }

    /// `ledger:entry`, for messages about it.
    pub(crate) fn name(&self) -> String {
        format!("{}:{}", self.id.ledger_id, self.id.entry_id)
    }

    /// The messages of this entry. Refuses compressed, encrypted and chunked ones, which this client cannot read.
    pub(crate) fn messages(&self) -> Result<Vec<Received>, ClientError> {
        let unreadable = |what: &str| {
            Err(ClientError::Protocol(format!("entry {}: {what} cannot be read here", self.name())))
        };
        if self.summary.compression != CompressionType::None as i32 {
            return unreadable("a compressed message");
        }
        if self.summary.is_encrypted {
            return unreadable("an encrypted message");
        }
        if self.summary.chunk.is_some() {
            return unreadable("a chunk of a larger message");
        }
        if !self.summary.is_batch {
            let key = self.summary.partition_key.as_deref().map(lossy);
            return Ok(vec![Received { key, payload: self.payload.clone() }]);
        }
        let mut messages = Vec::with_capacity(self.count() as usize);
        for (index, item) in (0..).zip(batch::decode(self.payload.clone(), self.summary.num_messages)) {
            let (metadata, payload) = item.map_err(|error| ClientError::Protocol(error.to_string()))?;
            if self.is_live(index) {
                messages.push(Received { key: metadata.partition_key, payload });
            }
        }
        Ok(messages)
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_batch_is_what_was_to_come_and_was_not_taken() {
        let summary = Summary { num_messages: 70, is_batch: true, ..Summary::default() };
        let entry = |ack_set| Entry {
            id: MessageIdData::default(),
            ack_set,
            summary: summary.clone(),
            payload: Bytes::new(),
        };
        assert_eq!(entry(vec![]).remaining_after(69), [0, 1 << 5]);
        assert_eq!(entry(vec![]).remaining_after(70), [0, 0]);
        assert_eq!(entry(vec![0b1010_1000, 0b11]).remaining_after(2), [0b1000_0000, 0b11]);
    }
}
