//! PRODUCER, SEND and CLOSE_PRODUCER.

use bytes::Bytes;
use magnetar_common::budget::Ticket;
use magnetar_common::topic_name::TopicName;
use magnetar_proto::pulsar::api::{self, ServerError};
use magnetar_proto::pulsar::entry;

use super::context::{Context, Room, properties};
use super::refusal::Refusal;
use super::sessions::{CannotCreate, Creation, Found, Kind, Pending};
use crate::namespace::{Purpose, version_bytes, version_of};
use crate::schemas::Rule;
use crate::topic::{AccessMode, AddProducer, Handle, ProducerKey, ProducerReady, Publish, Welcome};

/// The client broke the protocol: the connection must end. The reason is for the log.
pub(super) type Violation = String;

/// What to do with a SEND.
pub(super) enum Send {
    /// Publish it once there is room for its bytes.
    To(Handle),
    /// It was answered, or there is nobody to answer.
    Done,
}

impl Context {
    fn producer_key(&self, producer_id: u64) -> ProducerKey {
        ProducerKey { connection: self.outbound.connection(), producer_id }
    }

    pub(super) fn on_producer(&self, room: Room, command: api::CommandProducer) {
        let request_id = command.request_id;
        let creation = match self.sessions.begin_creation(Kind::Producer, command.producer_id) {
            Ok(creation) => creation,
            Err(reason) => return self.refuse(request_id, cannot_create(reason)),
        };
        let context = self.clone();
        self.spawn(room, async move {
            // Success is answered by the topic.
            if let Err(refusal) = context.create_producer(creation, command).await {
                context.refuse(request_id, refusal);
            }
        });
    }

    async fn create_producer(
        &self,
        mut creation: Creation,
        command: api::CommandProducer,
    ) -> Result<(), Refusal> {
        let key = self.producer_key(command.producer_id);
        let cancelled = creation.cancelled();
        let mut entered = None;
        let outcome = tokio::select! {
            biased;
            () = cancelled.given() => Err(cancelled_by_client()),
            outcome = async {
                creation.turn.come().await;
                self.enter_producer(&mut entered, &creation.id(), command).await
            } => outcome,
        };
        let outcome = match outcome {
            Ok(()) if cancelled.is_given() => Err(cancelled_by_client()),
            outcome => outcome,
        };
        for topic in creation.leftovers(entered.as_ref(), outcome.is_ok()) {
            // Fails only if the topic is gone, and the producer with it.
            let _ = topic.close_producer(key).await;
        }
        if outcome.is_err() {
            self.sessions.not_created(&creation);
        }
        outcome
    }

    /// `entered` is set as soon as the topic may know the producer.
    async fn enter_producer(
        &self,
        entered: &mut Option<Handle>,
        id: &Pending,
        command: api::CommandProducer,
    ) -> Result<(), Refusal> {
        if command.txn_enabled() {
            return Err(transactions_are_off());
        }
        let name: TopicName = command.topic.parse()?;
        let topic = self.service.topics.get_or_load_for(&name, true, Purpose::Publish).await?;
        let schema_version = self.register_schema(&name, command.schema.as_ref()).await?;
        *entered = Some(topic.clone());
        let mut probed = false;
        loop {
            let welcome = self.welcome_producer(command.request_id, id.clone(), topic.clone());
            let request = AddProducer { welcome, ..self.add_producer(&command, schema_version.clone()) };
            match topic.add_producer(request).await {
                Ok(_) => return Ok(()),
                Err(error) if !probed && self.collided_with_the_dead(&topic, &error).await => probed = true,
                Err(error) => {
                    *entered = None;
                    return Err(error.into());
                }
            }
        }
    }

    /// PRODUCER_SUCCESS, unless the client wants the producer no more.
    fn welcome_producer(&self, request_id: u64, id: Pending, topic: Handle) -> Welcome<ProducerReady> {
        let context = self.clone();
        Welcome::new(move |ready: &ProducerReady| {
            if context.sessions.created(&id, topic) {
                context.send(success(request_id, ready.clone()));
            }
        })
    }

    async fn register_schema(
        &self,
        topic: &TopicName,
        schema: Option<&api::Schema>,
    ) -> Result<Bytes, Refusal> {
        let schemas = &self.service.schemas;
        let Some(schema) = schema.filter(|schema| schema.r#type() != api::schema::Type::None) else {
            let rule = self.schema_rule(topic).await?;
            return match rule.enforced && schemas.latest(topic).await?.is_some() {
                true => Err(Refusal::new(
                    ServerError::IncompatibleSchema,
                    "the topic has a schema and its namespace wants producers to have one",
                )),
                false => Ok(Bytes::new()),
            };
        };
        Ok(version_bytes(self.add_schema(topic, schema).await?))
    }

