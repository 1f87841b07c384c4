use super::support::*;
use crate::topic::*;
use magnetar_proto::pulsar::{Command, api};

#[tokio::test]
async fn closing_tells_everybody_and_keeps_everything() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    let mut consumer = Peer::consuming(&topic, SubscriptionType::Exclusive).await;
    (0..100).for_each(|n| producer.send(&n.to_string()));
    topic.close(CloseReason::Shutdown).await.unwrap();
    topic.closed().await;
    assert!(topic.is_closed());
    producer.receipts(100).await;
    assert!(matches!(producer.next().await.0, Command::CloseProducer(_)));
    assert!(matches!(consumer.pending_now().await.last(), Some((Command::CloseConsumer(_), _))));
    // Once more is fine; anything else is told to look the topic up again.
    topic.close(CloseReason::Unload).await.unwrap();
    let late = topic.stats().await;
    assert!(matches!(late, Err(TopicError::NotReady(_))), "{late:?}");

    let topic = world.topic().await;
    let mut consumer = Peer::consuming(&topic, SubscriptionType::Exclusive).await;
    assert_eq!(consumer.texts(100).await, numbers(0..100));
}

/// SUCCESS came from the request's own task, and CLOSE_CONSUMER could overtake it: the Go client knows no consumer before its
/// SUCCESS, so it dropped the one and waited for messages for ever after the other.
#[tokio::test]
async fn who_is_let_in_is_told_so_before_being_sent_away() {
    for name in [TOPIC, "non-persistent://public/default/t"] {
        let world = World::start().await;
        let topic = world.named(name).await;
        let mut peer = Peer::new(&topic);
        let answer = |request_id| {
            let outbound = peer.outbound.clone();
            move || outbound.send(api::CommandSuccess { request_id, schema: None }.into())
        };
        let (consumer, producer) = (answer(1), answer(2));
        let subscribe = Subscribe {
            welcome: Welcome::new(move |()| consumer()),
            ..peer.subscribe(0, "s", SubscriptionType::Exclusive)
        };
        let add_producer = AddProducer { welcome: Welcome::new(move |_| producer()), ..peer.add_producer(0) };
        // All are in the topic's mailbox before it looks, and whoever asked hears of nothing before it has closed.
        let (subscribed, added, closed) = tokio::join!(
            topic.subscribe(subscribe),
            topic.add_producer(add_producer),
            topic.close(CloseReason::Unload)
        );
        assert!(subscribed.is_ok() && added.is_ok() && closed.is_ok());
        let told: Vec<Command> = peer.pending_now().await.into_iter().map(|(command, _)| command).collect();
        let at = |wanted: fn(&Command) -> bool| told.iter().position(wanted).expect("told");
        let succeeded = |id| told.iter().position(|c| matches!(c, Command::Success(s) if s.request_id == id));
        assert!(succeeded(1).expect("told") < at(|command| matches!(command, Command::CloseConsumer(_))));
        assert!(succeeded(2).expect("told") < at(|command| matches!(command, Command::CloseProducer(_))));
    }
}

#[tokio::test]
async fn clients_of_a_topic_that_moves_hear_of_it_when_they_can_go_there() {
    let world = World::start().await;
    for next in [Some("pulsar://next:6650"), None] {
        let topic = world.topic().await;
        let mut producer = Peer::producing(&topic).await;
        let mut consumer = Peer::consuming(&topic, SubscriptionType::Exclusive).await;
        producer.send_all(["x"]).await;
        let departed = topic.hand_over().await;
        topic.closed().await;
        assert!(departed.has_producers());
        let is_close = |(command, _): &(Command, _)| {
            matches!(command, Command::CloseProducer(_) | Command::CloseConsumer(_))
        };
        assert!(!producer.pending_now().await.iter().any(is_close), "told before there is a place to go to");
        assert!(!consumer.pending_now().await.iter().any(is_close), "told before there is a place to go to");
        match next {
            Some(next) => departed.send_to(next),
            None => drop(departed),
        }
        let Command::CloseProducer(close) = producer.next().await.0 else { panic!("no CLOSE_PRODUCER") };
        assert_eq!(close.assigned_broker_service_url.as_deref(), next);
        let Command::CloseConsumer(close) = consumer.next().await.0 else { panic!("no CLOSE_CONSUMER") };
        assert_eq!(close.assigned_broker_service_url.as_deref(), next);
    }
}

