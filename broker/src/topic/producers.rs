//! Who may publish: names, epochs and access modes. A sans-IO table; the actor persists epochs and sends commands.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;

use super::departed::Client;
use super::error::{Holder, TopicError};
use super::mailbox::Reply;
use super::rate::Rate;
use super::request::{AccessMode, AddProducer, Name, ProducerKey};
use crate::protocol::outbound::{ConnectionId, Outbound};

/// Producers of a topic (`maxProducersPerTopic` is a policy; this is what memory stands).
const PRODUCERS_MAX: usize = 100_000;

pub(crate) struct Producer {
    pub key: ProducerKey,
    pub name: Name,
    pub epoch: u64,
    pub user_provided_name: bool,
    pub access_mode: AccessMode,
    pub topic_epoch: Option<u64>,
    pub schema_version: Bytes,
    pub outbound: Outbound,
    pub metadata: BTreeMap<String, String>,
    pub connected_ms: u64,
    pub incoming: Rate,
    pub chunks: Rate,
    /// Entries appended and not durable yet.
    pub in_flight: usize,
    /// CLOSE_PRODUCER came; answered when nothing is in flight.
    pub closing: Option<Reply<()>>,
    /// Tells this producer from an earlier one under the same key.
    pub serial: u64,
    /// PRODUCER commands that wait for exclusive access answer to this request.
    request_id: u64,
}

/// How a newcomer gets in.
pub(crate) enum Admission {
    /// It is there already.
    Known(ProducerKey),
    /// It may join as it is.
    Join,
    /// It may join once the topic has this epoch, durably.
    JoinExclusive { topic_epoch: u64 },
    /// It may join with this epoch once all others are disconnected.
    Fence { topic_epoch: u64 },
    /// It waits for its turn.
    Wait,
}

/// Invariant: while `exclusive` is set it is the only producer.
#[derive(Default)]
pub(crate) struct Producers {
    connected: HashMap<ProducerKey, Producer>,
    by_name: HashMap<Name, ProducerKey>,
    exclusive: Option<ProducerKey>,
    waiting: VecDeque<Producer>,
    joined: u64,
    /// Persisted; `None` before the first exclusive producer.
    pub topic_epoch: Option<u64>,
}

impl Producer {
    pub(crate) fn new(request: AddProducer, name: String, now: std::time::Duration, now_ms: u64) -> Self {
        Producer {
            key: request.key,
            name: Arc::from(name),
            epoch: request.epoch,
            user_provided_name: request.user_provided_name,
            access_mode: request.access_mode,
            topic_epoch: request.topic_epoch,
            schema_version: request.schema_version,
            outbound: request.outbound,
            metadata: request.metadata,
            connected_ms: now_ms,
            incoming: Rate::new(now),
            chunks: Rate::new(now),
            in_flight: 0,
            closing: None,
            serial: 0,
            request_id: request.request_id,
        }
    }

    /// Who hears of its end.
    pub(crate) fn client(&self) -> Client {
        Client::Producer(self.key, self.outbound.clone())
    }

    pub(crate) fn request_id(&self) -> u64 {
        self.request_id
    }

    fn is_succeeded_by(&self, next: &Producer) -> bool {
        let same_origin = self.key == next.key || !(self.user_provided_name || next.user_provided_name);
        same_origin && self.epoch < next.epoch
    }
}

impl Producers {
    /// Judges a newcomer. An older self of it, left over from before a reconnect, is taken out.
    pub(crate) fn admit(&mut self, new: &Producer) -> Result<Admission, TopicError> {
        if let Some(known) = self.connected.get(&new.key)
            && known.name == new.name
            && known.epoch >= new.epoch
        {
            return Ok(Admission::Known(new.key));
        }
        self.replace_older_self(new)?;
        if self.connected.len() >= PRODUCERS_MAX {
            return Err(busy("too many producers are connected".into(), None));
        }
        let current = self.topic_epoch;
        if let (Some(theirs), Some(ours)) = (new.topic_epoch, current)
            && theirs < ours
        {
            return Err(TopicError::ProducerFenced(format!(
                "topic epoch is {ours}, the producer's was {theirs}"
            )));
        }
        // A producer that had the exclusive access keeps its epoch over a reconnect.
        let epoch = new.topic_epoch.unwrap_or_else(|| current.map_or(0, |e| e + 1));
        let free = self.exclusive.is_none() && self.waiting.is_empty();
        match new.access_mode {
            AccessMode::Shared if free => Ok(Admission::Join),
            AccessMode::Shared => {
                let holder = self.exclusive.and_then(|key| self.connected.get(&key));
                Err(busy("topic has an exclusive producer".into(), holder))
            }
            AccessMode::ExclusiveWithFencing => {
                let topic_epoch = new.topic_epoch.unwrap_or(epoch);
                Ok(Admission::Fence { topic_epoch })
            }
            AccessMode::Exclusive if !free => {
                Err(TopicError::ProducerFenced("topic has an exclusive producer".into()))
            }
            AccessMode::Exclusive if !self.connected.is_empty() => {
                Err(TopicError::ProducerFenced("topic has producers connected".into()))
            }
            AccessMode::WaitForExclusive if !free || !self.connected.is_empty() => Ok(Admission::Wait),
            AccessMode::Exclusive | AccessMode::WaitForExclusive => {
                Ok(Admission::JoinExclusive { topic_epoch: epoch })
            }
        }
    }

