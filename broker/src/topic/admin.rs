//! Requests of the admin API.

use std::collections::BTreeMap;
use std::sync::Arc;

use magnetar_proto::ids::Position;

use super::actor::Topic;
use super::compaction;
use super::error::TopicError;
use super::mailbox::Admin;
use super::request::{LastMessageId, Name, PeekedEntry, SubscriptionType};
use super::tail_cache::Entry;

impl Topic {
    /// Answers; whoever asked may have gone away meanwhile, which is fine.
    pub(crate) async fn admin(&mut self, request: Admin) {
        match request {
            Admin::Stats(reply) => drop(reply.send(Ok(self.stats()))),
            Admin::MeasuredStats(reply) => self.measured_stats(reply),
            Admin::InternalStats(reply) => drop(reply.send(Ok(self.internal_stats()))),
            Admin::Subscriptions(reply) => {
                let names = self.subscriptions.keys().map(|name| name.to_string()).collect();
                drop(reply.send(Ok(names)));
            }
            Admin::LastPosition(reply) => drop(reply.send(Ok(self.ml.ledgers().last_confirmed()))),
            Admin::CreateSubscription(name, start, properties, reply) => {
                let name: Name = Arc::from(name);
                let result = if self.subscriptions.contains_key(&name) {
                    Err(TopicError::Exists(format!("subscription '{name}'")))
                } else {
                    let mark = self.cursor_at(&start, None).mark_delete();
                    self.create_durable(&name, mark, properties, SubscriptionType::Exclusive).await
                };
                drop(reply.send(result));
            }
            Admin::DeleteSubscription(name, force, reply) => {
                let result = match self.subscriptions.get(name.as_str()) {
                    None if name == compaction::CURSOR => self.end_compaction().await,
                    None => Err(TopicError::SubscriptionNotFound(name)),
                    Some(s) if !force && !s.consumers.is_empty() => {
                        Err(TopicError::InUse(format!("subscription '{name}' has consumers connected")))
                    }
                    Some(_) => self.delete_subscription(&name).await,
                };
                drop(reply.send(result));
            }
            Admin::SkipAll(name, reply) => {
                let last = self.ml.ledgers().last_confirmed();
                drop(reply.send(self.skip_to(&name, last).await.map(drop)));
            }
            Admin::Skip(name, entries, reply) => {
                let target = self.nth_unacked(&name, entries.max(1));
                let result = match target {
                    Ok(target) => self.skip_to(&name, target).await.map(drop),
                    Err(error) => Err(error),
                };
                drop(reply.send(result));
            }
            Admin::SkipIds(name, ids, reply) => drop(reply.send(self.skip_ids(&name, &ids).await)),
            Admin::ResetCursor(name, target, reply) => {
                drop(reply.send(self.reset_cursor(&Arc::from(name), target).await));
            }
            Admin::Expire(name, seconds, reply) => drop(reply.send(self.expire(&name, seconds).await)),
            Admin::Peek(name, n, reply) => drop(reply.send(self.peek(&name, n).await)),
            Admin::Read(position, reply) => {
                let found = self.finder().read_at_or_after(position).await;
                let found = found.map(|e| e.filter(|e| e.position == position).map(peeked));
                drop(reply.send(found));
            }
            Admin::FindByTime(unix_ms, reply) => drop(reply.send(self.finder().find_by_time(unix_ms).await)),
            Admin::Terminate(reply) => drop(reply.send(self.terminate().await)),
            Admin::Truncate(reply) => drop(reply.send(self.truncate().await)),
            Admin::Compact(reply) => drop(reply.send(self.compact().await)),
            Admin::CompactionStatus(reply) => drop(reply.send(Ok(self.compaction_status()))),
            Admin::Why(name, reply) => drop(reply.send(self.why(name.as_deref()))),
            Admin::Properties(reply) => drop(reply.send(Ok(self.properties()))),
            Admin::ChangeProperties(changes, reply) => {
                drop(reply.send(self.change_properties(changes).await));
            }
        }
    }

    async fn truncate(&mut self) -> Result<(), TopicError> {
        let Some(last) = self.ml.last_confirmed() else { return Ok(()) };
        for name in self.subscriptions.keys().cloned().collect::<Vec<_>>() {
            self.skip_to(&name, Some(last)).await?;
        }
        self.forget_compacted().await?;
        self.housekeeping.truncate = Some(last);
        self.trim_due = true;
        Ok(())
    }

