use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::support::*;
use crate::managed_ledger::test_store::Lost;
use crate::topic::*;
use magnetar_common::clock::{Clock, SystemClock};
use magnetar_proto::ids::Position;
use magnetar_proto::pulsar::api::command_ack::AckType;
use magnetar_proto::pulsar::{Command, api};

/// What a crash leaves is what was durable: the new owner fences the old one, which is never told to close.
async fn crash(world: &World) -> Handle {
    world.topic().await
}

#[tokio::test]
async fn after_a_crash_confirmed_acknowledgements_hold_and_others_are_delivered_again() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    producer.send_all(numbers(0..20)).await;
    let mut consumer = Peer::consuming(&topic, SubscriptionType::Shared).await;
    let got = consumer.messages(20).await;
    let acked: Vec<_> = [0, 1, 2, 5, 7, 8, 19].map(|n| got[n].position).into();
    consumer.ack(0, &acked).await;

    let topic = crash(&world).await;
    let mut consumer = Peer::consuming(&topic, SubscriptionType::Shared).await;
    let again = consumer.texts(13).await;
    let expected: Vec<u32> = (0..20).filter(|n| ![0, 1, 2, 5, 7, 8, 19].contains(n)).collect();
    assert_eq!(again, expected.iter().map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(consumer.pending().await.is_empty());
}

#[tokio::test]
async fn acknowledgements_without_an_answer_are_written_after_a_while_and_at_closing() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    producer.send_all(numbers(0..3)).await;
    let mut consumer = Peer::consuming(&topic, SubscriptionType::Exclusive).await;
    let got = consumer.messages(3).await;
    let quietly = |position| api::CommandAck { message_id: vec![id(position)], ..Default::default() };
    assert!(world.clock.sleepers() <= 1, "an idle topic needs no timer but that of its ledger's age");
    topic.ack(consumer.consumer(0), quietly(got[0].position), &consumer.outbound);
    topic.subscriptions().await.unwrap();
    topic.ack(consumer.consumer(0), quietly(got[1].position), &consumer.outbound);
    let topic = world.reload(&topic).await;
    let mut consumer = Peer::consuming(&topic, SubscriptionType::Exclusive).await;
    assert_eq!(consumer.texts(1).await, ["2"]);
    assert!(consumer.pending().await.is_empty());
}

#[tokio::test]
async fn a_cumulative_acknowledgement_covers_all_before_and_is_not_for_shared() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    producer.send_all(numbers(0..10)).await;
    let mut consumer = Peer::consuming(&topic, SubscriptionType::Exclusive).await;
    let got = consumer.messages(10).await;
    let answer = consumer.ack_with(0, AckType::Cumulative, vec![id(got[6].position)]).await;
    assert_eq!((answer.error, answer.message), (None, None));
    let mut shared = Peer::new(&topic);
    shared.join(0, "shared", SubscriptionType::Shared, 100).await;
    let also = shared.messages(10).await;
    let answer = shared.ack_with(0, AckType::Cumulative, vec![id(also[6].position)]).await;
    assert!(answer.error.is_some() && answer.message.is_some());

    let topic = crash(&world).await;
    let mut consumer = Peer::consuming(&topic, SubscriptionType::Exclusive).await;
    assert_eq!(consumer.texts(3).await, ["7", "8", "9"]);
    assert_eq!(topic.stats().await.unwrap().subscriptions["shared"].msg_backlog, 10);
}

#[tokio::test]
async fn what_is_left_of_a_batch_is_delivered_with_its_ack_set() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    producer.send_with("batch", batch_of(10));
    producer.receipts(1).await;
    let mut consumer = Peer::consuming(&topic, SubscriptionType::Shared).await;
    let got = consumer.message().await;
    let partly = |set: i64| {
        let mut partly = id(got.position);
        (partly.ack_set, partly.batch_size) = (vec![set], Some(10));
        partly
    };
    consumer.ack_with(0, AckType::Individual, vec![partly(0b11_1111_0000)]).await;
    assert_eq!(topic.stats().await.unwrap().subscriptions["s"].unacked_messages, 6);
    topic.redeliver(consumer.consumer(0), vec![], None);
    assert_eq!(consumer.message().await.ack_set, [0b11_1111_0000]);

    let topic = crash(&world).await;
    let mut consumer = Peer::new(&topic);
    consumer.join(0, "s", SubscriptionType::Exclusive, 100).await;
    assert_eq!(consumer.message().await.ack_set, [0b11_1111_0000]);
    let stats = topic.stats().await.unwrap();
    assert_eq!(stats.subscriptions["s"].consumers[0].available_permits, 94);
    consumer.ack_with(0, AckType::Individual, vec![partly(0b1111)]).await;
    assert_eq!(topic.stats().await.unwrap().subscriptions["s"].msg_backlog, 0);
}

