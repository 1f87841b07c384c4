//! Which topics a call is about: a plain topic is itself, a partitioned one is all its partitions.

use futures_util::stream::{self, StreamExt};
use magnetar_common::topic_name::{Domain, NamespaceName, TopicName};

use super::error::{AdminError, AdminResult};
use crate::namespace::{Policies, topic_list};
use crate::service::BrokerService;
use crate::topic::Handle;

/// Topics that one call works on at the same time: enough to hide the latency of a ledger, few enough that a call over
/// a thousand partitions leaves the bookies to others.
pub(super) const TOPICS_AT_A_TIME: usize = 16;

/// The topic's handle, loaded if need be, never created.
pub(super) async fn load(service: &BrokerService, topic: &TopicName) -> AdminResult<Handle> {
    Ok(service.topics.get_or_load(topic, false).await?)
}

/// The partitions of a partitioned topic; otherwise the topic itself.
pub(super) async fn of_topic(service: &BrokerService, topic: &TopicName) -> AdminResult<Vec<TopicName>> {
    match service.store.partitions(topic).await? {
        Some(record) => Ok((0..record.partitions).map(|partition| topic.with_partition(partition)).collect()),
        None => Ok(vec![topic.clone()]),
    }
}

/// The namespace's policies, or 404.
pub(super) async fn policies(service: &BrokerService, namespace: &NamespaceName) -> AdminResult<Policies> {
    let found = service.store.namespace(namespace).await?;
    found.ok_or_else(|| AdminError::not_found(format!("namespace {namespace}")))
}

/// Names of a namespace's persistent topics, partitions one by one whether used already or not; sorted.
pub(super) async fn names(
    service: &BrokerService,
    namespace: &NamespaceName,
    with_system_topics: bool,
) -> AdminResult<Vec<TopicName>> {
    let mut names = service.store.topics(namespace).await?;
    names.retain(|topic| with_system_topics || !topic_list::is_system(topic));
    Ok(names)
}

/// The topics of a namespace that are stored. A partition that was never used is not; working on it would create it.
pub(super) async fn stored(
    service: &BrokerService,
    namespace: &NamespaceName,
) -> AdminResult<Vec<TopicName>> {
    let mut stored = Vec::new();
    for topic in service.store.topics(namespace).await? {
        if service.store.topic_exists(&topic).await? {
            stored.push(topic);
        }
    }
    Ok(stored)
}

/// The namespace's topics that are in memory.
pub(super) fn loaded(service: &BrokerService, namespace: &NamespaceName) -> Vec<TopicName> {
    let handles = service.topics.loaded();
    let parsed = handles.iter().filter_map(|handle| handle.name().parse::<TopicName>().ok());
    parsed.filter(|topic| topic.namespace() == namespace).collect()
}

/// Names of the namespace's non-persistent topics that are in use on this broker, sorted: they are stored nowhere.
pub(super) fn non_persistent(service: &BrokerService, namespace: &NamespaceName) -> Vec<String> {
    let volatile =
        loaded(service, namespace).into_iter().filter(|topic| topic.domain() == Domain::NonPersistent);
    let mut names: Vec<String> = volatile.map(|topic| topic.to_string()).collect();
    names.sort();
    names
}

/// Closes the topics, as many as possible at a time; their clients come back.
pub(super) async fn unload(service: &BrokerService, topics: Vec<TopicName>) -> AdminResult<()> {
    let close = |topic: TopicName| async move { service.topics.unload(&topic).await };
    let mut outcomes = stream::iter(topics).map(close).buffer_unordered(TOPICS_AT_A_TIME);
    let mut failure = None;
    while let Some(outcome) = outcomes.next().await {
        failure = failure.or(outcome.err());
    }
    failure.map_or(Ok(()), |error| Err(error.into()))
}
