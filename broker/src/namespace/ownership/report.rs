//! What this broker tells the others of its load, every few seconds.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use magnetar_common::topic_name::TopicName;

use super::cluster::Cluster;
use super::record::{BrokerRecord, BundleStats};
use crate::topic::{Handle, TopicStats};

/// Between two reports.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);
/// Topics asked at a time.
const AT_A_TIME: usize = 32;
/// A topic that does not answer by then is left out of this report.
const ANSWER_MAX: Duration = Duration::from_secs(1);

impl Cluster {
    /// Measures and publishes until the cluster is left. A report that cannot be written is replaced by the next.
    pub(super) async fn keep_reporting(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.stopped.given() => return,
                () = self.draining.given() => return,
                () = self.clock.sleep(INTERVAL) => {}
            }
            let report = self.measure().await;
            *self.reported.lock().unwrap_or_else(PoisonError::into_inner) = report;
            let Some(lease) = *self.session.borrow() else { continue };
            if self.draining.is_given() {
                return;
            }
            if let Err(error) = self.announce(lease).await {
                tracing::debug!(%error, "publish the load report");
            }
        }
    }

    async fn measure(&self) -> BrokerRecord {
        let handles = self.topics().map(|topics| topics.loaded()).unwrap_or_default();
        let ask = |handle: Handle| async move {
            let answer = tokio::select! {
                stats = handle.stats() => stats.ok(),
                () = self.clock.sleep(ANSWER_MAX) => None,
            };
            Some((handle.name().parse::<TopicName>().ok()?, answer?))
        };
        let answers: Vec<(TopicName, TopicStats)> = stream::iter(handles)
            .map(ask)
            .buffer_unordered(AT_A_TIME)
            .filter_map(|answer| async { answer })
            .collect()
            .await;
        let held = self.table.all();
        let mut by_bundle: BTreeMap<String, BundleStats> = BTreeMap::new();
        for (topic, stats) in &answers {
            let hash = topic.bundle_hash();
            let of = |(namespace, range): &&super::table::Bundle| {
                namespace == topic.namespace() && range.contains(hash)
            };
            if let Some((namespace, range)) = held.iter().find(of) {
                add(by_bundle.entry(format!("{namespace}/{range}")).or_default(), stats);
            }
        }
        let mut record = BrokerRecord {
            last_update: self.clock.unix_ms(),
            num_topics: answers.len() as u64,
            num_bundles: held.len() as u64,
            bundles: held.iter().map(|(namespace, range)| format!("{namespace}/{range}")).collect(),
            ..self.record.clone()
        };
        for stats in by_bundle.values() {
            record.num_consumers += stats.consumer_count;
            record.num_producers += stats.producer_count;
            record.msg_rate_in += stats.msg_rate_in;
            record.msg_rate_out += stats.msg_rate_out;
            record.msg_throughput_in += stats.msg_throughput_in;
            record.msg_throughput_out += stats.msg_throughput_out;
        }
        record.last_stats = by_bundle;
        record
    }
}

fn add(bundle: &mut BundleStats, topic: &TopicStats) {
    bundle.topics += 1;
    bundle.producer_count += topic.publishers.len() as u64;
    bundle.consumer_count += topic.subscriptions.values().map(|s| s.consumers.len() as u64).sum::<u64>();
    bundle.msg_rate_in += topic.msg_rate_in;
    bundle.msg_rate_out += topic.msg_rate_out;
    bundle.msg_throughput_in += topic.msg_throughput_in;
    bundle.msg_throughput_out += topic.msg_throughput_out;
}
