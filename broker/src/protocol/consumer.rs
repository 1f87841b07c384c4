//! SUBSCRIBE, CLOSE_CONSUMER, and the commands that consumers send without expecting an answer: FLOW, ACK, REDELIVER.

use std::time::Duration;

use magnetar_common::topic_name::TopicName;
use magnetar_proto::ids::{EntryId, LedgerId, Position};
use magnetar_proto::pulsar::api::{self, ServerError};

use super::context::{Context, Room, properties};
use super::producer::{cancelled_by_client, cannot_create};
use super::refusal::Refusal;
use super::sessions::{Creation, Found, Kind, Pending};
use crate::dispatch::Routing;
use crate::topic::{
    ConsumerKey, Handle, InitialPosition, KeySharedPolicy, StartPosition, Subscribe, SubscriptionType,
    Welcome,
};

impl Context {
    pub(super) fn consumer_key(&self, consumer_id: u64) -> ConsumerKey {
        ConsumerKey { connection: self.outbound.connection(), consumer_id }
    }

    pub(super) fn on_subscribe(&self, room: Room, command: api::CommandSubscribe) {
        let request_id = command.request_id;
        let creation = match self.sessions.begin_creation(Kind::Consumer, command.consumer_id) {
            Ok(creation) => creation,
            Err(reason) => return self.refuse(request_id, cannot_create(reason)),
        };
        let context = self.clone();
        self.spawn(room, async move {
            // Success is answered by the topic.
            if let Err(refusal) = context.create_consumer(creation, command).await {
                context.refuse(request_id, refusal);
            }
        });
    }

    async fn create_consumer(
        &self,
        mut creation: Creation,
        command: api::CommandSubscribe,
    ) -> Result<(), Refusal> {
        let key = self.consumer_key(command.consumer_id);
        let cancelled = creation.cancelled();
        let mut entered = None;
        let outcome = tokio::select! {
            biased;
            () = cancelled.given() => Err(cancelled_by_client()),
            outcome = async {
                creation.turn.come().await;
                self.enter_consumer(&mut entered, &creation.id(), command).await
            } => outcome,
        };
        let outcome = match outcome {
            Ok(()) if cancelled.is_given() => Err(cancelled_by_client()),
            outcome => outcome,
        };
        for topic in creation.leftovers(entered.as_ref(), outcome.is_ok()) {
            // Fails only if the topic is gone, and the consumer with it.
            let _ = topic.close_consumer(key).await;
        }
        if outcome.is_err() {
            self.sessions.not_created(&creation);
        }
        outcome
    }

    /// `entered` is set as soon as the topic may know the consumer.
    async fn enter_consumer(
        &self,
        entered: &mut Option<Handle>,
        id: &Pending,
        command: api::CommandSubscribe,
    ) -> Result<(), Refusal> {
        let name: TopicName = command.topic.parse()?;
        if command.subscription.is_empty() {
            return Err(Refusal::new(
                ServerError::MetadataError,
                "the subscription has no name; give it one",
            ));
        }
        let topics = &self.service.topics;
        let topic = topics.get_or_load(&name, command.force_topic_creation()).await?;
        let create_missing = topics.may_create_subscription(&name).await?;
        self.register_consumer_schema(&name, command.schema.as_ref()).await?;
        *entered = Some(topic.clone());
        let mut probed = false;
        loop {
            let welcome = self.welcome_consumer(command.request_id, id.clone(), topic.clone());
            let request = Subscribe { welcome, ..self.subscribe(&command, create_missing) };
            match topic.subscribe(request).await {
                Ok(()) => return Ok(()),
                Err(error) if !probed && self.collided_with_the_dead(&topic, &error).await => probed = true,
                Err(error) => {
                    *entered = None;
                    return Err(error.into());
                }
            }
        }
    }

    /// SUCCESS, unless the client wants the consumer no more.
    fn welcome_consumer(&self, request_id: u64, id: Pending, topic: Handle) -> Welcome<()> {
        let context = self.clone();
        Welcome::new(move |()| {
            if context.sessions.created(&id, topic) {
                context.succeed(request_id);
            }
        })
    }

