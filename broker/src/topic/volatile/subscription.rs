//! A subscription without a cursor: a dispatcher and its consumers.

use hashbrown::HashMap;

use crate::dispatch::{Action, ConsumerId, Dispatcher, EntryInfo, Offer};
use crate::topic::consumer::{Consumer, Delivery};
use crate::topic::rate::Rate;
use crate::topic::request::{KeySharedPolicy, SubscriptionType};
use crate::topic::subscription::tag;
use crate::topic::tail_cache::Entry;

pub(super) struct Subscription {
    pub(super) kind: SubscriptionType,
    pub(super) key_shared: KeySharedPolicy,
    pub(super) dispatcher: Dispatcher,
    pub(super) consumers: HashMap<ConsumerId, Consumer>,
    pub(super) out: Rate,
    /// What nobody could take.
    pub(super) dropped: Rate,
}

impl Subscription {
    /// Sends the entry to whoever can take it, or drops it. Nothing is pending afterwards.
    pub(super) fn give(&mut self, entry: &Entry, partition: Option<i32>, now_ms: u64) {
        let messages = entry.summary.num_messages;
        let last_chunk = entry.summary.chunk.as_ref().is_some_and(|chunk| chunk.id + 1 >= chunk.total);
        let tag = tag(self.kind, &entry.summary);
        let offer = self.dispatcher.offer(&EntryInfo { position: entry.position, messages, tag, last_chunk });
        self.dispatcher.acked(entry.position);
        let receiver = match offer {
            Offer::Send { consumer, .. } => self.consumers.get_mut(&consumer),
            Offer::Held | Offer::Refused => None,
        };
        let Some(consumer) = receiver else {
            return self.dropped.add(u64::from(messages), entry.bytes.len());
        };
        let delivery =
            Delivery { redelivery_count: 0, ack_set: Vec::new(), messages, with_epoch: false, partition };
        consumer.send(entry, delivery, now_ms);
        if !consumer.outbound.is_writable() {
            self.dispatcher.set_writable(consumer.id, false);
        }
        self.out.add(u64::from(messages), entry.bytes.len());
    }

    /// There is nothing to rewind to.
    pub(super) fn apply(&mut self, actions: Vec<Action>) {
        for action in actions {
            if let Action::Notify { consumer, active } = action
                && let Some(consumer) = self.consumers.get(&consumer)
            {
                consumer.send_active(active);
            }
        }
    }
}
