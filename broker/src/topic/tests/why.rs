use super::support::*;
use crate::dispatch::Limits;
use crate::policies::{QuotaAction, StorageQuota, TopicPolicies};
use crate::topic::*;
use magnetar_common::clock::Clock;
use magnetar_proto::pulsar::api;

async fn because(topic: &Handle, subscription: Option<&str>) -> (bool, String) {
    let why = topic.why(subscription).await.unwrap();
    assert!(why.evidence.is_object());
    (why.flowing, why.because)
}

/// The reason contains the words.
macro_rules! assert_why {
    ($topic:expr, $subscription:expr, $flowing:expr, $words:expr) => {
        let (flowing, text) = because($topic, $subscription).await;
        assert!(flowing == $flowing && text.contains($words), "{flowing}, {text}");
    };
}

#[tokio::test]
async fn each_cause_of_silence_is_named() {
    let world = World::start().await;
    let topic = world.topic().await;
    assert_why!(&topic, None, false, "no producer");
    topic.create_subscription("s", StartPosition::Earliest, Default::default()).await.unwrap();
    assert_why!(&topic, Some("s"), true, "nothing to deliver");
    let mut producer = Peer::producing(&topic).await;
    producer.send_all(["a", "b"]).await;
    assert_why!(&topic, None, true, "everything that was sent is stored");
    assert_why!(&topic, Some("s"), false, "no consumer is connected; 2 entries wait");
    let mut peer = Peer::new(&topic);
    peer.join(0, "s", SubscriptionType::Shared, 1).await;
    assert_eq!(peer.texts(1).await, ["a"]);
    assert_why!(&topic, Some("s"), false, "out of permits");
    topic.flow(peer.consumer(0), 10);
    let position = peer.message().await.position;
    assert_why!(&topic, Some("s"), false, "not acknowledged");
    peer.ack(0, &[position]).await;
    topic.skip_all("s").await.unwrap();
    let deliver_at_time = Some(world.clock.unix_ms() as i64 + 60_000);
    producer.send_with("later", api::MessageMetadata { deliver_at_time, ..Default::default() });
    producer.receipts(1).await;
    assert_why!(&topic, Some("s"), false, "delayed; the first falls due at 2026-01-01T00:01:00.0");
    let missing = topic.why(Some("missing")).await;
    assert!(matches!(missing, Err(TopicError::SubscriptionNotFound(_))), "{missing:?}");
    topic.terminate().await.unwrap();
    assert_why!(&topic, None, false, "terminated");
}

#[tokio::test]
async fn limits_draining_keys_and_quotas_are_named_with_who_causes_them() {
    let mut world = World::start().await;
    world.env.limits.dispatch = Limits { unacked_per_consumer: 2, ..Limits::default() };
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    let mut peer = Peer::new(&topic);
    peer.join(0, "s", SubscriptionType::KeyShared, 100).await;
    for key in ["k", "k", "k"] {
        producer.send_with(key, keyed(key));
    }
    producer.receipts(3).await;
    peer.messages(2).await;
    assert_why!(&topic, Some("s"), false, "hold as many unacknowledged messages as they may");
    // Some other name takes the key over.
    let mut id = 0;
    while topic.stats().await.unwrap().subscriptions["s"].draining_hashes_count == 0 {
        id += 1;
        peer.join(id, "s", SubscriptionType::KeyShared, 100).await;
    }
    assert_why!(&topic, Some("s"), false, "because consumer 'consumer-0' has not acknowledged");

    let quota = StorageQuota { bytes: 1, action: QuotaAction::HoldProducers };
    topic.set_policies(TopicPolicies { storage_quota: Some(quota), ..Default::default() });
    until("the quota is looked at", || async { !topic.why(None).await.unwrap().flowing }).await;
    assert_why!(&topic, None, false, "exceeds its quota of 1");
}
