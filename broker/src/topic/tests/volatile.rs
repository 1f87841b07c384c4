use super::support::*;
use crate::topic::*;
use magnetar_proto::pulsar::Command;

const TOPIC: &str = "non-persistent://public/default/t";

#[tokio::test]
async fn a_message_goes_to_whoever_can_take_it_and_is_receipted_in_any_case() {
    let world = World::start().await;
    let topic = world.named(TOPIC).await;
    let mut producer = Peer::producing(&topic).await;
    producer.send_all(["nobody is there"]).await;
    let mut shared = Peer::new(&topic);
    let mut other = Peer::new(&topic);
    shared.join(0, "s", SubscriptionType::Shared, 2).await;
    other.join(0, "other", SubscriptionType::Exclusive, 100).await;
    producer.send_all(["a", "b", "one too many"]).await;
    assert_eq!(shared.texts(2).await, ["a", "b"]);
    assert_eq!(other.texts(3).await, ["a", "b", "one too many"]);
    assert!(shared.pending().await.is_empty());
    topic.flow(shared.consumer(0), 1);
    topic.redeliver(shared.consumer(0), vec![], None);
    producer.send_all(["c"]).await;
    let got = shared.message().await;
    assert_eq!((got.text.as_str(), got.redeliveries), ("c", 0));
    shared.ack(0, &[got.position]).await;

    let stats = serde_json::to_value(topic.stats().await.unwrap()).unwrap();
    assert_eq!((&stats["msgInCounter"], &stats["storageSize"]), (&5.into(), &0.into()));
    let subscription = &stats["subscriptions"]["s"];
    assert_eq!((&subscription["msgOutCounter"], &subscription["isDurable"]), (&3.into(), &false.into()));
}

#[tokio::test]
async fn keys_keep_their_consumer_and_a_failover_subscription_its_active_one() {
    let world = World::start().await;
    let topic = world.named(TOPIC).await;
    let mut producer = Peer::producing(&topic).await;
    let mut peers = [Peer::new(&topic), Peer::new(&topic)];
    for (n, peer) in peers.iter().enumerate() {
        peer.join(n as u64, "keyed", SubscriptionType::KeyShared, 1_000).await;
        peer.join(10 + n as u64, "failover", SubscriptionType::Failover, 1_000).await;
    }
    world.clock.advance(std::time::Duration::from_secs(2));
    for n in 0..40 {
        producer.send_with(&n.to_string(), keyed(&format!("k{}", n % 8)));
    }
    producer.receipts(40).await;
    let mut counts = Vec::new();
    for peer in &mut peers {
        let frames = peer.pending().await;
        let of = |low: u64, high: u64| {
            frames.iter().filter(|(command, _)| {
                matches!(command, Command::Message(m) if (low..high).contains(&m.consumer_id))
            }).count()
        };
        counts.push((of(0, 10), of(10, 20)));
    }
    assert_eq!(counts[0].0 + counts[1].0, 40);
    assert!(counts.iter().all(|(keyed, _)| *keyed > 0), "{counts:?}");
    assert!(counts.iter().any(|(_, failover)| *failover == 40), "{counts:?}");
    assert!(counts.iter().any(|(_, failover)| *failover == 0), "{counts:?}");
}

#[tokio::test]
async fn what_needs_storage_is_refused_and_an_empty_subscription_is_forgotten() {
    let world = World::start().await;
    let topic = world.named(TOPIC).await;
    let peer = Peer::new(&topic);
    peer.join(0, "s", SubscriptionType::Exclusive, 1).await;
    let busy = topic.subscribe(Peer::new(&topic).subscribe(0, "s", SubscriptionType::Exclusive)).await;
    assert!(matches!(busy, Err(TopicError::ConsumerBusy { holder: Some(_), .. })), "{busy:?}");
    let refused = topic.seek(peer.consumer(0), SeekTarget::PublishTime(0)).await;
    assert!(matches!(refused, Err(TopicError::NotAllowed(_))), "{refused:?}");
    let refused = topic.close(CloseReason::Delete { force: false }).await;
    assert!(matches!(refused, Err(TopicError::InUse(_))), "{refused:?}");
    topic.close_consumer(peer.consumer(0)).await.unwrap();
    assert!(topic.subscriptions().await.unwrap().is_empty());
    topic.close(CloseReason::Delete { force: false }).await.unwrap();
    topic.closed().await;
    let left = world.env.managed_ledgers.metadata.children("/managed-ledgers").await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}
