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
use crate::namespace::{Owner, PartitionedTopicMetadata};
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
    targets::delete_partitioned(&service, &topic, params.flag("force")).await?;
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
        of_partitions(&service, &topic, "stats", async |handle| handle.measured_stats().await).await?;
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
        of_partitions(&service, &topic, "internalStats", async |handle| handle.internal_stats().await)
            .await?;
    Ok(Json(json!({ "metadata": record, "partitions": partitions })))
}

async fn terminate(service: Service, Topic(topic): Topic) -> AdminResult<Json<Value>> {
    let record = metadata(&service, &topic).await?;
    let mut last = Map::new();
    for partition in 0..record.partitions {
        let name = topic.with_partition(partition);
        let position = match targets::elsewhere(&service, &name).await? {
            Some(owner) => at_owner(&service, &owner, "POST", &name, "terminate").await?,
            None => message_id::to_json(&name, targets::load(&service, &name).await?.terminate().await?),
        };
        last.insert(partition.to_string(), position);
    }
    Ok(Json(Value::Object(last)))
}

async fn metadata(service: &BrokerService, topic: &TopicName) -> AdminResult<PartitionedTopicMetadata> {
    let found = service.store.partitions(topic).await?;
    found.ok_or_else(|| AdminError::not_found(format!("partitioned topic {topic}")))
}

/// What another broker answers about a partition that it serves.
async fn at_owner(
    service: &BrokerService,
    owner: &Owner,
    method: &str,
    partition: &TopicName,
    call: &str,
) -> AdminResult<Value> {
    let path = format!("{}/{call}", targets::path_of(partition));
    let answer = targets::at_peer(service, owner, method, &path, b"").await?;
    if answer.status >= 300 {
        return Err(answer.into());
    }
    serde_json::from_slice(&answer.body).map_err(AdminError::internal)
}

/// What every partition that was used already answers, by its name, beside the topic's metadata. `call` is the path of the
/// same question at another broker.
async fn of_partitions<T: Serialize>(
    service: &BrokerService,
    topic: &TopicName,
    call: &str,
    ask: impl AsyncFn(Handle) -> Result<T, TopicError>,
) -> AdminResult<(Value, Map<String, Value>)> {
    let record = metadata(service, topic).await?;
    let ask = &ask;
    let one = |name: TopicName| async move {
        if !service.store.topic_exists(&name).await? {
            return Ok::<_, AdminError>(None);
        }
        let answer = match targets::elsewhere(service, &name).await? {
            Some(owner) => at_owner(service, &owner, "GET", &name, call).await?,
            None => {
                let answer = ask(targets::load(service, &name).await?).await?;
                serde_json::to_value(answer).map_err(AdminError::internal)?
            }
        };
        Ok(Some((name.to_string(), answer)))
    };
    let names = (0..record.partitions).map(|partition| topic.with_partition(partition));
    let answers: Vec<_> =
        stream::iter(names).map(one).buffered(targets::TOPICS_AT_A_TIME).try_collect().await?;
    let record = serde_json::to_value(record).map_err(AdminError::internal)?;
    Ok((record, answers.into_iter().flatten().collect()))
}