    /// The schema's version; a new one if the namespace lets clients add it.
    pub(super) async fn add_schema(&self, topic: &TopicName, schema: &api::Schema) -> Result<u64, Refusal> {
        let (rule, schemas) = (self.schema_rule(topic).await?, &self.service.schemas);
        if rule.auto_update {
            return Ok(schemas.add(topic, schema, rule.strategy).await?);
        }
        version_of(&schemas.all(topic).await?, schema).ok_or_else(|| {
            let text = "this schema is not known, and the namespace does not let clients add schemas";
            Refusal::new(ServerError::IncompatibleSchema, text)
        })
    }

    pub(super) async fn schema_rule(&self, topic: &TopicName) -> Result<Rule, Refusal> {
        Ok(self.service.policies.schema_rule(topic).await?)
    }

    fn add_producer(&self, command: &api::CommandProducer, schema_version: Bytes) -> AddProducer {
        AddProducer {
            key: self.producer_key(command.producer_id),
            request_id: command.request_id,
            name: command.producer_name.clone().filter(|name| !name.is_empty()),
            epoch: command.epoch(),
            access_mode: AccessMode::from(command.producer_access_mode()),
            topic_epoch: command.topic_epoch,
            user_provided_name: command.user_provided_producer_name(),
            encrypted: command.encrypted(),
            metadata: properties(command.metadata.clone()),
            schema_version,
            initial_subscription: command.initial_subscription_name.clone().filter(|name| !name.is_empty()),
            outbound: self.outbound.clone(),
            welcome: Welcome::default(),
        }
    }

    /// Checks a SEND. Answers it with SEND_ERROR itself where only this message is wrong.
    pub(super) fn check_send(&self, send: &api::CommandSend, message: &Bytes) -> Result<Send, Violation> {
        let topic = match self.sessions.find(Kind::Producer, send.producer_id) {
            Found::Ready(topic) => topic,
            Found::Creating => {
                return Err(format!("SEND before producer {} was answered", send.producer_id));
            }
            Found::Unknown => return Err(format!("SEND for unknown producer {}", send.producer_id)),
        };
        let refusal = if let Err(mismatch) = entry::verify_checksum(message) {
            tracing::warn!(
                peer = self.outbound.client().address,
                client = self.outbound.client().version,
                topic = topic.name(),
                producer_id = send.producer_id,
                sequence_id = send.sequence_id,
                "message refused: {mismatch}"
            );
            Refusal::new(ServerError::ChecksumError, mismatch.to_string())
        } else if send.txnid_most_bits.is_some() && send.txnid_least_bits.is_some() {
            transactions_are_off()
        } else {
            return Ok(Send::To(topic));
        };
        self.send(api::CommandSendError {
            producer_id: send.producer_id,
            sequence_id: send.sequence_id.max(send.highest_sequence_id()),
            error: refusal.code as i32,
            message: refusal.message,
        });
        Ok(Send::Done)
    }

    /// Publishes a checked SEND.
    pub(super) fn publish(&self, topic: &Handle, send: &api::CommandSend, message: Bytes, ticket: Ticket) {
        topic.publish(Publish {
            key: self.producer_key(send.producer_id),
            sequence_id: send.sequence_id,
            // A smaller one is no highest: some clients always fill the field.
            highest_sequence_id: send.highest_sequence_id.filter(|highest| *highest >= send.sequence_id),
            num_messages: send.num_messages().max(1).unsigned_abs(),
            is_chunk: send.is_chunk(),
            headers_and_payload: message,
            ticket,
        });
    }

    pub(super) fn on_close_producer(&self, room: Room, command: api::CommandCloseProducer) {
        let Some((mut turn, topic)) = self.sessions.begin_close(Kind::Producer, command.producer_id) else {
            return self.succeed(command.request_id);
        };
        let context = self.clone();
        self.spawn(room, async move {
            turn.come().await;
            if let Some(topic) = topic {
                // Fails only if the topic is gone, and the producer with it.
                let _ = topic.close_producer(context.producer_key(command.producer_id)).await;
            }
            context.succeed(command.request_id);
        });
    }
}

pub(super) fn cannot_create(reason: CannotCreate) -> Refusal {
    match reason {
        CannotCreate::Pending => {
            Refusal::not_ready("this id is still being created; wait for the first answer")
        }
        CannotCreate::TooMany => {
            Refusal::not_allowed("this connection has too many producers and consumers; use more connections")
        }
    }
}

pub(super) fn cancelled_by_client() -> Refusal {
    Refusal::not_ready("closed by the client while it was being created")
}

pub(super) fn transactions_are_off() -> Refusal {
    Refusal::not_allowed("transactions are not enabled on this broker; use a client without transactions")
}

fn success(request_id: u64, ready: ProducerReady) -> api::CommandProducerSuccess {
    api::CommandProducerSuccess {
        request_id,
        producer_name: ready.name,
        last_sequence_id: Some(ready.last_sequence_id),
        schema_version: Some(ready.schema_version),
        topic_epoch: ready.topic_epoch,
        producer_ready: Some(ready.ready),
    }
}
