//! `/schemas`: the versions of a topic's schema.

use std::collections::BTreeMap;

use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use magnetar_common::topic_name::TopicName;
use magnetar_proto::pulsar::api;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{AdminError, AdminResult};
use super::extract::{Body, InPath, Topic};
use super::{Routes, Service, targets};
use crate::namespace::{self, SchemaRecord, StoreError};
use crate::policies::StoredPolicies;
use crate::schemas::Rule;
use crate::service::BrokerService;

/// As REST spells the types, in the order of their numbers in the protocol.
const TYPES: [&str; 23] = [
    "NONE",
    "STRING",
    "JSON",
    "PROTOBUF",
    "AVRO",
    "BOOLEAN",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FLOAT",
    "DOUBLE",
    "DATE",
    "TIME",
    "TIMESTAMP",
    "KEY_VALUE",
    "INSTANT",
    "LOCAL_DATE",
    "LOCAL_TIME",
    "LOCAL_DATE_TIME",
    "PROTOBUF_NATIVE",
    "AUTO_CONSUME",
    "EXTERNAL",
];

pub(super) fn routes() -> Routes {
    Router::new()
        .route("/schemas/{tenant}/{namespace}/{topic}/schema", get(latest).post(add).delete(remove))
        .route("/schemas/{tenant}/{namespace}/{topic}/schema/{version}", get(version))
        .route("/schemas/{tenant}/{namespace}/{topic}/schemas", get(all))
        .route("/schemas/{tenant}/{namespace}/{topic}/version", post(version_of))
        .route("/schemas/{tenant}/{namespace}/{topic}/compatibility", post(compatibility))
}

#[derive(Deserialize)]
struct VersionPath {
    version: u64,
}

/// A schema as tools send it. The text of a KEY_VALUE schema is a JSON object of both.
#[derive(Deserialize)]
struct Posted {
    r#type: String,
    #[serde(default)]
    schema: String,
    #[serde(default)]
    properties: Option<BTreeMap<String, String>>,
}

