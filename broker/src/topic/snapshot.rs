//! A topic's state as stats.

use std::collections::BTreeMap;

use super::actor::Topic;
use super::compaction::{self, Compaction};
use super::consumer::Consumer;
use super::error::TopicError;
use super::producers::Producer;
use super::request::ConsumerKey;
use super::stats::{
    ConsumerStats, CursorInternalStats, InternalStats, LedgerInternalStats, PublisherStats,
    SubscriptionStats, TopicStats,
};
use super::subscription::Subscription;
use super::timestamp::iso8601;
use crate::dispatch::{Dispatcher, Routing};
use crate::managed_ledger::{LedgerList, LedgerState};

/// Acknowledged ranges that internal stats spell out; their number tells of the others.
const RANGES_SHOWN: usize = 1_000;

impl Topic {
    pub(crate) fn stats(&mut self) -> TopicStats {
        let now = self.env.environment.clock.now();
        let list = self.ml.ledgers();
        let (msg_rate_in, msg_throughput_in) = self.incoming.per_second(now);
        let storage_size = self.ml.size_bytes();
        let mut stats = TopicStats {
            msg_rate_in,
            msg_throughput_in,
            bytes_in_counter: self.incoming.bytes,
            msg_in_counter: self.incoming.messages,
            average_msg_size: self.incoming.average_size(),
            msg_chunk_published: self.chunks_published,
            storage_size,
            backlog_quota_limit_size: -1,
            backlog_quota_limit_time: -1,
            oldest_backlog_message_age_seconds: -1,
            waiting_publishers: self.producers.waiting_len() as u32,
            topic_epoch: self.producers.topic_epoch,
            owner_broker: Some(self.env.broker.to_string()),
            deduplication_status: "Disabled".into(),
            topic_creation_time_stamp: self.loaded_ms,
            last_publish_time_stamp: self.last_publish_ms,
            publishers: self.producers.iter_mut().map(|producer| publisher(producer, now)).collect(),
            compaction: self.compaction.as_ref().map(|c| c.counts().clone()).unwrap_or_default(),
            ..TopicStats::default()
        };
        for subscription in self.subscriptions.values_mut() {
            let backlog_size = self.ml.bytes_after(subscription.cursor.mark_delete());
            let one = subscription_stats(subscription, list, backlog_size, now);
            stats.msg_rate_out += one.msg_rate_out;
            stats.msg_throughput_out += one.msg_throughput_out;
            stats.bytes_out_counter += one.bytes_out_counter;
            stats.msg_out_counter += one.msg_out_counter;
            stats.backlog_size = stats.backlog_size.max(one.backlog_size.unsigned_abs());
            stats.non_contiguous_deleted_messages_ranges += one.non_contiguous_deleted_messages_ranges;
            stats.subscriptions.insert(subscription.name.to_string(), one);
        }
        if let Some(compaction) = &self.compaction {
            let msg_backlog = list.count_after(compaction.mark_delete());
            let of_compaction = SubscriptionStats {
                msg_backlog,
                backlog_size: self.ml.bytes_after(compaction.mark_delete()) as i64,
                msg_backlog_no_delayed: msg_backlog,
                is_durable: true,
                ..SubscriptionStats::default()
            };
            stats.subscriptions.insert(compaction::CURSOR.to_owned(), of_compaction);
        }
        stats
    }

    pub(crate) fn consumer_stats(&mut self, key: ConsumerKey) -> Result<ConsumerStats, TopicError> {
        let now = self.env.environment.clock.now();
        let (name, id) = self.consumers.get(&key).ok_or(TopicError::ConsumerNotFound)?;
        let subscription = self.subscriptions.get_mut(name).ok_or(TopicError::ConsumerNotFound)?;
        let consumer = subscription.consumers.get_mut(id).ok_or(TopicError::ConsumerNotFound)?;
        let mut stats = consumer_stats(consumer, &subscription.dispatcher, now);
        stats.subscription_type = subscription.kind.name().into();
        stats.msg_backlog = subscription.backlog(self.ml.ledgers());
        Ok(stats)
    }