#[tokio::test]
async fn seek_sends_consumers_away_and_starts_at_the_wanted_entry() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    for n in 0..10u64 {
        let metadata = api::MessageMetadata { publish_time: 1_000 + n * 10, ..Default::default() };
        producer.send_with(&n.to_string(), metadata);
    }
    let at = producer.receipts(10).await;
    let cases = [
        (SeekTarget::Id(StartPosition::At { position: at[4], ack_set: vec![] }), 4),
        (SeekTarget::Id(StartPosition::Earliest), 0),
        (SeekTarget::Id(StartPosition::Latest), 10),
        (SeekTarget::PublishTime(1_055), 6),
        (SeekTarget::PublishTime(1_060), 6),
        (SeekTarget::PublishTime(0), 0),
        (SeekTarget::PublishTime(9_999), 10),
    ];
    for kind in [SubscriptionType::Exclusive, SubscriptionType::Shared] {
        for (target, first) in cases.clone() {
            let mut peer = Peer::new(&topic);
            peer.join(0, "s", kind, 0).await;
            topic.seek(peer.consumer(0), target.clone()).await.unwrap();
            let closed = peer.pending_now().await;
            assert!(
                matches!(closed.last(), Some((Command::CloseConsumer(c), _)) if c.consumer_id == 0),
                "{closed:?}"
            );
            peer.join(0, "s", kind, 100).await;
            assert_eq!(peer.texts(10 - first as usize).await, numbers(first..10), "{target:?}");
            topic.close_consumer(peer.consumer(0)).await.unwrap();
        }
    }
    let gone = topic.seek(Peer::new(&topic).consumer(0), SeekTarget::PublishTime(1)).await;
    assert!(matches!(gone, Err(TopicError::Invalid(_))), "{gone:?}");
}

#[tokio::test]
async fn a_reader_that_seeks_is_waited_for_a_while() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    producer.send_all(numbers(0..3)).await;
    let mut peer = Peer::new(&topic);
    let read =
        |peer: &Peer| Subscribe { durable: false, ..peer.subscribe(0, "r", SubscriptionType::Exclusive) };
    topic.subscribe(read(&peer)).await.unwrap();
    topic.seek(peer.consumer(0), SeekTarget::Id(StartPosition::Latest)).await.unwrap();
    assert!(matches!(peer.next().await.0, Command::CloseConsumer(_)));
    topic.subscribe(read(&peer)).await.unwrap();
    topic.flow(peer.consumer(0), 10);
    producer.send_all(["new"]).await;
    assert_eq!(peer.texts(1).await, ["new"]);
    topic.seek(peer.consumer(0), SeekTarget::Id(StartPosition::Earliest)).await.unwrap();
    world.clock.advance(Duration::from_secs(60));
    while !topic.subscriptions().await.unwrap().is_empty() {}
}

#[tokio::test]
async fn a_seek_is_durable_and_forgets_what_was_acknowledged() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    producer.send_all(numbers(0..5)).await;
    let mut consumer = Peer::consuming(&topic, SubscriptionType::Shared).await;
    let got = consumer.messages(5).await;
    consumer.ack(0, &got.iter().map(|m| m.position).collect::<Vec<_>>()).await;
    topic.seek(consumer.consumer(0), SeekTarget::Id(StartPosition::Earliest)).await.unwrap();
    let topic = crash(&world).await;
    let mut consumer = Peer::consuming(&topic, SubscriptionType::Shared).await;
    assert_eq!(consumer.texts(5).await, numbers(0..5));
}

#[tokio::test]
async fn a_new_subscription_starts_where_it_was_asked_to_and_keeps_its_place() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    producer.send_all(["old"]).await;
    let peer = Peer::new(&topic);
    let latest = peer.subscribe(0, "latest", SubscriptionType::Shared);
    let latest = Subscribe { initial_position: InitialPosition::Latest, ..latest };
    topic.subscribe(latest).await.unwrap();
    producer.send_all(["new"]).await;
    let missing = Subscribe { create_missing: false, ..peer.subscribe(1, "nope", SubscriptionType::Shared) };
    let refused = topic.subscribe(missing).await;
    assert!(matches!(refused, Err(TopicError::SubscriptionNotFound(_))), "{refused:?}");

    let topic = crash(&world).await;
    let mut peer = Peer::new(&topic);
    peer.join(0, "latest", SubscriptionType::Shared, 10).await;
    assert_eq!(peer.texts(1).await, ["new"]);
}

