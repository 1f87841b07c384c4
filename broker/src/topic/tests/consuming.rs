use super::support::*;
use crate::protocol::outbound::HIGH_WATER_BYTES;
use crate::topic::*;
use magnetar_proto::pulsar::{Command, api};

#[tokio::test]
async fn an_exclusive_consumer_gets_everything_in_order() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut consumer = Peer::consuming(&topic, SubscriptionType::Exclusive).await;
    let mut producer = Peer::producing(&topic).await;
    let positions = producer.send_all(numbers(0..500)).await;
    let got = consumer.messages(500).await;
    assert_eq!(got.iter().map(|m| m.position).collect::<Vec<_>>(), positions);
    assert_eq!(got.iter().map(|m| m.text.clone()).collect::<Vec<_>>(), numbers(0..500));
    assert!(got.iter().all(|m| m.redeliveries == 0 && m.ack_set.is_empty()));
}

/// Each of them once sent a whole piece of its backlog before it knew that their connection had enough, which with some
/// hundred consumers was more than a connection may have queued at all.
#[tokio::test]
async fn many_consumers_of_one_connection_keep_together_to_what_it_takes() {
    const CONSUMERS: u64 = 60;
    let world = World::start().await;
    let topic = world.topic().await;
    let mut peer = Peer::new(&topic);
    for id in 0..CONSUMERS {
        peer.join(id, &format!("s{id}"), SubscriptionType::Exclusive, 0).await;
    }
    let mut producer = Peer::producing(&topic).await;
    let texts: Vec<String> = (0..200).map(|n| format!("{n:01000}")).collect();
    producer.send_all(&texts).await;
    (0..CONSUMERS).for_each(|id| topic.flow(peer.consumer(id), 1_000));
    until("the connection has enough", async || peer.outbound.queued_bytes() >= HIGH_WATER_BYTES).await;
    topic.subscriptions().await.unwrap();
    assert!(peer.outbound.queued_bytes() < 2 * HIGH_WATER_BYTES, "{}", peer.outbound.queued_bytes());
    let mut got = vec![Vec::new(); CONSUMERS as usize];
    for message in peer.messages(texts.len() * CONSUMERS as usize).await {
        got[message.consumer as usize].push(message.text);
    }
    assert!(got.iter().all(|got| *got == texts), "everybody gets everything in order");
}

#[tokio::test]
async fn entries_that_left_memory_are_read_from_bookies() {
    let mut world = World::start().await;
    world.env.limits.tail_cache_bytes = 1_000;
    world.env.limits.read_ahead_bytes = 2_000;
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    producer.send_all(numbers(0..600)).await;
    let mut consumer = Peer::consuming(&topic, SubscriptionType::Exclusive).await;
    assert_eq!(consumer.texts(600).await, numbers(0..600));
    let mut shared = Peer::new(&topic);
    shared.join(0, "shared", SubscriptionType::Shared, 1_000).await;
    let first = shared.messages(600).await;
    topic.redeliver(
        shared.consumer(0),
        vec![first[3].position, first[4].position, first[200].position],
        None,
    );
    let again = shared.messages(3).await;
    assert_eq!(again.iter().map(|m| m.text.as_str()).collect::<Vec<_>>(), ["3", "4", "200"]);
    assert!(again.iter().all(|m| m.redeliveries == 1));
}

#[tokio::test]
async fn reading_goes_on_over_ledgers() {
    let mut world = World::start().await;
    world.env.config.max_entries_per_ledger = 10;
    let topic = world.topic().await;
    let mut live = Peer::consuming(&topic, SubscriptionType::Exclusive).await;
    let mut producer = Peer::producing(&topic).await;
    for n in 0..7 {
        producer.send_all(numbers(n * 5..n * 5 + 5)).await;
    }
    assert_eq!(live.texts(35).await, numbers(0..35));
    let topic = world.reload(&topic).await;
    let mut later = Peer::consuming(&topic, SubscriptionType::Exclusive).await;
    let got = later.messages(35).await;
    assert_eq!(got.iter().map(|m| m.text.clone()).collect::<Vec<_>>(), numbers(0..35));
    assert!(got[0].position.ledger_id < got[34].position.ledger_id);
    later.ack(0, &got[..34].iter().map(|m| m.position).collect::<Vec<_>>()).await;
    assert_eq!(topic.stats().await.unwrap().subscriptions["s"].msg_backlog, 1);
}

