//! Stats, and the few other requests that make sense without storage.

use super::{Volatile, nothing_stored};
use crate::topic::error::TopicError;
use crate::topic::mailbox::Admin;
use crate::topic::request::ConsumerKey;
use crate::topic::snapshot::{consumer_stats, publisher};
use crate::topic::stats::{ConsumerStats, InternalStats, SubscriptionStats, TopicStats};

impl Volatile {
    /// Answers; whoever asked may have gone away meanwhile, which is fine.
    pub(super) fn admin(&mut self, request: Admin) {
        match request {
            Admin::Stats(reply) | Admin::MeasuredStats(reply) => drop(reply.send(Ok(self.stats()))),
            Admin::InternalStats(reply) => drop(reply.send(Ok(InternalStats::default()))),
            Admin::Subscriptions(reply) => {
                drop(reply.send(Ok(self.subscriptions.keys().map(|name| name.to_string()).collect())));
            }
            Admin::DeleteSubscription(name, force, reply) => {
                let result = match self.subscriptions.get(name.as_str()) {
                    None => Err(TopicError::SubscriptionNotFound(name)),
                    Some(_) if !force => {
                        Err(TopicError::InUse(format!("subscription '{name}' has consumers connected")))
                    }
                    Some(_) => {
                        self.delete_subscription(&name, None);
                        Ok(())
                    }
                };
                drop(reply.send(result));
            }
            Admin::LastPosition(reply) => drop(reply.send(Ok(None))),
            Admin::CreateSubscription(.., reply) => drop(reply.send(Err(nothing_stored()))),
            Admin::SkipAll(_, reply)
            | Admin::Skip(_, _, reply)
            | Admin::SkipIds(_, _, reply)
            | Admin::ResetCursor(_, _, reply)
            | Admin::Expire(_, _, reply)
            | Admin::Truncate(reply)
            | Admin::Compact(reply)
            | Admin::ChangeProperties(_, reply) => drop(reply.send(Err(nothing_stored()))),
            Admin::Peek(_, _, reply) | Admin::Read(_, reply) => drop(reply.send(Err(nothing_stored()))),
            Admin::FindByTime(_, reply) | Admin::Terminate(reply) => drop(reply.send(Err(nothing_stored()))),
            Admin::CompactionStatus(reply) => drop(reply.send(Err(nothing_stored()))),
            Admin::Why(_, reply) => drop(reply.send(Err(nothing_stored()))),
            Admin::Properties(reply) => drop(reply.send(Ok(Default::default()))),
        }
    }

    pub(super) fn consumer_stats(&mut self, key: ConsumerKey) -> Result<ConsumerStats, TopicError> {
        let now = self.env.environment.clock.now();
        let (name, id) = self.consumers.get(&key).ok_or(TopicError::ConsumerNotFound)?;
        let subscription = self.subscriptions.get_mut(name).ok_or(TopicError::ConsumerNotFound)?;
        let consumer = subscription.consumers.get_mut(id).ok_or(TopicError::ConsumerNotFound)?;
        let mut stats = consumer_stats(consumer, &subscription.dispatcher, now);
        stats.subscription_type = subscription.kind.name().into();
        Ok(stats)
    }

    fn stats(&mut self) -> TopicStats {
        let now = self.env.environment.clock.now();
        let (msg_rate_in, msg_throughput_in) = self.incoming.per_second(now);
        let mut stats = TopicStats {
            msg_rate_in,
            msg_throughput_in,
            bytes_in_counter: self.incoming.bytes,
            msg_in_counter: self.incoming.messages,
            average_msg_size: self.incoming.average_size(),
            backlog_quota_limit_size: -1,
            backlog_quota_limit_time: -1,
            waiting_publishers: self.producers.waiting_len() as u32,
            topic_epoch: self.producers.topic_epoch,
            owner_broker: Some(self.env.broker.to_string()),
            deduplication_status: "Disabled".into(),
            topic_creation_time_stamp: self.loaded_ms,
            last_publish_time_stamp: self.last_publish_ms,
            publishers: self.producers.iter_mut().map(|producer| publisher(producer, now)).collect(),
            ..TopicStats::default()
        };
        for (name, subscription) in &mut self.subscriptions {
            let (msg_rate_out, msg_throughput_out) = subscription.out.per_second(now);
            let dispatcher = &subscription.dispatcher;
            let active = dispatcher.active().and_then(|id| subscription.consumers.get(&id));
            let active_consumer_name = active.map(|c| c.name.to_string()).unwrap_or_default();
            let consumers =
                subscription.consumers.values_mut().map(|c| consumer_stats(c, dispatcher, now)).collect();
            let one = SubscriptionStats {
                msg_rate_out,
                msg_throughput_out,
                bytes_out_counter: subscription.out.bytes,
                msg_out_counter: subscription.out.messages,
                msg_drop_rate: subscription.dropped.per_second(now).0,
                kind: subscription.kind.name().into(),
                active_consumer_name,
                consumers,
                ..SubscriptionStats::default()
            };
            stats.msg_rate_out += one.msg_rate_out;
            stats.msg_throughput_out += one.msg_throughput_out;
            stats.bytes_out_counter += one.bytes_out_counter;
            stats.msg_out_counter += one.msg_out_counter;
            stats.subscriptions.insert(name.to_string(), one);
        }
        stats
    }
}
