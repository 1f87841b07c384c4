//! Which partitions a topic has, and which broker serves it.
//!
//! Called by: the client, before it creates a producer or consumer.
//! Must never know: connections beyond the one it is given.

use magnetar_proto::pulsar::Command;
use magnetar_proto::pulsar::api::{
    CommandLookupTopic, CommandPartitionedTopicMetadata, command_lookup_topic_response,
    command_partitioned_topic_metadata_response,
};

use super::ClientError;
use super::connection::Connection;

/// Redirects followed before giving up; the same as the official clients.
pub(super) const REDIRECTS_MAX: usize = 20;

/// One answer to a lookup.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Service URL of a broker.
    pub(super) broker: String,
    /// The broker named serves the topic; otherwise ask it again.
    pub(super) is_final: bool,
    /// What to say when asking again.
    pub(super) authoritative: bool,
    /// Dial the service URL, and name the broker in CONNECT.
    pub(super) through_proxy: bool,
}

/// Number of partitions, 0 for a topic without.
pub(super) async fn partitions(connection: &Connection, topic: &str) -> Result<u32, ClientError> {
    let ask = |request_id| {
        Command::PartitionMetadata(Box::new(CommandPartitionedTopicMetadata {
            topic: topic.to_owned(),
            request_id,
            ..Default::default()
        }))
    };
    match connection.request(ask).await? {
        Command::PartitionMetadataResponse(answer)
            if answer.response() == command_partitioned_topic_metadata_response::LookupType::Failed =>
        {
            Err(ClientError::refused(answer.error() as i32, answer.message().to_owned()))
        }
        Command::PartitionMetadataResponse(answer) => Ok(answer.partitions()),
        _ => Err(ClientError::Protocol("partition metadata answered by another command".into())),
    }
}

/// Asks once who serves `topic`.
pub(super) async fn lookup(
    connection: &Connection,
    topic: &str,
    authoritative: bool,
) -> Result<Answer, ClientError> {
    use command_lookup_topic_response::LookupType;
    let ask = |request_id| {
        Command::LookupTopic(Box::new(CommandLookupTopic {
            topic: topic.to_owned(),
            request_id,
            authoritative: Some(authoritative),
            ..Default::default()
        }))
    };
    let Command::LookupTopicResponse(answer) = connection.request(ask).await? else {
        return Err(ClientError::Protocol("lookup answered by another command".into()));
    };
    if answer.response() == LookupType::Failed {
        return Err(ClientError::refused(answer.error() as i32, answer.message().to_owned()));
    }
    Ok(Answer {
        broker: answer.broker_service_url().to_owned(),
        is_final: answer.response() == LookupType::Connect,
        authoritative: answer.authoritative(),
        through_proxy: answer.proxy_through_service_url(),
    })
}
