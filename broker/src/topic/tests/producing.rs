use super::support::*;
use crate::topic::*;
use magnetar_common::budget::ByteBudget;
use magnetar_proto::pulsar::{Command, api, entry};

#[tokio::test]
async fn each_send_gets_its_receipt_in_order_with_its_own_numbers() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut peer = Peer::producing(&topic).await;
    for n in 0..10u64 {
        topic.publish(Publish {
            key: peer.producer(0),
            sequence_id: n * 10,
            highest_sequence_id: Some(n * 10 + 9),
            num_messages: 10,
            is_chunk: false,
            headers_and_payload: entry::build(&batch_of(10), b"x"),
            ticket: ByteBudget::new(64).try_acquire(1).unwrap(),
        });
    }
    let mut last = None;
    for n in 0..10 {
        let (Command::SendReceipt(receipt), _) = peer.next().await else { panic!("a receipt") };
        assert_eq!((receipt.sequence_id, receipt.highest_sequence_id), (n * 10, Some(n * 10 + 9)));
        let id = receipt.message_id.unwrap();
        assert_eq!((id.partition, id.batch_index, id.batch_size), (None, None, None));
        assert!(last < Some(position(&id)));
        last = Some(position(&id));
    }
}

#[tokio::test]
async fn names_are_made_up_and_a_taken_one_is_refused_with_its_holder() {
    let world = World::start().await;
    let topic = world.topic().await;
    let (one, two) = (Peer::new(&topic), Peer::new(&topic));
    let first = topic.add_producer(one.add_producer(0)).await.unwrap();
    let second = topic.add_producer(two.add_producer(0)).await.unwrap();
    assert_ne!(first.name, second.name);
    assert_eq!((first.last_sequence_id, first.topic_epoch, first.ready), (-1, None, true));

    let named = |peer: &Peer, id, epoch| AddProducer {
        name: Some("mine".into()),
        user_provided_name: true,
        epoch,
        ..peer.add_producer(id)
    };
    topic.add_producer(named(&one, 1, 0)).await.unwrap();
    let refused = topic.add_producer(named(&two, 1, 0)).await;
    let Err(TopicError::ProducerBusy { holder: Some(holder), .. }) = refused else { panic!("busy") };
    assert_eq!(holder.0.connection(), one.outbound.connection());
    // The same producer again: a repeated command, and a reconnect.
    topic.add_producer(named(&one, 1, 0)).await.unwrap();
    topic.add_producer(named(&one, 1, 1)).await.unwrap();
    topic.connection_closed(one.outbound.connection());
    topic.add_producer(named(&two, 1, 0)).await.unwrap();
}

#[tokio::test]
async fn a_generated_name_follows_its_client_to_a_new_connection() {
    let world = World::start().await;
    let topic = world.topic().await;
    let (old, new) = (Peer::new(&topic), Peer::new(&topic));
    let name = topic.add_producer(old.add_producer(0)).await.unwrap().name;
    let again = AddProducer { name: Some(name.clone()), epoch: 1, ..new.add_producer(0) };
    assert_eq!(topic.add_producer(again).await.unwrap().name, name);
}

