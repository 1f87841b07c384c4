use super::support::*;
use crate::managed_ledger::MlConfig;
use crate::topic::*;
use magnetar_proto::pulsar::api;

/// What a subscription has acknowledged.
type IsAcked = fn(usize) -> bool;

const SUBSCRIPTIONS: [(&str, IsAcked); 4] =
    [("nothing", |_| false), ("half", |n| n < 13), ("every-other", |n| n % 2 == 0), ("all", |_| true)];

#[tokio::test]
async fn a_backlog_is_measured_to_the_byte_and_its_age_to_the_millisecond() {
    let mut world = World::start().await;
    world.env.config = MlConfig { max_entries_per_ledger: 10, ..MlConfig::default() };
    let topic = world.topic().await;
    for (name, _) in SUBSCRIPTIONS {
        topic.create_subscription(name, StartPosition::Earliest, Default::default()).await.unwrap();
    }
    let mut producer = Peer::producing(&topic).await;
    for n in 0..25 {
        let metadata = api::MessageMetadata { publish_time: 1_000 + n, ..Default::default() };
        producer.send_with(&"x".repeat(n as usize * 7), metadata);
    }
    let positions = producer.receipts(25).await;
    let mut sizes = Vec::new();
    for position in &positions {
        sizes.push(topic.read(*position).await.unwrap().unwrap().headers_and_payload.len() as u64);
    }
    for (name, is_acked) in SUBSCRIPTIONS {
        let acked = positions.iter().enumerate().filter(|(n, _)| is_acked(*n)).map(|(_, at)| *at);
        topic.skip_ids(name, acked.collect()).await.unwrap();
    }
    assert_measured(&topic, &sizes).await;
    let topic = world.reload(&topic).await;
    assert_measured(&topic, &sizes).await;
}

async fn assert_measured(topic: &Handle, sizes: &[u64]) {
    let stats = topic.measured_stats().await.unwrap();
    assert_eq!(stats.storage_size, sizes.iter().sum::<u64>());
    for (name, is_acked) in SUBSCRIPTIONS {
        let left: Vec<usize> = (0..sizes.len()).filter(|n| !is_acked(*n)).collect();
        let first = left.first().copied();
        let expected = (
            left.len() as u64,
            first.map_or(0, |first| sizes[first..].iter().sum::<u64>() as i64),
            first.map_or(0, |first| 1_000 + first as u64),
        );
        let found = &stats.subscriptions[name];
        let found = (found.msg_backlog, found.backlog_size, found.earliest_msg_publish_time_in_backlog);
        assert_eq!(found, expected, "{name}");
    }
    assert_eq!(stats.backlog_size, stats.storage_size);
    let oldest = &stats.oldest_backlog_message_subscription_name;
    assert_eq!((stats.earliest_msg_publish_time_in_backlogs, oldest.as_str()), (1_000, "nothing"));
}
