//! Partitioned topics: a record that says how many topics named `…-partition-N` belong together.

use magnetar_common::layout;
use magnetar_common::topic_name::{NamespaceName, TopicName};

use super::error::StoreError;
use super::policies::PartitionedTopicMetadata;
use super::store::{NamespaceStore, parse_topics};

fn called(topic: &TopicName) -> String {
    format!("partitioned topic {topic}")
}

impl NamespaceStore {
    /// `None`: not partitioned, or no such topic.
    pub async fn partitions(
        &self,
        topic: &TopicName,
    ) -> Result<Option<PartitionedTopicMetadata>, StoreError> {
        self.records.get(&layout::partitioned_topic(topic)).await
    }

    /// Names of a namespace's partitioned topics, sorted.
    pub async fn partitioned_topics(&self, namespace: &NamespaceName) -> Result<Vec<TopicName>, StoreError> {
        let parent = layout::partitioned_topics(namespace, "persistent");
        Ok(parse_topics(namespace, &self.records.names(&parent).await?))
    }

    /// Writes the record; the partitions themselves appear on first use. The namespace must exist, and no plain topic
    /// of that name.
    pub async fn create_partitioned(
        &self,
        topic: &TopicName,
        metadata: &PartitionedTopicMetadata,
        partitions_max: u32,
    ) -> Result<(), StoreError> {
        check_count(metadata.partitions, partitions_max)?;
        if topic.partition().is_some() {
            return Err(StoreError::Invalid(format!(
                "{topic} is a partition and cannot be partitioned itself"
            )));
        }
        if self.topic_exists(topic).await? {
            return Err(StoreError::Exists(format!("topic {topic}")));
        }
        let namespace = topic.namespace();
        let (parent_key, parent_what) = (layout::namespace(namespace), format!("namespace {namespace}"));
        let parent = Some((parent_key.as_str(), parent_what.as_str()));
        self.records.create(&layout::partitioned_topic(topic), metadata, &called(topic), parent).await
    }

    /// Raises the number of partitions; clients rely on it never shrinking.
    pub async fn grow_partitions(
        &self,
        topic: &TopicName,
        partitions: u32,
        partitions_max: u32,
    ) -> Result<(), StoreError> {
        check_count(partitions, partitions_max)?;
        let grow = |record: &mut PartitionedTopicMetadata| {
            if partitions < record.partitions {
                return Err(StoreError::Invalid(format!(
                    "{topic} has {} partitions; their number can only grow",
                    record.partitions
                )));
            }
            record.partitions = partitions;
            Ok(())
        };
        self.records.update(&layout::partitioned_topic(topic), &called(topic), grow).await.map(drop)
    }

    /// Removes the record; the caller deletes the partitions first.
    pub async fn delete_partitioned(&self, topic: &TopicName) -> Result<(), StoreError> {
        self.records.delete(&layout::partitioned_topic(topic), &called(topic)).await
    }
}

fn check_count(partitions: u32, partitions_max: u32) -> Result<(), StoreError> {
    if (1..=partitions_max).contains(&partitions) {
        return Ok(());
    }
    Err(StoreError::Invalid(format!("a topic may have 1 to {partitions_max} partitions, not {partitions}")))
}