impl Posted {
    fn into_schema(self, topic: &TopicName) -> AdminResult<api::Schema> {
        let number = TYPES.iter().position(|name| *name == self.r#type);
        let kind = number
            .and_then(|number| api::schema::Type::try_from(i32::try_from(number).ok()?).ok())
            .ok_or_else(|| AdminError::precondition(format!("{} is no schema type", self.r#type)))?;
        let data = match kind {
            api::schema::Type::KeyValue => key_value_data(&self.schema)?,
            _ => Bytes::from(self.schema),
        };
        let properties = self.properties.unwrap_or_default().into_iter();
        Ok(api::Schema {
            name: topic.local().to_owned(),
            schema_data: data,
            r#type: kind.into(),
            properties: properties.map(|(key, value)| api::KeyValue { key, value }).collect(),
        })
    }
}

/// Each part's length before it, 4 bytes big-endian: how the protocol carries a KEY_VALUE schema.
fn key_value_data(text: &str) -> AdminResult<Bytes> {
    let pair: Value = serde_json::from_str(text)
        .map_err(|error| AdminError::precondition(format!("a KEY_VALUE schema is JSON: {error}")))?;
    let mut data = Vec::new();
    for name in ["key", "value"] {
        let part = match &pair[name] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let length =
            u32::try_from(part.len()).map_err(|_| AdminError::precondition("the schema is too large"))?;
        data.extend_from_slice(&length.to_be_bytes());
        data.extend_from_slice(part.as_bytes());
    }
    Ok(data.into())
}

/// The reverse of [`key_value_data`]; `None` for bytes that are no pair.
fn key_value_text(data: &[u8]) -> Option<String> {
    let (key, rest) = take_part(data)?;
    let (value, _) = take_part(rest)?;
    Some(json!({ "key": key, "value": value }).to_string())
}

fn take_part(data: &[u8]) -> Option<(Value, &[u8])> {
    let (length, rest) = data.split_first_chunk::<4>()?;
    let (part, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    let text = String::from_utf8_lossy(part);
    let value = serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into_owned()));
    Some((value, rest))
}

fn to_json(version: u64, record: SchemaRecord) -> Value {
    let schema = record.schema;
    let kind = usize::try_from(schema.r#type).ok().and_then(|number| TYPES.get(number));
    let pair = (schema.r#type() == api::schema::Type::KeyValue).then(|| key_value_text(&schema.schema_data));
    let data = pair.flatten().unwrap_or_else(|| String::from_utf8_lossy(&schema.schema_data).into_owned());
    let properties: BTreeMap<_, _> =
        schema.properties.into_iter().map(|property| (property.key, property.value)).collect();
    json!({
        "version": version,
        "type": kind.unwrap_or(&TYPES[0]),
        "timestamp": record.timestamp_ms,
        "data": data,
        "properties": properties,
    })
}

fn no_schema(topic: &TopicName) -> AdminError {
    AdminError::not_found(format!("a schema of topic {topic}"))
}

async fn latest(service: Service, Topic(topic): Topic) -> AdminResult<Json<Value>> {
    let (version, record) = service.schemas.latest(&topic).await?.ok_or_else(|| no_schema(&topic))?;
    Ok(Json(to_json(version, record)))
}

async fn version(
    service: Service,
    Topic(topic): Topic,
    InPath(VersionPath { version }): InPath<VersionPath>,
) -> AdminResult<Json<Value>> {
    let record = service.schemas.version(&topic, version).await?.ok_or_else(|| no_schema(&topic))?;
    Ok(Json(to_json(version, record)))
}

async fn all(service: Service, Topic(topic): Topic) -> AdminResult<Json<Value>> {
    let versions = service.schemas.all(&topic).await?.into_iter();
    let list: Vec<_> = versions.map(|(version, record)| to_json(version, record)).collect();
    Ok(Json(json!({ "getSchemaResponses": list })))
}

async fn add(service: Service, Topic(topic): Topic, body: Body) -> AdminResult<Json<Value>> {
    targets::policies(&service, topic.namespace()).await?;
    let schema = body.json::<Posted>()?.into_schema(&topic)?;
    let version = service.schemas.add(&topic, &schema, rule(&service, &topic).await?.strategy).await?;
    Ok(Json(json!({ "version": version })))
}

/// Answers the last version that was.
async fn remove(service: Service, Topic(topic): Topic) -> AdminResult<Json<Value>> {
    let (version, _) = service.schemas.latest(&topic).await?.ok_or_else(|| no_schema(&topic))?;
    service.schemas.delete(&topic).await?;
    Ok(Json(json!({ "version": version })))
}

async fn version_of(service: Service, Topic(topic): Topic, body: Body) -> AdminResult<Json<Value>> {
    let wanted = body.json::<Posted>()?.into_schema(&topic)?;
    let found = namespace::version_of(&service.schemas.all(&topic).await?, &wanted);
    let version = found.ok_or_else(|| no_schema(&topic))?;
    Ok(Json(json!({ "version": version })))
}

async fn rule(service: &BrokerService, topic: &TopicName) -> AdminResult<Rule> {
    Ok(StoredPolicies(service.store.clone()).schema_rule(topic).await?)
}

/// What adding the schema would answer, without adding it.
async fn compatibility(service: Service, Topic(topic): Topic, body: Body) -> AdminResult<Json<Value>> {
    let schema = body.json::<Posted>()?.into_schema(&topic)?;
    let strategy = rule(&service, &topic).await?.strategy;
    let reason = match service.schemas.check(&topic, &schema, strategy).await {
        Ok(()) => None,
        Err(StoreError::Schema(incompatible)) => Some(incompatible.to_string()),
        Err(other) => return Err(other.into()),
    };
    Ok(Json(json!({
        "compatibility": reason.is_none(),
        "isCompatibility": reason.is_none(),
        "schemaCompatibilityStrategy": strategy.name(),
        "reason": reason,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_value_schema_survives_the_way_in_and_out() {
        let data = key_value_data(r#"{"key":{"type":"string"},"value":""}"#).expect("a pair");
        let text = key_value_text(&data).expect("a pair");
        assert_eq!(text, r#"{"key":{"type":"string"},"value":""}"#);
        assert_eq!(key_value_text(&[0, 0, 0, 9, 1]), None);
    }

    #[test]
    fn types_are_named_by_their_numbers() {
        assert_eq!(TYPES[api::schema::Type::KeyValue as usize], "KEY_VALUE");
        assert_eq!(TYPES[api::schema::Type::External as usize], "EXTERNAL");
    }
}
