//! What a peer gets for its requests while no topic is involved.

use magnetar_proto::pulsar::Command;
use magnetar_proto::pulsar::api::{self, ServerError};

use super::peer::{Bench, Peer, connect};
use crate::namespace::PartitionedTopicMetadata;

#[tokio::test]
async fn the_handshake_tells_the_limits_and_only_features_that_work() {
    let bench = Bench::new().await;
    let mut peer = bench.dial();
    peer.send(connect(12)).await;
    let Some(Command::Connected(connected)) = peer.receive().await else { panic!("no CONNECTED") };
    assert_eq!((connected.protocol_version(), connected.max_message_size()), (12, 5 * 1024 * 1024));
    let flags = connected.feature_flags.expect("flags");
    assert!(flags.supports_get_partitioned_metadata_without_auto_creation());
    assert!(flags.supports_topic_watchers() && !flags.supports_scalable_topics());
    peer.is_alive().await;
}

async fn partitions(peer: &mut Peer, topic: &str, create: bool) -> Result<u32, ServerError> {
    let request = api::CommandPartitionedTopicMetadata {
        topic: topic.into(),
        request_id: 5,
        metadata_auto_creation_enabled: Some(create),
        ..Default::default()
    };
    peer.send(request).await;
    let Some(Command::PartitionMetadataResponse(response)) = peer.receive().await else {
        panic!("no response")
    };
    assert_eq!(response.request_id, 5);
    match response.error {
        None => Ok(response.partitions.expect("set on success, even if 0")),
        Some(_) => Err(response.error()),
    }
}

#[tokio::test]
async fn partitions_are_told_from_plain_and_missing_topics() {
    let bench = Bench::new().await;
    let mut peer = bench.connect().await;
    let topic = "p".parse().expect("a topic name");
    let record = PartitionedTopicMetadata { partitions: 4, ..Default::default() };
    bench.service.store.create_partitioned(&topic, &record, 100).await.expect("a new topic");

    assert_eq!(partitions(&mut peer, "p", true).await, Ok(4));
    assert_eq!(partitions(&mut peer, "p-partition-1", true).await, Ok(0));
    assert_eq!(partitions(&mut peer, "new", true).await, Ok(0));
    assert_eq!(partitions(&mut peer, "new", false).await, Err(ServerError::TopicNotFound));
    assert_eq!(partitions(&mut peer, "no/where/new", true).await, Err(ServerError::TopicNotFound));
    assert_eq!(partitions(&mut peer, "persistent://bad", true).await, Err(ServerError::InvalidTopicName));
    assert_eq!(partitions(&mut peer, "non-persistent://public/default/x", true).await, Ok(0));
}

#[tokio::test]
async fn a_lookup_leads_to_this_broker_through_the_address_the_client_came_by() {
    let bench = Bench::new().await;
    let mut peer = bench.connect().await;
    let mut lookup = api::CommandLookupTopic { topic: "t".into(), request_id: 6, ..Default::default() };
    peer.send(lookup.clone()).await;
    let Some(Command::LookupTopicResponse(found)) = peer.receive().await else { panic!("no response") };
    assert_eq!(found.broker_service_url.as_deref(), Some("pulsar://127.0.0.1:6650"));
    assert_eq!(found.response(), api::command_lookup_topic_response::LookupType::Connect);
    assert!(found.authoritative() && found.proxy_through_service_url());

    lookup.topic = "a/b".into();
    peer.send(lookup).await;
    let Some(Command::LookupTopicResponse(failed)) = peer.receive().await else { panic!("no response") };
    assert_eq!(failed.error(), ServerError::InvalidTopicName);
}

async fn error(peer: &mut Peer) -> (u64, ServerError) {
    match peer.receive().await {
        Some(Command::Error(error)) => {
            assert!(!error.message.is_empty());
            (error.request_id, error.error())
        }
        other => panic!("instead of ERROR: {other:?}"),
    }
}

#[tokio::test]
async fn what_is_not_done_here_is_refused_and_the_connection_lives_on() {
    let bench = Bench::new().await;
    let mut peer = bench.connect().await;
    peer.send(api::CommandNewTxn { request_id: 1, ..Default::default() }).await;
    assert_eq!(error(&mut peer).await, (1, ServerError::NotAllowedError));
    peer.send(api::CommandTcClientConnectRequest { request_id: 2, tc_id: 0 }).await;
    assert_eq!(error(&mut peer).await, (2, ServerError::NotAllowedError));
    peer.is_alive().await;
}

#[tokio::test]
async fn requests_for_unknown_consumers_and_producers_are_answered() {
    let bench = Bench::new().await;
    let mut peer = bench.connect().await;
    peer.send(api::CommandFlow { consumer_id: 9, message_permits: 1 }).await;
    peer.send(api::CommandAck { consumer_id: 9, request_id: Some(1), ..Default::default() }).await;
    let Some(Command::AckResponse(response)) = peer.receive().await else { panic!("no ACK_RESPONSE") };
    assert_eq!((response.request_id(), response.error()), (1, ServerError::ConsumerNotFound));
    assert!(!response.message().is_empty());

    peer.send(api::CommandSeek {
        consumer_id: 9,
        request_id: 2,
        message_publish_time: Some(1),
        message_id: None,
    })
    .await;
    assert_eq!(error(&mut peer).await, (2, ServerError::MetadataError));
    for close in [
        Command::from(api::CommandCloseProducer { producer_id: 9, request_id: 3, ..Default::default() }),
        Command::from(api::CommandCloseConsumer { consumer_id: 9, request_id: 3, ..Default::default() }),
    ] {
        peer.send(close).await;
        assert_eq!(peer.receive().await, Some(api::CommandSuccess { request_id: 3, schema: None }.into()));
    }
}

#[tokio::test]
async fn a_producer_of_a_topic_that_does_not_load_is_told_to_retry() {
    let bench = Bench::new().await;
    let mut peer = bench.connect().await;
    for request_id in 1..3 {
        peer.send(api::CommandProducer { topic: "t".into(), request_id, ..Default::default() }).await;
        assert_eq!(error(&mut peer).await, (request_id, ServerError::ServiceNotReady));
    }
    peer.send(api::CommandProducer { topic: "a/b".into(), request_id: 3, ..Default::default() }).await;
    assert_eq!(error(&mut peer).await, (3, ServerError::InvalidTopicName));
}

#[tokio::test]
async fn topics_are_listed_by_pattern_and_not_again_when_nothing_changed() {
    let bench = Bench::new().await;
    for name in ["a1", "a2", "b"] {
        let key = format!("/managed-ledgers/public/default/persistent/{name}");
        let put =
            bench.service.metadata.put(&key, bytes::Bytes::new(), magnetar_common::metadata::Expect::Any);
        put.await.expect("a put");
    }
    let mut peer = bench.connect().await;
    let mut request = api::CommandGetTopicsOfNamespace {
        request_id: 1,
        namespace: "public/default".into(),
        topics_pattern: Some("public/default/a.*".into()),
        ..Default::default()
    };
    peer.send(request.clone()).await;
    let Some(Command::GetTopicsOfNamespaceResponse(list)) = peer.receive().await else { panic!("no list") };
    assert_eq!(list.topics, ["persistent://public/default/a1", "persistent://public/default/a2"]);
    assert!(list.filtered() && list.changed());

    request.topics_hash = list.topics_hash;
    peer.send(request).await;
    let Some(Command::GetTopicsOfNamespaceResponse(same)) = peer.receive().await else { panic!("no list") };
    assert!(same.topics.is_empty() && !same.changed());
}
