//! Stores and the registry over the in-memory metadata store.

mod registry;
mod store;

use std::sync::Arc;

use magnetar_common::layout;
use magnetar_common::metadata::{Expect, MemoryStore, SharedMetadata};
use magnetar_common::topic_name::{NamespaceName, TopicName};

use super::*;

fn topic(name: &str) -> TopicName {
    name.parse().expect("a topic name")
}

fn namespace(name: &str) -> NamespaceName {
    name.parse().expect("a namespace")
}

async fn new_cluster() -> (SharedMetadata, NamespaceStore) {
    let metadata: SharedMetadata = Arc::new(MemoryStore::new());
    bootstrap(&metadata, "standalone", &ClusterData::default(), 4).await.expect("the first start");
    (Arc::clone(&metadata), NamespaceStore::new(metadata))
}

async fn write_topic(metadata: &SharedMetadata, name: &str) {
    let key = layout::managed_ledger(&topic(name).managed_ledger_name());
    metadata.put(&key, bytes::Bytes::new(), Expect::Any).await.expect("a put");
}
