use std::collections::BTreeMap;
use std::time::Duration;

use super::support::*;
use crate::managed_ledger::MlConfig;
use crate::policies::TopicPolicies;
use crate::topic::*;
use magnetar_proto::ids::Position;
use magnetar_proto::pulsar::api;

async fn with_small_ledgers() -> World {
    let mut world = World::start().await;
    world.env.config = MlConfig { max_entries_per_ledger: 5, ..MlConfig::default() };
    world
}

async fn publish(producer: &mut Peer, messages: &[(&str, &str)]) -> Vec<Position> {
    for (key, value) in messages {
        producer.send_with(value, keyed(key));
    }
    producer.receipts(messages.len()).await
}

/// Begins a compaction and waits for its end.
async fn compact(topic: &Handle) -> CompactionState {
    topic.compact().await.unwrap();
    ended(topic).await
}

async fn ended(topic: &Handle) -> CompactionState {
    until("the compaction ends", || async {
        topic.compaction_status().await.unwrap().status != CompactionState::Running
    })
    .await;
    let ended = topic.compaction_status().await.unwrap();
    assert_eq!(ended.last_error, "");
    ended.status
}

/// Has a subscription hold the log.
async fn hold(topic: &Handle) {
    topic.create_subscription("holds", StartPosition::Earliest, Default::default()).await.unwrap();
}

fn compacted_reader(peer: &Peer, name: &str, start: StartPosition) -> Subscribe {
    Subscribe {
        durable: false,
        start: Some(start),
        read_compacted: true,
        ..peer.subscribe(0, name, SubscriptionType::Exclusive)
    }
}

async fn read_from(topic: &Handle, start: StartPosition) -> (Peer, LastMessageId) {
    let reader = Peer::new(topic);
    topic.subscribe(compacted_reader(&reader, "compacted-reader", start)).await.unwrap();
    topic.flow(reader.consumer(0), 1_000);
    let last = topic.last_message_id(reader.consumer(0)).await.unwrap();
    (reader, last)
}

/// Reads as a table view does: from the beginning to the last message id.
async fn view(topic: &Handle) -> Vec<Received> {
    let (mut reader, last) = read_from(topic, StartPosition::Earliest).await;
    let mut messages = Vec::new();
    if let Some(last) = last.position {
        while messages.last().is_none_or(|message: &Received| message.position < last) {
            messages.push(reader.message().await);
        }
    }
    assert!(reader.pending().await.is_empty(), "nothing follows the last message");
    topic.close_consumer(reader.consumer(0)).await.unwrap();
    messages
}

async fn texts(topic: &Handle) -> Vec<String> {
    view(topic).await.into_iter().map(|message| message.text).collect()
}

async fn ledgers_in_store(world: &World) -> usize {
    let mut found = 0;
    let mut folders = vec!["/ledgers".to_owned()];
    while let Some(folder) = folders.pop() {
        for child in world.env.managed_ledgers.metadata.children(&folder).await.unwrap() {
            let path = format!("{folder}/{child}");
            let is_ledger =
                child.strip_prefix('L').is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
            match is_ledger {
                true => found += 1,
                false => folders.push(path),
            }
        }
    }
    found
}

#[tokio::test]
async fn a_reader_sees_only_the_newest_of_each_key_and_what_came_since() {
    let world = with_small_ledgers().await;
    let topic = world.topic().await;
    hold(&topic).await;
    let mut producer = Peer::producing(&topic).await;
    assert_eq!(topic.compaction_status().await.unwrap().status, CompactionState::NotRun);
    let at =
        publish(&mut producer, &[("a", "a1"), ("b", "b1"), ("a", "a2"), ("c", "c1"), ("b", ""), ("d", "d1")])
            .await;
    assert_eq!(compact(&topic).await, CompactionState::Success);
    let seen = view(&topic).await;
    let expected: Vec<(Position, &str)> = vec![(at[2], "a2"), (at[3], "c1"), (at[5], "d1")];
    assert_eq!(seen.iter().map(|m| (m.position, m.text.as_str())).collect::<Vec<_>>(), expected);

    publish(&mut producer, &[("c", "c2"), ("e", "e1")]).await;
    assert_eq!(texts(&topic).await, ["a2", "c1", "d1", "c2", "e1"]);
    assert_eq!(compact(&topic).await, CompactionState::Success);
    assert_eq!(texts(&topic).await, ["a2", "d1", "c2", "e1"]);
    assert_eq!(compact(&topic).await, CompactionState::Success, "with nothing new there is nothing to do");

    let mut all = Peer::new(&topic);
    all.join(0, "holds", SubscriptionType::Exclusive, 1_000).await;
    assert_eq!(all.messages(8).await.len(), 8, "others read the whole log");
    let topic = world.reload(&topic).await;
    assert_eq!(texts(&topic).await, ["a2", "d1", "c2", "e1"]);
}

