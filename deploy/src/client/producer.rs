//! A producer on one topic: pipelined sends, receipts in order.
//!
//! Called by: `client produce` and `perf produce`, each from one task that owns it.
//! Must never know: rates or timers; its owner decides when to send, when to flush and how much may be in flight.

use std::collections::VecDeque;

use magnetar_common::clock::SharedClock;
use magnetar_proto::pulsar::Command;
use magnetar_proto::pulsar::api::{CommandCloseProducer, CommandProducer, CommandSend};
use tokio::sync::mpsc;

use super::batcher::{Batcher, Outgoing};
use super::connection::{Connection, ProducerEvent};
use super::{Batching, ClientError, Message};

/// The broker has stored what one SEND carried.
#[derive(Debug)]
pub(crate) struct Receipt<T> {
    /// The tokens of its messages, in the order they were sent.
    pub(crate) tokens: Vec<T>,
}

/// A producer; `T` comes back with each message's receipt.
pub(crate) struct Producer<T> {
    connection: Connection,
    clock: SharedClock,
    id: u64,
    batcher: Batcher<T>,
    /// Sent and not answered, oldest first: receipts come in this order.
    in_flight: VecDeque<(u64, Vec<T>)>,
    /// Messages in `in_flight` and in the open batch.
    outstanding: usize,
    events: mpsc::UnboundedReceiver<ProducerEvent>,
}

impl<T> Producer<T> {
    pub(super) async fn create(
        connection: Connection,
        clock: SharedClock,
        topic: &str,
        batching: Batching,
    ) -> Result<Self, ClientError> {
        let id = connection.next_id();
        let events = connection.register_producer(id);
        let ask = |request_id| {
            Command::Producer(Box::new(CommandProducer {
                topic: topic.to_owned(),
                producer_id: id,
                request_id,
                user_provided_producer_name: Some(false),
                ..Default::default()
            }))
        };
        let Command::ProducerSuccess(answer) = connection.request(ask).await? else {
            return Err(ClientError::Protocol("PRODUCER answered by another command".into()));
        };
        let next_sequence_id = u64::try_from(answer.last_sequence_id() + 1).unwrap_or(0);
        let batcher = Batcher::new(answer.producer_name, batching, next_sequence_id);
        Ok(Self { connection, clock, id, batcher, in_flight: VecDeque::new(), outstanding: 0, events })
    }

    /// Messages without a receipt yet, those in the open batch included.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Messages in the open batch.
    pub(crate) fn waiting(&self) -> usize {
        self.batcher.waiting()
    }

    /// Sends a message, or puts it into the open batch. Never waits: bound [`Producer::outstanding`] yourself.
    pub(crate) fn send(&mut self, message: Message, token: T) -> Result<(), ClientError> {
        // The command and the metadata have room of their own in the frame.
        let max = self.connection.max_message_bytes();
        if message.payload.len() > max {
            return Err(ClientError::TooLarge { size: message.payload.len(), max });
        }
        if self.batcher.overflows(&message) {
            self.flush();
        }
        self.outstanding += 1;
        if let Some(outgoing) = self.batcher.push(message, token, self.clock.unix_ms()) {
            self.transmit(outgoing);
        }
        Ok(())
    }

    /// Sends the open batch, if there is one.
    pub(crate) fn flush(&mut self) {
        if let Some(outgoing) = self.batcher.close(self.clock.unix_ms()) {
            self.transmit(outgoing);
        }
    }

    /// The next receipt. Cancel-safe. After an error the producer is of no more use.
    pub(crate) async fn receipt(&mut self) -> Result<Receipt<T>, ClientError> {
        let event = self.events.recv().await;
        self.handle(event)
    }

    /// The next receipt if one has arrived already.
    pub(crate) fn try_receipt(&mut self) -> Option<Result<Receipt<T>, ClientError>> {
        let event = self.events.try_recv().ok()?;
        Some(self.handle(Some(event)))
    }

    /// Sends the open batch and waits for all receipts, giving each to `on_receipt`; then closes the producer.
    pub(crate) async fn close(mut self, mut on_receipt: impl FnMut(Receipt<T>)) -> Result<(), ClientError> {
        self.flush();
        while self.outstanding > 0 {
            on_receipt(self.receipt().await?);
        }
        let id = self.id;
        let ask = |request_id| {
            Command::CloseProducer(CommandCloseProducer { producer_id: id, request_id, ..Default::default() })
        };
        self.connection.request(ask).await.map(drop)
    }

    fn transmit(&mut self, outgoing: Outgoing<T>) {
        let Outgoing { first_sequence_id, last_sequence_id, entry, tokens } = outgoing;
        let send = CommandSend {
            producer_id: self.id,
            sequence_id: first_sequence_id,
            num_messages: Some(i32::try_from(tokens.len()).expect("batches are bounded far below 2^31")),
            highest_sequence_id: (last_sequence_id > first_sequence_id).then_some(last_sequence_id),
            ..Default::default()
        };
        self.in_flight.push_back((first_sequence_id, tokens));
        self.connection.send_with_payload(Command::Send(send), &entry);
    }

    fn handle(&mut self, event: Option<ProducerEvent>) -> Result<Receipt<T>, ClientError> {
        match event {
            Some(ProducerEvent::Stored { sequence_id }) => match self.in_flight.pop_front() {
                Some((expected, tokens)) if expected == sequence_id => {
                    self.outstanding -= tokens.len();
                    Ok(Receipt { tokens })
                }
                _ => Err(ClientError::Protocol(format!("receipt out of order for message {sequence_id}"))),
            },
            Some(ProducerEvent::Failed(error)) => Err(error),
            None => Err(self.connection.closed().unwrap_or_else(|| ClientError::Closed("producer".into()))),
        }
    }
}
