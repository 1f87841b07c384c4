use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::support::*;
use crate::managed_ledger::test_store::Lost;
use crate::policies::{Fixed, TopicPolicies};
use crate::topic::*;
use magnetar_common::budget::ByteBudget;
use magnetar_proto::pulsar::{Command, api, entry};

async fn with_deduplication() -> World {
    let mut world = World::start().await;
    let policies = TopicPolicies { deduplication: true, ..Default::default() };
    world.env.policies = Arc::new(Fixed(policies));
    world
}

/// Connects producer 0 under the name `p`; answers the last sequence id that it is told.
async fn connect(peer: &Peer) -> i64 {
    let request = AddProducer { name: Some("p".into()), ..peer.add_producer(0) };
    peer.topic.add_producer(request).await.unwrap().last_sequence_id
}

/// No producer could be let in any more before the topic was loaded again.
#[tokio::test]
async fn a_table_whose_making_was_not_answered_is_there_at_the_next_try() {
    let mut world = with_deduplication().await;
    let store = Arc::clone(&world.env.managed_ledgers.metadata);
    let lost = Arc::new(Lost { store, left: AtomicUsize::new(usize::MAX), applies: true });
    world.env.managed_ledgers.metadata = lost.clone();
    let topic = open(world.env.clone(), TOPIC.parse().unwrap(), true).await.unwrap();
    lost.left.store(0, Ordering::Release);
    let mut peer = Peer::new(&topic);
    let refused = topic.add_producer(peer.add_producer(0)).await;
    assert!(matches!(refused, Err(TopicError::Metadata(_))), "{:?}", refused.err());
    lost.left.store(usize::MAX, Ordering::Release);
    connect(&peer).await;
    send(&peer, 0);
    peer.receipts(1).await;
    let topic = world.reload(&topic).await;
    assert_eq!(connect(&Peer::new(&topic)).await, 0);
}

/// A new topic of that name took the new messages of a producer for old ones.
#[tokio::test]
async fn a_table_that_could_not_be_deleted_goes_with_the_topic() {
    let mut world = with_deduplication().await;
    let store = Arc::clone(&world.env.managed_ledgers.metadata);
    let lost = Arc::new(Lost { store, left: AtomicUsize::new(usize::MAX), applies: false });
    world.env.managed_ledgers.metadata = lost.clone();
    let topic = open(world.env.clone(), TOPIC.parse().unwrap(), true).await.unwrap();
    let mut peer = Peer::new(&topic);
    connect(&peer).await;
    send(&peer, 7);
    peer.receipts(1).await;
    topic.set_policies(TopicPolicies::default());
    lost.left.store(0, Ordering::Release);
    let refused = topic.add_producer(Peer::new(&topic).add_producer(1)).await;
    assert!(matches!(refused, Err(TopicError::Persistence(_))), "{:?}", refused.err());
    lost.left.store(usize::MAX, Ordering::Release);
    topic.close_producer(peer.producer(0)).await.unwrap();
    topic.close(CloseReason::Delete { force: true }).await.unwrap();
    topic.closed().await;
    let topic = world.topic().await;
    assert_eq!(connect(&Peer::new(&topic)).await, -1);
}

fn send(peer: &Peer, sequence_id: u64) {
    let metadata = api::MessageMetadata {
        producer_name: "p".into(),
        sequence_id,
        publish_time: 1,
        ..Default::default()
    };
    peer.topic.publish(Publish {
        key: peer.producer(0),
        sequence_id,
        highest_sequence_id: None,
        num_messages: 1,
        is_chunk: false,
        headers_and_payload: entry::build(&metadata, sequence_id.to_string().as_bytes()),
        ticket: ByteBudget::new(64).try_acquire(1).unwrap(),
    });
}

