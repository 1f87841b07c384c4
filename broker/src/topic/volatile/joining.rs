//! Producers and consumers come and go.

use std::sync::Arc;

use magnetar_proto::pulsar::api;

use super::Volatile;
use super::subscription::Subscription;
use crate::dispatch::{ConsumerId, ConsumerSpec, JoinError};
use crate::topic::consumer::Consumer;
use crate::topic::error::{Holder, TopicError};
use crate::topic::producers::{Admission, Producer};
use crate::topic::publish::fence;
use crate::topic::rate::Rate;
use crate::topic::request::{AddProducer, ConsumerKey, KeySharedPolicy, Name, ProducerReady, Subscribe};
use crate::topic::subscribing::{CONSUMER_NAME_CHARS, busy};
use crate::topic::subscription::dispatcher;

impl Volatile {
    pub(super) fn add_producer(&mut self, mut request: AddProducer) -> Result<ProducerReady, TopicError> {
        if self.policies.encryption_required && !request.encrypted {
            let text = "the topic takes encrypted messages only; give the producer an encryption key";
            return Err(TopicError::NotAllowed(text.into()));
        }
        let name = match request.name.take().filter(|name| !name.is_empty()) {
            Some(given) => given,
            None => self.env.names.next(),
        };
        let clock = &self.env.environment.clock;
        let producer = Producer::new(request, name, clock.now(), clock.unix_ms());
        let admission = self.producers.admit(&producer);
        if admission.is_err() {
            // Its older self may have been what others waited for.
            self.admit_waiting();
        }
        match admission? {
            Admission::Known(key) => {
                self.producers.get(key).map(|known| ready(known, true)).ok_or_else(TopicError::closed)
            }
            Admission::Join => Ok(self.join_producer(producer)),
            Admission::JoinExclusive { topic_epoch } => Ok(self.join_exclusive(producer, topic_epoch)),
            Admission::Fence { topic_epoch } => {
                fence(&mut self.producers);
                Ok(self.join_exclusive(producer, topic_epoch))
            }
            Admission::Wait => {
                let answer = ready(&producer, false);
                self.producers.wait(producer);
                self.admit_waiting();
                Ok(answer)
            }
        }
    }

    fn join_producer(&mut self, producer: Producer) -> ProducerReady {
        let answer = ready(&producer, true);
        self.producers.join(producer);
        answer
    }

    /// The epoch lives as long as the topic is in memory: nothing is stored that it would have to protect.
    fn join_exclusive(&mut self, mut producer: Producer, epoch: u64) -> ProducerReady {
        self.producers.topic_epoch = Some(epoch);
        producer.topic_epoch = Some(epoch);
        self.join_producer(producer)
    }

    /// Gives the exclusive access to the producer that waits longest, if it is free.
    pub(super) fn admit_waiting(&mut self) {
        let Some((producer, epoch)) = self.producers.next_exclusive() else { return };
        let (request_id, outbound) = (producer.request_id(), producer.outbound.clone());
        let answer = self.join_exclusive(producer, epoch);
        outbound.send(
            api::CommandProducerSuccess {
                request_id,
                producer_name: answer.name,
                last_sequence_id: Some(answer.last_sequence_id),
                schema_version: Some(answer.schema_version),
                topic_epoch: answer.topic_epoch,
                producer_ready: Some(true),
            }
            .into(),
        );
    }

    pub(super) fn subscribe(&mut self, request: Subscribe) -> Result<(), TopicError> {
        if let Some((name, _)) = self.consumers.get(&request.key) {
            if **name == *request.subscription {
                return Ok(());
            }
            self.remove_consumer(request.key);
        }
        if request.read_compacted {
            let text = "read_compacted needs a persistent topic: a non-persistent one stores nothing";
            return Err(TopicError::NotAllowed(text.into()));
        }
        if self.policies.consumers_max.is_some_and(|max| self.consumers.len() >= max as usize) {
            return Err(busy("the topic has as many consumers as its policies allow", None));
        }
        let name: Name = Arc::from(request.subscription.as_str());
        self.ensure_subscription(&name, &request)?;
        let joined = self.join(&name, request);
        self.drop_if_empty(&name);
        joined
    }

