//! Lets topics that nobody uses leave memory: a broker can own far more topics than it holds.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use magnetar_common::shutdown::Signal;
use magnetar_common::topic_name::TopicName;

use super::BrokerService;
use crate::topic::Handle;

/// A topic leaves after two looks in a row at which it had no producer and no consumer.
const LOOKS: u32 = 2;
/// Topics asked or closed at a time.
const AT_A_TIME: usize = 16;

/// Runs until `stop` is given. A client that comes back loads its topic anew.
pub(super) async fn drop_idle_topics(service: Arc<BrokerService>, stop: Signal, idle: Duration) {
    let mut idle_before = HashSet::new();
    loop {
        tokio::select! {
            () = stop.given() => return,
            () = service.clock.sleep(idle / LOOKS) => {}
        }
        idle_before = look(&service, &idle_before).await;
    }
}

/// Closes what was idle before and is still; gives what is idle for the first time.
async fn look(service: &BrokerService, idle_before: &HashSet<TopicName>) -> HashSet<TopicName> {
    let idle = |handle: Handle| async move {
        let stats = handle.stats().await.ok()?;
        let used = !stats.publishers.is_empty()
            || stats.waiting_publishers > 0
            || stats.subscriptions.values().any(|subscription| !subscription.consumers.is_empty());
        handle.name().parse::<TopicName>().ok().filter(|_| !used)
    };
    let found = stream::iter(service.topics.loaded()).map(idle).buffer_unordered(AT_A_TIME);
    let found: HashSet<TopicName> = found.filter_map(|idle| async { idle }).collect().await;
    let (leaving, idle_now): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|topic| idle_before.contains(topic));
    let unload = |topic: TopicName| async move {
        match service.topics.unload(&topic).await {
            Ok(()) => tracing::debug!(%topic, "nobody uses this topic; it leaves memory"),
            Err(error) => tracing::warn!(%topic, %error, "unload an idle topic"),
        }
    };
    stream::iter(leaving).for_each_concurrent(AT_A_TIME, unload).await;
    idle_now.into_iter().collect()
}