#[tokio::test]
async fn a_topic_of_which_everything_was_deleted_does_not_make_a_reader_wait() {
    let world = with_small_ledgers().await;
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    publish(&mut producer, &[("a", "a1"), ("b", "b1"), ("a", ""), ("b", "")]).await;
    let (reader, last) = read_from(&topic, StartPosition::Earliest).await;
    assert!(last.position.is_some());
    topic.close_consumer(reader.consumer(0)).await.unwrap();
    assert_eq!(compact(&topic).await, CompactionState::Success);
    let (mut reader, last) = read_from(&topic, StartPosition::Earliest).await;
    assert_eq!(last.position, None);
    publish(&mut producer, &[("b", "b2")]).await;
    assert_eq!(reader.texts(1).await, ["b2"]);
}

#[tokio::test]
async fn what_was_compacted_outlives_the_log_it_came_from() {
    let world = with_small_ledgers().await;
    let topic = world.topic().await;
    hold(&topic).await;
    let mut producer = Peer::producing(&topic).await;
    let at = publish(
        &mut producer,
        &[("a", "a1"), ("b", "b1"), ("a", "a2"), ("c", "c1"), ("b", "b2"), ("d", "d1")],
    )
    .await;
    for n in 0..12 {
        publish(&mut producer, &[("z", &format!("z{n}"))]).await;
    }
    assert_eq!(compact(&topic).await, CompactionState::Success);
    topic.delete_subscription("holds", false).await.unwrap();
    until("the log is trimmed", || async { topic.internal_stats().await.unwrap().ledgers.len() == 1 }).await;
    let all = ["a2", "c1", "b2", "d1", "z11"];
    assert_eq!(texts(&topic).await, all);
    let topic = world.reload(&topic).await;
    assert_eq!(texts(&topic).await, all);
    let after_c = StartPosition::At { position: at[4], ack_set: Vec::new() };
    let (mut reader, _) = read_from(&topic, after_c).await;
    assert_eq!(reader.texts(3).await, all[2..]);
}

#[tokio::test]
async fn a_durable_consumer_goes_on_among_what_is_only_compacted() {
    let world = with_small_ledgers().await;
    let topic = world.topic().await;
    hold(&topic).await;
    let mut producer = Peer::producing(&topic).await;
    publish(&mut producer, &[("a", "a1"), ("b", "b1"), ("a", "a2"), ("c", "c1"), ("d", "d1"), ("e", "e1")])
        .await;
    compact(&topic).await;
    topic.delete_subscription("holds", false).await.unwrap();
    for n in 0..6 {
        publish(&mut producer, &[("z", &format!("z{n}"))]).await;
    }
    let join = |peer: &Peer| Subscribe {
        read_compacted: true,
        ..peer.subscribe(0, "s", SubscriptionType::Failover)
    };
    let mut consumer = Peer::new(&topic);
    topic.subscribe(join(&consumer)).await.unwrap();
    topic.flow(consumer.consumer(0), 1_000);
    let got = consumer.messages(11).await;
    assert_eq!(got[0].text, "b1");
    let acked: Vec<Position> = [0, 2, 7].map(|n| got[n].position).into();
    consumer.ack(0, &acked).await;

    let topic = world.reload(&topic).await;
    let mut consumer = Peer::new(&topic);
    topic.subscribe(join(&consumer)).await.unwrap();
    topic.flow(consumer.consumer(0), 1_000);
    let again = consumer.texts(8).await;
    assert_eq!(again, ["a2", "d1", "e1", "z0", "z1", "z3", "z4", "z5"]);
    let rest = api::command_ack::AckType::Cumulative;
    let last = topic.last_position().await.unwrap().unwrap();
    consumer.ack_with(0, rest, vec![id(last)]).await;
    assert_eq!(topic.stats().await.unwrap().subscriptions["s"].msg_backlog, 0);
}