#[tokio::test]
async fn unsubscribing_deletes_the_cursor_unless_others_use_it() {
    let world = World::start().await;
    let topic = world.topic().await;
    let (one, mut two) = (Peer::new(&topic), Peer::new(&topic));
    one.join(0, "s", SubscriptionType::Shared, 1).await;
    two.join(0, "s", SubscriptionType::Shared, 1).await;
    let refused = topic.unsubscribe(one.consumer(0), false).await;
    assert!(matches!(refused, Err(TopicError::ConsumerBusy { .. })), "{refused:?}");
    topic.unsubscribe(one.consumer(0), true).await.unwrap();
    assert!(matches!(two.next().await.0, Command::CloseConsumer(_)));
    assert!(topic.subscriptions().await.unwrap().is_empty());
    let topic = crash(&world).await;
    assert!(topic.subscriptions().await.unwrap().is_empty());
}

#[tokio::test]
async fn administrators_skip_expire_peek_and_reset() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    let at = producer.send_all(numbers(0..10)).await;
    topic.create_subscription("s", StartPosition::Earliest, Default::default()).await.unwrap();
    let again = topic.create_subscription("s", StartPosition::Earliest, Default::default()).await;
    assert!(matches!(again, Err(TopicError::Exists(_))), "{again:?}");
    let backlog = async || topic.stats().await.unwrap().subscriptions["s"].msg_backlog;
    assert_eq!(backlog().await, 10);
    topic.skip("s", 3).await.unwrap();
    assert_eq!(backlog().await, 7);
    assert_eq!(topic.peek("s", 1).await.unwrap().map(|e| e.position), Some(at[3]));
    assert_eq!(topic.peek("s", 7).await.unwrap().map(|e| e.position), Some(at[9]));
    assert_eq!(topic.peek("s", 8).await.unwrap().map(|e| e.position), None);
    assert_eq!(topic.read(at[2]).await.unwrap().map(|e| e.position), Some(at[2]));
    topic
        .reset_cursor("s", SeekTarget::Id(StartPosition::At { position: at[1], ack_set: vec![] }))
        .await
        .unwrap();
    assert_eq!(backlog().await, 9);
    // All were published long before the clock's now.
    topic.expire("s", 60).await.unwrap();
    assert_eq!(backlog().await, 0);
    topic.reset_cursor("s", SeekTarget::Id(StartPosition::Earliest)).await.unwrap();
    topic.skip_all("s").await.unwrap();
    assert_eq!(backlog().await, 0);
    let consumer = Peer::consuming(&topic, SubscriptionType::Exclusive).await;
    let refused = topic.delete_subscription("s", false).await;
    assert!(matches!(refused, Err(TopicError::InUse(_))), "{refused:?}");
    topic.close_consumer(consumer.consumer(0)).await.unwrap();
    topic.delete_subscription("s", false).await.unwrap();
    assert!(topic.subscriptions().await.unwrap().is_empty());
}

/// The world with a metadata store whose answers can be lost: the store counts the transactions that are answered.
fn forgetful(world: &mut World, applies: bool) -> Arc<Lost> {
    let store = Arc::clone(&world.env.managed_ledgers.metadata);
    let lost = Arc::new(Lost { store, left: AtomicUsize::new(usize::MAX), applies });
    world.env.managed_ledgers.metadata = lost.clone();
    lost
}

/// The subscription could not be had any more before the topic was loaded again, and its messages were not kept for it.
#[tokio::test]
async fn a_subscription_whose_making_was_not_answered_is_there_at_the_next_try() {
    let mut world = World::start().await;
    let lost = forgetful(&mut world, true);
    let topic = world.topic().await;
    Peer::producing(&topic).await.send_all(numbers(0..3)).await;
    lost.left.store(0, Ordering::Release);
    let peer = Peer::new(&topic);
    let refused = topic.subscribe(peer.subscribe(0, "s", SubscriptionType::Exclusive)).await;
    assert!(matches!(refused, Err(TopicError::Metadata(_))), "{refused:?}");
    lost.left.store(usize::MAX, Ordering::Release);
    let mut peer = Peer::consuming(&topic, SubscriptionType::Exclusive).await;
    assert_eq!(peer.texts(3).await, ["0", "1", "2"]);
}

