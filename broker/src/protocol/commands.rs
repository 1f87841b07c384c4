//! Which handler a command goes to, and which commands a client may not send at all.

use magnetar_proto::pulsar::{Command, api};

use super::context::Context;
use super::producer::transactions_are_off;
use super::refusal::Refusal;

/// What kind of treatment a command needs from the connection's reader.
pub(super) enum Route {
    /// CONNECT.
    Handshake(Box<api::CommandConnect>),
    /// Answered on the spot.
    Ping,
    /// A sign of life and nothing else.
    Pong,
    /// Needs a share of the publish budget.
    Publish(api::CommandSend),
    /// Goes to a consumer's topic at once; no task, no answer to wait for.
    Consumer(ConsumerCommand),
    /// Worked on beside the reader.
    Request(Request),
    /// Answered with an error: this broker does not do it.
    Refused { request_id: u64, refusal: Refusal },
    /// No client may send it: the connection ends.
    Violation,
}

pub(super) enum ConsumerCommand {
    Flow(api::CommandFlow),
    Ack(api::CommandAck),
    Redeliver(api::CommandRedeliverUnacknowledgedMessages),
}

pub(super) enum Request {
    Producer(Box<api::CommandProducer>),
    CloseProducer(api::CommandCloseProducer),
    Subscribe(Box<api::CommandSubscribe>),
    CloseConsumer(api::CommandCloseConsumer),
    Unsubscribe(api::CommandUnsubscribe),
    Seek(api::CommandSeek),
    GetLastMessageId(api::CommandGetLastMessageId),
    ConsumerStats(api::CommandConsumerStats),
    PartitionMetadata(Box<api::CommandPartitionedTopicMetadata>),
    Lookup(Box<api::CommandLookupTopic>),
    GetTopicsOfNamespace(api::CommandGetTopicsOfNamespace),
    GetSchema(api::CommandGetSchema),
    GetOrCreateSchema(Box<api::CommandGetOrCreateSchema>),
    WatchTopicList(api::CommandWatchTopicList),
    WatchTopicListClose(api::CommandWatchTopicListClose),
}