#[tokio::test]
async fn nothing_is_sent_without_permits_and_a_batch_may_overdraw_them() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut consumer = Peer::new(&topic);
    consumer.join(0, "s", SubscriptionType::Exclusive, 0).await;
    let mut producer = Peer::producing(&topic).await;
    for n in 0..4 {
        producer.send_with(&n.to_string(), batch_of(10));
    }
    producer.receipts(4).await;
    assert!(consumer.pending().await.is_empty());
    topic.flow(consumer.consumer(0), 15);
    assert_eq!(consumer.texts(2).await, ["0", "1"]);
    topic.flow(consumer.consumer(0), 5);
    assert!(consumer.pending().await.is_empty());
    topic.flow(consumer.consumer(0), 1);
    assert_eq!(consumer.texts(1).await, ["2"]);
}

#[tokio::test]
async fn a_connection_that_does_not_drain_gets_no_more_until_it_does() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    let big = "x".repeat(HIGH_WATER_BYTES / 4);
    producer.send_all(vec![big; 12]).await;
    let mut consumer = Peer::consuming(&topic, SubscriptionType::Exclusive).await;
    topic.subscriptions().await.unwrap();
    assert!(consumer.outbound.queued_bytes() < HIGH_WATER_BYTES + HIGH_WATER_BYTES / 2);
    assert_eq!(consumer.messages(12).await.len(), 12);
}

#[tokio::test]
async fn a_second_exclusive_consumer_and_another_type_are_refused() {
    let world = World::start().await;
    let topic = world.topic().await;
    let first = Peer::consuming(&topic, SubscriptionType::Exclusive).await;
    // The same command again is answered with success.
    topic.subscribe(first.subscribe(0, "s", SubscriptionType::Exclusive)).await.unwrap();
    let second = Peer::new(&topic);
    let refused = topic.subscribe(second.subscribe(0, "s", SubscriptionType::Exclusive)).await;
    let Err(TopicError::ConsumerBusy { holder: Some(holder), .. }) = refused else { panic!("busy") };
    assert_eq!(holder.0.connection(), first.outbound.connection());
    let refused = topic.subscribe(second.subscribe(0, "s", SubscriptionType::Shared)).await;
    assert!(matches!(refused, Err(TopicError::ConsumerBusy { .. })), "{refused:?}");
    topic.close_consumer(first.consumer(0)).await.unwrap();
    topic.subscribe(second.subscribe(0, "s", SubscriptionType::Shared)).await.unwrap();
}

#[tokio::test]
async fn failover_goes_to_the_next_consumer_with_what_was_not_acknowledged() {
    let world = World::start().await;
    let topic = world.named("persistent://public/default/t-partition-0").await;
    let mut peer = Peer::new(&topic);
    peer.join(0, "s", SubscriptionType::Failover, 1_000).await;
    assert!(matches!(peer.next().await.0, Command::ActiveConsumerChange(c) if c.is_active()));
    peer.join(1, "s", SubscriptionType::Failover, 1_000).await;
    let (Command::ActiveConsumerChange(change), _) = peer.next().await else {
        panic!("state of the newcomer")
    };
    assert_eq!((change.consumer_id, change.is_active()), (1, false));
    let mut producer = Peer::producing(&topic).await;
    producer.send_all(numbers(0..10)).await;
    let got = peer.messages(10).await;
    assert!(got.iter().all(|m| m.consumer == 0));
    peer.ack(0, &[got[0].position, got[1].position, got[3].position]).await;
    topic.close_consumer(peer.consumer(0)).await.unwrap();
    let rest = peer.messages(7).await;
    assert!(rest.iter().all(|m| m.consumer == 1));
    assert_eq!(rest[..3].iter().map(|m| m.text.as_str()).collect::<Vec<_>>(), ["2", "4", "5"]);
}

