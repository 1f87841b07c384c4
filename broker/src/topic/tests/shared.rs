use std::collections::BTreeMap;
use std::time::Duration;

use super::support::*;
use crate::topic::*;
use magnetar_common::clock::Clock;
use magnetar_proto::ids::Position;
use magnetar_proto::pulsar::api;

#[tokio::test]
async fn a_departed_consumers_messages_go_to_the_others_and_a_nack_counts() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    let (mut one, mut two) = (Peer::new(&topic), Peer::new(&topic));
    one.join(0, "s", SubscriptionType::Shared, 5).await;
    producer.send_all(numbers(0..10)).await;
    let got = one.messages(5).await;
    one.ack(0, &[got[1].position]).await;
    topic.redeliver(one.consumer(0), vec![got[2].position], None);
    two.join(0, "s", SubscriptionType::Shared, 100).await;
    topic.connection_closed(one.outbound.connection());
    let mut rest = two.messages(9).await;
    rest.sort_by_key(|m| m.position);
    let texts: Vec<_> = rest.iter().map(|m| m.text.clone()).collect();
    assert_eq!(texts, ["0", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert!(rest.iter().all(|m| m.redeliveries == u32::from(m.text == "2")));
}

#[tokio::test]
async fn keys_stay_with_one_consumer_and_in_order() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut consumers = Vec::new();
    for n in 0..3 {
        let peer = Peer::new(&topic);
        peer.join(n, "s", SubscriptionType::KeyShared, 1_000).await;
        consumers.push(peer);
    }
    let mut producer = Peer::producing(&topic).await;
    for n in 0..300 {
        producer.send_with(&n.to_string(), keyed(&format!("key-{}", n % 20)));
    }
    producer.receipts(300).await;
    let mut per_key: BTreeMap<u32, Vec<(u64, u32)>> = BTreeMap::new();
    let mut total = 0;
    topic.subscriptions().await.unwrap();
    for peer in &mut consumers {
        let frames = peer.pending().await.len();
        assert!(frames > 0, "every consumer has some keys");
        total += frames;
    }
    assert_eq!(total, 300);
    for (id, peer) in consumers.iter().enumerate() {
        topic.redeliver(peer.consumer(id as u64), vec![], None);
    }
    topic.subscriptions().await.unwrap();
    for (n, peer) in consumers.iter_mut().enumerate() {
        for (command, bytes) in peer.pending().await {
            let magnetar_proto::pulsar::Command::Message(_) = command else { continue };
            let payload = magnetar_proto::pulsar::entry::split(&bytes).unwrap().payload;
            let number: u32 = std::str::from_utf8(&payload).unwrap().parse().unwrap();
            per_key.entry(number % 20).or_default().push((n as u64, number));
        }
    }
    assert_eq!(per_key.len(), 20);
    for (key, got) in per_key {
        assert!(got.iter().all(|(consumer, _)| *consumer == got[0].0), "key {key} has one consumer");
        assert!(got.is_sorted_by_key(|(_, number)| *number), "key {key} is in order");
    }
}

#[tokio::test]
async fn a_delayed_message_that_is_skipped_by_its_id_never_comes_not_even_after_a_restart() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    let mut consumer = Peer::consuming(&topic, SubscriptionType::Shared).await;
    let at = world.clock.unix_ms() as i64 + 60_000;
    for text in ["a", "b", "c"] {
        producer.send_with(text, api::MessageMetadata { deliver_at_time: Some(at), ..Default::default() });
    }
    let sent = producer.receipts(3).await;
    assert!(consumer.pending().await.is_empty());
    topic.skip_ids("s", vec![sent[1]]).await.unwrap();
    topic.skip_ids("s", vec![sent[1]]).await.unwrap();
    let beyond = Position { entry_id: sent[2].entry_id.next(), ..sent[2] };
    let missing = topic.skip_ids("s", vec![sent[0], beyond]).await;
    assert!(matches!(missing, Err(TopicError::Invalid(_))), "{missing:?}");

    let topic = world.topic().await;
    let mut consumer = Peer::consuming(&topic, SubscriptionType::Shared).await;
    assert!(consumer.pending().await.is_empty());
    world.clock.advance(Duration::from_secs(61));
    let mut texts = consumer.texts(2).await;
    texts.sort();
    assert_eq!(texts, ["a", "c"]);
    assert!(consumer.pending().await.is_empty());
}

#[tokio::test]
async fn delayed_messages_come_when_they_are_due_and_hold_up_nobody() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut shared = Peer::consuming(&topic, SubscriptionType::Shared).await;
    let mut exclusive = Peer::new(&topic);
    exclusive.join(0, "e", SubscriptionType::Exclusive, 100).await;
    let mut producer = Peer::producing(&topic).await;
    let at = |seconds: i64| api::MessageMetadata {
        deliver_at_time: Some(world.env.environment.clock.unix_ms() as i64 + seconds * 1_000),
        ..Default::default()
    };
    producer.send_with("late", at(20));
    producer.send_with("soon", at(10));
    producer.send("now");
    producer.receipts(3).await;
    assert_eq!(exclusive.texts(3).await, ["late", "soon", "now"]);
    assert_eq!(shared.texts(1).await, ["now"]);
    assert!(shared.pending().await.is_empty());
    assert_eq!(topic.stats().await.unwrap().subscriptions["s"].msg_delayed, 2);
    world.clock.advance(Duration::from_millis(9_999));
    assert!(shared.pending().await.is_empty());
    // Late by less than a tenth of a second.
    world.clock.advance(Duration::from_millis(100));
    assert_eq!(shared.texts(1).await, ["soon"]);
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(shared.texts(1).await, ["late"]);
    assert!(world.clock.sleepers() <= 1, "no timer but that of the ledger's age");
}
