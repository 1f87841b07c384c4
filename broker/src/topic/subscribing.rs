//! Consumers come and go; subscriptions are made and deleted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::actor::Topic;
use super::compaction::{self, Compacted};
use super::consumer::Consumer;
use super::dead_letter::Departing;
use super::deduplication;
use super::delayed::Delayed;
use super::departed::Client;
use super::durability::{Durability, Stored};
use super::error::{Holder, TopicError};
use super::rate::Rate;
use super::reads::Reads;
use super::request::{
    ConsumerKey, InitialPosition, KeySharedPolicy, Name, StartPosition, Subscribe, SubscriptionType,
};
use super::subscription::{Counters, Subscription, dispatcher};
use crate::cursor::{Cursor, CursorError, CursorStore};
use crate::dispatch::{ConsumerId, ConsumerSpec, JoinError};
use crate::managed_ledger::{MarkDelete, MlError};
use magnetar_proto::ids::{LedgerId, Position};

/// Subscriptions of a topic: each costs a cursor in memory and, if durable, a ledger.
const SUBSCRIPTIONS_MAX: usize = 10_000;

/// Length of a consumer name made up here.
pub(super) const CONSUMER_NAME_CHARS: usize = 10;

impl Topic {
    pub(crate) async fn subscribe(&mut self, request: Subscribe) -> Result<(), TopicError> {
        if let Some((name, _)) = self.consumers.get(&request.key) {
            if **name == *request.subscription {
                return Ok(());
            }
            self.remove_consumer(request.key);
        }
        let single = request.kind.is_single();
        if request.read_compacted && !single {
            let text = "read_compacted needs an Exclusive or Failover subscription";
            return Err(TopicError::NotAllowed(text.into()));
        }
        let types = &self.policies.subscription_types;
        if !types.is_empty() && !types.iter().any(|allowed| allowed == request.kind.name()) {
            let text = format!("subscriptions of type {} are switched off by policy", request.kind.name());
            return Err(TopicError::NotAllowed(text));
        }
        if [compaction::CURSOR, deduplication::CURSOR].contains(&request.subscription.as_str()) {
            let text =
                format!("the name '{}' belongs to the broker; choose another one", request.subscription);
            return Err(TopicError::NotAllowed(text));
        }
        let name: Name = Arc::from(request.subscription.as_str());
        self.ensure_subscription(&name, &request).await?;
        let joined = self.join(&name, request);
        if joined.is_err() {
            self.drop_if_forsaken(&name);
        }
        joined
    }

    async fn ensure_subscription(&mut self, name: &Name, request: &Subscribe) -> Result<(), TopicError> {
        if let Some(existing) = self.subscriptions.get(name) {
            if existing.durability.is_some() != request.durable {
                let text = format!(
                    "subscription '{name}' exists and is {}durable",
                    match request.durable {
                        true => "not ",
                        false => "",
                    }
                );
                return Err(TopicError::NotAllowed(text));
            }
            return Ok(());
        }
        let initial = match request.initial_position {
            InitialPosition::Latest => StartPosition::Latest,
            InitialPosition::Earliest => StartPosition::Earliest,
        };
        let compacted = self.compacted().filter(|_| request.read_compacted);
        if !request.durable {
            let start = request.start.clone().unwrap_or(initial);
            let mut cursor = self.cursor_at(&start, compacted);
            if let Some(back) = request.rollback {
                cursor = Cursor::new(self.mark_by_age(back).await?);
            }
            self.insert_subscription(name, cursor, None, request.properties.clone(), request.kind)
        } else if request.create_missing {
            let mark = match request.rollback {
                Some(back) => self.mark_by_age(back).await?,
                None => self.cursor_at(&initial, compacted).mark_delete(),
            };
            self.create_durable(name, mark, request.properties.clone(), request.kind).await
        } else {
            Err(TopicError::SubscriptionNotFound(name.to_string()))
        }
    }

    async fn mark_by_age(&mut self, back: Duration) -> Result<MarkDelete, TopicError> {
        let since = self.env.environment.clock.unix_ms().saturating_sub(back.as_millis() as u64);
        let first = self.finder().find_by_time(since).await?;
        Ok(first.map_or(self.ml.ledgers().latest(), |position| self.ml.ledgers().mark_before(position)))
    }