#[tokio::test]
async fn exclusive_access_is_refused_waited_for_or_taken_by_force() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut peers: Vec<Peer> = (0..4).map(|_| Peer::new(&topic)).collect();
    let with = |peer: &Peer, access_mode| AddProducer { access_mode, ..peer.add_producer(0) };
    let holder = topic.add_producer(with(&peers[0], AccessMode::Exclusive)).await.unwrap();
    assert_eq!(holder.topic_epoch, Some(0));
    let shared = topic.add_producer(with(&peers[1], AccessMode::Shared)).await;
    assert!(matches!(shared, Err(TopicError::ProducerBusy { .. })), "{shared:?}");
    let exclusive = topic.add_producer(with(&peers[1], AccessMode::Exclusive)).await;
    assert!(matches!(exclusive, Err(TopicError::ProducerFenced(_))), "{exclusive:?}");

    let waits = topic.add_producer(with(&peers[1], AccessMode::WaitForExclusive)).await.unwrap();
    assert_eq!((waits.ready, waits.topic_epoch), (false, None));
    topic.close_producer(peers[0].producer(0)).await.unwrap();
    let (Command::ProducerSuccess(success), _) = peers[1].next().await else { panic!("the second answer") };
    assert_eq!(
        (success.request_id, success.topic_epoch, success.producer_ready),
        (1_000, Some(1), Some(true))
    );

    let waits = topic.add_producer(with(&peers[3], AccessMode::WaitForExclusive)).await.unwrap();
    assert!(!waits.ready);
    let fencing = topic.add_producer(with(&peers[2], AccessMode::ExclusiveWithFencing)).await.unwrap();
    assert_eq!(fencing.topic_epoch, Some(2));
    // Nothing else would answer the one that waits: Apache's Java client would hang.
    let (Command::Error(error), _) = peers[3].next().await else { panic!("the second answer") };
    assert_eq!((error.request_id, error.error()), (1_000, api::ServerError::ProducerFenced));
    assert!(matches!(peers[1].next().await.0, Command::CloseProducer(_)));
    let returns = AddProducer { topic_epoch: Some(1), ..with(&peers[1], AccessMode::Exclusive) };
    let fenced = topic.add_producer(returns).await;
    assert!(matches!(fenced, Err(TopicError::ProducerFenced(_))), "{fenced:?}");

    // The epoch outlives the topic's task.
    let topic = world.reload(&topic).await;
    let later = topic.add_producer(with(&peers[3], AccessMode::Exclusive)).await.unwrap();
    assert_eq!(later.topic_epoch, Some(3));
}

/// Nobody was connected any more, and nobody was let in.
#[tokio::test]
async fn who_waits_for_exclusive_access_gets_it_when_the_holder_comes_back_on_another_connection() {
    for name in [TOPIC, "non-persistent://public/default/t"] {
        let world = World::start().await;
        let topic = world.named(name).await;
        let (old, mut waiting, new) = (Peer::new(&topic), Peer::new(&topic), Peer::new(&topic));
        let with = |peer: &Peer, access_mode| AddProducer { access_mode, ..peer.add_producer(0) };
        let holder = topic.add_producer(with(&old, AccessMode::Exclusive)).await.unwrap();
        let waits = topic.add_producer(with(&waiting, AccessMode::WaitForExclusive)).await.unwrap();
        assert!(!waits.ready);
        let again = AddProducer { name: Some(holder.name), epoch: 1, ..with(&new, AccessMode::Exclusive) };
        let refused = topic.add_producer(again).await;
        assert!(matches!(refused, Err(TopicError::ProducerFenced(_))), "{refused:?}");
        let (Command::ProducerSuccess(success), _) = waiting.next().await else { panic!("its turn") };
        assert_eq!(success.producer_ready, Some(true));
    }
}

/// CLOSE_PRODUCER was all they were told, which answers no request: Go's client waited for an answer until its connection ended.
#[tokio::test]
async fn who_waits_for_exclusive_access_is_answered_when_the_topic_closes() {
    for name in [TOPIC, "non-persistent://public/default/t"] {
        let world = World::start().await;
        let topic = world.named(name).await;
        let (holder, mut waiting) = (Peer::new(&topic), Peer::new(&topic));
        let with = |peer: &Peer, access_mode| AddProducer { access_mode, ..peer.add_producer(0) };
        topic.add_producer(with(&holder, AccessMode::Exclusive)).await.unwrap();
        topic.add_producer(with(&waiting, AccessMode::WaitForExclusive)).await.unwrap();
        topic.close(CloseReason::Unload).await.unwrap();
        let (Command::Error(error), _) = waiting.next().await else { panic!("an answer") };
        assert_eq!((error.request_id, error.error()), (1_000, api::ServerError::ServiceNotReady));
    }
}

