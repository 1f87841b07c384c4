//! Entries that leave one topic for another, here or at another broker: dead letters, and their way back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use magnetar_common::clock::SharedClock;
use magnetar_common::topic_name::TopicName;
use magnetar_proto::pulsar::Command;
use magnetar_proto::pulsar::message::summarize_entry;

use super::BrokerService;
use crate::admin::{at_peer, elsewhere, path_of};
use crate::namespace::Purpose;
use crate::protocol::outbound::{ConnectionId, Outbound, Queued};
use crate::topic::{AccessMode, AddProducer, Handle, ProducerKey, Publish, StoreElsewhere, Welcome};

/// For a topic that must be opened, at another broker, while bookies are slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// Keeps what arrives in a dead-letter topic until somebody takes it; without a subscription it would go at once.
const KEEPER: &str = "dead-letters";

/// The way out for topics, which are made before the service that knows the other ones.
pub(super) struct Elsewhere {
    clock: SharedClock,
    service: OnceLock<Weak<BrokerService>>,
}

impl Elsewhere {
    pub(super) fn new(clock: SharedClock) -> Self {
        Elsewhere { clock, service: OnceLock::new() }
    }

    /// Once, before topics are opened.
    pub(super) fn belongs_to(&self, service: &Arc<BrokerService>) {
        let _ = self.service.set(Arc::downgrade(service));
    }
}

impl StoreElsewhere for Elsewhere {
    fn store(&self, topic: TopicName, entry: Bytes) -> BoxFuture<'static, Result<(), String>> {
        let service = self.service.get().and_then(Weak::upgrade);
        let clock = Arc::clone(&self.clock);
        async move {
            let service = service.ok_or("the broker is stopping")?;
            tokio::select! {
                stored = service.store_elsewhere(&topic, entry, Some(KEEPER)) => stored,
                () = clock.sleep(PATIENCE) => Err(format!("{topic} did not take it within {PATIENCE:?}")),
            }
        }
        .boxed()
    }
}

impl BrokerService {
    /// Resolves once the entry is durable in the topic, wherever that is served; of a partitioned topic, in one of its
    /// partitions. A missing topic is created if the namespace's policies let first use do that, and so is the subscription.
    /// After an error, and when cancelled, the entry may be there.
    pub async fn store_elsewhere(
        &self,
        topic: &TopicName,
        entry: Bytes,
        subscription: Option<&str>,
    ) -> Result<(), String> {
        let partitions =
            self.topics.partitions_for_use(topic, true).await.map_err(|error| error.to_string())?;
        let topic = match partitions {
            0 => topic.clone(),
            // Which one does not matter, only that a repeated try takes the same.
            n => topic.with_partition(magnetar_proto::checksum::crc32c(&entry) % n),
        };
        let owner = elsewhere(self, &topic).await.map_err(|error| error.to_string())?;
        let Some(owner) = owner else { return self.store_here(&topic, entry, subscription).await };
        let query = subscription.map(|name| format!("?subscription={name}")).unwrap_or_default();
        let path = format!("{}/entry{query}", path_of(&topic));
        let answer = at_peer(self, &owner, "PUT", &path, &entry).await.map_err(|error| error.to_string())?;
        match answer.status {
            200..300 => Ok(()),
            status => Err(format!("{status} {}", String::from_utf8_lossy(&answer.body))),
        }
    }

    /// The same for a topic that this broker serves, or may claim.
    pub async fn store_here(
        &self,
        topic: &TopicName,
        entry: Bytes,
        subscription: Option<&str>,
    ) -> Result<(), String> {
        let summary = summarize_entry(&entry).map_err(|error| error.to_string())?;
        let handle = self.topics.get_or_load_for(topic, true, Purpose::Publish).await;
        let handle = handle.map_err(|error| error.to_string())?;
        let ticket = self.publish_budget.acquire(entry.len()).await;
        let mut producer = Producer::enter(handle, self.connections.next_id(), subscription).await?;
        producer.topic.publish(Publish {
            key: producer.key,
            sequence_id: 0,
            highest_sequence_id: None,
            num_messages: summary.num_messages,
            is_chunk: summary.chunk.is_some(),
            headers_and_payload: entry,
            ticket,
        });
        producer.receipt().await
    }
}

/// A connection of the broker to itself with one producer. Leaves the topic when dropped.
struct Producer {
    topic: Handle,
    outbound: Outbound,
    key: ProducerKey,
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.topic.connection_closed(self.key.connection);
    }
}

impl Producer {
    async fn enter(
        topic: Handle,
        connection: ConnectionId,
        subscription: Option<&str>,
    ) -> Result<Self, String> {
        let outbound = Outbound::new(connection, "broker");
        let key = ProducerKey { connection, producer_id: 0 };
        let producer = Producer { topic, outbound: outbound.clone(), key };
        let request = AddProducer {
            key,
            request_id: 0,
            name: None,
            epoch: 0,
            access_mode: AccessMode::Shared,
            topic_epoch: None,
            user_provided_name: false,
            // What was encrypted still is; what was not was allowed where it came from.
            encrypted: true,
            metadata: BTreeMap::new(),
            schema_version: Bytes::new(),
            initial_subscription: subscription.map(str::to_owned),
            outbound,
            welcome: Welcome::default(),
        };
        producer.topic.add_producer(request).await.map_err(|error| error.to_string())?;
        Ok(producer)
    }

    /// Resolves when the one message sent is durable, or refused.
    async fn receipt(&mut self) -> Result<(), String> {
        let mut frames = VecDeque::new();
        while self.outbound.take(&mut frames).await.is_some() {
            for frame in frames.drain(..) {
                let Queued::Frame { command, .. } = frame else { continue };
                match command {
                    Command::SendReceipt(_) => return Ok(()),
                    Command::SendError(error) => return Err(error.message),
                    Command::CloseProducer(_) => return Err("the topic was closed".into()),
                    _ => {}
                }
            }
        }
        Err("the topic was closed".into())
    }
}