    fn compacted(&self) -> Option<&Compacted> {
        self.compaction.as_ref()?.compacted()
    }

    /// What the subscription reads in place of what it stands for.
    pub(crate) fn compacted_for(&self, subscription: &Subscription) -> Option<Compacted> {
        self.compacted().filter(|_| subscription.read_compacted).cloned()
    }

    /// A cursor after which the wanted entry is the next one. With `compacted`, that may be one which is there only.
    pub(crate) fn cursor_at(&self, start: &StartPosition, compacted: Option<&Compacted>) -> Cursor {
        let list = self.ml.ledgers();
        let only_compacted =
            |at: Position| compacted.is_some_and(|c| at <= c.horizon()) && list.get(at.ledger_id).is_none();
        match start {
            StartPosition::Earliest if compacted.is_some() => Cursor::new(MarkDelete::before(LedgerId(0))),
            StartPosition::Earliest => Cursor::new(list.earliest()),
            StartPosition::Latest => {
                let horizon = compacted.map(|compacted| MarkDelete::after(compacted.horizon()));
                Cursor::new(horizon.map_or(list.latest(), |horizon| horizon.max(list.latest())))
            }
            StartPosition::At { position, ack_set } => {
                let mark = match only_compacted(*position) {
                    true => MarkDelete { ledger_id: position.ledger_id, entry: position.entry_id.prev() },
                    false => list.clamp(list.mark_before(*position)),
                };
                let mut cursor = Cursor::new(mark);
                let is_next = list.next_after(mark) == *position || only_compacted(*position);
                if !ack_set.is_empty() && is_next {
                    cursor.ack_batch(*position, ack_set, 64 * ack_set.len() as u32, list);
                }
                cursor
            }
        }
    }

    /// Creates a durable subscription; its cursor is durable when this returns.
    pub(crate) async fn create_durable(
        &mut self,
        name: &Name,
        mark: MarkDelete,
        properties: BTreeMap<String, String>,
        kind: SubscriptionType,
    ) -> Result<(), TopicError> {
        if self.policies.subscriptions_max.is_some_and(|max| self.subscriptions.len() >= max as usize) {
            let text =
                "the topic has as many subscriptions as its policies allow; delete one, or raise the limit";
            return Err(TopicError::NotAllowed(text.into()));
        }
        self.has_room_for_subscription()?;
        let failed = |error: CursorError| TopicError::Metadata(error.to_string());
        let cursor = Cursor::new(mark);
        let (env, config, ml) = (&self.env.managed_ledgers, &self.env.config, self.ml.name());
        let created = CursorStore::create(env, config, ml, name, cursor.snapshot(), properties.clone());
        let (store, cursor, properties) = match created.await {
            Ok(store) => (store, cursor, properties),
            Err(CursorError::Exists(_)) => self.take_up_cursor(name).await?,
            Err(error) => return Err(failed(error)),
        };
        let durability = Durability::new(store, cursor.mark_delete());
        self.insert_subscription(name, cursor, Some(durability), properties, kind)
    }

    /// Takes over a cursor that is there although it was not when the topic was opened. It was made by this owner, which never
    /// got the answer, or by an earlier one after this had listed the cursors: nobody else would take it up before the topic
    /// is loaded anew.
    ///
    /// Or by the next owner, of whom this one has not heard. Asked before, this one keeps its hands off; asked afterwards, it
    /// ends before it has changed anything: what it wrote is what it found.
    pub(crate) async fn take_up_cursor(
        &mut self,
        name: &str,
    ) -> Result<(CursorStore, Cursor, BTreeMap<String, String>), TopicError> {
        self.check_owner().await?;
        let (env, config) = (&self.env.managed_ledgers, &self.env.config);
        let found = CursorStore::recover(env, config, self.ml.name(), name, None, self.ml.ledgers()).await;
        let found = found.map_err(|error| TopicError::Metadata(error.to_string()))?;
        self.check_owner().await?;
        Ok(found)
    }

    async fn check_owner(&mut self) -> Result<(), TopicError> {
        match self.ml.check_owner().await {
            Ok(()) => Ok(()),
            Err(error @ MlError::Metadata(_)) => Err(TopicError::Metadata(error.to_string())),
            Err(error) => {
                self.fail(&error.to_string());
                Err(TopicError::NotReady(error.to_string()))
            }
        }
    }

