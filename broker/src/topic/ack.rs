//! Acknowledgements: into the cursor, off the dispatcher, and the answer once they are durable.

use magnetar_proto::ids::{EntryId, LedgerId, Position};
use magnetar_proto::pulsar::api;
use magnetar_proto::pulsar::api::command_ack::AckType;

use super::actor::Topic;
use super::durability::Waiter;
use super::request::ConsumerKey;
use super::subscription::{Context, Subscription};
use crate::cursor::AckOutcome;
use crate::dispatch::ConsumerId;

/// One acknowledged id.
struct Acked {
    position: Position,
    /// Indexes of the batch that remain; empty: the whole entry is acknowledged.
    remaining: Vec<u64>,
    batch_size: Option<u32>,
}

impl Acked {
    /// `None` for an id that is no position.
    fn from_wire(id: &api::MessageIdData) -> Option<Acked> {
        let remaining: Vec<u64> = id.ack_set.iter().map(|word| *word as u64).collect();
        let whole = remaining.iter().all(|word| *word == 0);
        Some(Acked {
            position: Position {
                ledger_id: LedgerId::from_wire(id.ledger_id as i64)?,
                entry_id: EntryId::from_wire(id.entry_id as i64)?,
            },
            remaining: if whole { Vec::new() } else { remaining },
            batch_size: id.batch_size.and_then(|size| u32::try_from(size).ok()).filter(|size| *size > 0),
        })
    }
}

impl Topic {
    pub(crate) fn on_ack(&mut self, key: ConsumerKey, command: api::CommandAck, waiter: Option<Waiter>) {
        let Some((name, id)) = self.consumers.get(&key).cloned() else { return };
        self.release_due = true;
        self.with_subscription(&name, |subscription, cx| {
            let before = subscription.cursor.mark_delete();
            let refused = subscription.ack(id, &command, cx).err();
            if subscription.cursor.mark_delete() != before {
                subscription.counters.last_mark_delete_ms = cx.now_ms;
            }
            subscription.due = true;
            let waiter = match refused {
                None => waiter,
                Some(text) => {
                    tracing::debug!(subscription = %name, text, "acknowledgement refused, or a part of it");
                    if let Some(waiter) = waiter {
                        waiter.answer(Some((api::ServerError::NotAllowedError, text)));
                    }
                    None
                }
            };
            match (&mut subscription.durability, waiter) {
                (Some(durability), waiter) => durability.changed(waiter, cx.now),
                // A reader's acknowledgements live in memory only.
                (None, Some(waiter)) => waiter.answer(None),
                (None, None) => {}
            }
        });
    }
}

impl Subscription {
    fn ack(&mut self, id: ConsumerId, command: &api::CommandAck, cx: &Context<'_>) -> Result<(), String> {
        let mut ids = command.message_id.iter().filter_map(Acked::from_wire);
        // An id beyond the end is a client's mistake; taking it would acknowledge messages nobody has seen.
        let exists = |acked: &Acked| cx.ledgers.last_confirmed().is_some_and(|last| acked.position <= last);
        let (mut messages, mut refused) = (0, false);
        if command.ack_type() == AckType::Cumulative {
            let single = self.kind.is_single();
            if !single {
                return Err(format!("cumulative acknowledgement on a {} subscription", self.kind.name()));
            }
            if let Some(acked) = ids.next().filter(exists) {
                let before = self.backlog(cx.ledgers);
                let remaining = (!acked.remaining.is_empty()).then_some(acked.remaining.as_slice());
                let size = acked.batch_size.unwrap_or(64 * acked.remaining.len() as u32);
                let batch = remaining.map(|set| (set, size));
                let outcome = self.cursor.ack_cumulative(acked.position, batch, cx.ledgers);
                refused = outcome == AckOutcome::Refused;
                messages = before.saturating_sub(self.backlog(cx.ledgers));
            }
        } else {
            for acked in ids.filter(exists) {
                match self.ack_one(acked, cx) {
                    Some(newly) => messages += u64::from(newly),
                    None => refused = true,
                }
            }
        }
        self.counters.acked.add(messages, 0);
        self.counters.last_acked_ms = cx.now_ms;
        if let Some(consumer) = self.consumers.get_mut(&id) {
            consumer.acked.add(messages, 0);
            consumer.last_acked_ms = cx.now_ms;
        }
        match refused {
            true => {
                Err("too many batches are acknowledged in part; acknowledge all messages of some first"
                    .into())
            }
            false => Ok(()),
        }
    }

    /// Answers how many messages that acknowledged, as far as is known; `None` if it could not be kept.
    fn ack_one(&mut self, acked: Acked, cx: &Context<'_>) -> Option<u32> {
        let position = acked.position;
        if acked.remaining.is_empty() {
            return Some(u32::from(self.ack_entry(position, cx)));
        }
        // Of a batch of which nothing was acknowledged, the holder has all messages. Some clients do not tell the size.
        let known = cx.cache.get(position).map(|entry| entry.summary.num_messages).or(acked.batch_size);
        let size = known.or_else(|| self.dispatcher.held_messages(position));
        let size = size.unwrap_or(64 * acked.remaining.len() as u32);
        match self.cursor.ack_batch(position, &acked.remaining, size, cx.ledgers) {
            AckOutcome::Nothing => Some(0),
            AckOutcome::Partly { newly } => {
                self.dispatcher.acked_partially(position, newly);
                Some(newly)
            }
            AckOutcome::Entry => {
                self.dispatcher.acked(position);
                Some(1)
            }
            AckOutcome::Refused => None,
        }
    }

    /// The whole entry is done with. False if it was before.
    pub(crate) fn ack_entry(&mut self, position: Position, cx: &Context<'_>) -> bool {
        let newly = self.cursor.ack(position, cx.ledgers);
        self.dispatcher.acked(position);
        if let Some(durability) = &mut self.durability
            && newly
        {
            durability.changed(None, cx.now);
        }
        newly
    }
}