/// Exhaustive, so that a new command cannot be forgotten.
pub(super) fn route(command: Command) -> Route {
    match command {
        Command::Connect(command) => Route::Handshake(command),
        Command::Ping(_) => Route::Ping,
        Command::Pong(_) => Route::Pong,
        Command::Send(command) => Route::Publish(command),
        Command::Flow(command) => Route::Consumer(ConsumerCommand::Flow(command)),
        Command::Ack(command) => Route::Consumer(ConsumerCommand::Ack(command)),
        Command::RedeliverUnacknowledgedMessages(command) => {
            Route::Consumer(ConsumerCommand::Redeliver(command))
        }
        Command::Producer(command) => Route::Request(Request::Producer(command)),
        Command::CloseProducer(command) => Route::Request(Request::CloseProducer(command)),
        Command::Subscribe(command) => Route::Request(Request::Subscribe(command)),
        Command::CloseConsumer(command) => Route::Request(Request::CloseConsumer(command)),
        Command::Unsubscribe(command) => Route::Request(Request::Unsubscribe(command)),
        Command::Seek(command) => Route::Request(Request::Seek(command)),
        Command::GetLastMessageId(command) => Route::Request(Request::GetLastMessageId(command)),
        Command::ConsumerStats(command) => Route::Request(Request::ConsumerStats(command)),
        Command::PartitionMetadata(command) => Route::Request(Request::PartitionMetadata(command)),
        Command::LookupTopic(command) => Route::Request(Request::Lookup(command)),
        Command::GetTopicsOfNamespace(command) => Route::Request(Request::GetTopicsOfNamespace(command)),
        Command::GetSchema(command) => Route::Request(Request::GetSchema(command)),
        Command::GetOrCreateSchema(command) => Route::Request(Request::GetOrCreateSchema(command)),
        Command::NewTxn(command) => no_transactions(command.request_id),
        Command::AddPartitionToTxn(command) => no_transactions(command.request_id),
        Command::AddSubscriptionToTxn(command) => no_transactions(command.request_id),
        Command::EndTxn(command) => no_transactions(command.request_id),
        Command::EndTxnOnPartition(command) => no_transactions(command.request_id),
        Command::EndTxnOnSubscription(command) => no_transactions(command.request_id),
        Command::TcClientConnectRequest(command) => no_transactions(command.request_id),
        Command::WatchTopicList(command) => Route::Request(Request::WatchTopicList(command)),
        Command::WatchTopicListClose(command) => Route::Request(Request::WatchTopicListClose(command)),
        // Answers and notices that only a broker sends; AUTH_RESPONSE, because nobody was challenged.
        Command::Connected(_)
        | Command::SendReceipt(_)
        | Command::SendError(_)
        | Command::Message(_)
        | Command::Success(_)
        | Command::Error(_)
        | Command::ProducerSuccess(_)
        | Command::PartitionMetadataResponse(_)
        | Command::LookupTopicResponse(_)
        | Command::ConsumerStatsResponse(_)
        | Command::ReachedEndOfTopic(_)
        | Command::GetLastMessageIdResponse(_)
        | Command::ActiveConsumerChange(_)
        | Command::GetTopicsOfNamespaceResponse(_)
        | Command::GetSchemaResponse(_)
        | Command::AuthChallenge(_)
        | Command::AuthResponse(_)
        | Command::AckResponse(_)
        | Command::GetOrCreateSchemaResponse(_)
        | Command::NewTxnResponse(_)
        | Command::AddPartitionToTxnResponse(_)
        | Command::AddSubscriptionToTxnResponse(_)
        | Command::EndTxnResponse(_)
        | Command::EndTxnOnPartitionResponse(_)
        | Command::EndTxnOnSubscriptionResponse(_)
        | Command::TcClientConnectResponse(_)
        | Command::WatchTopicListSuccess(_)
        | Command::WatchTopicUpdate(_)
        | Command::TopicMigrated(_) => Route::Violation,
    }
}

fn no_transactions(request_id: u64) -> Route {
    Route::Refused { request_id, refusal: transactions_are_off() }
}

impl Context {
    pub(super) fn on_request(&self, room: super::context::Room, request: Request) {
        match request {
            Request::Producer(command) => self.on_producer(room, *command),
            Request::CloseProducer(command) => self.on_close_producer(room, command),
            Request::Subscribe(command) => self.on_subscribe(room, *command),
            Request::CloseConsumer(command) => self.on_close_consumer(room, command),
            Request::Unsubscribe(command) => self.on_unsubscribe(room, command),
            Request::Seek(command) => self.on_seek(room, command),
            Request::GetLastMessageId(command) => self.on_get_last_message_id(room, command),
            Request::ConsumerStats(command) => self.on_consumer_stats(room, command),
            Request::PartitionMetadata(command) => self.on_partition_metadata(room, *command),
            Request::Lookup(command) => self.on_lookup(room, *command),
            Request::GetTopicsOfNamespace(command) => self.on_get_topics_of_namespace(room, command),
            Request::GetSchema(command) => self.on_get_schema(room, command),
            Request::GetOrCreateSchema(command) => self.on_get_or_create_schema(room, *command),
            Request::WatchTopicList(command) => self.on_watch_topic_list(room, command),
            Request::WatchTopicListClose(command) => self.on_watch_topic_list_close(&command),
        }
    }

    /// Gives the topic the command went to.
    pub(super) fn on_consumer_command(&self, command: ConsumerCommand) -> Option<crate::topic::Handle> {
        match command {
            ConsumerCommand::Flow(command) => self.on_flow(command),
            ConsumerCommand::Ack(command) => self.on_ack(command),
            ConsumerCommand::Redeliver(command) => self.on_redeliver(command),
        }
    }
}