    /// A consumer must be able to read what is there; one that comes to a topic without schema brings its own.
    async fn register_consumer_schema(
        &self,
        topic: &TopicName,
        schema: Option<&api::Schema>,
    ) -> Result<(), Refusal> {
        use api::schema::Type;
        let Some(schema) = schema.filter(|schema| !matches!(schema.r#type(), Type::None | Type::AutoConsume))
        else {
            return Ok(());
        };
        let rule = self.schema_rule(topic).await?;
        Ok(self.service.schemas.check_consumer(topic, schema, rule.strategy, rule.auto_update).await?)
    }

    fn subscribe(&self, command: &api::CommandSubscribe, create_missing: bool) -> Subscribe {
        let durable = command.durable();
        let rollback = Some(command.start_message_rollback_duration_sec()).filter(|seconds| *seconds > 0);
        Subscribe {
            key: self.consumer_key(command.consumer_id),
            subscription: command.subscription.clone(),
            kind: SubscriptionType::from(command.sub_type()),
            consumer_name: command.consumer_name.clone().filter(|name| !name.is_empty()),
            priority: command.priority_level(),
            durable,
            start: command.start_message_id.as_ref().filter(|_| !durable).map(StartPosition::from_wire),
            rollback: rollback.map(Duration::from_secs),
            initial_position: match command.initial_position() {
                api::command_subscribe::InitialPosition::Latest => InitialPosition::Latest,
                api::command_subscribe::InitialPosition::Earliest => InitialPosition::Earliest,
            },
            read_compacted: command.read_compacted(),
            key_shared: command.key_shared_meta.as_ref().map(key_shared).unwrap_or_default(),
            metadata: properties(command.metadata.clone()),
            properties: properties(command.subscription_properties.clone()),
            consumer_epoch: command.consumer_epoch,
            create_missing,
            outbound: self.outbound.clone(),
            welcome: Welcome::default(),
        }
    }

    pub(super) fn on_close_consumer(&self, room: Room, command: api::CommandCloseConsumer) {
        let Some((mut turn, topic)) = self.sessions.begin_close(Kind::Consumer, command.consumer_id) else {
            return self.succeed(command.request_id);
        };
        let context = self.clone();
        self.spawn(room, async move {
            turn.come().await;
            if let Some(topic) = topic {
                // Fails only if the topic is gone, and the consumer with it.
                let _ = topic.close_consumer(context.consumer_key(command.consumer_id)).await;
            }
            context.succeed(command.request_id);
        });
    }

    /// The topic that a command without an answer went to, if the consumer is known.
    pub(super) fn on_flow(&self, command: api::CommandFlow) -> Option<Handle> {
        let topic = self.consumed_topic(command.consumer_id)?;
        topic.flow(self.consumer_key(command.consumer_id), command.message_permits);
        Some(topic)
    }

    pub(super) fn on_ack(&self, command: api::CommandAck) -> Option<Handle> {
        let refusal = if command.txnid_most_bits.is_some() && command.txnid_least_bits.is_some() {
            super::producer::transactions_are_off()
        } else if let Some(topic) = self.consumed_topic(command.consumer_id) {
            topic.ack(self.consumer_key(command.consumer_id), command, &self.outbound);
            return Some(topic);
        } else {
            Refusal::new(ServerError::ConsumerNotFound, "consumer not found; it was closed before")
        };
        // Clients tell an error by the message as much as by the code.
        if command.request_id.is_some() {
            self.send(api::CommandAckResponse {
                consumer_id: command.consumer_id,
                txnid_least_bits: command.txnid_least_bits,
                txnid_most_bits: command.txnid_most_bits,
                error: Some(refusal.code as i32),
                message: Some(refusal.message),
                request_id: command.request_id,
            });
        }
        None
    }

    pub(super) fn on_redeliver(
        &self,
        command: api::CommandRedeliverUnacknowledgedMessages,
    ) -> Option<Handle> {
        let topic = self.consumed_topic(command.consumer_id)?;
        // No ids means all of them: a command with ids of which none is one must not turn into that.
        let ids: Vec<Position> = command.message_ids.iter().filter_map(position).collect();
        if ids.is_empty() && !command.message_ids.is_empty() {
            return None;
        }
        topic.redeliver(self.consumer_key(command.consumer_id), ids, command.consumer_epoch);
        Some(topic)
    }

    fn consumed_topic(&self, consumer_id: u64) -> Option<Handle> {
        match self.sessions.find(Kind::Consumer, consumer_id) {
            Found::Ready(topic) => Some(topic),
            Found::Creating | Found::Unknown => None,
        }
    }
}

fn position(id: &api::MessageIdData) -> Option<Position> {
    let ledger_id = LedgerId::from_wire(id.ledger_id as i64)?;
    let entry_id = EntryId::from_wire(id.entry_id as i64)?;
    Some(Position { ledger_id, entry_id })
}

fn key_shared(meta: &api::KeySharedMeta) -> KeySharedPolicy {
    // A negative bound is no hash; the topic refuses what does not lie in its range.
    let bound = |value: i32| u32::try_from(value).unwrap_or(u32::MAX);
    KeySharedPolicy {
        routing: match meta.key_shared_mode() {
            api::KeySharedMode::AutoSplit => Routing::AutoSplit,
            api::KeySharedMode::Sticky => Routing::Sticky,
        },
        ranges: meta.hash_ranges.iter().map(|range| (bound(range.start), bound(range.end))).collect(),
        out_of_order: meta.allow_out_of_order_delivery(),
    }
}
