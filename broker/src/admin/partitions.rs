//! Partitioned topics: how many partitions there are, and what all of them show together.

use std::collections::BTreeMap;

use axum::response::NoContent;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use magnetar_common::topic_name::{Domain, TopicName};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::error::{AdminError, AdminResult};
use super::extract::{Body, Namespace, Params, Topic};
use super::{Routes, Service, merge, message_id, targets};
use crate::namespace::PartitionedTopicMetadata;
use crate::service::BrokerService;
use crate::topic::{Handle, TopicError};

pub(super) fn routes() -> Routes {
    Router::new()
        .route("/{tenant}/{namespace}/partitioned", get(list))
        .route("/{tenant}/{namespace}/{topic}/partitions", get(read).put(create).post(grow).delete(remove))
        .route("/{tenant}/{namespace}/{topic}/partitioned-stats", get(stats))
        .route("/{tenant}/{namespace}/{topic}/partitioned-internalStats", get(internal_stats))
        .route("/{tenant}/{namespace}/{topic}/terminate/partitions", post(terminate))
}

/// Tools send a bare number, or an object with properties.
#[derive(Deserialize)]
#[serde(untagged)]
enum Partitions {
    Count(u32),
    Full {
        partitions: u32,
        #[serde(default)]
        properties: Option<BTreeMap<String, String>>,
    },
}

async fn list(
    service: Service,
    Extension(domain): Extension<Domain>,
    Namespace(name): Namespace,
) -> AdminResult<Json<Vec<String>>> {
    targets::policies(&service, &name).await?;
    if domain == Domain::NonPersistent {
        return Ok(Json(Vec::new()));
    }
    let topics = service.store.partitioned_topics(&name).await?;
    Ok(Json(topics.iter().map(ToString::to_string).collect()))
}

async fn read(service: Service, Topic(topic): Topic, params: Params) -> AdminResult<Json<Value>> {
    let record = match service.store.partitions(&topic).await? {
        Some(record) => record,
        None => {
            let create = params.flag("checkAllowAutoCreation");
            let partitions = service.topics.partitions_for_use(&topic, create).await?;
            PartitionedTopicMetadata { partitions, ..PartitionedTopicMetadata::default() }
        }
    };
    Ok(Json(serde_json::to_value(record).map_err(AdminError::internal)?))
}

async fn create(service: Service, Topic(topic): Topic, body: Body) -> AdminResult<NoContent> {
    persistent(&topic)?;
    let (partitions, properties) = match body.json()? {
        Partitions::Count(partitions) => (partitions, None),
        Partitions::Full { partitions, properties } => (partitions, properties),
    };
    let record = PartitionedTopicMetadata { partitions, properties, ..PartitionedTopicMetadata::default() };
    service.store.create_partitioned(&topic, &record, service.config.max_partitions).await?;
    Ok(NoContent)
}

async fn grow(service: Service, Topic(topic): Topic, body: Body) -> AdminResult<NoContent> {
    let partitions = match body.json()? {
        Partitions::Count(partitions) | Partitions::Full { partitions, .. } => partitions,
    };
    service.store.grow_partitions(&topic, partitions, service.config.max_partitions).await?;
    Ok(NoContent)
}

async fn remove(service: Service, Topic(topic): Topic, params: Params) -> AdminResult<NoContent> {
    service.topics.delete_partitioned(&topic, params.flag("force")).await?;
    Ok(NoContent)
}

fn persistent(topic: &TopicName) -> AdminResult<()> {
    match topic.domain() {
        Domain::Persistent => Ok(()),
        Domain::NonPersistent => {
            Err(AdminError::precondition("this broker serves persistent:// topics only"))
        }
    }
}

async fn stats(service: Service, Topic(topic): Topic, params: Params) -> AdminResult<Json<Value>> {
    let (record, mut partitions) =
        of_partitions(&service, &topic, async |handle| handle.stats().await).await?;
    let mut all = merge::stats(partitions.values());
    // Each partition by itself is left out only on demand.
    if params.get("perPartition") == Some("false") {
        partitions.clear();
    }
    all.insert("metadata".into(), record);
    all.insert("partitions".into(), Value::Object(partitions));
    Ok(Json(Value::Object(all)))
}

async fn internal_stats(service: Service, Topic(topic): Topic) -> AdminResult<Json<Value>> {
    let (record, partitions) =
        of_partitions(&service, &topic, async |handle| handle.internal_stats().await).await?;
    Ok(Json(json!({ "metadata": record, "partitions": partitions })))
}

async fn terminate(service: Service, Topic(topic): Topic) -> AdminResult<Json<Value>> {
    let record = metadata(&service, &topic).await?;
    let mut last = Map::new();
    for partition in 0..record.partitions {
        let name = topic.with_partition(partition);
        let position = targets::load(&service, &name).await?.terminate().await?;
        last.insert(partition.to_string(), message_id::to_json(&name, position));
    }
    Ok(Json(Value::Object(last)))
}

async fn metadata(service: &BrokerService, topic: &TopicName) -> AdminResult<PartitionedTopicMetadata> {
    let found = service.store.partitions(topic).await?;
    found.ok_or_else(|| AdminError::not_found(format!("partitioned topic {topic}")))
}

/// What every partition that was used already answers, by its name, beside the topic's metadata.
async fn of_partitions<T: Serialize>(
    service: &BrokerService,
    topic: &TopicName,
    ask: impl AsyncFn(Handle) -> Result<T, TopicError>,
) -> AdminResult<(Value, Map<String, Value>)> {
    let record = metadata(service, topic).await?;
    let ask = &ask;
    let one = |name: TopicName| async move {
        if !service.store.topic_exists(&name).await? {
            return Ok::<_, AdminError>(None);
        }
        let answer = ask(targets::load(service, &name).await?).await?;
        Ok(Some((name.to_string(), serde_json::to_value(answer).map_err(AdminError::internal)?)))
    };
    let names = (0..record.partitions).map(|partition| topic.with_partition(partition));
    let answers: Vec<_> =
        stream::iter(names).map(one).buffered(targets::TOPICS_AT_A_TIME).try_collect().await?;
    let record = serde_json::to_value(record).map_err(AdminError::internal)?;
    Ok((record, answers.into_iter().flatten().collect()))
}
