//! The schemas of topics, by version.
//!
//! Below `/magnetar/schemas/<tenant>/<namespace>/<topic>/<version>` lies one record a version; all partitions of a
//! topic share them. Versions start at 0 and have no gaps.

use bytes::Bytes;
use magnetar_common::clock::SharedClock;
use magnetar_common::metadata::{Expect, MetadataError, SharedMetadata};
use magnetar_common::topic_name::{TopicName, encode};
use magnetar_proto::pulsar::api;
use prost::Message;

use super::error::StoreError;
use crate::schemas::{self, Strategy};

/// Not below `/schemas`: Pulsar keeps references to ledgers there, and would misread these records.
const ROOT: &str = "/magnetar/schemas";

/// Versions of one topic that are kept; more mean that a client makes up schemas without end.
const VERSIONS_MAX: usize = 10_000;

/// Lost races in a row before giving up.
const ADD_ATTEMPTS: usize = 16;

/// A stored version.
#[derive(Clone, PartialEq, Message)]
pub struct SchemaRecord {
    #[prost(message, required, tag = "1")]
    pub schema: api::Schema,
    /// When it was added, in ms since 1970.
    #[prost(uint64, tag = "2")]
    pub timestamp_ms: u64,
}

/// A schema's version as clients see it: 8 bytes, big-endian.
pub fn version_bytes(version: u64) -> Bytes {
    Bytes::copy_from_slice(&version.to_be_bytes())
}

/// Cheap to clone.
#[derive(Clone)]
pub struct SchemaRegistry {
    metadata: SharedMetadata,
    clock: SharedClock,
}

impl SchemaRegistry {
    pub fn new(metadata: SharedMetadata, clock: SharedClock) -> Self {
        SchemaRegistry { metadata, clock }
    }

    /// Every version, oldest first.
    pub async fn all(&self, topic: &TopicName) -> Result<Vec<(u64, SchemaRecord)>, StoreError> {
        let prefix = format!("{}/", parent(topic));
        let records = self.metadata.scan(&prefix, None, VERSIONS_MAX).await?;
        records.into_iter().map(|(key, value)| decode(key, value.bytes)).collect()
    }

    pub async fn latest(&self, topic: &TopicName) -> Result<Option<(u64, SchemaRecord)>, StoreError> {
        Ok(self.all(topic).await?.pop())
    }

    pub async fn version(&self, topic: &TopicName, version: u64) -> Result<Option<SchemaRecord>, StoreError> {
        let key = key(topic, version);
        match self.metadata.get(&key).await? {
            Some(value) => Ok(Some(decode(key, value.bytes)?.1)),
            None => Ok(None),
        }
    }

    /// The version of this schema: the one that has the same type and data, or a new one if the strategy allows. What
    /// was judged is what is stored: the next version is taken only if none came in between.
    pub async fn add(
        &self,
        topic: &TopicName,
        schema: &api::Schema,
        strategy: Strategy,
    ) -> Result<u64, StoreError> {
        for _ in 0..ADD_ATTEMPTS {
            let known = self.all(topic).await?;
            if let Some(version) = version_of(&known, schema) {
                return Ok(version);
            }
            schemas::check(strategy, &numbered(&known), schema)?;
            if known.len() >= VERSIONS_MAX {
                return Err(StoreError::Invalid(format!(
                    "topic {topic} has {VERSIONS_MAX} schema versions already"
                )));
            }
            let next = known.last().map_or(0, |(version, _)| version + 1);
            let record = SchemaRecord { schema: schema.clone(), timestamp_ms: self.clock.unix_ms() };
            let value = Bytes::from(record.encode_to_vec());
            match self.metadata.put(&key(topic, next), value, Expect::Missing).await {
                Ok(_) => return Ok(next),
                Err(MetadataError::Conflict { .. }) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Err(StoreError::Contended(format!("the schema of topic {topic}")))
    }

    /// Whether the schema may be added, without adding it.
    pub async fn check(
        &self,
        topic: &TopicName,
        schema: &api::Schema,
        strategy: Strategy,
    ) -> Result<(), StoreError> {
        let known = self.all(topic).await?;
        match version_of(&known, schema) {
            Some(_) => Ok(()),
            None => Ok(schemas::check(strategy, &numbered(&known), schema)?),
        }
    }

    /// Whether a consumer may bring this schema. On a topic without any, it becomes the first one if `add` allows.
    pub async fn check_consumer(
        &self,
        topic: &TopicName,
        schema: &api::Schema,
        strategy: Strategy,
        add: bool,
    ) -> Result<(), StoreError> {
        let known = self.all(topic).await?;
        if known.is_empty() && add {
            return self.add(topic, schema, strategy).await.map(drop);
        }
        match version_of(&known, schema) {
            Some(_) => Ok(()),
            None => Ok(schemas::check_consumer(strategy, &numbered(&known), schema)?),
        }
    }

    /// Forgets all versions.
    pub async fn delete(&self, topic: &TopicName) -> Result<(), StoreError> {
        for (version, _) in self.all(topic).await? {
            match self.metadata.delete(&key(topic, version), Expect::Any).await {
                Ok(()) | Err(MetadataError::NotFound { .. }) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Ok(())
    }
}

/// The version that has the same type and data.
pub fn version_of(known: &[(u64, SchemaRecord)], schema: &api::Schema) -> Option<u64> {
    known.iter().find(|(_, record)| is_same(&record.schema, schema)).map(|(version, _)| *version)
}

fn numbered(known: &[(u64, SchemaRecord)]) -> Vec<(u64, &api::Schema)> {
    known.iter().map(|(version, record)| (*version, &record.schema)).collect()
}

fn is_same(a: &api::Schema, b: &api::Schema) -> bool {
    a.r#type == b.r#type && a.schema_data == b.schema_data
}

fn parent(topic: &TopicName) -> String {
    let base = topic.without_partition();
    format!("{ROOT}/{}/{}", base.namespace(), encode(base.local()))
}

/// Padded, so that key order is version order.
fn key(topic: &TopicName, version: u64) -> String {
    format!("{}/{version:020}", parent(topic))
}

fn decode(key: String, bytes: Bytes) -> Result<(u64, SchemaRecord), StoreError> {
    let version = key.rsplit('/').next().and_then(|text| text.parse().ok());
    match (version, SchemaRecord::decode(bytes)) {
        (Some(version), Ok(record)) => Ok((version, record)),
        (None, _) => Err(StoreError::Corrupt { key, reason: "its name is no version".into() }),
        (_, Err(error)) => Err(StoreError::Corrupt { key, reason: error.to_string() }),
    }
}