    fn has_room_for_subscription(&self) -> Result<(), TopicError> {
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return Err(TopicError::NotAllowed("the topic has too many subscriptions; delete some".into()));
        }
        Ok(())
    }

    pub(crate) fn insert_subscription(
        &mut self,
        name: &Name,
        cursor: Cursor,
        durability: Option<Durability>,
        properties: BTreeMap<String, String>,
        kind: SubscriptionType,
    ) -> Result<(), TopicError> {
        self.has_room_for_subscription()?;
        let key_shared = KeySharedPolicy::default();
        self.next_serial += 1;
        let limits = self.dispatch_limits();
        let now = self.env.environment.clock.now();
        let rate = Rate::new(now);
        let subscription = Subscription {
            name: name.clone(),
            kind,
            read_compacted: false,
            dispatcher: dispatcher(kind, &key_shared, &self.name, self.partition, limits),
            key_shared,
            read_position: self.ml.ledgers().next_after(cursor.mark_delete()),
            cursor,
            durability,
            consumers: Default::default(),
            reads: Reads::new(name.clone(), self.next_serial),
            delayed: Delayed::default(),
            departing: Departing::new(self.next_serial),
            properties,
            counters: Counters {
                out: rate,
                redelivered: rate,
                acked: rate,
                expired: rate,
                ..Default::default()
            },
            forsaken_at: None,
            given_before_all: false,
            due: false,
        };
        self.subscriptions.insert(name.clone(), Box::new(subscription));
        self.look_soon();
        Ok(())
    }

    fn join(&mut self, name: &Name, request: Subscribe) -> Result<(), TopicError> {
        let clock = self.env.environment.clock.clone();
        let (now, now_ms) = (clock.now(), clock.unix_ms());
        let limits = self.dispatch_limits();
        if self.policies.consumers_max.is_some_and(|max| self.consumers.len() >= max as usize) {
            return Err(busy("the topic has as many consumers as its policies allow", None));
        }
        let Some(subscription) = self.subscriptions.get_mut(name) else {
            return Err(TopicError::SubscriptionNotFound(name.to_string()));
        };
        let max = self.policies.consumers_per_subscription_max;
        if max.is_some_and(|max| subscription.consumers.len() >= max as usize) {
            return Err(busy("the subscription has as many consumers as its policies allow", None));
        }
        fit(subscription, &request)?;
        let list = self.ml.ledgers();
        subscription.read_compacted =
            request.read_compacted && (subscription.read_compacted || subscription.consumers.is_empty());
        let same_policy = subscription.key_shared.routing == request.key_shared.routing
            && subscription.key_shared.out_of_order == request.key_shared.out_of_order;
        if subscription.consumers.is_empty() && (subscription.kind != request.kind || !same_policy) {
            subscription.kind = request.kind;
            subscription.key_shared = KeySharedPolicy { ranges: Vec::new(), ..request.key_shared.clone() };
            subscription.dispatcher =
                dispatcher(request.kind, &subscription.key_shared, &self.name, self.partition, limits);
            subscription.rewind(list);
        }
        self.next_consumer += 1;
        let id = ConsumerId(self.next_consumer);
        let consumer_name: Name = match &request.consumer_name {
            Some(given) if !given.is_empty() => Arc::from(given.as_str()),
            _ => Arc::from(self.env.environment.random.alphanumeric(CONSUMER_NAME_CHARS)),
        };
        let spec = ConsumerSpec {
            id,
            name: consumer_name.clone(),
            priority: request.priority,
            ranges: request.key_shared.ranges.clone(),
        };
        let actions = match subscription.dispatcher.add(spec, now) {
            Ok(actions) => actions,
            Err(JoinError::Ranges(conflict)) => return Err(TopicError::ConsumerAssign(conflict.to_string())),
            Err(JoinError::Busy { holder }) => {
                let holder = subscription.consumers.get(&holder).map(|c| Holder(c.outbound.clone()));
                return Err(busy("exclusive consumer is already connected", holder));
            }
        };
        self.consumers.insert(request.key, (name.clone(), id));
        subscription.consumers.insert(id, Consumer::new(id, consumer_name, request, now, now_ms));
        subscription.forsaken_at = None;
        subscription.apply(actions, list);
        Ok(())
    }

    /// Takes a consumer out; unknown keys change nothing.
    pub(crate) fn remove_consumer(&mut self, key: ConsumerKey) {
        let Some((name, id)) = self.consumers.remove(&key) else { return };
        self.release_due = true;
        self.with_subscription(&name, |subscription, cx| subscription.remove_consumer(id, cx));
        self.drop_if_forsaken(&name);
    }

    /// A subscription that is not durable ends with its last consumer.
    fn drop_if_forsaken(&mut self, name: &Name) {
        if self.subscriptions.get(name).is_some_and(|s| s.durability.is_none() && s.consumers.is_empty()) {
            self.subscriptions.remove(name);
        }
    }

    pub(crate) fn drop_forsaken(&mut self, now: Duration) {
        self.subscriptions.retain(|_, s| s.forsaken_at.is_none_or(|at| now < at));
        self.release_due = true;
    }

    pub(crate) async fn unsubscribe(&mut self, key: ConsumerKey, force: bool) -> Result<(), TopicError> {
        let Some((name, id)) = self.consumers.get(&key).cloned() else {
            return Err(TopicError::ConsumerNotFound);
        };
        let others = self.subscriptions.get(&name).is_some_and(|s| s.consumers.keys().any(|c| *c != id));
        if others && !force {
            return Err(busy("other consumers are connected to the subscription", None));
        }
        self.delete_cursor(&name).await?;
        self.consumers.remove(&key);
        self.with_subscription(&name, |subscription, cx| subscription.remove_consumer(id, cx));
        self.forget_subscription(&name);
        Ok(())
    }

    /// Deletes a subscription with its cursor; consumers are told to go. After an error nothing has changed for anybody as far
    /// as is known, and it may be tried again.
    pub(crate) async fn delete_subscription(&mut self, name: &str) -> Result<(), TopicError> {
        self.delete_cursor(name).await?;
        self.forget_subscription(name);
        Ok(())
    }

    /// As long as its cursor may be there still, a subscription holds its messages.
    async fn delete_cursor(&mut self, name: &str) -> Result<(), TopicError> {
        let Some((name, _)) = self.subscriptions.get_key_value(name) else { return Ok(()) };
        let name = name.clone();
        self.on_stored(Stored(name.clone())).await;
        let durability = self.subscriptions.get_mut(&name).and_then(|s| s.durability.as_mut());
        let Some(durability) = durability else { return Ok(()) };
        durability.delete().await
    }

    fn forget_subscription(&mut self, name: &str) {
        self.disconnect_consumers(name);
        self.subscriptions.remove(name);
        self.release_due = true;
        self.trim_due = true;
    }

    /// Sends CLOSE_CONSUMER to all consumers of a subscription and forgets them.
    pub(crate) fn disconnect_consumers(&mut self, name: &str) {
        self.take_consumers(name).iter().for_each(|client| client.send_away(None));
    }

    /// Forgets all consumers of a subscription; they are yet to be told.
    pub(crate) fn take_consumers(&mut self, name: &str) -> Vec<Client> {
        let mut clients = Vec::new();
        self.with_subscription(name, |subscription, cx| {
            for id in subscription.consumers.keys().copied().collect::<Vec<_>>() {
                clients.extend(subscription.consumers.get(&id).map(Consumer::client));
                subscription.remove_consumer(id, cx);
            }
        });
        for client in &clients {
            if let Client::Consumer(key, _) = client {
                self.consumers.remove(key);
            }
        }
        clients
    }
}

/// Does the newcomer go together with the consumers that are there?
fn fit(subscription: &Subscription, request: &Subscribe) -> Result<(), TopicError> {
    if subscription.consumers.is_empty() {
        return Ok(());
    }
    if subscription.kind != request.kind {
        let text = format!("subscription is of type {}", subscription.kind.name());
        return Err(busy(&text, None));
    }
    let (ours, theirs) = (&subscription.key_shared, &request.key_shared);
    if request.kind == SubscriptionType::KeyShared
        && (ours.routing != theirs.routing || ours.out_of_order != theirs.out_of_order)
    {
        return Err(TopicError::ConsumerAssign("consumers disagree on the Key_Shared mode".into()));
    }
    Ok(())
}

pub(super) fn busy(message: &str, holder: Option<Holder>) -> TopicError {
    TopicError::ConsumerBusy { message: message.to_owned(), holder }
}
