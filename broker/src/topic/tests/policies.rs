use std::sync::Arc;
use std::time::Duration;

use super::support::*;
use crate::managed_ledger::{MlConfig, Retention};
use crate::policies::{AgeQuota, Fixed, QuotaAction, StorageQuota, TopicPolicies};
use crate::topic::*;
use magnetar_common::clock::Clock;
use magnetar_ledger::placement::Isolation;
use magnetar_proto::ids::LedgerId;
use magnetar_proto::pulsar::{Command, api};

const MINUTE: Duration = Duration::from_secs(60);

async fn with_small_ledgers() -> World {
    let mut world = World::start().await;
    world.env.config = MlConfig { max_entries_per_ledger: 10, ..MlConfig::default() };
    world
}

/// Publishes at the topic's own time.
async fn send_now(world: &World, producer: &mut Peer, texts: &[&str]) {
    for text in texts {
        let metadata = api::MessageMetadata { publish_time: world.clock.unix_ms(), ..Default::default() };
        producer.send_with(text, metadata);
    }
    producer.receipts(texts.len()).await;
}

async fn backlog(topic: &Handle, subscription: &str) -> u64 {
    topic.stats().await.unwrap().subscriptions[subscription].msg_backlog
}

async fn ledgers(topic: &Handle) -> usize {
    topic.internal_stats().await.unwrap().ledgers.len()
}

#[tokio::test]
async fn messages_expire_within_a_second_of_their_time_and_younger_ones_stay() {
    let world = with_small_ledgers().await;
    let topic = world.topic().await;
    topic.set_policies(TopicPolicies { message_ttl: Some(MINUTE), ..Default::default() });
    topic.create_subscription("s", StartPosition::Earliest, Default::default()).await.unwrap();
    let mut producer = Peer::producing(&topic).await;
    for _ in 0..12 {
        send_now(&world, &mut producer, &["old", "old"]).await;
    }
    world.clock.advance(MINUTE / 2);
    send_now(&world, &mut producer, &["young"]).await;
    assert_eq!(backlog(&topic, "s").await, 25);
    world.clock.advance(MINUTE / 2 + Duration::from_secs(1));
    until("the old ones expire", || async { backlog(&topic, "s").await == 1 }).await;
    assert_eq!(topic.stats().await.unwrap().subscriptions["s"].total_msg_expired, 24);
    world.clock.advance(Duration::from_secs(1));
    until("their ledgers go", || async { ledgers(&topic).await <= 2 }).await;
    world.clock.advance(MINUTE / 2);
    until("the young one expires", || async { backlog(&topic, "s").await == 0 }).await;
    let topic = world.reload(&topic).await;
    assert_eq!(backlog(&topic, "s").await, 0);
}

#[tokio::test]
async fn what_has_expired_is_never_delivered() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    topic.create_subscription("s", StartPosition::Earliest, Default::default()).await.unwrap();
    send_now(&world, &mut producer, &["old"]).await;
    world.clock.advance(MINUTE * 2);
    send_now(&world, &mut producer, &["young"]).await;
    topic.set_policies(TopicPolicies { message_ttl: Some(MINUTE), ..Default::default() });
    let mut shared = Peer::consuming(&topic, SubscriptionType::Shared).await;
    let mut reader = Peer::new(&topic);
    let request = Subscribe {
        durable: false,
        start: Some(StartPosition::Earliest),
        ..reader.subscribe(0, "reader", SubscriptionType::Exclusive)
    };
    topic.subscribe(request).await.unwrap();
    topic.flow(reader.consumer(0), 10);
    for peer in [&mut shared, &mut reader] {
        assert_eq!(peer.texts(1).await, ["young"]);
        assert!(peer.pending().await.is_empty());
    }
}

#[tokio::test]
async fn consumed_ledgers_stay_for_as_long_as_retention_says_and_go_without_any_traffic() {
    let world = with_small_ledgers().await;
    let topic = world.topic().await;
    let retention = Retention { time: Some(MINUTE), size_bytes: None };
    topic.set_policies(TopicPolicies { retention, ..Default::default() });
    let mut producer = Peer::producing(&topic).await;
    topic.create_subscription("s", StartPosition::Earliest, Default::default()).await.unwrap();
    while ledgers(&topic).await < 4 {
        producer.send_all(["x"]).await;
    }
    topic.skip_all("s").await.unwrap();
    world.clock.advance(MINUTE / 2);
    assert!(ledgers(&topic).await >= 4);
    world.clock.advance(MINUTE);
    until("the consumed ledgers go", || async { ledgers(&topic).await == 1 }).await;
}