    fn replace_older_self(&mut self, new: &Producer) -> Result<(), TopicError> {
        let named = self.by_name.get(&new.name).copied();
        for key in named.into_iter().chain([new.key]) {
            let Some(old) = self.connected.get(&key) else { continue };
            if !old.is_succeeded_by(new) {
                let text = format!("producer with name '{}' is already connected to the topic", old.name);
                return Err(busy(text, Some(old)));
            }
            self.remove(key);
        }
        self.waiting.retain(|w| w.key != new.key);
        Ok(())
    }

    pub(crate) fn join(&mut self, mut producer: Producer) {
        self.joined += 1;
        producer.serial = self.joined;
        if producer.access_mode != AccessMode::Shared {
            self.exclusive = Some(producer.key);
        }
        self.by_name.insert(producer.name.clone(), producer.key);
        self.connected.insert(producer.key, producer);
    }

    pub(crate) fn wait(&mut self, producer: Producer) {
        self.waiting.push_back(producer);
    }

    /// The next one in the queue if the topic is free for it, with the epoch it will have.
    pub(crate) fn next_exclusive(&mut self) -> Option<(Producer, u64)> {
        if !self.connected.is_empty() {
            return None;
        }
        let next = self.waiting.pop_front()?;
        Some((next, self.topic_epoch.map_or(0, |e| e + 1)))
    }

    /// Empties the table: everybody connected or waiting.
    pub(crate) fn take_all(&mut self) -> Vec<Producer> {
        self.exclusive = None;
        self.by_name.clear();
        self.connected.drain().map(|(_, p)| p).chain(self.waiting.drain(..)).collect()
    }

    /// Those that wait, who then wait no more.
    pub(crate) fn take_waiting(&mut self) -> Vec<Producer> {
        self.waiting.drain(..).collect()
    }

    pub(crate) fn get(&self, key: ProducerKey) -> Option<&Producer> {
        self.connected.get(&key)
    }

    pub(crate) fn get_mut(&mut self, key: ProducerKey) -> Option<&mut Producer> {
        self.connected.get_mut(&key)
    }

    /// Takes a producer out, connected or waiting.
    pub(crate) fn remove(&mut self, key: ProducerKey) -> Option<Producer> {
        let Some(producer) = self.connected.remove(&key) else {
            let at = self.waiting.iter().position(|w| w.key == key)?;
            return self.waiting.remove(at);
        };
        if self.by_name.get(&producer.name) == Some(&key) {
            self.by_name.remove(&producer.name);
        }
        if self.exclusive == Some(key) {
            self.exclusive = None;
        }
        Some(producer)
    }

    /// Producers of a connection, waiting ones included.
    pub(crate) fn of_connection(&self, connection: ConnectionId) -> Vec<ProducerKey> {
        let waiting = self.waiting.iter().map(|w| w.key);
        self.connected.keys().copied().chain(waiting).filter(|k| k.connection == connection).collect()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Producer> {
        self.connected.values_mut()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.connected.is_empty() && self.waiting.is_empty()
    }

    pub(crate) fn is_connected(&self, name: &Name) -> bool {
        self.by_name.contains_key(name)
    }

    /// Connected and waiting ones.
    pub(crate) fn len(&self) -> usize {
        self.connected.len() + self.waiting.len()
    }

    pub(crate) fn waiting_len(&self) -> usize {
        self.waiting.len()
    }
}

fn busy(message: String, holder: Option<&Producer>) -> TopicError {
    TopicError::ProducerBusy { message, holder: holder.map(|p| Holder(p.outbound.clone())) }
}