/// It was forgotten at once, and came back with its backlog when the topic was loaded again.
#[tokio::test]
async fn a_subscription_that_could_not_be_deleted_is_there_still_and_can_be_deleted_again() {
    for by_consumer in [false, true] {
        let mut world = World::start().await;
        let lost = forgetful(&mut world, false);
        let topic = world.topic().await;
        let mut peer = Peer::consuming(&topic, SubscriptionType::Exclusive).await;
        let sent = Peer::producing(&topic).await.send_all(numbers(0..2)).await;
        lost.left.store(0, Ordering::Release);
        let refused = match by_consumer {
            true => topic.unsubscribe(peer.consumer(0), false).await,
            false => topic.delete_subscription("s", true).await,
        };
        lost.left.store(usize::MAX, Ordering::Release);
        assert!(matches!(refused, Err(TopicError::Persistence(_))), "{refused:?}");
        assert_eq!(topic.subscriptions().await.unwrap(), ["s"]);
        assert_eq!(peer.texts(2).await, ["0", "1"], "its consumer has not noticed");
        peer.ack(0, &sent).await;
        topic.unsubscribe(peer.consumer(0), false).await.unwrap();
        assert!(topic.subscriptions().await.unwrap().is_empty());
        assert!(world.reload(&topic).await.subscriptions().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_subscription_whose_deletion_was_not_answered_is_gone() {
    let mut world = World::start().await;
    let lost = forgetful(&mut world, true);
    let topic = world.topic().await;
    let peer = Peer::consuming(&topic, SubscriptionType::Exclusive).await;
    lost.left.store(0, Ordering::Release);
    topic.unsubscribe(peer.consumer(0), false).await.unwrap();
    lost.left.store(usize::MAX, Ordering::Release);
    assert!(topic.subscriptions().await.unwrap().is_empty());
    assert!(world.reload(&topic).await.subscriptions().await.unwrap().is_empty());
}

/// It would have taken the next owner's cursor from it.
#[tokio::test]
async fn an_owner_that_was_overtaken_takes_no_cursor_of_its_heir() {
    let world = World::start().await;
    let old = world.topic().await;
    let heir = world.topic().await;
    let mut consumer = Peer::consuming(&heir, SubscriptionType::Exclusive).await;
    let sent = Peer::producing(&heir).await.send_all(numbers(0..2)).await;
    assert_eq!(consumer.texts(2).await, ["0", "1"]);
    let late = Peer::new(&old);
    let refused = old.subscribe(late.subscribe(0, "s", SubscriptionType::Exclusive)).await;
    assert!(matches!(refused, Err(TopicError::NotReady(_))), "{refused:?}");
    old.closed().await;
    consumer.ack(0, &sent).await;
    assert_eq!(heir.stats().await.unwrap().subscriptions["s"].msg_backlog, 0);
}

/// Go's client does nothing else until it has its answer, and so did not even connect again.
#[tokio::test]
async fn an_acknowledgement_that_comes_too_late_is_answered_with_an_error() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut peer = Peer::consuming(&topic, SubscriptionType::Shared).await;
    let sent = Peer::producing(&topic).await.send_all(["a"]).await;
    peer.message().await;
    topic.close_consumer(peer.consumer(0)).await.unwrap();
    let refused = answer(&world, &mut peer, sent[0], Duration::ZERO).await;
    assert_eq!(refused, Some(api::ServerError::ConsumerNotFound));
    topic.close(CloseReason::Unload).await.unwrap();
    topic.closed().await;
    let ack = api::CommandAck { message_id: vec![id(sent[0])], request_id: Some(8), ..Default::default() };
    topic.ack(peer.consumer(0), ack, &peer.outbound);
    let answers = peer.pending_now().await;
    let is_refusal =
        |command: &Command| matches!(command, Command::AckResponse(response) if response.error.is_some());
    assert!(answers.iter().any(|(command, _)| is_refusal(command)), "{answers:?}");
}

/// It used to wait for as long as the bookies were away, and its client with it.
#[tokio::test]
async fn an_acknowledgement_that_cannot_be_made_durable_is_answered_with_an_error_and_may_be_repeated() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut peer = Peer::consuming(&topic, SubscriptionType::Shared).await;
    let sent = Peer::producing(&topic).await.send_all(["a"]).await;
    peer.message().await;
    world.set_read_only(true).await;
    let refused = answer(&world, &mut peer, sent[0], Duration::ZERO).await;
    assert_eq!(refused, Some(api::ServerError::PersistenceError));

    world.set_read_only(false).await;
    assert_eq!(answer(&world, &mut peer, sent[0], STEP).await, None);
}

/// Time passes in such steps.
const STEP: Duration = Duration::from_millis(100);

/// What an acknowledgement is answered with, while time passes; the bookies have `pause` in each step.
async fn answer(
    world: &World,
    peer: &mut Peer,
    position: Position,
    pause: Duration,
) -> Option<api::ServerError> {
    let ack = api::CommandAck { message_id: vec![id(position)], request_id: Some(7), ..Default::default() };
    peer.topic.ack(peer.consumer(0), ack, &peer.outbound);
    let answered = async {
        loop {
            for (command, _) in peer.pending().await {
                if let Command::AckResponse(response) = command {
                    return response.error.map(|_| response.error());
                }
            }
            world.clock.advance(STEP);
            SystemClock::default().sleep(pause).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), answered).await.expect("an answer")
}