/// They were dropped, and the end of a producer that had nothing else under way was never answered.
#[tokio::test]
async fn what_the_ledger_could_not_take_at_once_is_stored_before_its_producer_is_gone() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut peer = Peer::producing(&topic).await;
    // More than a ledger has under way.
    let large = "x".repeat(4 << 20);
    (0..18).for_each(|_| peer.send(&large));
    topic.close_producer(peer.producer(0)).await.unwrap();
    peer.receipts(18).await;
    assert!(topic.stats().await.unwrap().publishers.is_empty());
}

#[tokio::test]
async fn closing_a_producer_waits_for_what_it_sent() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut peer = Peer::producing(&topic).await;
    (0..50).for_each(|n| peer.send(&n.to_string()));
    topic.close_producer(peer.producer(0)).await.unwrap();
    assert_eq!(peer.pending_now().await.len(), 50);
    peer.send("late");
    assert!(peer.pending().await.is_empty());
}

#[tokio::test]
async fn a_topic_taken_over_by_another_owner_never_receipts_again() {
    let world = World::start().await;
    let old = world.topic().await;
    let (mut java, mut rust) = (Peer::producing(&old).await, Peer::of(&old, "pulsar-rs-v6"));
    old.add_producer(rust.add_producer(0)).await.unwrap();
    java.send_all(["before"]).await;
    let new = world.topic().await;
    java.send("zombie");
    let (Command::CloseProducer(close), _) = java.next().await else { panic!("no receipt") };
    assert_eq!((close.producer_id, close.request_id), (0, u64::MAX));
    old.closed().await;
    assert!(old.is_closed() && rust.outbound.is_closed());
    assert!(rust.pending_now().await.is_empty());

    let mut consumer = Peer::consuming(&new, SubscriptionType::Exclusive).await;
    let mut producer = Peer::producing(&new).await;
    producer.send_all(["after"]).await;
    assert_eq!(consumer.texts(2).await, ["before", "after"]);
}

#[tokio::test]
async fn unreadable_metadata_is_refused_and_the_topic_lives_on() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut peer = Peer::producing(&topic).await;
    topic.publish(Publish {
        key: peer.producer(0),
        sequence_id: 5,
        highest_sequence_id: None,
        num_messages: 1,
        is_chunk: false,
        headers_and_payload: b"\x0e\x01garbage"[..].into(),
        ticket: ByteBudget::new(64).try_acquire(1).unwrap(),
    });
    let (Command::SendError(error), _) = peer.next().await else { panic!("an error") };
    assert_eq!((error.sequence_id, error.error()), (5, api::ServerError::MetadataError));
    peer.send_all(["fine"]).await;
}

#[tokio::test]
async fn a_terminated_topic_takes_nothing_and_tells_java_consumers_at_its_end() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    let last = producer.send_all(["a", "b"]).await[1];
    assert_eq!(topic.terminate().await.unwrap(), Some(last));
    assert!(matches!(producer.next().await.0, Command::CloseProducer(_)));
    let refused = topic.add_producer(producer.add_producer(0)).await;
    assert!(matches!(refused, Err(TopicError::Terminated)), "{refused:?}");
    let mut consumer = Peer::consuming(&topic, SubscriptionType::Exclusive).await;
    let mut python = Peer::of(&topic, "Pulsar-CPP-v3");
    python.join(0, "other", SubscriptionType::Exclusive, 10).await;
    for peer in [&mut consumer, &mut python] {
        let got = peer.messages(2).await;
        peer.ack(0, &[got[0].position, got[1].position]).await;
    }
    assert!(matches!(consumer.next().await.0, Command::ReachedEndOfTopic(_)));
    assert!(python.pending().await.is_empty());
    let topic = world.reload(&topic).await;
    let refused = topic.add_producer(Peer::new(&topic).add_producer(0)).await;
    assert!(matches!(refused, Err(TopicError::Terminated)), "{refused:?}");
}