    fn ensure_subscription(&mut self, name: &Name, request: &Subscribe) -> Result<(), TopicError> {
        let now = self.env.environment.clock.now();
        if let Some(existing) = self.subscriptions.get(name) {
            let (ours, theirs) = (&existing.key_shared, &request.key_shared);
            return match existing.kind {
                kind if kind != request.kind => {
                    Err(busy(&format!("subscription is of type {}", kind.name()), None))
                }
                _ if ours.routing != theirs.routing || ours.out_of_order != theirs.out_of_order => {
                    Err(TopicError::ConsumerAssign("consumers disagree on the Key_Shared mode".into()))
                }
                _ => Ok(()),
            };
        }
        let key_shared = KeySharedPolicy { ranges: Vec::new(), ..request.key_shared.clone() };
        let limits = self.env.limits.dispatch;
        let subscription = Subscription {
            kind: request.kind,
            dispatcher: dispatcher(request.kind, &key_shared, &self.name, self.partition, limits),
            key_shared,
            consumers: Default::default(),
            out: Rate::new(now),
            dropped: Rate::new(now),
        };
        self.subscriptions.insert(name.clone(), subscription);
        Ok(())
    }

    fn join(&mut self, name: &Name, request: Subscribe) -> Result<(), TopicError> {
        let clock = &self.env.environment.clock;
        let Some(subscription) = self.subscriptions.get_mut(name) else {
            return Err(TopicError::SubscriptionNotFound(name.to_string()));
        };
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
        let actions = match subscription.dispatcher.add(spec, clock.now()) {
            Ok(actions) => actions,
            Err(JoinError::Ranges(conflict)) => return Err(TopicError::ConsumerAssign(conflict.to_string())),
            Err(JoinError::Busy { holder }) => {
                let holder = subscription.consumers.get(&holder).map(|c| Holder(c.outbound.clone()));
                return Err(busy("exclusive consumer is already connected", holder));
            }
        };
        self.consumers.insert(request.key, (name.clone(), id));
        let consumer = Consumer::new(id, consumer_name, request, clock.now(), clock.unix_ms());
        subscription.consumers.insert(id, consumer);
        subscription.apply(actions);
        Ok(())
    }

    /// Takes a consumer out; unknown keys change nothing.
    pub(super) fn remove_consumer(&mut self, key: ConsumerKey) {
        let Some((name, id)) = self.consumers.remove(&key) else { return };
        let now = self.env.environment.clock.now();
        if let Some(subscription) = self.subscriptions.get_mut(&name) {
            subscription.consumers.remove(&id);
            let actions = subscription.dispatcher.remove(id, now);
            subscription.apply(actions);
        }
        self.drop_if_empty(&name);
    }

    /// Without consumers there is nothing to remember of a subscription.
    fn drop_if_empty(&mut self, name: &Name) {
        if self.subscriptions.get(name).is_some_and(|s| s.consumers.is_empty()) {
            self.subscriptions.remove(name);
        }
    }

    pub(super) fn unsubscribe(&mut self, key: ConsumerKey, force: bool) -> Result<(), TopicError> {
        let (name, id) = self.consumers.get(&key).cloned().ok_or(TopicError::ConsumerNotFound)?;
        let others = self.subscriptions.get(&name).is_some_and(|s| s.consumers.keys().any(|c| *c != id));
        if others && !force {
            return Err(busy("other consumers are connected to the subscription", None));
        }
        self.consumers.remove(&key);
        self.delete_subscription(&name, Some(id));
        Ok(())
    }

    /// Tells its consumers to go, but for the one that asked.
    pub(super) fn delete_subscription(&mut self, name: &str, except: Option<ConsumerId>) {
        let Some(subscription) = self.subscriptions.remove(name) else { return };
        for consumer in subscription.consumers.values().filter(|c| Some(c.id) != except) {
            consumer.send_close();
            self.consumers.remove(&consumer.key);
        }
    }
}

fn ready(producer: &Producer, ready: bool) -> ProducerReady {
    ProducerReady {
        name: producer.name.to_string(),
        last_sequence_id: -1,
        topic_epoch: producer.topic_epoch.filter(|_| ready),
        schema_version: producer.schema_version.clone(),
        ready,
    }
}
