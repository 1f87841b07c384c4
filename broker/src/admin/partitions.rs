//! Partitioned topics.

use super::Service;
use super::error::{AdminError, AdminResult};
use super::extract::{Force, NamespacePath, TopicPath, json};
use crate::namespace::PartitionedTopicMetadata;
use crate::service::BrokerService;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use magnetar_common::topic_name::TopicName;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<BrokerService>> {
    let topic = "/persistent/{tenant}/{namespace}/{topic}";
    Router::new()
        .route("/persistent/{tenant}/{namespace}/partitioned", get(list))
        .route(&format!("{topic}/partitions"), get(show).put(create).post(grow).delete(remove))
        .route(&format!("{topic}/partitioned-stats"), get(stats))
        .route(&format!("{topic}/partitioned-internalStats"), get(internal_stats))
}

async fn list(State(service): Service, Path(path): Path<NamespacePath>) -> AdminResult<Json<Vec<String>>> {
    let name = path.name()?;
    if service.store.namespace(&name).await?.is_none() {
        return Err(AdminError::not_found(format_args!("namespace {name}")));
    }
    let topics = service.store.partitioned_topics(&name).await?;
    Ok(Json(topics.iter().map(TopicName::to_string).collect()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lookup {
    #[serde(default)]
    check_allow_auto_creation: bool,
}

/// Also what clients with an HTTP service URL ask before they produce or subscribe.
async fn show(
    State(service): Service,
    Path(path): Path<TopicPath>,
    Query(query): Query<Lookup>,
) -> AdminResult<Json<Value>> {
    let topic = path.name()?;
    let partitions = if query.check_allow_auto_creation {
        service.topics.partitions_for_use(&topic, true).await?
    } else {
        service.store.partitions(&topic).await?.map_or(0, |record| record.partitions)
    };
    Ok(Json(json!({ "partitions": partitions, "deleted": false })))
}

/// A bare number, or a record with a number and properties.
#[derive(Deserialize)]
#[serde(untagged)]
enum Wanted {
    Count(u32),
    Record(PartitionedTopicMetadata),
}

async fn create(
    State(service): Service,
    Path(path): Path<TopicPath>,
    body: Bytes,
) -> AdminResult<StatusCode> {
    let record = match json(&body)? {
        Wanted::Count(partitions) => PartitionedTopicMetadata { partitions, ..Default::default() },
        Wanted::Record(record) => record,
    };
    service.store.create_partitioned(&path.name()?, &record, service.config.max_partitions).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn grow(State(service): Service, Path(path): Path<TopicPath>, body: Bytes) -> AdminResult<StatusCode> {
    service.store.grow_partitions(&path.name()?, json(&body)?, service.config.max_partitions).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(
    State(service): Service,
    Path(path): Path<TopicPath>,
    Query(query): Query<Force>,
) -> AdminResult<StatusCode> {
    service.topics.delete_partitioned(&path.name()?, query.force).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn partitions_of(service: &BrokerService, topic: &TopicName) -> AdminResult<u32> {
    let record = service.store.partitions(topic).await?;
    record
        .map(|record| record.partitions)
        .ok_or_else(|| AdminError::not_found(format_args!("partitioned topic {topic}")))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PerPartition {
    #[serde(default = "yes")]
    per_partition: bool,
}

fn yes() -> bool {
    true
}

async fn stats(
    State(service): Service,
    Path(path): Path<TopicPath>,
    Query(query): Query<PerPartition>,
) -> AdminResult<Json<Value>> {
    let topic = path.name()?;
    let count = partitions_of(&service, &topic).await?;
    let (mut sum, mut partitions) = (json!({}), Map::new());
    for partition in (0..count).map(|number| topic.with_partition(number)) {
        let handle = service.topics.get_or_load(&partition, true).await?;
        let Ok(stats) = serde_json::to_value(handle.stats().await?) else { continue };
        add(&mut sum, &stats);
        partitions.insert(partition.to_string(), stats);
    }
    if let Value::Object(fields) = &mut sum {
        fields.insert("metadata".into(), json!({ "partitions": count, "deleted": false }));
        fields.insert(
            "partitions".into(),
            Value::Object(if query.per_partition { partitions } else { Map::new() }),
        );
    }
    Ok(Json(sum))
}

async fn internal_stats(State(service): Service, Path(path): Path<TopicPath>) -> AdminResult<Json<Value>> {
    let topic = path.name()?;
    let count = partitions_of(&service, &topic).await?;
    let mut partitions = Map::new();
    for partition in (0..count).map(|number| topic.with_partition(number)) {
        let handle = service.topics.get_or_load(&partition, true).await?;
        let Ok(stats) = serde_json::to_value(handle.internal_stats().await?) else { continue };
        partitions.insert(partition.to_string(), stats);
    }
    Ok(Json(json!({ "metadata": { "partitions": count, "deleted": false }, "partitions": partitions })))
}

/// Numbers add up, lists join, objects are added field by field; anything else stays as it was first.
fn add(sum: &mut Value, part: &Value) {
    match (sum, part) {
        (Value::Number(total), Value::Number(more)) => {
            let exact = total.as_i64().zip(more.as_i64()).and_then(|(total, more)| total.checked_add(more));
            let value =
                exact.map(Value::from).or_else(|| Some(Value::from(total.as_f64()? + more.as_f64()?)));
            if let Some(Value::Number(value)) = value {
                *total = value;
            }
        }
        (Value::Array(all), Value::Array(more)) => all.extend(more.iter().cloned()),
        (Value::Object(fields), Value::Object(more)) => {
            for (name, value) in more {
                match fields.get_mut(name) {
                    Some(sum) => add(sum, value),
                    None => drop(fields.insert(name.clone(), value.clone())),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_partitions_add_up() {
        let mut sum = json!({});
        add(&mut sum, &json!({"a": 1, "b": 1.5, "list": [1], "map": {"x": 1}, "text": "first"}));
        add(&mut sum, &json!({"a": 2, "b": 1.0, "list": [2], "map": {"x": 2, "y": 3}, "text": "second"}));
        assert_eq!(sum, json!({"a": 3, "b": 2.5, "list": [1, 2], "map": {"x": 3, "y": 3}, "text": "first"}));
    }
}