#[tokio::test]
async fn redelivery_on_an_exclusive_subscription_rewinds_with_the_new_epoch() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut peer = Peer::new(&topic);
    let subscribe = peer.subscribe(0, "s", SubscriptionType::Exclusive);
    topic.subscribe(Subscribe { consumer_epoch: Some(3), ..subscribe }).await.unwrap();
    topic.flow(peer.consumer(0), 100);
    let mut producer = Peer::producing(&topic).await;
    producer.send_all(["a", "b", "c"]).await;
    let got = peer.messages(3).await;
    assert!(got.iter().all(|m| m.epoch == Some(3)));
    peer.ack(0, &[got[1].position]).await;
    topic.redeliver(peer.consumer(0), vec![], Some(4));
    let again = peer.messages(2).await;
    assert_eq!(
        again.iter().map(|m| (m.text.as_str(), m.epoch)).collect::<Vec<_>>(),
        [("a", Some(4)), ("c", Some(4))]
    );
}

#[tokio::test]
async fn readers_start_where_they_are_told_and_leave_nothing_behind() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    let at = producer.send_all(numbers(0..5)).await;
    let mut peer = Peer::new(&topic);
    let starts = [
        (StartPosition::Earliest, 5),
        (StartPosition::Latest, 0),
        (StartPosition::At { position: at[2], ack_set: vec![] }, 3),
        (StartPosition::At { position: reads::after(at[4]), ack_set: vec![] }, 0),
    ];
    for (n, (start, expected)) in starts.into_iter().enumerate() {
        let id = n as u64;
        let subscribe = peer.subscribe(id, &format!("reader-{n}"), SubscriptionType::Exclusive);
        topic.subscribe(Subscribe { durable: false, start: Some(start), ..subscribe }).await.unwrap();
        topic.flow(peer.consumer(id), 100);
        let got = peer.texts(expected).await;
        assert_eq!(got, numbers(5 - expected as u32..5));
        assert!(peer.pending().await.is_empty());
    }
    assert_eq!(topic.subscriptions().await.unwrap().len(), 4);
    topic.connection_closed(peer.outbound.connection());
    assert!(topic.subscriptions().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_last_message_id_is_exact() {
    let world = World::start().await;
    let topic = world.named("persistent://public/default/t-partition-2").await;
    let mut consumer = Peer::consuming(&topic, SubscriptionType::Exclusive).await;
    let empty = topic.last_message_id(consumer.consumer(0)).await.unwrap();
    assert_eq!((empty.position, empty.batch_index, empty.partition), (None, -1, 2));
    let mut producer = Peer::producing(&topic).await;
    let single = producer.send_all(["one"]).await[0];
    let last = topic.last_message_id(consumer.consumer(0)).await.unwrap();
    assert_eq!((last.position, last.batch_index), (Some(single), -1));
    producer.send_with("batch", batch_of(1));
    let batch = producer.receipts(1).await[0];
    producer.send_with("marker", api::MessageMetadata { marker_type: Some(21), ..Default::default() });
    producer.receipts(1).await;
    let last = topic.last_message_id(consumer.consumer(0)).await.unwrap();
    assert_eq!((last.position, last.batch_index), (Some(batch), 0));
    // The marker is nobody's business.
    assert_eq!(consumer.texts(2).await, ["one", "batch"]);
    consumer.ack(0, &[single, batch]).await;
    assert_eq!(topic.stats().await.unwrap().subscriptions["s"].msg_backlog, 0);
}