    pub(crate) fn internal_stats(&self) -> InternalStats {
        let list = self.ml.ledgers();
        let last = list.last_confirmed();
        let ledgers: Vec<LedgerInternalStats> = list
            .iter()
            .map(|(id, info)| {
                let (entries, size) = match info.state {
                    LedgerState::Closed { entries, size, .. } => (entries, size),
                    _ => (0, 0),
                };
                LedgerInternalStats { ledger_id: id.to_wire(), entries, size, ..Default::default() }
            })
            .collect();
        let current = last.filter(|p| list.get(p.ledger_id).is_some_and(|info| info.entries().is_none()));
        let mut cursors: BTreeMap<_, _> =
            self.subscriptions.values().map(|s| (s.name.to_string(), cursor(s, list))).collect();
        if let Some(compaction) = &self.compaction {
            cursors.insert(compaction::CURSOR.to_owned(), of_compaction(compaction, list));
        }
        let compacted = self.compaction.as_ref().and_then(|compaction| compaction.compacted());
        let closed_size: u64 = ledgers.iter().map(|ledger| ledger.size).sum();
        InternalStats {
            entries_added_counter: self.entries_added,
            number_of_entries: list.count_after(list.earliest()),
            total_size: self.ml.size_bytes(),
            current_ledger_entries: current.map_or(0, |p| p.entry_id.0 + 1),
            current_ledger_size: self.ml.size_bytes().saturating_sub(closed_size),
            last_ledger_created_timestamp: iso8601(self.loaded_ms),
            waiting_cursors_count: self.subscriptions.values().filter(|s| is_waiting(s, list)).count() as u64,
            pending_add_entries_count: self.in_flight.len() as u64,
            last_confirmed_entry: last.map_or_else(|| list.latest().to_string(), |p| p.to_string()),
            state: if self.terminated { "Terminated" } else { "LedgerOpened" }.into(),
            ledgers,
            cursors,
            compacted_ledger: LedgerInternalStats {
                ledger_id: compacted.map_or(-1, |compacted| compacted.ledger().to_wire()),
                ..Default::default()
            },
            ..InternalStats::default()
        }
    }
}

fn is_waiting(subscription: &Subscription, list: &LedgerList) -> bool {
    list.last_confirmed().is_none_or(|last| subscription.read_position > last)
}

pub(super) fn publisher(producer: &mut Producer, now: std::time::Duration) -> PublisherStats {
    let (msg_rate_in, msg_throughput_in) = producer.incoming.per_second(now);
    let client = producer.outbound.client();
    PublisherStats {
        access_mode: producer.access_mode.name().into(),
        msg_rate_in,
        msg_throughput_in,
        average_msg_size: producer.incoming.average_size(),
        chunked_message_rate: producer.chunks.per_second(now).0,
        producer_id: producer.key.producer_id,
        supports_partial_producer: false,
        producer_name: producer.name.to_string(),
        address: client.address.clone(),
        connected_since: iso8601(producer.connected_ms),
        client_version: client.version.clone(),
        metadata: producer.metadata.clone(),
    }
}

fn subscription_stats(
    subscription: &mut Subscription,
    list: &LedgerList,
    backlog_size: u64,
    now: std::time::Duration,
) -> SubscriptionStats {
    let msg_backlog = subscription.backlog(list);
    let msg_delayed = subscription.delayed.len() as u64;
    let (unacked, blocked) = subscription.dispatcher.unacked_total();
    let active = subscription.dispatcher.active().and_then(|id| subscription.consumers.get(&id));
    let active_consumer_name = active.map(|c| c.name.to_string()).unwrap_or_default();
    let (draining_hashes_count, draining_hashes_unacked_messages, key_shared_mode) =
        match &subscription.dispatcher {
            Dispatcher::KeyShared(d) => {
                let (slots, entries) = d.draining();
                let mode = match d.routing() {
                    Routing::AutoSplit => "AUTO_SPLIT",
                    Routing::Sticky => "STICKY",
                };
                (slots as u64, entries, Some(mode.to_owned()))
            }
            _ => (0, 0, None),
        };
    let dispatcher = &subscription.dispatcher;
    let consumers = subscription.consumers.values_mut().map(|c| consumer_stats(c, dispatcher, now)).collect();
    let counters = &mut subscription.counters;
    let (msg_rate_out, msg_throughput_out) = counters.out.per_second(now);
    SubscriptionStats {
        msg_rate_out,
        msg_throughput_out,
        bytes_out_counter: counters.out.bytes,
        msg_out_counter: counters.out.messages,
        filter_processed_msg_count: counters.accepted + counters.rejected,
        filter_accepted_msg_count: counters.accepted,
        filter_rejected_msg_count: counters.rejected,
        msg_rate_redeliver: counters.redelivered.per_second(now).0,
        message_ack_rate: counters.acked.per_second(now).0,
        msg_backlog,
        backlog_size: backlog_size as i64,
        msg_backlog_no_delayed: msg_backlog.saturating_sub(msg_delayed),
        blocked_subscription_on_unacked_msgs: blocked,
        msg_delayed,
        msg_in_replay: subscription.dispatcher.replay_len() as u64,
        unacked_messages: u64::from(unacked),
        kind: subscription.kind.name().into(),
        active_consumer_name,
        msg_rate_expired: counters.expired.per_second(now).0,
        total_msg_expired: counters.expired.messages,
        last_expire_timestamp: counters.last_expire_ms,
        last_consumed_flow_timestamp: counters.last_flow_ms,
        last_consumed_timestamp: counters.last_consumed_ms,
        last_acked_timestamp: counters.last_acked_ms,
        last_mark_delete_advanced_timestamp: counters.last_mark_delete_ms,
        consumers,
        is_durable: subscription.durability.is_some(),
        allow_out_of_order_delivery: subscription.key_shared.out_of_order,
        key_shared_mode,
        draining_hashes_count,
        draining_hashes_unacked_messages,
        non_contiguous_deleted_messages_ranges: subscription.cursor.ranges(0).1,
        delayed_message_index_size_in_bytes: subscription.delayed.bytes() as u64,
        subscription_properties: subscription.properties.clone(),
        ..SubscriptionStats::default()
    }
}

