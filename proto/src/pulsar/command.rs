//! A command is the body of a `BaseCommand`. Its type number is derived from the variant, so the two cannot disagree.

use super::api;
use api::base_command::{Body, Type};

/// Any command of the protocol; the variant says which.
pub type Command = Body;

/// Declares, for each variant of [`Command`], its message and its number; bodies marked `boxed` are the large, rare ones.
macro_rules! commands {
    ($($variant:ident($message:ident $($boxed:ident)?) = $kind:ident,)*) => {
        /// The type number's name that goes with a command.
        pub(super) fn kind(command: &Command) -> Type {
            match command {
                $(Body::$variant(_) => Type::$kind,)*
            }
        }

        $(commands!(@from $variant $message $($boxed)?);)*
    };
    (@from $variant:ident $message:ident) => {
        impl From<api::$message> for Command {
            fn from(message: api::$message) -> Self {
                Body::$variant(message)
            }
        }
    };
    (@from $variant:ident $message:ident boxed) => {
        impl From<api::$message> for Command {
            fn from(message: api::$message) -> Self {
                Body::$variant(Box::new(message))
            }
        }
    };
}

commands! {
    Connect(CommandConnect boxed) = Connect,
    Connected(CommandConnected) = Connected,
    Subscribe(CommandSubscribe boxed) = Subscribe,
    Producer(CommandProducer boxed) = Producer,
    Send(CommandSend) = Send,
    SendReceipt(CommandSendReceipt) = SendReceipt,
    SendError(CommandSendError) = SendError,
    Message(CommandMessage) = Message,
    Ack(CommandAck) = Ack,
    Flow(CommandFlow) = Flow,
    Unsubscribe(CommandUnsubscribe) = Unsubscribe,
    Success(CommandSuccess) = Success,
    Error(CommandError) = Error,
    CloseProducer(CommandCloseProducer) = CloseProducer,
    CloseConsumer(CommandCloseConsumer) = CloseConsumer,
    ProducerSuccess(CommandProducerSuccess) = ProducerSuccess,
    Ping(CommandPing) = Ping,
    Pong(CommandPong) = Pong,
    RedeliverUnacknowledgedMessages(CommandRedeliverUnacknowledgedMessages) = RedeliverUnacknowledgedMessages,
    PartitionMetadata(CommandPartitionedTopicMetadata boxed) = PartitionedMetadata,
    PartitionMetadataResponse(CommandPartitionedTopicMetadataResponse) = PartitionedMetadataResponse,
    LookupTopic(CommandLookupTopic boxed) = Lookup,
    LookupTopicResponse(CommandLookupTopicResponse) = LookupResponse,
    ConsumerStats(CommandConsumerStats) = ConsumerStats,
    ConsumerStatsResponse(CommandConsumerStatsResponse boxed) = ConsumerStatsResponse,
    ReachedEndOfTopic(CommandReachedEndOfTopic) = ReachedEndOfTopic,
    Seek(CommandSeek) = Seek,
    GetLastMessageId(CommandGetLastMessageId) = GetLastMessageId,
    GetLastMessageIdResponse(CommandGetLastMessageIdResponse boxed) = GetLastMessageIdResponse,
    ActiveConsumerChange(CommandActiveConsumerChange) = ActiveConsumerChange,
    GetTopicsOfNamespace(CommandGetTopicsOfNamespace) = GetTopicsOfNamespace,
    GetTopicsOfNamespaceResponse(CommandGetTopicsOfNamespaceResponse) = GetTopicsOfNamespaceResponse,
    GetSchema(CommandGetSchema) = GetSchema,
    GetSchemaResponse(CommandGetSchemaResponse boxed) = GetSchemaResponse,
    AuthChallenge(CommandAuthChallenge) = AuthChallenge,
    AuthResponse(CommandAuthResponse) = AuthResponse,
    AckResponse(CommandAckResponse) = AckResponse,
    GetOrCreateSchema(CommandGetOrCreateSchema boxed) = GetOrCreateSchema,
    GetOrCreateSchemaResponse(CommandGetOrCreateSchemaResponse) = GetOrCreateSchemaResponse,
    NewTxn(CommandNewTxn) = NewTxn,
    NewTxnResponse(CommandNewTxnResponse) = NewTxnResponse,
    AddPartitionToTxn(CommandAddPartitionToTxn) = AddPartitionToTxn,
    AddPartitionToTxnResponse(CommandAddPartitionToTxnResponse) = AddPartitionToTxnResponse,
    AddSubscriptionToTxn(CommandAddSubscriptionToTxn) = AddSubscriptionToTxn,
    AddSubscriptionToTxnResponse(CommandAddSubscriptionToTxnResponse) = AddSubscriptionToTxnResponse,
    EndTxn(CommandEndTxn) = EndTxn,
    EndTxnResponse(CommandEndTxnResponse) = EndTxnResponse,
    EndTxnOnPartition(CommandEndTxnOnPartition) = EndTxnOnPartition,
    EndTxnOnPartitionResponse(CommandEndTxnOnPartitionResponse) = EndTxnOnPartitionResponse,
    EndTxnOnSubscription(CommandEndTxnOnSubscription) = EndTxnOnSubscription,
    EndTxnOnSubscriptionResponse(CommandEndTxnOnSubscriptionResponse) = EndTxnOnSubscriptionResponse,
    TcClientConnectRequest(CommandTcClientConnectRequest) = TcClientConnectRequest,
    TcClientConnectResponse(CommandTcClientConnectResponse) = TcClientConnectResponse,
    WatchTopicList(CommandWatchTopicList) = WatchTopicList,
    WatchTopicListSuccess(CommandWatchTopicListSuccess) = WatchTopicListSuccess,
    WatchTopicUpdate(CommandWatchTopicUpdate) = WatchTopicUpdate,
    WatchTopicListClose(CommandWatchTopicListClose) = WatchTopicListClose,
    TopicMigrated(CommandTopicMigrated) = TopicMigrated,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every queue of outgoing commands holds this enum: a body that grows past this must be boxed (see build.rs).
    #[test]
    fn a_command_stays_small() {
        assert!(size_of::<Command>() <= 160, "{} bytes", size_of::<Command>());
    }
}