#[tokio::test]
async fn a_threshold_starts_compaction_by_itself_and_holds_the_log_until_then() {
    let world = with_small_ledgers().await;
    let topic = world.topic().await;
    topic.set_policies(TopicPolicies { compaction_threshold: Some(2_000), ..Default::default() });
    let mut producer = Peer::producing(&topic).await;
    for n in 0..12 {
        publish(&mut producer, &[("a", &format!("{n}"))]).await;
    }
    assert!(
        topic.internal_stats().await.unwrap().ledgers.len() >= 3,
        "nothing is trimmed before it was compacted"
    );
    assert_eq!(topic.compaction_status().await.unwrap().status, CompactionState::NotRun);
    publish(&mut producer, &[("b", &"x".repeat(3_000))]).await;
    world.clock.advance(Duration::from_secs(11));
    until("it was compacted", || async {
        topic.compaction_status().await.unwrap().status == CompactionState::Success
    })
    .await;
    let seen = texts(&topic).await;
    assert_eq!((seen.len(), seen[0].as_str()), (2, "11"));
}

#[tokio::test]
async fn compactions_cursor_is_shown_and_whoever_deletes_it_ends_compaction_and_frees_the_log() {
    let world = with_small_ledgers().await;
    let topic = world.topic().await;
    let threshold = TopicPolicies { compaction_threshold: Some(1), ..Default::default() };
    topic.set_policies(threshold);
    let mut producer = Peer::producing(&topic).await;
    let messages = [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2"), ("c", "1"), ("c", "2")];
    publish(&mut producer, &messages).await;
    world.clock.advance(Duration::from_secs(11));
    until("it was compacted", async || {
        topic.compaction_status().await.unwrap().status == CompactionState::Success
    })
    .await;
    publish(&mut producer, &messages[..2]).await;
    let cursor = |stats: InternalStats| stats.cursors.get("__compaction").cloned();
    let shown = cursor(topic.internal_stats().await.unwrap()).expect("it is shown");
    assert_eq!(shown.number_of_entries_since_first_not_acked_message, 2);
    assert!(shown.properties.contains_key("CompactedTopicLedger"), "{shown:?}");
    assert_eq!(topic.stats().await.unwrap().subscriptions["__compaction"].msg_backlog, 2);

    let refused = topic.delete_subscription("__compaction", false).await;
    assert!(matches!(refused, Err(TopicError::NotAllowed(_))), "a policy asks for it: {refused:?}");
    topic.set_policies(TopicPolicies::default());
    topic.delete_subscription("__compaction", false).await.unwrap();
    assert!(cursor(topic.internal_stats().await.unwrap()).is_none());
    assert!(topic.delete_subscription("__compaction", false).await.is_err(), "it is gone");
    publish(&mut producer, &messages).await;
    until("only the ledger in use is left", async || ledgers_in_store(&world).await <= 2).await;
    let topic = world.reload(&topic).await;
    assert!(cursor(topic.internal_stats().await.unwrap()).is_none(), "also after a restart");
    // It may begin anew.
    hold(&topic).await;
    publish(&mut Peer::producing(&topic).await, &[("x", "1"), ("x", "2")]).await;
    assert_eq!(compact(&topic).await, CompactionState::Success);
    assert_eq!(texts(&topic).await.last().map(String::as_str), Some("2"));
}

#[tokio::test]
async fn the_name_of_the_cursor_is_not_for_clients_and_shared_subscriptions_read_everything() {
    let world = World::start().await;
    let topic = world.topic().await;
    let peer = Peer::new(&topic);
    let reserved = topic.subscribe(peer.subscribe(0, "__compaction", SubscriptionType::Exclusive)).await;
    assert!(matches!(reserved, Err(TopicError::NotAllowed(_))), "{reserved:?}");
    let shared = Subscribe { read_compacted: true, ..peer.subscribe(0, "s", SubscriptionType::Shared) };
    let shared = topic.subscribe(shared).await;
    assert!(matches!(shared, Err(TopicError::NotAllowed(_))), "{shared:?}");
}

#[tokio::test]
async fn deleting_or_truncating_a_topic_leaves_no_compacted_ledger() {
    let world = with_small_ledgers().await;
    let topic = world.topic().await;
    let mut producer = Peer::producing(&topic).await;
    publish(&mut producer, &[("a", "a1"), ("b", "b1")]).await;
    compact(&topic).await;
    topic.truncate().await.unwrap();
    assert_eq!(compact(&topic).await, CompactionState::Success, "there is nothing to do");
    assert_eq!(texts(&topic).await, [""; 0]);
    publish(&mut producer, &[("c", "c1")]).await;
    compact(&topic).await;
    assert_eq!(texts(&topic).await, ["c1"]);
    topic.close(CloseReason::Delete { force: true }).await.unwrap();
    until("every ledger is gone", || async { ledgers_in_store(&world).await == 0 }).await;
}

/// A broker is killed at any step of any compaction, again and again: its topic is opened elsewhere while it goes on.
#[tokio::test]
async fn crashes_at_any_step_lose_nothing_and_leave_no_ledger_behind() {
    const ROUNDS: u64 = 40;
    let world = with_small_ledgers().await;
    let random = &world.env.environment.random;
    let mut topic = world.topic().await;
    // Until there is a compaction to hold it, a log that nobody subscribes to is let go.
    hold(&topic).await;
    let mut zombies = Vec::new();
    let mut model: BTreeMap<String, String> = BTreeMap::new();
    let mut crashed_within = 0;
    for round in 0..ROUNDS {
        let mut producer = Peer::producing(&topic).await;
        for n in 0..1 + random.next_u64() % 8 {
            let key = format!("k{}", random.next_u64() % 6);
            let value = match random.next_u64() % 4 {
                0 => String::new(),
                _ => format!("{key}={round}.{n}"),
            };
            publish(&mut producer, &[(&key, &value)]).await;
            match value.is_empty() {
                true => drop(model.remove(&key)),
                false => drop(model.insert(key, value)),
            }
        }
        topic.compact().await.unwrap();
        if round == 0 {
            topic.delete_subscription("holds", true).await.unwrap();
        }
        for _ in 0..random.next_u64() % 400 {
            tokio::task::yield_now().await;
        }
        let running = topic.compaction_status().await.unwrap().status == CompactionState::Running;
        crashed_within += u64::from(running);
        zombies.push(std::mem::replace(&mut topic, world.topic().await));
        let mut seen = BTreeMap::new();
        for text in texts(&topic).await {
            if let Some((key, _)) = text.split_once('=') {
                seen.insert(key.to_owned(), text.clone());
            }
        }
        // Tombstones have no text: what they delete is compared after the next compaction.
        assert!(
            model.iter().all(|(key, value)| seen.get(key) == Some(value)),
            "round {round}: {model:?} {seen:?}"
        );
    }
    println!("{crashed_within} of {ROUNDS} crashes were within a compaction");
    assert!(crashed_within > 0);
    assert_eq!(compact(&topic).await, CompactionState::Success);
    let left: BTreeMap<String, String> = texts(&topic)
        .await
        .into_iter()
        .filter_map(|text| Some((text.split_once('=')?.0.to_owned(), text)))
        .collect();
    assert_eq!(left, model);
    topic.close(CloseReason::Delete { force: true }).await.unwrap();
    drop(zombies);
    until("no ledger is left", || async { ledgers_in_store(&world).await == 0 }).await;
}
