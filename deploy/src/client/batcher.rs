//! Turns messages into what one SEND carries: a single message or a batch of them.
//!
//! Called by: the producer.
//! Must never know: the connection or the time; when to close a batch early is its caller's decision.

use bytes::{Bytes, BytesMut};
use magnetar_proto::pulsar::api::{MessageMetadata, SingleMessageMetadata};
use magnetar_proto::pulsar::{batch, entry};

/// A message to publish.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) payload: Bytes,
    pub(crate) key: Option<String>,
}

/// When a batch is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Batching {
    /// Every message is an entry of its own.
    Off,
    /// A batch closes at so many messages or payload bytes.
    UpTo { messages: usize, bytes: usize },
}

/// One SEND.
#[derive(Debug)]
pub(super) struct Outgoing<T> {
    pub(super) first_sequence_id: u64,
    pub(super) last_sequence_id: u64,
    /// Checksum, metadata and payload, as they will be stored.
    pub(super) entry: Bytes,
    /// One a message, in order.
    pub(super) tokens: Vec<T>,
}

/// Collects messages of one producer; `T` is what the user wants back with a message's receipt.
#[derive(Debug)]
pub(super) struct Batcher<T> {
    producer_name: String,
    batching: Batching,
    next_sequence_id: u64,
    body: BytesMut,
    tokens: Vec<T>,
}

impl<T> Batcher<T> {
    pub(super) fn new(producer_name: String, batching: Batching, next_sequence_id: u64) -> Self {
        Self { producer_name, batching, next_sequence_id, body: BytesMut::new(), tokens: Vec::new() }
    }

    /// Messages in the open batch.
    pub(super) fn waiting(&self) -> usize {
        self.tokens.len()
    }

    /// True if `message` would push the open batch over its size: [`Batcher::close`] first.
    pub(super) fn overflows(&self, message: &Message) -> bool {
        match self.batching {
            Batching::Off => false,
            Batching::UpTo { bytes, .. } => {
                !self.tokens.is_empty() && self.body.len() + message.payload.len() > bytes
            }
        }
    }

    /// Adds a message published at `publish_time_ms`; returns a SEND if that completes one.
    pub(super) fn push(&mut self, message: Message, token: T, publish_time_ms: u64) -> Option<Outgoing<T>> {
        let sequence_id = self.next_sequence_id;
        self.next_sequence_id += 1;
        match self.batching {
            Batching::Off => {
                let metadata = MessageMetadata {
                    partition_key: message.key,
                    ..self.metadata(sequence_id, publish_time_ms)
                };
                let entry = entry::build(&metadata, &message.payload);
                let tokens = vec![token];
                Some(Outgoing {
                    first_sequence_id: sequence_id,
                    last_sequence_id: sequence_id,
                    entry,
                    tokens,
                })
            }
            Batching::UpTo { messages, bytes } => {
                let metadata = SingleMessageMetadata {
                    partition_key: message.key,
                    sequence_id: Some(sequence_id),
                    ..Default::default()
                };
                batch::encode([(metadata, &message.payload[..])], &mut self.body);
                self.tokens.push(token);
                let full = self.tokens.len() >= messages || self.body.len() >= bytes;
                if full { self.close(publish_time_ms) } else { None }
            }
        }
    }

    /// Ends the open batch; None if it is empty.
    pub(super) fn close(&mut self, publish_time_ms: u64) -> Option<Outgoing<T>> {
        if self.tokens.is_empty() {
            return None;
        }
        // The next batch will probably be as long.
        let next = Vec::with_capacity(self.tokens.len());
        let tokens = std::mem::replace(&mut self.tokens, next);
        let last_sequence_id = self.next_sequence_id - 1;
        let first_sequence_id = self.next_sequence_id - tokens.len() as u64;
        let metadata = MessageMetadata {
            num_messages_in_batch: Some(
                i32::try_from(tokens.len()).expect("batches are bounded far below 2^31"),
            ),
            highest_sequence_id: Some(last_sequence_id),
            ..self.metadata(first_sequence_id, publish_time_ms)
        };
        let entry = entry::build(&metadata, &self.body);
        self.body.clear();
        Some(Outgoing { first_sequence_id, last_sequence_id, entry, tokens })
    }

    fn metadata(&self, sequence_id: u64, publish_time: u64) -> MessageMetadata {
        MessageMetadata {
            producer_name: self.producer_name.clone(),
            sequence_id,
            publish_time,
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use magnetar_proto::pulsar::message;

    fn message(payload: &'static str) -> Message {
        Message { payload: Bytes::from_static(payload.as_bytes()), key: Some("k".into()) }
    }

    #[test]
    fn without_batching_each_message_is_an_entry_without_the_batch_field() {
        let mut batcher = Batcher::new("p".into(), Batching::Off, 7);
        let sent = batcher.push(message("x"), (), 1).unwrap();
        assert_eq!((sent.first_sequence_id, sent.last_sequence_id), (7, 7));
        entry::verify_checksum(&sent.entry).unwrap();
        let summary = message::summarize_entry(&sent.entry).unwrap();
        assert!(!summary.is_batch);
        assert_eq!(summary.partition_key.as_deref(), Some(&b"k"[..]));
    }

    #[test]
    fn a_batch_closes_when_full_and_keeps_order() {
        let mut batcher = Batcher::new("p".into(), Batching::UpTo { messages: 2, bytes: 1000 }, 0);
        assert!(batcher.push(message("a"), 'a', 1).is_none());
        let sent = batcher.push(message("b"), 'b', 1).unwrap();
        assert_eq!((sent.first_sequence_id, sent.last_sequence_id), (0, 1));
        assert_eq!(sent.tokens, ['a', 'b']);
        let parts = entry::split(&sent.entry).unwrap();
        let decoded = batch::decode(parts.payload, 2).map(|item| item.unwrap().1).collect::<Vec<_>>();
        assert_eq!(decoded, ["a", "b"]);
        assert!(batcher.close(1).is_none());
    }

    #[test]
    fn a_batch_does_not_outgrow_its_bytes() {
        let mut batcher = Batcher::new("p".into(), Batching::UpTo { messages: 100, bytes: 40 }, 0);
        assert!(!batcher.overflows(&message("0123456789012345678901234567890123456789")));
        assert!(batcher.push(message("0123456789"), (), 1).is_none());
        assert!(batcher.overflows(&message("01234567890123456789")));
        assert_eq!(batcher.close(1).unwrap().tokens.len(), 1);
    }
}
