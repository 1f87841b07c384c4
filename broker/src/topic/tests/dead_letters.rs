//! Messages that are given back too often, over all types of subscription.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use magnetar_common::topic_name::TopicName;
use magnetar_proto::pulsar::{batch, entry};
use serde_json::json;
use tokio::sync::Semaphore;

use super::support::*;
use crate::policies::{DEAD_LETTER_POLICY, DeadLetterPolicies, Fixed, TopicPolicies};
use crate::topic::*;

/// What other topics were given. Each try takes a permit, and fails while `fails` is set.
struct Elsewhere {
    stored: Arc<Mutex<Vec<(String, Bytes)>>>,
    permits: Arc<Semaphore>,
    fails: Arc<Mutex<bool>>,
}

impl Elsewhere {
    fn new(permits: usize) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(permits));
        Arc::new(Elsewhere { stored: Arc::default(), permits, fails: Arc::default() })
    }

    /// Names of the topics and the entries' payloads.
    fn texts(&self) -> Vec<(String, String)> {
        let text =
            |entry: &Bytes| String::from_utf8(entry::split(entry).unwrap().payload.to_vec()).expect("a text");
        self.stored.lock().unwrap().iter().map(|(topic, entry)| (topic.clone(), text(entry))).collect()
    }
}

impl StoreElsewhere for Elsewhere {
    fn store(&self, topic: TopicName, entry: Bytes) -> BoxFuture<'static, Result<(), String>> {
        let (stored, permits, fails) =
            (Arc::clone(&self.stored), Arc::clone(&self.permits), Arc::clone(&self.fails));
        async move {
            permits.acquire().await.unwrap().forget();
            if *fails.lock().unwrap() {
                return Err("no bookies".into());
            }
            stored.lock().unwrap().push((topic.to_string(), entry));
            Ok(())
        }
        .boxed()
    }
}

fn policies(max: u32) -> TopicPolicies {
    let record = json!({ DEAD_LETTER_POLICY: { "maxRedeliverCount": max } });
    let dead_letters = DeadLetterPolicies::new(record.as_object().unwrap(), &serde_json::Map::new());
    TopicPolicies { dead_letters, ..TopicPolicies::default() }
}

async fn world(max: u32, elsewhere: &Arc<Elsewhere>) -> World {
    let mut world = World::start().await;
    world.env.policies = Arc::new(Fixed(policies(max)));
    world.env.elsewhere = Arc::clone(elsewhere) as Arc<dyn StoreElsewhere>;
    world
}

async fn backlog(topic: &Handle) -> u64 {
    topic.stats().await.unwrap().subscriptions["s"].msg_backlog
}

const LETTERS: &str = "persistent://public/default/t-s-DLQ";

#[tokio::test]
async fn what_is_given_back_too_often_is_stored_elsewhere_and_then_acknowledged() {
    for kind in [SubscriptionType::Shared, SubscriptionType::KeyShared] {
        let elsewhere = Elsewhere::new(10);
        let world = world(2, &elsewhere).await;
        let topic = world.topic().await;
        let mut peer = Peer::consuming(&topic, kind).await;
        let sent = Peer::producing(&topic).await.send_all(["bad", "good"]).await;
        let mut counts = Vec::new();
        while counts.len() < 3 {
            let message = peer.message().await;
            if message.position == sent[0] {
                counts.push(message.redeliveries);
                topic.redeliver(peer.consumer(0), vec![message.position], None);
            }
        }
        assert_eq!(counts, [0, 1, 2]);
        until("the bad one is acknowledged", async || backlog(&topic).await == 1).await;
        assert_eq!(elsewhere.texts(), [(LETTERS.into(), "bad".into())]);
        peer.ack(0, &sent[1..]).await;
        assert_eq!((backlog(&topic).await, peer.pending().await.len()), (0, 0), "it does not come again");
    }
}

#[tokio::test]
async fn where_everything_is_asked_for_again_the_first_message_counts() {
    for kind in [SubscriptionType::Exclusive, SubscriptionType::Failover] {
        let elsewhere = Elsewhere::new(10);
        let world = world(1, &elsewhere).await;
        let topic = world.topic().await;
        let mut peer = Peer::consuming(&topic, kind).await;
        Peer::producing(&topic).await.send_all(["bad", "good"]).await;
        for round in 0..2 {
            let messages = peer.messages(2).await;
            assert_eq!(messages.iter().map(|m| m.redeliveries).collect::<Vec<_>>(), [round, 0]);
            topic.redeliver(peer.consumer(0), Vec::new(), None);
        }
        assert_eq!(peer.texts(1).await, ["good"]);
        until("the bad one is acknowledged", async || backlog(&topic).await == 1).await;
        assert_eq!(elsewhere.texts(), [(LETTERS.into(), "bad".into())]);
    }
}

