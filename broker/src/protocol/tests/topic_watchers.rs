//! Clients that watch a namespace's topics.

use bytes::Bytes;
use magnetar_common::layout;
use magnetar_common::metadata::Expect;
use magnetar_proto::pulsar::Command;
use magnetar_proto::pulsar::api::{self, ServerError};

use super::peer::{Bench, Peer};

fn watch(id: u64, pattern: &str) -> api::CommandWatchTopicList {
    api::CommandWatchTopicList {
        request_id: id,
        watcher_id: id,
        namespace: "public/default".into(),
        topics_pattern: pattern.into(),
        topics_hash: None,
    }
}

fn key(topic: &str) -> String {
    format!("{}/{topic}", layout::managed_ledgers(&"public/default".parse().expect("a namespace")))
}

async fn create(bench: &Bench, topic: &str) {
    bench.service.metadata.put(&key(topic), Bytes::new(), Expect::Any).await.expect("a put");
}

async fn delete(bench: &Bench, topic: &str) {
    bench.service.metadata.delete(&key(topic), Expect::Any).await.expect("a delete");
}

/// What a new watcher finds, and its hash.
async fn found(peer: &mut Peer, request: api::CommandWatchTopicList) -> (Vec<String>, String) {
    let id = request.watcher_id;
    peer.send(request).await;
    match peer.receive().await {
        Some(Command::WatchTopicListSuccess(found)) => {
            assert_eq!((found.request_id, found.watcher_id), (id, id));
            (found.topic, found.topics_hash)
        }
        other => panic!("instead of the list: {other:?}"),
    }
}

async fn update(peer: &mut Peer) -> api::CommandWatchTopicUpdate {
    match peer.receive().await {
        Some(Command::WatchTopicUpdate(update)) => update,
        other => panic!("instead of an update: {other:?}"),
    }
}

fn named(topic: &str) -> Vec<String> {
    vec![format!("persistent://public/default/{topic}")]
}

#[tokio::test]
async fn a_watcher_hears_of_topics_that_come_and_go() {
    let bench = Bench::new().await;
    create(&bench, "a1").await;
    create(&bench, "b").await;
    let mut peer = bench.connect().await;
    let (topics, hash) = found(&mut peer, watch(7, "persistent://public/default/a.*")).await;
    assert_eq!(topics, named("a1"));
    let again =
        api::CommandWatchTopicList { topics_hash: Some(hash.clone()), ..watch(8, "public/default/a.*") };
    assert_eq!(
        found(&mut peer, again).await,
        (Vec::new(), hash),
        "a client that knows the list is not told it"
    );
    peer.send(api::CommandWatchTopicListClose { request_id: 9, watcher_id: 8 }).await;
    assert_eq!(peer.receive().await, Some(api::CommandSuccess { request_id: 9, schema: None }.into()));

    create(&bench, "b2").await;
    create(&bench, "a2").await;
    // A cursor of a topic is no topic.
    create(&bench, "a2/a3").await;
    let came = update(&mut peer).await;
    assert_eq!((came.watcher_id, came.new_topics, came.deleted_topics), (7, named("a2"), Vec::new()));
    delete(&bench, "a1").await;
    let gone = update(&mut peer).await;
    assert_eq!((gone.watcher_id, gone.new_topics, gone.deleted_topics), (7, Vec::new(), named("a1")));
    assert_ne!(gone.topics_hash, came.topics_hash);
}

#[tokio::test]
async fn every_partition_of_a_new_topic_is_told_also_of_one_that_grows() {
    let bench = Bench::new().await;
    let mut peer = bench.connect().await;
    assert!(found(&mut peer, watch(1, "public/default/p")).await.0.is_empty());
    let topic = "p".parse().expect("a topic name");
    let record = crate::namespace::PartitionedTopicMetadata { partitions: 1, ..Default::default() };
    bench.service.store.create_partitioned(&topic, &record, 9).await.expect("created");
    assert_eq!(update(&mut peer).await.new_topics, named("p-partition-0"));
    bench.service.store.grow_partitions(&topic, 2, 9).await.expect("grown");
    assert_eq!(update(&mut peer).await.new_topics, named("p-partition-1"));
}

#[tokio::test]
async fn watchers_that_cannot_be_are_refused_and_the_connection_lives_on() {
    let bench = Bench::new().await;
    let mut peer = bench.connect().await;
    let cases = [
        (watch(1, "("), ServerError::NotAllowedError),
        (watch(2, &"a".repeat(51)), ServerError::NotAllowedError),
        (
            api::CommandWatchTopicList { namespace: "n".into(), ..watch(3, "a") },
            ServerError::InvalidTopicName,
        ),
    ];
    for (request, code) in cases {
        let id = request.request_id;
        peer.send(request).await;
        let Some(Command::Error(error)) = peer.receive().await else { panic!("no ERROR") };
        assert_eq!((error.request_id, error.error()), (id, code));
    }
    for id in 10..110 {
        found(&mut peer, watch(id, "public/default/a")).await;
    }
    peer.send(watch(110, "public/default/a")).await;
    let Some(Command::Error(error)) = peer.receive().await else { panic!("no ERROR") };
    assert_eq!((error.request_id, error.error()), (110, ServerError::NotAllowedError));
    // An id may be used again.
    found(&mut peer, watch(10, "public/default/a")).await;
    peer.is_alive().await;
}

#[tokio::test]
async fn a_namespace_that_nobody_watches_any_more_is_let_go() {
    let bench = Bench::new().await;
    let mut peer = bench.connect().await;
    found(&mut peer, watch(1, "public/default/a")).await;
    assert_eq!(bench.service.feeds.len(), 1);
    peer.hang_up().await;
    let let_go = async {
        while bench.service.feeds.len() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), let_go).await.expect("let go");
}