/// Sequence ids of the next receipts, and whether something was stored for them.
async fn receipts(peer: &mut Peer, n: usize) -> Vec<(u64, bool)> {
    let mut receipts = Vec::new();
    for _ in 0..n {
        let (Command::SendReceipt(receipt), _) = peer.next().await else { panic!("a receipt") };
        let id = receipt.message_id.unwrap();
        assert_eq!(id.ledger_id == u64::MAX, id.entry_id == u64::MAX);
        receipts.push((receipt.sequence_id, id.ledger_id != u64::MAX));
    }
    receipts
}

#[tokio::test]
async fn a_repeated_send_is_receipted_in_its_turn_and_stored_once() {
    let world = with_deduplication().await;
    let topic = world.topic().await;
    let mut peer = Peer::new(&topic);
    assert_eq!(connect(&peer).await, -1);
    // The repetitions come while the originals are on their way to the bookies.
    [0, 1, 2, 1, 2, 3].into_iter().for_each(|n| send(&peer, n));
    let expected = [(0, true), (1, true), (2, true), (1, false), (2, false), (3, true)];
    assert_eq!(receipts(&mut peer, 6).await, expected);
    send(&peer, 3);
    assert_eq!(receipts(&mut peer, 1).await, [(3, false)]);
    let mut consumer = Peer::consuming(&topic, SubscriptionType::Exclusive).await;
    assert_eq!(consumer.texts(4).await, numbers(0..4));
    assert!(consumer.pending().await.is_empty());
    assert_eq!(topic.subscriptions().await.unwrap(), ["s"]);
}

#[tokio::test]
async fn the_next_owner_knows_what_the_log_holds_and_nothing_else() {
    let world = with_deduplication().await;
    let mut topic = world.topic().await;
    topic.create_subscription("s", StartPosition::Earliest, Default::default()).await.unwrap();
    let mut next = 0;
    // The first owners vanish, with and without a snapshot since; the last one closes.
    for (entries, vanishes) in [(5, true), (1_200, true), (30, true), (30, false)] {
        let mut peer = Peer::new(&topic);
        assert_eq!(connect(&peer).await, next as i64 - 1);
        for n in next.max(1) - 1..next + entries {
            send(&peer, n);
        }
        let repeated = u64::from(next > 0);
        let got = receipts(&mut peer, (entries + repeated) as usize).await;
        assert_eq!(got.iter().filter(|(_, stored)| *stored).count() as u64, entries);
        next += entries;
        world.clock.advance(Duration::from_secs(1));
        topic = match vanishes {
            true => world.topic().await,
            false => world.reload(&topic).await,
        };
    }
    assert_eq!(topic.stats().await.unwrap().subscriptions["s"].msg_backlog, next);
}

#[tokio::test]
async fn what_deduplication_needs_is_not_trimmed_and_the_rest_is() {
    let mut world = with_deduplication().await;
    world.env.config.max_entries_per_ledger = 100;
    let topic = world.topic().await;
    let mut peer = Peer::new(&topic);
    connect(&peer).await;
    (0..500).for_each(|n| send(&peer, n));
    receipts(&mut peer, 500).await;
    let entries = || async { topic.internal_stats().await.unwrap().number_of_entries };
    assert_eq!(entries().await, 500);
    world.clock.advance(Duration::from_secs(121));
    until("a snapshot is taken", || async {
        world.clock.advance(Duration::from_secs(1));
        entries().await <= 100
    })
    .await;
    let topic = world.topic().await;
    let peer = Peer::new(&topic);
    assert_eq!(connect(&peer).await, 499);
}

#[tokio::test]
async fn deduplication_is_switched_on_and_off_while_the_topic_is_used() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut peer = Peer::new(&topic);
    for (deduplication, stored) in [(false, true), (true, false), (false, true)] {
        topic.set_policies(TopicPolicies { deduplication, ..Default::default() });
        topic.close_producer(peer.producer(0)).await.unwrap();
        connect(&peer).await;
        [7, 7].into_iter().for_each(|n| send(&peer, n));
        assert_eq!(receipts(&mut peer, 2).await, [(7, true), (7, stored)]);
    }
    let names = crate::cursor::CursorStore::list(&world.env.managed_ledgers, "public/default/persistent/t");
    assert!(names.await.unwrap().is_empty());
}
