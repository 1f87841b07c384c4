//! Producers come and go.

use magnetar_proto::pulsar::api;

use super::actor::Topic;
use super::error::TopicError;
use super::mailbox::Reply;
use super::producers::{Admission, Producer};
use super::publish::fence;
use super::request::{AddProducer, ProducerKey, ProducerReady, SubscriptionType};
use crate::managed_ledger::TOPIC_EPOCH_PROPERTY;
use crate::protocol::outbound::ConnectionId;

impl Topic {
    pub(crate) fn load_epoch(&mut self) {
        self.producers.topic_epoch =
            self.ml.property(TOPIC_EPOCH_PROPERTY).and_then(|text| text.parse().ok());
    }

    pub(crate) async fn add_producer(
        &mut self,
        mut request: AddProducer,
    ) -> Result<ProducerReady, TopicError> {
        if self.terminated {
            return Err(TopicError::Terminated);
        }
        self.check_policies(&request)?;
        if let Some(name) = request.initial_subscription.take().filter(|name| !name.is_empty()) {
            self.ensure_earliest(&name).await?;
        }
        self.prepare().await?;
        self.settle_deduplication().await?;
        let name = match request.name.take().filter(|name| !name.is_empty()) {
            Some(given) => given,
            None => self.env.names.next(),
        };
        let clock = &self.env.environment.clock;
        let producer = Producer::new(request, name, clock.now(), clock.unix_ms());
        let admission = self.producers.admit(&producer);
        // Its older self may have been what others waited for.
        self.producer_left = true;
        match admission? {
            Admission::Known(key) => {
                let known = self.producers.get(key).ok_or_else(TopicError::closed)?;
                Ok(self.ready(known))
            }
            Admission::Join => Ok(self.join_producer(producer)),
            Admission::JoinExclusive { topic_epoch } => self.join_exclusive(producer, topic_epoch).await,
            Admission::Fence { topic_epoch } => {
                // Nobody else may have anything stored once the newcomer was told that it is alone.
                fence(&mut self.producers);
                self.join_exclusive(producer, topic_epoch).await
            }
            Admission::Wait => {
                let mut answer = self.ready(&producer);
                (answer.ready, answer.topic_epoch) = (false, None);
                self.producers.wait(producer);
                Ok(answer)
            }
        }
    }

    /// Has a ledger to write to.
    pub(crate) async fn prepare(&mut self) -> Result<(), TopicError> {
        let ready = self.ml.make_writable().await;
        ready.map_err(|error| TopicError::NotReady(format!("open a ledger to write to: {error}")))
    }

    fn check_policies(&self, request: &AddProducer) -> Result<(), TopicError> {
        if let Some(breach) = self.housekeeping.breach {
            return Err(breach.error());
        }
        if self.policies.encryption_required && !request.encrypted {
            let text = "the topic takes encrypted messages only; give the producer an encryption key";
            return Err(TopicError::NotAllowed(text.into()));
        }
        let full = self.policies.producers_max.is_some_and(|max| self.producers.len() >= max as usize);
        if full && self.producers.get(request.key).is_none() {
            let message = "the topic has as many producers as its policies allow".to_owned();
            return Err(TopicError::ProducerBusy { message, holder: None });
        }
        Ok(())
    }

    async fn ensure_earliest(&mut self, name: &str) -> Result<(), TopicError> {
        if self.subscriptions.contains_key(name) {
            return Ok(());
        }
        let mark = self.ml.ledgers().earliest();
        self.create_durable(&name.into(), mark, Default::default(), SubscriptionType::Exclusive).await
    }

    fn join_producer(&mut self, producer: Producer) -> ProducerReady {
        let answer = self.ready(&producer);
        self.producers.join(producer);
        answer
    }

    async fn join_exclusive(
        &mut self,
        mut producer: Producer,
        epoch: u64,
    ) -> Result<ProducerReady, TopicError> {
        if self.producers.topic_epoch != Some(epoch) {
            let stored = self.ml.set_property(TOPIC_EPOCH_PROPERTY, &epoch.to_string()).await;
            stored.map_err(|error| TopicError::Metadata(error.to_string()))?;
            self.producers.topic_epoch = Some(epoch);
        }
        producer.topic_epoch = Some(epoch);
        Ok(self.join_producer(producer))
    }

    /// Gives the exclusive access to the producer that waits longest, if it is free.
    pub(crate) async fn admit_waiting(&mut self) {
        let Some((producer, epoch)) = self.producers.next_exclusive() else { return };
        let (request_id, outbound) = (producer.request_id(), producer.outbound.clone());
        match self.join_exclusive(producer, epoch).await {
            Ok(answer) => outbound.send(
                api::CommandProducerSuccess {
                    request_id,
                    producer_name: answer.name,
                    last_sequence_id: Some(answer.last_sequence_id),
                    schema_version: Some(answer.schema_version),
                    topic_epoch: answer.topic_epoch,
                    producer_ready: Some(true),
                }
                .into(),
            ),
            Err(error) => outbound.send(
                api::CommandError {
                    request_id,
                    error: api::ServerError::ServiceNotReady.into(),
                    message: error.to_string(),
                }
                .into(),
            ),
        }
    }

    fn ready(&self, producer: &Producer) -> ProducerReady {
        let stored = self.deduplication.as_ref().and_then(|d| d.stored(&producer.name));
        ProducerReady {
            name: producer.name.to_string(),
            // 0 would make a new producer begin with 1.
            last_sequence_id: stored.map_or(-1, |stored| stored as i64),
            topic_epoch: producer.topic_epoch,
            schema_version: producer.schema_version.clone(),
            ready: true,
        }
    }

    /// Answers when everything the producer sent is durable.
    pub(crate) fn close_producer(&mut self, key: ProducerKey, reply: Reply<()>) {
        if let Some(producer) = self.producers.get_mut(key) {
            producer.closing = Some(reply);
            return self.finish_closing(key);
        }
        // One that waits for its turn.
        self.producer_left |= self.producers.remove(key).is_some();
        // Nobody waits when the connection ended meanwhile.
        let _ = reply.send(Ok(()));
    }

    /// What the connection's producers have in flight is still stored; nobody hears of it.
    pub(crate) fn on_connection_closed(&mut self, connection: ConnectionId) {
        for key in self.producers.of_connection(connection) {
            self.producer_left |= self.producers.remove(key).is_some();
        }
        let keys = self.consumers.keys().filter(|key| key.connection == connection);
        for key in keys.copied().collect::<Vec<_>>() {
            self.remove_consumer(key);
        }
    }
}