    /// Those of operators: what the broker keeps for itself beside them is not shown.
    fn properties(&self) -> BTreeMap<String, String> {
        let all = self.ml.properties().iter().filter(|(key, _)| !is_reserved(key));
        all.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    async fn change_properties(&mut self, changes: Vec<(String, Option<String>)>) -> Result<(), TopicError> {
        if let Some((key, _)) = changes.iter().find(|(key, _)| is_reserved(key)) {
            return Err(TopicError::Invalid(format!(
                "property {key} belongs to the broker; choose another name"
            )));
        }
        let changed = self.ml.change_properties(changes).await;
        changed.map_err(|error| TopicError::Metadata(error.to_string()))
    }

    /// Position of the n-th (from 1) entry of a subscription's backlog; the last one if there are fewer.
    fn nth_unacked(&self, name: &str, n: u64) -> Result<Option<Position>, TopicError> {
        let Some(subscription) = self.subscriptions.get(name) else {
            return Err(TopicError::SubscriptionNotFound(name.to_owned()));
        };
        let list = self.ml.ledgers();
        let Some(last) = list.last_confirmed() else { return Ok(None) };
        let mut left = n;
        let mut position = list.next_after(subscription.cursor.mark_delete());
        let mut found = None;
        while position <= last && left > 0 {
            if !subscription.cursor.is_acked(position) {
                left -= 1;
                found = Some(position);
            }
            position = list.next_valid(position);
        }
        Ok(found)
    }

    /// Acknowledges everything up to `target`, durably. Answers how many entries that were.
    async fn skip_to(&mut self, name: &str, target: Option<Position>) -> Result<u64, TopicError> {
        let list = self.ml.ledgers();
        let Some(subscription) = self.subscriptions.get_mut(name) else {
            return Err(TopicError::SubscriptionNotFound(name.to_owned()));
        };
        let Some(target) = target else { return Ok(0) };
        let skipped = subscription.pass_over(target, list);
        if let Some(durability) = &mut subscription.durability {
            durability.persist_now(&subscription.cursor).await?;
        }
        (self.trim_due, self.release_due) = (true, true);
        Ok(skipped)
    }

    async fn skip_ids(&mut self, name: &str, ids: &[Position]) -> Result<(), TopicError> {
        let list = self.ml.ledgers();
        if let Some(missing) = ids.iter().find(|position| !list.holds(**position)) {
            return Err(TopicError::Invalid(format!("there is no message {missing}: nothing is skipped")));
        }
        let mut found = false;
        self.with_subscription(name, |subscription, cx| {
            found = true;
            for position in ids {
                subscription.ack_entry(*position, cx);
            }
            subscription.due = true;
        });
        if !found {
            return Err(TopicError::SubscriptionNotFound(name.to_owned()));
        }
        if let Some(subscription) = self.subscriptions.get_mut(name)
            && let Some(durability) = &mut subscription.durability
        {
            durability.persist_now(&subscription.cursor).await?;
        }
        (self.trim_due, self.release_due) = (true, true);
        Ok(())
    }

    async fn expire(&mut self, name: &str, seconds: u64) -> Result<(), TopicError> {
        if !self.subscriptions.contains_key(name) {
            return Err(TopicError::SubscriptionNotFound(name.to_owned()));
        }
        let now_ms = self.env.environment.clock.unix_ms();
        let young = self.finder().find_by_time(now_ms.saturating_sub(seconds.saturating_mul(1_000))).await?;
        let list = self.ml.ledgers();
        let target = match young {
            Some(first) => list.previous(first),
            None => list.last_confirmed(),
        };
        let expired = self.skip_to(name, target).await?;
        if let Some(subscription) = self.subscriptions.get_mut(name) {
            subscription.counters.expired.add(expired, 0);
            subscription.counters.last_expire_ms = now_ms;
        }
        Ok(())
    }

    async fn peek(&mut self, name: &str, n: u64) -> Result<Option<PeekedEntry>, TopicError> {
        let Some(position) = self.nth_unacked(name, n.max(1))? else { return Ok(None) };
        let fewer = n > 1 && self.nth_unacked(name, n - 1)? == Some(position);
        if fewer {
            return Ok(None);
        }
        Ok(self.finder().read_at_or_after(position).await?.map(peeked))
    }

    async fn terminate(&mut self) -> Result<Option<Position>, TopicError> {
        self.finish_appends().await;
        self.ml.terminate().await.map_err(|error| TopicError::Persistence(error.to_string()))?;
        self.terminated = true;
        super::publish::tell_waiting(&mut self.producers, &TopicError::Terminated);
        for producer in self.producers.take_all() {
            super::publish::disconnect(&producer);
        }
        for subscription in self.subscriptions.values_mut() {
            subscription.due = true;
        }
        Ok(self.ml.ledgers().last_confirmed())
    }

    /// For GET_LAST_MESSAGE_ID. Markers are passed over, and what compaction has taken out for those who read what it has
    /// left: a reader that waited for one would wait for ever.
    pub(crate) async fn last_message_id(&mut self, subscription: &str) -> Result<LastMessageId, TopicError> {
        let Some(subscription) = self.subscriptions.get(subscription) else {
            return Err(TopicError::ConsumerNotFound);
        };
        let mark = subscription.cursor.mark_delete();
        let compacted = self.compacted_for(subscription);
        let (finder, list) = (self.finder(), self.ml.ledgers());
        let mut at = list.last_confirmed().filter(|last| list.first_position().is_some_and(|p| p <= *last));
        let mut batch_index = -1;
        while let Some(position) = at {
            if compacted.as_ref().is_some_and(|compacted| position <= compacted.horizon()) {
                at = None;
                break;
            }
            let Some(entry) = finder.read_at_or_after(position).await? else {
                at = None;
                break;
            };
            if entry.summary.marker_type.is_none() {
                if entry.summary.is_batch {
                    batch_index = entry.summary.num_messages as i32 - 1;
                }
                break;
            }
            at = list.previous(position);
        }
        if at.is_none()
            && let Some(last) = compacted.as_ref().map(|compacted| compacted.last())
            && let Some(last) = last.await?
        {
            (at, batch_index) = (Some(last.position), last.batch_index);
        }
        Ok(LastMessageId {
            position: at,
            batch_index,
            partition: self.partition.unwrap_or(-1),
            mark_delete: (mark.ledger_id, mark.entry),
        })
    }
}

fn is_reserved(property: &str) -> bool {
    property.starts_with("pulsar.") || property.starts_with("magnetar.")
}

fn peeked(entry: Entry) -> PeekedEntry {
    PeekedEntry { position: entry.position, headers_and_payload: entry.bytes }
}
