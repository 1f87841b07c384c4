//! The records of clusters, tenants, namespaces and partitioned topics, in Pulsar's JSON.
//!
//! A record holds what the broker acts on as fields, and carries everything else along unread: a newer broker or tool
//! that shares the metadata loses nothing when this one changes a record.

use std::collections::BTreeMap;

use magnetar_common::bundles::Bundles;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Properties that this broker does not act on.
pub type Others = BTreeMap<String, Value>;

/// Where a cluster can be reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterData {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_url_tls: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_service_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_service_url_tls: Option<String>,
    #[serde(flatten)]
    pub others: Others,
}

/// Who may administer a tenant, and where its namespaces may live.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TenantInfo {
    pub admin_roles: Vec<String>,
    pub allowed_clusters: Vec<String>,
    #[serde(flatten)]
    pub others: Others,
}

/// A namespace's policies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policies {
    pub replication_clusters: Vec<String>,
    pub bundles: Bundles,
    /// Being deleted: nothing new may be created in it.
    pub deleted: bool,
    /// Unset: the broker's setting counts.
    #[serde(rename = "autoTopicCreationOverride", skip_serializing_if = "Option::is_none")]
    pub auto_topic_creation: Option<AutoTopicCreation>,
    /// Unset: the broker's setting counts.
    #[serde(rename = "autoSubscriptionCreationOverride", skip_serializing_if = "Option::is_none")]
    pub auto_subscription_creation: Option<AutoSubscriptionCreation>,
    #[serde(flatten)]
    pub others: Others,
}

/// Whether, and as what, a topic is created by its first use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AutoTopicCreation {
    pub allow_auto_topic_creation: bool,
    /// `partitioned` or `non-partitioned`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_num_partitions: Option<u32>,
    #[serde(flatten)]
    pub others: Others,
}

/// Whether a durable subscription is created by its first consumer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AutoSubscriptionCreation {
    pub allow_auto_subscription_creation: bool,
    #[serde(flatten)]
    pub others: Others,
}

/// How many partitions a topic has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartitionedTopicMetadata {
    /// At least 1; never shrinks.
    pub partitions: u32,
    #[serde(default)]
    pub deleted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<BTreeMap<String, String>>,
    #[serde(flatten)]
    pub others: Others,
}
