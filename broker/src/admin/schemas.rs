//! Schemas of topics.

use super::Service;
use super::error::{AdminError, AdminResult};
use super::extract::{TopicPath, json};
use crate::namespace::SchemaRecord;
use crate::service::BrokerService;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use magnetar_proto::pulsar::api;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<BrokerService>> {
    let topic = "/schemas/{tenant}/{namespace}/{topic}";
    Router::new()
        .route(&format!("{topic}/schema"), get(latest).post(add).delete(remove))
        .route(&format!("{topic}/schema/{{version}}"), get(of_version))
        .route(&format!("{topic}/schemas"), get(all))
}

/// The REST API's name of a schema type: the enum's, in capitals with underscores between words.
fn type_name(kind: api::schema::Type) -> String {
    let mut name = String::new();
    for (index, character) in kind.as_str_name().chars().enumerate() {
        if character.is_ascii_uppercase() && index > 0 && !name.ends_with('_') {
            name.push('_');
        }
        name.push(character.to_ascii_uppercase());
    }
    if name == "NONE" { "BYTES".into() } else { name }
}

fn type_of(name: &str) -> Option<api::schema::Type> {
    (0..=i32::from(u8::MAX))
        .filter_map(|number| api::schema::Type::try_from(number).ok())
        .find(|kind| type_name(*kind) == name)
}

fn shown(version: u64, record: &SchemaRecord) -> Value {
    let schema = &record.schema;
    let properties: Map<String, Value> =
        schema.properties.iter().map(|pair| (pair.key.clone(), Value::from(pair.value.clone()))).collect();
    json!({
        "version": version,
        "type": type_name(schema.r#type()),
        "timestamp": record.timestamp_ms,
        "data": String::from_utf8_lossy(&schema.schema_data),
        "properties": properties,
    })
}

async fn latest(State(service): Service, Path(path): Path<TopicPath>) -> AdminResult<Json<Value>> {
    let topic = path.name()?;
    let found = service.schemas.latest(&topic).await?;
    let (version, record) =
        found.ok_or_else(|| AdminError::not_found(format_args!("a schema of {topic}")))?;
    Ok(Json(shown(version, &record)))
}

#[derive(Deserialize)]
struct VersionPath {
    #[serde(flatten)]
    topic: TopicPath,
    version: String,
}

async fn of_version(State(service): Service, Path(path): Path<VersionPath>) -> AdminResult<Json<Value>> {
    let missing = || AdminError::not_found(format_args!("schema version {}", path.version));
    let version = path.version.parse().map_err(|_| missing())?;
    let record = service.schemas.version(&path.topic.name()?, version).await?.ok_or_else(missing)?;
    Ok(Json(shown(version, &record)))
}

async fn all(State(service): Service, Path(path): Path<TopicPath>) -> AdminResult<Json<Value>> {
    let records = service.schemas.all(&path.name()?).await?;
    let shown: Vec<Value> = records.iter().map(|(version, record)| shown(*version, record)).collect();
    Ok(Json(json!({ "getSchemaResponses": shown })))
}

#[derive(Deserialize)]
struct NewSchema {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    schema: String,
    #[serde(default)]
    properties: BTreeMap<String, String>,
}

async fn add(State(service): Service, Path(path): Path<TopicPath>, body: Bytes) -> AdminResult<Json<Value>> {
    let topic = path.name()?;
    let new: NewSchema = json(&body)?;
    let unknown = || AdminError::bad_request(format!("{:?} is no schema type", new.kind));
    let kind = type_of(&new.kind).ok_or_else(unknown)?;
    let properties = new.properties.into_iter().map(|(key, value)| api::KeyValue { key, value }).collect();
    let schema = api::Schema {
        name: topic.local().to_owned(),
        schema_data: Bytes::from(new.schema),
        r#type: kind as i32,
        properties,
    };
    let version = service.schemas.add(&topic, &schema).await?;
    Ok(Json(json!({ "version": { "version": version } })))
}

async fn remove(State(service): Service, Path(path): Path<TopicPath>) -> AdminResult<Json<Value>> {
    let topic = path.name()?;
    let last = service.schemas.latest(&topic).await?.map(|(version, _)| version);
    service.schemas.delete(&topic).await?;
    Ok(Json(json!({ "version": { "version": last } })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_the_names_of_the_rest_api() {
        for (kind, name) in [
            (api::schema::Type::None, "BYTES"),
            (api::schema::Type::Json, "JSON"),
            (api::schema::Type::KeyValue, "KEY_VALUE"),
            (api::schema::Type::ProtobufNative, "PROTOBUF_NATIVE"),
            (api::schema::Type::LocalDateTime, "LOCAL_DATE_TIME"),
        ] {
            assert_eq!(type_name(kind), name);
            assert_eq!(type_of(name), Some(kind));
        }
        assert_eq!(type_of("NO_SUCH"), None);
    }
}
