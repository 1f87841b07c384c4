//! What is encoded once for many subscriptions is, for each of them, what it would have got alone.

use super::support::*;
use crate::topic::*;
use magnetar_proto::pulsar::api;

/// Small ones, and some that are not copied.
fn text(n: u32) -> String {
    if n % 7 == 3 { format!("{n:05000}") } else { n.to_string() }
}

fn texts(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(text).collect()
}

#[tokio::test]
async fn every_subscription_gets_all_of_it_whatever_the_others_have_done() {
    let world = World::start().await;
    let topic = world.named("persistent://public/default/t-partition-2").await;
    let (mut first, mut second, mut other, mut slow) =
        (Peer::new(&topic), Peer::new(&topic), Peer::new(&topic), Peer::new(&topic));
    first.join(0, "first", SubscriptionType::Exclusive, 10_000).await;
    second.join(0, "second", SubscriptionType::Exclusive, 10_000).await;
    let subscribe = other.subscribe(300, "other", SubscriptionType::Failover);
    topic.subscribe(Subscribe { consumer_epoch: Some(4), ..subscribe }).await.unwrap();
    topic.flow(other.consumer(300), 10_000);
    slow.join(0, "slow", SubscriptionType::Exclusive, 5).await;
    let mut producer = Peer::producing(&topic).await;

    let positions = producer.send_all(texts(0..300)).await;
    for (peer, epoch) in [(&mut first, None), (&mut second, None), (&mut other, Some(4))] {
        let got = peer.messages(300).await;
        assert_eq!(got.iter().map(|m| m.position).collect::<Vec<_>>(), positions);
        assert_eq!(got.iter().map(|m| m.text.clone()).collect::<Vec<_>>(), texts(0..300));
        assert!(got.iter().all(|m| (m.redeliveries, m.epoch) == (0, epoch) && m.ack_set.is_empty()));
    }
    assert_eq!(slow.texts(5).await, texts(0..5));
    let stats = topic.stats().await.unwrap();
    for name in ["first", "second", "other"] {
        let of = &stats.subscriptions[name];
        assert_eq!((of.msg_out_counter, of.bytes_out_counter), (300, stats.bytes_in_counter), "{name}");
        assert_eq!(of.consumers[0].available_permits, 9_700, "{name}");
    }

    // One has holes and goes back, one gives back, one comes with other permits, one goes on.
    first.ack(0, &[positions[10], positions[12], positions[299]]).await;
    topic.close_consumer(first.consumer(0)).await.unwrap();
    first.join(0, "first", SubscriptionType::Exclusive, 10_000).await;
    topic.redeliver(second.consumer(0), vec![positions[298]], None);
    topic.flow(slow.consumer(0), 100);
    let more = producer.send_all(texts(300..400)).await;
    let left = |acked: &[usize]| -> Vec<_> {
        let all = positions.iter().chain(&more).enumerate();
        all.filter(|(n, _)| !acked.contains(n)).map(|(_, at)| *at).collect()
    };
    let got = first.messages(397).await;
    assert_eq!(got.iter().map(|m| m.position).collect::<Vec<_>>(), left(&[10, 12, 299]));
    let got = second.messages(400).await;
    assert_eq!(got.iter().map(|m| m.position).collect::<Vec<_>>(), left(&[]));
    let counted = got.iter().filter(|m| m.redeliveries > 0).map(|m| (m.position, m.redeliveries));
    assert_eq!(counted.collect::<Vec<_>>(), [(positions[298], 1)]);
    assert_eq!(other.texts(100).await, texts(300..400));
    assert_eq!(slow.texts(100).await, texts(5..105));
    for peer in [&mut first, &mut second, &mut other, &mut slow] {
        assert!(peer.pending().await.is_empty());
    }
}

#[tokio::test]
async fn a_batch_acknowledged_in_part_comes_with_what_is_left_among_others_that_are_whole() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut peer = Peer::consuming(&topic, SubscriptionType::Exclusive).await;
    let mut producer = Peer::producing(&topic).await;
    for n in 0..6 {
        producer.send_with(&text(n), batch_of(4));
    }
    let positions = producer.receipts(6).await;
    peer.messages(6).await;
    let part = api::MessageIdData { ack_set: vec![0b0110], batch_size: Some(4), ..id(positions[2]) };
    peer.ack_with(0, api::command_ack::AckType::Individual, vec![part]).await;
    topic.redeliver(peer.consumer(0), vec![], None);
    let again = peer.messages(6).await;
    assert_eq!(again.iter().map(|m| m.position).collect::<Vec<_>>(), positions);
    for (n, message) in again.iter().enumerate() {
        let expected: &[i64] = if n == 2 { &[0b0110] } else { &[] };
        assert_eq!(message.ack_set, expected, "{n}");
        // The first one is counted as the one that keeps the others back.
        assert_eq!(message.redeliveries, u32::from(n == 0), "{n}");
    }
    let permits = topic.stats().await.unwrap().subscriptions["s"].consumers[0].available_permits;
    assert_eq!(permits, 1_000 - 24 - 22);
}

#[tokio::test]
async fn what_is_too_old_is_not_sent_along_with_its_neighbours() {
    let mut world = World::start().await;
    let ttl = std::time::Duration::from_secs(60);
    let policies = crate::policies::TopicPolicies { message_ttl: Some(ttl), ..Default::default() };
    world.env.policies = std::sync::Arc::new(crate::policies::Fixed(policies));
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    let now_ms = magnetar_common::clock::Clock::unix_ms(&*world.clock);
    for n in 0..20 {
        let publish_time = if n % 5 == 1 { 1 } else { now_ms };
        producer.send_with(&text(n), api::MessageMetadata { publish_time, ..Default::default() });
    }
    producer.receipts(20).await;
    let mut peer = Peer::consuming(&topic, SubscriptionType::Exclusive).await;
    let expected: Vec<String> = (0..20).filter(|n| n % 5 != 1).map(text).collect();
    assert_eq!(peer.texts(16).await, expected);
    assert!(peer.pending().await.is_empty());
}
