//! Which topics a call is about: a plain topic is itself, a partitioned one is all its partitions.

use axum::http::StatusCode;
use futures_util::stream::{self, StreamExt};
use magnetar_common::bundles::Bundles;
use magnetar_common::topic_name::{Domain, NamespaceName, TopicName, encode};

use super::error::{AdminError, AdminResult};
use crate::namespace::{Asked, LoadError, Located, Owner, Policies, topic_list};
use crate::service::BrokerService;
use crate::service::peer::{self, PeerAnswer};
use crate::topic::Handle;

/// Topics that one call works on at the same time: enough to hide the latency of a ledger, few enough that a call over
/// a thousand partitions leaves the bookies to others.
pub(super) const TOPICS_AT_A_TIME: usize = 16;

/// Brokers that one call is sent through; one names the next only while bundles move.
const REDIRECTS_MAX: usize = 5;

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

/// The same without partitions that were never used: they are empty, and asking one would create it.
pub(super) async fn used(service: &BrokerService, topic: &TopicName) -> AdminResult<Vec<TopicName>> {
    let mut used = Vec::new();
    for name in of_topic(service, topic).await? {
        if name == *topic || service.store.topic_exists(&name).await? {
            used.push(name);
        }
    }
    Ok(used)
}

/// The namespace's policies, or 404.
pub(super) async fn policies(service: &BrokerService, namespace: &NamespaceName) -> AdminResult<Policies> {
    let found = service.store.namespace(namespace).await?;
    found.ok_or_else(|| AdminError::not_found(format!("namespace {namespace}")))
}

/// Where the namespace is cut, or 404.
pub(super) async fn bundles(service: &BrokerService, namespace: &NamespaceName) -> AdminResult<Bundles> {
    let policies = policies(service, namespace).await?;
    match &service.cluster {
        Some(cluster) => Ok(cluster.boundaries().get(namespace).await?.bundles),
        None => Ok(policies.bundles),
    }
}

/// The broker that serves the topic, if it is another one.
pub(crate) async fn elsewhere(service: &BrokerService, topic: &TopicName) -> AdminResult<Option<Owner>> {
    if !service.ownership.is_shared() {
        return Ok(None);
    }
    let located = service.ownership.locate(topic, Asked::default()).await?;
    let (Located::Serves(owner) | Located::Ask { broker: owner, .. }) = located;
    Ok((owner != service.advertised).then_some(owner))
}

/// Makes the call at another broker, and follows it to whom that one names.
pub(crate) async fn at_peer(
    service: &BrokerService,
    owner: &Owner,
    method: &str,
    path: &str,
    body: &[u8],
) -> AdminResult<PeerAnswer> {
    let failed = |error: std::io::Error| {
        AdminError::new(StatusCode::BAD_GATEWAY, format!("broker {}: {error}; try again", owner.http_url))
    };
    let mut url = owner.http_url.clone();
    let mut path = path.to_owned();
    for _ in 0..REDIRECTS_MAX {
        let answer = peer::call(&service.environment, &url, method, &path, body).await.map_err(failed)?;
        match answer.location() {
            Some((host, next)) => (url, path) = (host, next),
            None => return Ok(answer),
        }
    }
    Err(AdminError::new(
        StatusCode::BAD_GATEWAY,
        "the brokers do not agree on who serves this yet; try again",
    ))
}

/// Deletes a topic wherever it is served. One that does not exist is fine.
pub(super) async fn delete(service: &BrokerService, topic: &TopicName, force: bool) -> AdminResult<()> {
    if let Some(owner) = elsewhere(service, topic).await? {
        let path = format!("{}?force={force}", path_of(topic));
        let answer = at_peer(service, &owner, "DELETE", &path, b"").await?;
        return match answer.status {
            200..300 | 404 => Ok(()),
            _ => Err(answer.into()),
        };
    }
    match service.topics.delete(topic, force).await {
        Ok(()) | Err(LoadError::NotFound(_)) if topic.partition().is_some() => Ok(()),
        Ok(()) | Err(LoadError::NotFound(_)) => Ok(service.store.delete_topic_policies(topic).await?),
        Err(error) => Err(error.into()),
    }
}

/// Deletes all partitions, wherever they are served, then the record. Can be repeated after a failure.
pub(super) async fn delete_partitioned(
    service: &BrokerService,
    topic: &TopicName,
    force: bool,
) -> AdminResult<()> {
    let record = service.store.partitions(topic).await?.ok_or_else(|| LoadError::NotFound(topic.clone()))?;
    for partition in 0..record.partitions {
        delete(service, &topic.with_partition(partition), force).await?;
    }
    // Before the record, without which a second try would find nothing to do.
    service.store.delete_topic_policies(topic).await?;
    Ok(service.store.delete_partitioned(topic).await?)
}

/// The topic's path below the REST's root.
pub(crate) fn path_of(topic: &TopicName) -> String {
    let local = encode(topic.local()).replace('+', "%20");
    format!("/admin/v2/{}/{}/{local}", topic.domain().as_str(), topic.namespace())
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
