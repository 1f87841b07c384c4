//! A whole broker on real ports, without bookies.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use magnetar_common::Environment;
use magnetar_common::metadata::{MemoryStore, SharedMetadata};
use magnetar_common::topic_name::TopicName;
use magnetar_ledger::{Client, ClientConfig};
use magnetar_proto::pulsar::frame::{self, Decoder, MAX_FRAME_SIZE};
use magnetar_proto::pulsar::{Command, api};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::namespace::Policies;
use crate::protocol::outbound::{ConnectionId, Outbound};
use crate::topic::{AccessMode, AddProducer, Handle, ProducerKey};

async fn start(config: BrokerConfig) -> Result<Broker, StartError> {
    let metadata: SharedMetadata = Arc::new(MemoryStore::new());
    let environment = Environment::system();
    let ledgers = Client::new(Arc::clone(&metadata), environment.clone(), ClientConfig::default());
    let ledgers = ledgers.await.expect("a ledger client");
    Broker::start(config, metadata, ledgers, environment).await
}

fn free_ports() -> BrokerConfig {
    BrokerConfig { broker_port: 0, http_port: 0, ..BrokerConfig::default() }
}

/// Connects and says CONNECT; gives the socket and the answer.
async fn connect(address: SocketAddr) -> (TcpStream, Command) {
    let mut socket = TcpStream::connect(address).await.expect("a connection");
    let mut buffer = BytesMut::new();
    let connect = api::CommandConnect { client_version: "test".into(), ..Default::default() };
    frame::encode(connect.into(), &mut buffer);
    socket.write_all(&buffer).await.expect("a write");
    buffer.clear();
    loop {
        if let Some(frame) = Decoder::new(MAX_FRAME_SIZE).decode(&mut buffer).expect("a frame") {
            return (socket, frame.command);
        }
        assert_ne!(socket.read_buf(&mut buffer).await.expect("a read"), 0, "closed before an answer");
    }
}

#[tokio::test]
async fn a_broker_serves_until_it_is_shut_down_and_then_hangs_up() {
    let broker = start(free_ports()).await.expect("a start");
    let (mut socket, answer) = connect(broker.broker_addr()).await;
    assert!(matches!(answer, Command::Connected(_)), "{answer:?}");
    let service = Arc::clone(broker.service());
    assert_eq!((service.connections.count(), service.connections.accepted()), (1, 1));
    assert_eq!(service.advertised.broker_url, format!("pulsar://{}", broker.broker_addr()));

    let (broker_addr, http_addr) = (broker.broker_addr(), broker.http_addr());
    broker.shutdown().await;
    assert_eq!(socket.read(&mut [0; 16]).await.expect("an orderly end"), 0);
    assert_eq!(service.connections.count(), 0);
    assert!(TcpStream::connect(broker_addr).await.is_err() && TcpStream::connect(http_addr).await.is_err());
}

#[tokio::test]
async fn a_port_in_use_is_named_with_what_to_do() {
    let first = start(free_ports()).await.expect("a start");
    for (broker_port, http_port, taken) in [
        (first.broker_addr().port(), 0, first.broker_addr()),
        (0, first.http_addr().port(), first.http_addr()),
    ] {
        let error =
            start(BrokerConfig { broker_port, http_port, ..free_ports() }).await.err().expect("a taken port");
        let text = error.to_string();
        assert!(text.contains(&taken.to_string()) && text.contains("choose another one"), "{text}");
    }
    first.shutdown().await;
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_and_the_others_stay() {
    let broker = start(BrokerConfig { max_connections: 1, ..free_ports() }).await.expect("a start");
    let (_first, _) = connect(broker.broker_addr()).await;
    let mut second = TcpStream::connect(broker.broker_addr()).await.expect("the kernel accepts");
    assert_eq!(second.read(&mut [0; 16]).await.expect("an orderly end"), 0);
    assert_eq!(broker.service().connections.count(), 1);
    broker.shutdown().await;
}

fn producer(encrypted: bool) -> AddProducer {
    let connection = ConnectionId(u64::MAX);
    AddProducer {
        key: ProducerKey { connection, producer_id: 0 },
        request_id: 0,
        name: Some("p".into()),
        epoch: 0,
        access_mode: AccessMode::Shared,
        topic_epoch: None,
        user_provided_name: false,
        encrypted,
        metadata: Default::default(),
        schema_version: Default::default(),
        initial_subscription: None,
        outbound: Outbound::new(connection, "peer"),
        welcome: Default::default(),
    }
}

/// Waits until the topic lets a producer in that does not encrypt, or does not.
async fn until_plain_producers(handle: &Handle, allowed: bool) {
    let waiting = async {
        while handle.add_producer(producer(false)).await.is_ok() != allowed {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await;
    waited.expect("the topic is told of its policies");
}

#[tokio::test]
async fn a_topic_in_memory_is_told_of_policies_of_its_namespace_and_of_its_own() {
    let broker = start(free_ports()).await.expect("a start");
    let service = Arc::clone(broker.service());
    let topic = "non-persistent://public/default/t".parse::<TopicName>().expect("a name");
    let handle = service.topics.get_or_load(&topic, true).await.expect("a topic");
    until_plain_producers(&handle, true).await;
    let required = |record: &mut Policies| {
        record.others.insert("encryption_required".into(), true.into());
        Ok(())
    };
    service.store.update_namespace(topic.namespace(), required).await.expect("a change");
    until_plain_producers(&handle, false).await;
    handle.add_producer(producer(true)).await.expect("one that encrypts");
    let own = |record: &mut serde_json::Map<String, serde_json::Value>| {
        record.insert("encryption_required".into(), false.into());
    };
    service.store.update_topic_policies(&topic, own).await.expect("a change");
    until_plain_producers(&handle, true).await;
    broker.shutdown().await;
}
