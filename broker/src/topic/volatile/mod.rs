//! A topic that stores nothing: each message goes to whoever can take it at that moment, and is forgotten.
//!
//! It answers the same [`Message`]s as a stored topic and shares its dispatchers, its producers' table and its
//! consumers. It must never touch a ledger, a cursor or the metadata store: restarting the broker, or being without
//! permits, loses messages, and that is what its users chose.

mod admin;
mod joining;
mod subscription;

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use magnetar_common::topic_name::TopicName;
use magnetar_proto::ids::{EntryId, LedgerId, Position};
use magnetar_proto::pulsar::api;
use magnetar_proto::pulsar::message::summarize_entry;

use self::subscription::Subscription;
use super::actor::{Timer, TopicEnv};
use super::consumer::{Consumer, message_id};
use super::departed::{Client, Departed};
use super::error::TopicError;
use super::handle::Handle;
use super::mailbox::{Mailbox, Message, mailbox};
use super::producers::{Producer, Producers};
use super::publish::{refuse, tell_waiting};
use super::rate::Rate;
use super::reads::with_checksum;
use super::request::{CloseReason, ConsumerKey, Name, Publish};
use super::tail_cache::Entry;
use crate::dispatch::ConsumerId;
use crate::policies::TopicPolicies;
use crate::protocol::outbound::ConnectionId;

/// Where clients are told that a message lies which is nowhere.
const NOWHERE: Position = Position::new(LedgerId(0), EntryId(0));

/// State of a topic that stores nothing. Only its task touches it.
struct Volatile {
    name: Name,
    partition: Option<i32>,
    env: TopicEnv,
    policies: TopicPolicies,
    producers: Producers,
    subscriptions: BTreeMap<Name, Subscription>,
    consumers: HashMap<ConsumerKey, (Name, ConsumerId)>,
    next_consumer: u64,
    /// Tells the messages of one life of the topic apart, for clients that look at ids.
    next_entry: u64,
    incoming: Rate,
    last_publish_ms: u64,
    loaded_ms: u64,
}

/// Starts the task of a topic that stores nothing.
pub(super) async fn open(env: TopicEnv, name: TopicName) -> Result<Handle, TopicError> {
    let policies = env.policies.of(&name).await;
    let policies = policies.map_err(|error| TopicError::NotReady(format!("read the policies: {error}")))?;
    let clock = env.environment.clock.clone();
    let topic = Volatile {
        name: Arc::from(name.as_str()),
        partition: name.partition().and_then(|n| i32::try_from(n).ok()),
        env,
        policies,
        producers: Producers::default(),
        subscriptions: BTreeMap::new(),
        consumers: HashMap::new(),
        next_consumer: 0,
        next_entry: 0,
        incoming: Rate::new(clock.now()),
        last_publish_ms: 0,
        loaded_ms: clock.unix_ms(),
    };
    let (sender, mailbox) = mailbox();
    let handle = Handle::new(topic.name.clone(), sender);
    tokio::spawn(run(topic, mailbox));
    Ok(handle)
}

async fn run(mut topic: Volatile, mut mailbox: Mailbox) {
    let mut timer = Timer::new(topic.env.environment.clock.clone());
    let mut batch = Vec::new();
    'open: loop {
        timer.set(topic.subscriptions.values().filter_map(|s| s.dispatcher.deadline()).min());
        tokio::select! {
            taken = mailbox.take(&mut batch) => {
                if taken.is_none() {
                    break;
                }
            }
            () = timer.expired() => {}
        }
        topic.on_timer();
        for message in batch.drain(..) {
            match message {
                Message::Close(CloseReason::Delete { force: false }, reply) if topic.is_used() => {
                    let refused = TopicError::InUse("topic has producers or consumers connected".into());
                    // Whoever asked may be gone.
                    let _ = reply.send(Err(refused));
                }
                Message::Close(_, reply) => {
                    mailbox.close();
                    topic.send_everybody_away();
                    let _ = reply.send(Ok(()));
                    break 'open;
                }
                Message::HandOver(reply) => {
                    mailbox.close();
                    let _ = reply.send(Ok(topic.take_clients()));
                    break 'open;
                }
                message => topic.handle(message),
            }
        }
    }
    mailbox.close();
    topic.send_everybody_away();
}