#[tokio::test]
async fn it_is_not_acknowledged_before_it_is_stored() {
    let elsewhere = Elsewhere::new(0);
    let world = world(0, &elsewhere).await;
    let topic = world.topic().await;
    let mut peer = Peer::consuming(&topic, SubscriptionType::Shared).await;
    Peer::producing(&topic).await.send_all(["bad"]).await;
    let message = peer.message().await;
    topic.redeliver(peer.consumer(0), vec![message.position], None);
    assert_eq!((peer.pending().await.len(), backlog(&topic).await), (0, 1), "it is on its way");

    // The topic goes down meanwhile: whoever opens it next delivers it again.
    drop(peer);
    let topic = world.reload(&topic).await;
    let mut peer = Peer::consuming(&topic, SubscriptionType::Shared).await;
    assert_eq!(peer.texts(1).await, ["bad"]);
}

#[tokio::test]
async fn a_store_that_fails_is_tried_again_and_told_and_nothing_else_waits() {
    let elsewhere = Elsewhere::new(10);
    *elsewhere.fails.lock().unwrap() = true;
    let world = world(0, &elsewhere).await;
    let topic = world.topic().await;
    let mut peer = Peer::consuming(&topic, SubscriptionType::Shared).await;
    let mut producer = Peer::producing(&topic).await;
    producer.send_all(["bad"]).await;
    let message = peer.message().await;
    topic.redeliver(peer.consumer(0), vec![message.position], None);
    let why = async || topic.why(Some("s")).await.unwrap().because;
    until("the failure is told", async || why().await.contains("1 dead letters")).await;
    producer.send_all(["good"]).await;
    assert_eq!(peer.texts(1).await, ["good"]);

    *elsewhere.fails.lock().unwrap() = false;
    until("it is stored", async || {
        world.clock.advance(std::time::Duration::from_secs(30));
        backlog(&topic).await == 1
    })
    .await;
    assert_eq!(elsewhere.texts(), [(LETTERS.into(), "bad".into())]);
}

/// A hundred of them stopped everything behind them.
#[tokio::test]
async fn where_no_dead_letter_can_be_stored_the_others_are_delivered_on() {
    let elsewhere = Elsewhere::new(1_000);
    *elsewhere.fails.lock().unwrap() = true;
    let world = world(0, &elsewhere).await;
    let topic = world.topic().await;
    let mut peer = Peer::consuming(&topic, SubscriptionType::Shared).await;
    let mut producer = Peer::producing(&topic).await;
    producer.send_all(numbers(0..150)).await;
    peer.messages(150).await;
    topic.redeliver(peer.consumer(0), Vec::new(), None);
    peer.messages(50).await;
    producer.send_all(["new"]).await;
    assert_eq!(peer.texts(1).await, ["new"]);
}

#[tokio::test]
async fn without_the_policy_what_could_not_be_stored_is_delivered_again() {
    for kind in [SubscriptionType::Shared, SubscriptionType::Exclusive] {
        let elsewhere = Elsewhere::new(1);
        *elsewhere.fails.lock().unwrap() = true;
        let world = world(0, &elsewhere).await;
        let topic = world.topic().await;
        let mut peer = Peer::consuming(&topic, kind).await;
        Peer::producing(&topic).await.send_all(["bad"]).await;
        peer.message().await;
        topic.redeliver(peer.consumer(0), Vec::new(), None);
        let why = async || topic.why(Some("s")).await.unwrap().because;
        until("the failure is told", async || why().await.contains("1 dead letters")).await;
        topic.set_policies(TopicPolicies::default());
        assert_eq!(peer.texts(1).await, ["bad"]);
    }
}

#[tokio::test]
async fn of_a_batch_only_what_is_not_acknowledged_departs() {
    let elsewhere = Elsewhere::new(10);
    let world = world(0, &elsewhere).await;
    let topic = world.topic().await;
    let peer = Peer::consuming(&topic, SubscriptionType::Shared).await;
    let mut peer = peer;
    let mut producer = Peer::producing(&topic).await;
    let mut plain = bytes::BytesMut::new();
    batch::encode([b"a", b"b"].map(|text| (Default::default(), text.as_slice())), &mut plain);
    let text = String::from_utf8(plain.to_vec()).expect("lengths below 128");
    let mut metadata = batch_of(2);
    metadata.uncompressed_size = Some(text.len() as u32);
    producer.send_with(&text, metadata);
    let position = producer.receipts(1).await[0];
    peer.message().await;
    let half = magnetar_proto::pulsar::api::MessageIdData {
        ack_set: vec![0b10],
        batch_size: Some(2),
        ..id(position)
    };
    peer.ack_with(0, magnetar_proto::pulsar::api::command_ack::AckType::Individual, vec![half]).await;
    topic.redeliver(peer.consumer(0), vec![position], None);
    until("the entry is acknowledged", async || backlog(&topic).await == 0).await;
    let stored = elsewhere.stored.lock().unwrap()[0].1.clone();
    let back = returned(&stored, 5).expect("an entry").expect("an origin");
    let texts: Vec<Bytes> = back.iter().map(|(_, entry)| entry::split(entry).unwrap().payload).collect();
    assert_eq!((back[0].0.as_str(), &texts[..]), (TOPIC, &[Bytes::from_static(b"b")][..]));
}
