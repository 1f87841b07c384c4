//! The policies that one topic has of its own, in front of its namespace's.

use magnetar_common::metadata::{Expect, MetadataError, Op};
use magnetar_common::topic_name::{TopicName, encode};
use serde_json::{Map, Value};

use super::error::StoreError;
use super::records::put;
use super::store::NamespaceStore;

/// Parent of the records. Pulsar keeps its own as messages of a system topic, which only brokers read.
pub const TOPIC_POLICIES: &str = "/magnetar/topic-policies";

/// Lost races in a row before giving up.
const UPDATE_ATTEMPTS: usize = 16;

/// Where a topic's record lies; all partitions share it.
pub fn topic_policies_key(topic: &TopicName) -> String {
    let base = topic.without_partition();
    format!("{TOPIC_POLICIES}/{}/{}/{}", base.namespace(), base.domain().as_str(), encode(base.local()))
}

impl NamespaceStore {
    /// Properties of the same names and forms as in the record of a namespace. `None`: it has none of its own.
    pub async fn topic_policies(&self, topic: &TopicName) -> Result<Option<Map<String, Value>>, StoreError> {
        self.records.get(&topic_policies_key(topic)).await
    }

    /// Changes them atomically; `change` may run several times. A record without properties goes away.
    pub async fn update_topic_policies(
        &self,
        topic: &TopicName,
        mut change: impl FnMut(&mut Map<String, Value>),
    ) -> Result<(), StoreError> {
        let key = topic_policies_key(topic);
        for _ in 0..UPDATE_ATTEMPTS {
            let found = self.records.metadata.get(&key).await?;
            let mut record: Map<String, Value> = match &found {
                None => Map::new(),
                Some(value) => serde_json::from_slice(&value.bytes)
                    .map_err(|error| StoreError::Corrupt { key: key.clone(), reason: error.to_string() })?,
            };
            change(&mut record);
            record.retain(|_, value| !value.is_null());
            let expect = found.map_or(Expect::Missing, |value| Expect::Version(value.version));
            let written = match (record.is_empty(), expect) {
                (true, Expect::Missing) => return Ok(()),
                (true, expect) => self.records.write(vec![Op::Delete { key: key.clone(), expect }]).await,
                (false, expect) => self.records.write(vec![put(&key, &record, expect)?]).await,
            };
            match written {
                Ok(()) => return Ok(()),
                Err(MetadataError::Conflict { .. } | MetadataError::NotFound { .. }) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Err(StoreError::Contended(format!("the policies of topic {topic}")))
    }

    /// Forgets them, when the topic goes.
    pub async fn delete_topic_policies(&self, topic: &TopicName) -> Result<(), StoreError> {
        let op = Op::Delete { key: topic_policies_key(topic), expect: Expect::Any };
        match self.records.write(vec![op]).await {
            Ok(()) | Err(MetadataError::NotFound { .. }) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }
}