impl Volatile {
    fn handle(&mut self, message: Message) {
        match message {
            Message::Publish(publish) => self.publish(publish),
            Message::Flow(key, permits) => {
                self.with_consumer(key, |s, id| s.dispatcher.flow(id, permits));
            }
            // Nothing is kept that it could change.
            Message::Ack(_, _, waiter) => drop(waiter.map(|waiter| waiter.answer(None))),
            // Nothing can come again.
            Message::Redeliver(..) => {}
            Message::ConnectionClosed(connection) => self.on_connection_closed(connection),
            Message::Writable(connection) => {
                let keys = self.consumers.keys().filter(|key| key.connection == connection);
                for key in keys.copied().collect::<Vec<_>>() {
                    self.with_consumer(key, |s, id| s.dispatcher.set_writable(id, true));
                }
            }
            // Whoever asked may be gone: then nobody wants the answer.
            Message::AddProducer(request, asked) => asked.answer(self.add_producer(*request)),
            Message::CloseProducer(key, reply) => {
                if self.producers.remove(key).is_some() {
                    self.admit_waiting();
                }
                drop(reply.send(Ok(())));
            }
            Message::Subscribe(request, asked) => asked.answer(self.subscribe(*request)),
            Message::CloseConsumer(key, reply) => {
                self.remove_consumer(key);
                drop(reply.send(Ok(())));
            }
            Message::Unsubscribe(key, force, reply) => drop(reply.send(self.unsubscribe(key, force))),
            Message::Seek(_, _, reply) => drop(reply.send(Err(nothing_stored()))),
            Message::LastMessageId(_, reply) => drop(reply.send(Err(nothing_stored()))),
            Message::ConsumerStats(key, reply) => drop(reply.send(self.consumer_stats(key))),
            Message::Admin(request) => self.admin(request),
            Message::Policies(policies) => self.policies = *policies,
            Message::Prepare(reply) => drop(reply.send(Ok(()))),
            Message::Close(_, reply) => drop(reply.send(Err(TopicError::closed()))),
            Message::HandOver(reply) => drop(reply.send(Err(TopicError::closed()))),
        }
    }

    fn with_consumer(&mut self, key: ConsumerKey, f: impl FnOnce(&mut Subscription, ConsumerId)) {
        if let Some((name, id)) = self.consumers.get(&key)
            && let Some(subscription) = self.subscriptions.get_mut(name)
        {
            f(subscription, *id);
        }
    }

    /// The receipt goes out at once: it says that the message was taken, not that anybody got it.
    fn publish(&mut self, publish: Publish) {
        let now_ms = self.env.environment.clock.unix_ms();
        let Some(producer) = self.producers.get_mut(publish.key) else { return };
        let summary = match summarize_entry(&publish.headers_and_payload) {
            Ok(summary) => Arc::new(summary),
            Err(error) => {
                let text = error.to_string();
                return refuse(producer, &publish, api::ServerError::MetadataError, &text);
            }
        };
        let size = publish.headers_and_payload.len();
        producer.incoming.add(u64::from(summary.num_messages), size);
        producer.outbound.send(
            api::CommandSendReceipt {
                producer_id: publish.key.producer_id,
                sequence_id: publish.sequence_id,
                message_id: Some(message_id(NOWHERE, None)),
                highest_sequence_id: publish.highest_sequence_id,
            }
            .into(),
        );
        self.incoming.add(u64::from(summary.num_messages), size);
        self.last_publish_ms = now_ms;
        let position = Position { entry_id: EntryId(self.next_entry), ..NOWHERE };
        self.next_entry += 1;
        let entry = Entry { position, bytes: with_checksum(publish.headers_and_payload), summary };
        for subscription in self.subscriptions.values_mut() {
            subscription.give(&entry, self.partition, now_ms);
        }
    }

    fn on_connection_closed(&mut self, connection: ConnectionId) {
        for key in self.producers.of_connection(connection) {
            self.producers.remove(key);
        }
        let keys = self.consumers.keys().filter(|key| key.connection == connection);
        for key in keys.copied().collect::<Vec<_>>() {
            self.remove_consumer(key);
        }
        self.admit_waiting();
    }

    fn on_timer(&mut self) {
        let now = self.env.environment.clock.now();
        for subscription in self.subscriptions.values_mut() {
            let actions = subscription.dispatcher.on_timer(now);
            subscription.apply(actions);
        }
    }

    fn is_used(&self) -> bool {
        !self.producers.is_empty() || !self.consumers.is_empty()
    }

    fn send_everybody_away(&mut self) {
        drop(self.take_clients());
    }

    /// Nobody is connected any more; the clients are yet to be told.
    fn take_clients(&mut self) -> Departed {
        tell_waiting(&mut self.producers, &TopicError::closed());
        let mut clients: Vec<Client> = self.producers.take_all().iter().map(Producer::client).collect();
        for subscription in std::mem::take(&mut self.subscriptions).into_values() {
            clients.extend(subscription.consumers.values().map(Consumer::client));
        }
        self.consumers.clear();
        Departed::new(clients)
    }
}

fn nothing_stored() -> TopicError {
    TopicError::NotAllowed("a non-persistent topic stores nothing; use a persistent:// topic for this".into())
}
