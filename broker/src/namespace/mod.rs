//! What exists: clusters, tenants, namespaces with their policies, topics, and which broker serves them.
//!
//! The protocol and the admin API call it for every name a client mentions. It must never know of commands, HTTP or
//! entries. Records live in the metadata store in the form in which Pulsar keeps them there.

mod bookie_affinity;
mod bootstrap;
mod error;
mod isolation;
mod loading;
mod ownership;
mod partitions;
mod policies;
mod records;
mod registry;
mod schemas;
mod store;
#[cfg(test)]
mod tests;
mod topic_feed;
pub mod topic_list;
mod topic_policies;
mod topic_watch;

pub use bookie_affinity::BookieAffinityGroup;
pub use bootstrap::bootstrap;
pub use error::{LoadError, StoreError};
pub use loading::{LoadTopic, Purpose};
pub use ownership::{
    Asked, Boundaries, BrokerRecord, Brokers, BundleError, BundleStats, Cluster, ClusterSettings, Directory,
    HandOver, Listener, Located, Neighbours, Owner, Ownership, SingleBroker, SplitAt,
};
pub use policies::{
    AutoSubscriptionCreation, AutoTopicCreation, ClusterData, Others, PartitionedTopicMetadata, Policies,
    TenantInfo,
};
pub use records::PolicyChanges;
pub use registry::{AutoCreate, TopicRegistry};
pub use schemas::{SchemaRecord, SchemaRegistry, version_bytes, version_of};
pub use store::NamespaceStore;
pub use topic_feed::{TopicFeed, TopicFeeds};
pub use topic_policies::{TOPIC_POLICIES, topic_policies_key};
pub use topic_watch::{TopicChange, TopicWatch};
