//! Every metric of the broker: name, help, labels.

use crate::service::BrokerService;
use crate::topic::TopicStats;
use magnetar_common::topic_name::TopicName;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabels {
    cluster: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NamespaceLabels {
    cluster: String,
    namespace: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TopicLabels {
    cluster: String,
    namespace: String,
    topic: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SubscriptionLabels {
    cluster: String,
    namespace: String,
    topic: String,
    subscription: String,
}

type Topics = Family<TopicLabels, Gauge>;
type TopicCounters = Family<TopicLabels, Counter>;
type TopicRates = Family<TopicLabels, Rate>;
type Subscriptions = Family<SubscriptionLabels, Gauge>;
type SubscriptionRates = Family<SubscriptionLabels, Rate>;

/// Per second.
type Rate = Gauge<f64, AtomicU64>;

/// A scrape's numbers.
#[derive(Default)]
pub(super) struct Families {
    connections: Family<ClusterLabels, Gauge>,
    /// A counter in truth, but as one its name would end in "_total" twice.
    connections_created: Family<ClusterLabels, Gauge>,
    publish_buffer: Family<ClusterLabels, Gauge>,
    loaded: Family<ClusterLabels, Gauge>,
    topics: Family<NamespaceLabels, Gauge>,
    subscriptions: Topics,
    producers: Topics,
    consumers: Topics,
    messages_in: TopicCounters,
    bytes_in: TopicCounters,
    messages_out: TopicCounters,
    bytes_out: TopicCounters,
    rate_in: TopicRates,
    rate_out: TopicRates,
    throughput_in: TopicRates,
    throughput_out: TopicRates,
    storage: Topics,
    storage_logical: Topics,
    storage_backlog: Topics,
    backlog: Topics,
    subscription_backlog: Subscriptions,
    subscription_unacked: Subscriptions,
    subscription_delayed: Subscriptions,
    subscription_blocked: Subscriptions,
    subscription_consumers: Subscriptions,
    subscription_acked: Subscriptions,
    subscription_rate_out: SubscriptionRates,
    subscription_throughput_out: SubscriptionRates,
    subscription_rate_redeliver: SubscriptionRates,
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

impl Families {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let all = Self::default();
        registry.register("pulsar_active_connections", "Open client connections", all.connections.clone());
        registry.register(
            "pulsar_connection_created_total_count",
            "Client connections accepted",
            all.connections_created.clone(),
        );
        registry.register(
            "magnetar_publish_buffer_bytes",
            "Bytes of messages received and not yet durable",
            all.publish_buffer.clone(),
        );
        registry.register("pulsar_broker_topics_count", "Topics in memory", all.loaded.clone());
        registry.register("pulsar_topics_count", "Topics in memory of a namespace", all.topics.clone());
        registry.register("pulsar_subscriptions_count", "Subscriptions", all.subscriptions.clone());
        registry.register("pulsar_producers_count", "Connected producers", all.producers.clone());
        registry.register("pulsar_consumers_count", "Connected consumers", all.consumers.clone());
        // The encoder adds "_total" to counters.
        registry.register("pulsar_in_messages", "Messages published", all.messages_in.clone());
        registry.register("pulsar_in_bytes", "Bytes published", all.bytes_in.clone());
        registry.register("pulsar_out_messages", "Messages delivered", all.messages_out.clone());
        registry.register("pulsar_out_bytes", "Bytes delivered", all.bytes_out.clone());
        registry.register("pulsar_rate_in", "Messages published per second", all.rate_in.clone());
        registry.register("pulsar_rate_out", "Messages delivered per second", all.rate_out.clone());
        registry.register("pulsar_throughput_in", "Bytes published per second", all.throughput_in.clone());
        registry.register("pulsar_throughput_out", "Bytes delivered per second", all.throughput_out.clone());
        registry.register(
            "pulsar_storage_logical_size",
            "Bytes in ledgers, without replicas",
            all.storage_logical.clone(),
        );
        registry.register(
            "pulsar_storage_backlog_size",
            "Bytes the slowest subscription has not acknowledged",
            all.storage_backlog.clone(),
        );
        registry.register("pulsar_storage_size", "Bytes in ledgers, one copy", all.storage.clone());
        registry.register(
            "pulsar_msg_backlog",
            "Entries not acknowledged, over all subscriptions",
            all.backlog.clone(),
        );
        registry.register(
            "pulsar_subscription_back_log",
            "Entries not acknowledged",
            all.subscription_backlog.clone(),
        );
        registry.register(
            "pulsar_subscription_unacked_messages",
            "Messages delivered and not acknowledged",
            all.subscription_unacked.clone(),
        );
        registry.register(
            "pulsar_subscription_delayed",
            "Messages waiting for their time",
            all.subscription_delayed.clone(),
        );
        registry.register(
            "pulsar_subscription_blocked_on_unacked_messages",
            "1 while delivery waits for acknowledgements",
            all.subscription_blocked.clone(),
        );
        registry.register(
            "pulsar_subscription_consumers_count",
            "Connected consumers",
            all.subscription_consumers.clone(),
        );
        registry.register(
            "pulsar_subscription_last_acked_timestamp",
            "When something was acknowledged last, ms since 1970",
            all.subscription_acked.clone(),
        );
        registry.register(
            "pulsar_subscription_msg_rate_out",
            "Messages delivered per second",
            all.subscription_rate_out.clone(),
        );
        registry.register(
            "pulsar_subscription_msg_throughput_out",
            "Bytes delivered per second",
            all.subscription_throughput_out.clone(),
        );
        registry.register(
            "pulsar_subscription_msg_rate_redeliver",
            "Messages delivered again per second",
            all.subscription_rate_redeliver.clone(),
        );
        all
    }

    pub(super) fn broker(&self, service: &BrokerService, topics: usize) {
        let labels = ClusterLabels { cluster: service.config.cluster.clone() };
        self.connections.get_or_create(&labels).set(count(service.connections.count()));
        self.connections_created.get_or_create(&labels).set(number(service.connections.accepted()));
        self.publish_buffer.get_or_create(&labels).set(count(service.publish_budget.used()));
        self.loaded.get_or_create(&labels).set(count(topics));
    }

    pub(super) fn topic(&self, cluster: &str, topic: &TopicName, stats: &TopicStats) {
        let (cluster, namespace) = (cluster.to_owned(), topic.namespace().to_string());
        let in_namespace = NamespaceLabels { cluster: cluster.clone(), namespace: namespace.clone() };
        self.topics.get_or_create(&in_namespace).inc();
        let labels = TopicLabels { cluster, namespace, topic: topic.to_string() };
        self.subscriptions.get_or_create(&labels).set(count(stats.subscriptions.len()));
        self.producers.get_or_create(&labels).set(count(stats.publishers.len()));
        let consumers = stats.subscriptions.values().map(|subscription| subscription.consumers.len()).sum();
        self.consumers.get_or_create(&labels).set(count(consumers));
        self.messages_in.get_or_create(&labels).inc_by(stats.msg_in_counter);
        self.bytes_in.get_or_create(&labels).inc_by(stats.bytes_in_counter);
        self.messages_out.get_or_create(&labels).inc_by(stats.msg_out_counter);
        self.bytes_out.get_or_create(&labels).inc_by(stats.bytes_out_counter);
        self.rate_in.get_or_create(&labels).set(stats.msg_rate_in);
        self.rate_out.get_or_create(&labels).set(stats.msg_rate_out);
        self.throughput_in.get_or_create(&labels).set(stats.msg_throughput_in);
        self.throughput_out.get_or_create(&labels).set(stats.msg_throughput_out);
        self.storage.get_or_create(&labels).set(number(stats.storage_size));
        self.storage_logical.get_or_create(&labels).set(number(stats.storage_size));
        self.storage_backlog.get_or_create(&labels).set(number(stats.backlog_size));
        let backlog = stats.subscriptions.values().map(|subscription| subscription.msg_backlog).sum();
        self.backlog.get_or_create(&labels).set(number(backlog));
        for (name, subscription) in &stats.subscriptions {
            let labels = SubscriptionLabels {
                cluster: labels.cluster.clone(),
                namespace: labels.namespace.clone(),
                topic: labels.topic.clone(),
                subscription: name.clone(),
            };
            self.subscription_backlog.get_or_create(&labels).set(number(subscription.msg_backlog));
            self.subscription_unacked.get_or_create(&labels).set(number(subscription.unacked_messages));
            self.subscription_delayed.get_or_create(&labels).set(number(subscription.msg_delayed));
            let blocked = subscription.blocked_subscription_on_unacked_msgs;
            self.subscription_blocked.get_or_create(&labels).set(i64::from(blocked));
            self.subscription_consumers.get_or_create(&labels).set(count(subscription.consumers.len()));
            self.subscription_acked.get_or_create(&labels).set(number(subscription.last_acked_timestamp));
            self.subscription_rate_out.get_or_create(&labels).set(subscription.msg_rate_out);
            self.subscription_throughput_out.get_or_create(&labels).set(subscription.msg_throughput_out);
            self.subscription_rate_redeliver.get_or_create(&labels).set(subscription.msg_rate_redeliver);
        }
    }
}