pub(super) fn consumer_stats(
    consumer: &mut Consumer,
    dispatcher: &Dispatcher,
    now: std::time::Duration,
) -> ConsumerStats {
    let (msg_rate_out, msg_throughput_out) = consumer.out.per_second(now);
    let (unacked, blocked) = dispatcher.unacked(consumer.id);
    let client = consumer.outbound.client();
    ConsumerStats {
        msg_rate_out,
        msg_throughput_out,
        bytes_out_counter: consumer.out.bytes,
        msg_out_counter: consumer.out.messages,
        msg_rate_redeliver: consumer.redelivered.per_second(now).0,
        message_ack_rate: consumer.acked.per_second(now).0,
        consumer_name: consumer.name.to_string(),
        available_permits: dispatcher.permits(consumer.id),
        unacked_messages: u64::from(unacked),
        avg_messages_per_entry: consumer.out.messages.checked_div(consumer.entries_out).unwrap_or(0),
        blocked_consumer_on_unacked_msgs: blocked,
        address: client.address.clone(),
        connected_since: iso8601(consumer.connected_ms),
        client_version: client.version.clone(),
        last_acked_timestamp: consumer.last_acked_ms,
        last_consumed_timestamp: consumer.last_consumed_ms,
        last_consumed_flow_timestamp: consumer.last_flow_ms,
        metadata: consumer.metadata.clone(),
        ..ConsumerStats::default()
    }
}

/// Compaction's own cursor, as Pulsar shows it: it names the compacted ledger, and holds the log.
fn of_compaction(compaction: &Compaction, list: &LedgerList) -> CursorInternalStats {
    CursorInternalStats {
        mark_delete_position: compaction.mark_delete().to_string(),
        cursor_ledger: -1,
        cursor_ledger_last_entry: -1,
        individually_deleted_messages: "[]".into(),
        state: "Open".into(),
        number_of_entries_since_first_not_acked_message: list.count_after(compaction.mark_delete()),
        properties: compaction.properties(),
        ..CursorInternalStats::default()
    }
}

fn cursor(subscription: &Subscription, list: &LedgerList) -> CursorInternalStats {
    let (ranges, number) = subscription.cursor.ranges(RANGES_SHOWN);
    let shown: Vec<String> = ranges.iter().map(|range| range.to_string()).collect();
    let (ahead, replay) = subscription.reads.pending();
    CursorInternalStats {
        mark_delete_position: subscription.cursor.mark_delete().to_string(),
        read_position: subscription.read_position.to_string(),
        waiting_read_op: is_waiting(subscription, list),
        pending_read_ops: u64::from(ahead) + u64::from(replay),
        messages_consumed_counter: subscription.counters.acked.messages,
        cursor_ledger: -1,
        cursor_ledger_last_entry: -1,
        individually_deleted_messages: format!("[{}]", shown.join(",")),
        last_ledger_switch_timestamp: String::new(),
        state: if subscription.durability.is_some() { "Open" } else { "NoLedger" }.into(),
        active: !subscription.consumers.is_empty(),
        number_of_entries_since_first_not_acked_message: list.count_after(subscription.cursor.mark_delete()),
        total_non_contiguous_deleted_messages_range: number,
        subscription_have_pending_read: ahead,
        subscription_have_pending_replay_read: replay,
        properties: Default::default(),
    }
}