#[tokio::test]
async fn the_ledger_in_use_gives_way_when_it_is_old() {
    let world = World::start().await;
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    let first = producer.send_all(["x"]).await[0];
    world.clock.advance(MlConfig::default().max_ledger_age);
    let entries = || async { topic.internal_stats().await.unwrap().number_of_entries };
    let gone = || async { entries().await == 0 && ledgers(&topic).await == 1 };
    until("the consumed entry goes with its ledger", gone).await;
    let next = producer.send_all(["y"]).await[0];
    assert!(next.ledger_id > first.ledger_id && next.entry_id.0 == 0);
}

#[tokio::test]
async fn a_backlog_over_its_quota_sends_producers_away_until_it_is_consumed() {
    let world = World::start().await;
    let topic = world.topic().await;
    topic.create_subscription("s", StartPosition::Earliest, Default::default()).await.unwrap();
    for action in [QuotaAction::HoldProducers, QuotaAction::RefuseProducers] {
        let quota = StorageQuota { bytes: 2_000, action };
        topic.set_policies(TopicPolicies { storage_quota: Some(quota), ..Default::default() });
        let mut producer = Peer::producing(&topic).await;
        producer.send_all(["fine"]).await;
        producer.send_all([&"x".repeat(2_000)]).await;
        world.clock.advance(Duration::from_secs(1));
        assert!(matches!(producer.next().await.0, Command::CloseProducer(_)));
        let refused = topic.add_producer(producer.add_producer(0)).await;
        let expected = action == QuotaAction::HoldProducers;
        let Err(TopicError::BacklogFull { hold, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(hold, expected);
        topic.skip_all("s").await.unwrap();
        world.clock.advance(Duration::from_secs(1));
        let back = || async { topic.add_producer(producer.add_producer(0)).await.is_ok() };
        until("producers are let in again", back).await;
    }
}

#[tokio::test]
async fn eviction_drops_the_oldest_of_a_backlog_by_size_or_by_age() {
    let world = World::start().await;
    let topic = world.topic().await;
    topic.create_subscription("s", StartPosition::Earliest, Default::default()).await.unwrap();
    let action = QuotaAction::Evict;
    let storage_quota = Some(StorageQuota { bytes: 10_000, action });
    topic.set_policies(TopicPolicies { storage_quota, ..Default::default() });
    let mut producer = Peer::producing(&topic).await;
    for _ in 0..20 {
        send_now(&world, &mut producer, &[&"x".repeat(1_000)]).await;
    }
    world.clock.advance(Duration::from_secs(1));
    until("the oldest are dropped", || async { (7..10).contains(&backlog(&topic, "s").await) }).await;

    let age_quota = Some(AgeQuota { age: MINUTE, action });
    topic.set_policies(TopicPolicies { age_quota, ..Default::default() });
    world.clock.advance(MINUTE * 2);
    // A look that was under way saw the old time; the next one comes a second later.
    until("all are too old", || async {
        world.clock.advance(Duration::from_secs(1));
        backlog(&topic, "s").await == 0
    })
    .await;
}

/// Producers were kept away for ever, or not at all.
#[tokio::test]
async fn an_age_quota_counts_once_its_time_has_come_and_until_it_is_raised_or_taken_back() {
    let world = World::start().await;
    let topic = world.topic().await;
    let set = |age: Option<Duration>| {
        let age_quota = age.map(|age| AgeQuota { age, action: QuotaAction::HoldProducers });
        topic.set_policies(TopicPolicies { age_quota, ..Default::default() });
    };
    let let_in = async |wanted: bool| {
        until("producers are let in, or kept away", || async {
            world.clock.advance(Duration::from_secs(1));
            topic.add_producer(Peer::new(&topic).add_producer(0)).await.is_ok() == wanted
        })
        .await;
    };
    topic.create_subscription("s", StartPosition::Earliest, Default::default()).await.unwrap();
    send_now(&world, &mut Peer::producing(&topic).await, &["x"]).await;
    // It is young when it is looked at first.
    set(Some(MINUTE * 2));
    let_in(true).await;
    let_in(false).await;
    set(Some(MINUTE * 60));
    let_in(true).await;
    set(Some(MINUTE * 2));
    let_in(false).await;
    set(None);
    let_in(true).await;
}

#[tokio::test]
async fn limits_hold_for_newcomers() {
    let world = World::start().await;
    let topic = world.topic().await;
    topic.set_policies(TopicPolicies {
        producers_max: Some(1),
        consumers_max: Some(2),
        consumers_per_subscription_max: Some(1),
        subscriptions_max: Some(2),
        subscription_types: vec!["Shared".into()],
        ..Default::default()
    });
    let peer = Peer::producing(&topic).await;
    let refused = topic.add_producer(Peer::new(&topic).add_producer(0)).await;
    assert!(matches!(refused, Err(TopicError::ProducerBusy { .. })), "{refused:?}");
    let subscribe = |id, name, kind| topic.subscribe(peer.subscribe(id, name, kind));
    subscribe(1, "a", SubscriptionType::Shared).await.unwrap();
    let refused = subscribe(2, "a", SubscriptionType::Shared).await;
    assert!(matches!(refused, Err(TopicError::ConsumerBusy { .. })), "{refused:?}");
    let refused = subscribe(2, "b", SubscriptionType::Exclusive).await;
    assert!(matches!(refused, Err(TopicError::NotAllowed(_))), "{refused:?}");
    subscribe(2, "b", SubscriptionType::Shared).await.unwrap();
    let refused = topic.create_subscription("c", StartPosition::Earliest, Default::default()).await;
    assert!(matches!(refused, Err(TopicError::NotAllowed(_))), "{refused:?}");
    topic.delete_subscription("b", true).await.unwrap();
    topic.set_policies(TopicPolicies { encryption_required: true, ..Default::default() });
    let refused = topic.add_producer(peer.add_producer(5)).await;
    assert!(matches!(refused, Err(TopicError::NotAllowed(_))), "{refused:?}");
    topic.add_producer(AddProducer { encrypted: true, ..peer.add_producer(5) }).await.unwrap();
}

#[tokio::test]
async fn a_truncated_topic_is_empty_whatever_retention_says_and_goes_on() {
    let world = with_small_ledgers().await;
    let topic = world.topic().await;
    let retention = Retention { time: None, size_bytes: None };
    topic.set_policies(TopicPolicies { retention, ..Default::default() });
    topic.create_subscription("s", StartPosition::Earliest, Default::default()).await.unwrap();
    let mut producer = Peer::producing(&topic).await;
    producer.send_all(numbers(0..25)).await;
    topic.truncate().await.unwrap();
    let empty = || async { topic.internal_stats().await.unwrap().number_of_entries == 0 };
    until("nothing is left", empty).await;
    producer.send_all(["next"]).await;
    let mut consumer = Peer::consuming(&topic, SubscriptionType::Exclusive).await;
    assert_eq!(consumer.texts(1).await, ["next"]);
}

#[tokio::test]
async fn properties_are_kept_and_the_brokers_own_are_not_theirs() {
    let world = World::start().await;
    let topic = world.topic().await;
    let set = |key: &str, value: Option<&str>| vec![(key.to_owned(), value.map(str::to_owned))];
    topic.change_properties(set("owner", Some("me"))).await.unwrap();
    topic.change_properties(set("tier", Some("1"))).await.unwrap();
    topic.change_properties(set("tier", None)).await.unwrap();
    let refused = topic.change_properties(set("pulsar.topic.epoch", Some("9"))).await;
    assert!(matches!(refused, Err(TopicError::Invalid(_))), "{refused:?}");
    let topic = world.reload(&topic).await;
    assert_eq!(topic.properties().await.unwrap(), [("owner".to_owned(), "me".to_owned())].into());
}

/// Whoever replaces a bookie later goes by the ledger's record, so the groups must be in it from the beginning.
#[tokio::test]
async fn a_topics_ledgers_carry_the_bookie_groups_of_its_namespace() {
    let mut world = with_small_ledgers().await;
    let (first, second) = (Isolation::named("fast", "slow"), Isolation::named("near", ""));
    let policies = TopicPolicies { isolation: first.clone(), ..Default::default() };
    world.env.policies = Arc::new(Fixed(policies));
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    // Of the last ledger: nobody keeps those before it.
    let isolation = async || {
        let id = topic.internal_stats().await.unwrap().ledgers.last()?.ledger_id;
        let record =
            world.env.managed_ledgers.ledgers.metadata(LedgerId(id.try_into().unwrap())).await.unwrap();
        Some(Isolation::of(&record.custom))
    };
    send_now(&world, &mut producer, &["1"]).await;
    assert_eq!(isolation().await, Some(first));
    topic.set_policies(TopicPolicies { isolation: second.clone(), ..Default::default() });
    for _ in 0..10 {
        send_now(&world, &mut producer, &["2"]).await;
    }
    until("a new ledger carries the new groups", || async { isolation().await == Some(second.clone()) })
        .await;
}