#[tokio::test]
async fn a_topic_can_have_its_ledger_before_its_first_producer() {
    let world = World::start().await;
    let topic = world.topic().await;
    let before = topic.internal_stats().await.unwrap().ledgers.len();
    topic.prepare().await.unwrap();
    let after = topic.internal_stats().await.unwrap().ledgers.len();
    assert_eq!((before, after), (0, 1));
    Peer::producing(&topic).await.send_all(["x"]).await;
    assert_eq!(topic.internal_stats().await.unwrap().ledgers.len(), 1);
}

#[tokio::test]
async fn a_topic_opened_for_writing_has_its_ledger_at_once() {
    let world = World::start().await;
    let topic = open(world.env.clone(), TOPIC.parse().unwrap(), true).await.unwrap();
    assert_eq!(topic.internal_stats().await.unwrap().ledgers.len(), 1);
    Peer::producing(&topic).await.send_all(["x"]).await;
    assert_eq!(topic.internal_stats().await.unwrap().ledgers.len(), 1);
}

#[tokio::test]
async fn deleting_needs_force_while_somebody_is_connected_and_leaves_nothing() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    producer.send_all(["x"]).await;
    topic.create_subscription("s", StartPosition::Earliest, Default::default()).await.unwrap();
    let refused = topic.close(CloseReason::Delete { force: false }).await;
    assert!(matches!(refused, Err(TopicError::InUse(_))), "{refused:?}");
    topic.close(CloseReason::Delete { force: true }).await.unwrap();
    assert!(matches!(producer.next().await.0, Command::CloseProducer(_)));
    topic.closed().await;
    let left = world.env.managed_ledgers.metadata.children("/managed-ledgers").await.unwrap();
    assert!(left.is_empty(), "{left:?}");
    let topic = world.topic().await;
    assert!(topic.subscriptions().await.unwrap().is_empty());
    assert_eq!(topic.last_position().await.unwrap(), None);
}

#[tokio::test]
async fn stats_have_the_names_that_tools_read() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    let mut consumer = Peer::consuming(&topic, SubscriptionType::Shared).await;
    producer.send_all(["a", "b"]).await;
    let got = consumer.messages(2).await;
    consumer.ack(0, &[got[0].position]).await;
    let stats = serde_json::to_value(topic.stats().await.unwrap()).unwrap();
    assert_eq!(stats["msgInCounter"], 2);
    assert_eq!(stats["publishers"][0]["accessMode"], "Shared");
    assert_eq!(stats["publishers"][0]["producerName"], "test-0-0");
    let subscription = &stats["subscriptions"]["s"];
    assert_eq!((&subscription["type"], &subscription["msgBacklog"]), (&"Shared".into(), &1.into()));
    assert_eq!((&subscription["isDurable"], &subscription["unackedMessages"]), (&true.into(), &1.into()));
    let one = &subscription["consumers"][0];
    assert_eq!((&one["consumerName"], &one["availablePermits"]), (&"consumer-0".into(), &998.into()));
    let internal = serde_json::to_value(topic.internal_stats().await.unwrap()).unwrap();
    assert_eq!((&internal["numberOfEntries"], &internal["state"]), (&2.into(), &"LedgerOpened".into()));
    assert_eq!(internal["lastConfirmedEntry"], got[1].position.to_string());
    assert_eq!(internal["cursors"]["s"]["markDeletePosition"], got[0].position.to_string());
}
