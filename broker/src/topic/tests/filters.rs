//! Subscriptions that want a part of a topic only.

use std::collections::BTreeMap;
use std::sync::Arc;

use magnetar_proto::pulsar::api::{KeyValue, MessageMetadata};

use super::support::*;
use crate::policies::{Fixed, TopicPolicies};
use crate::topic::*;

fn coloured(color: &str) -> MessageMetadata {
    let properties = vec![KeyValue { key: "color".into(), value: color.into() }];
    MessageMetadata { properties, ..Default::default() }
}

#[tokio::test]
async fn a_subscription_gets_what_it_asked_for_and_the_rest_counts_as_acknowledged() {
    for kind in [SubscriptionType::Exclusive, SubscriptionType::Shared, SubscriptionType::KeyShared] {
        let mut world = World::start().await;
        let policies = TopicPolicies { filter_by_properties: true, ..TopicPolicies::default() };
        world.env.policies = Arc::new(Fixed(policies));
        let topic = world.topic().await;
        let mut peer = Peer::new(&topic);
        let properties = BTreeMap::from([("filter.property.color".to_owned(), "red".to_owned())]);
        topic.subscribe(Subscribe { properties, ..peer.subscribe(0, "s", kind) }).await.unwrap();
        topic.flow(peer.consumer(0), 10);
        peer.join(1, "all", kind, 10).await;
        let mut producer = Peer::producing(&topic).await;
        for (text, color) in [("0", "blue"), ("1", "red"), ("2", "blue")] {
            producer.send_with(text, coloured(color));
        }
        let sent = producer.receipts(3).await;
        let mut messages = peer.messages(4).await;
        messages.retain(|message| message.consumer == 0);
        assert_eq!(messages.iter().map(|m| m.text.as_str()).collect::<Vec<_>>(), ["1"]);
        peer.ack(0, &sent[1..2]).await;
        let stats = topic.stats().await.unwrap();
        let of = |name: &str| &stats.subscriptions[name];
        assert_eq!((of("s").msg_backlog, of("all").msg_backlog), (0, 3));
        assert_eq!((of("s").filter_accepted_msg_count, of("s").filter_rejected_msg_count), (1, 2));
        assert_eq!(of("all").filter_processed_msg_count, 0);

        // What was rejected stays so.
        topic.set_policies(TopicPolicies::default());
        assert!(peer.pending().await.is_empty());
        producer.send_with("3", coloured("blue"));
        assert_eq!(peer.texts(2).await, ["3", "3"], "without the policy everything comes");
    }
}
