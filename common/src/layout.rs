//! The well-known keys of the metadata store, as Pulsar and BookKeeper lay them out.

use crate::bundles::BundleRange;
use crate::topic_name::{NamespaceName, TopicName, encode};
use magnetar_proto::bookkeeper::BookieId;

/// Parent of the clusters' records.
pub const CLUSTERS: &str = "/admin/clusters";
/// Parent of tenants (and, one level below, of namespaces).
pub const POLICIES: &str = "/admin/policies";
/// Parent of partitioned topics' records.
pub const PARTITIONED_TOPICS: &str = "/admin/partitioned-topics";
/// Parent of managed ledgers.
pub const MANAGED_LEDGERS: &str = "/managed-ledgers";
/// Parent of schema records.
pub const SCHEMAS: &str = "/schemas";
/// Parent of writable bookies' registrations.
pub const BOOKIES: &str = "/ledgers/available";
/// Parent of read-only bookies' registrations.
pub const BOOKIES_READ_ONLY: &str = "/ledgers/available/readonly";
/// Racks and groups of bookies, as Pulsar's tools write them.
pub const BOOKIE_RACKS: &str = "/bookies";
/// Parent of the records by which operators ask bookies to hand over what they hold.
pub const DRAINING: &str = "/magnetar/draining";
/// Parent of bookies' identities.
pub const COOKIES: &str = "/ledgers/cookies";
/// Where ledger ids come from.
pub const LEDGER_IDS: &str = "/ledgers/idgen";
/// The cluster's identity, written once.
pub const INSTANCE_ID: &str = "/ledgers/INSTANCEID";
/// How ledgers are laid out, for BookKeeper's tools.
pub const LEDGER_LAYOUT: &str = "/ledgers/LAYOUT";

/// Parent of the records of namespaces' bundles.
pub const LOCAL_POLICIES: &str = "/admin/local-policies";
/// Parent of bundles' owners.
pub const BUNDLE_OWNERS: &str = "/namespace";
/// Parent of brokers' registrations.
pub const BROKERS: &str = "/loadbalance/brokers";
/// The broker that assigns bundles: ephemeral.
pub const LEADER_BROKER: &str = "/loadbalance/leader";

/// A cluster's record.
pub fn cluster(name: &str) -> String {
    format!("{CLUSTERS}/{name}")
}

/// A cluster's isolation policies.
pub fn isolation_policies(cluster: &str) -> String {
    format!("{CLUSTERS}/{cluster}/namespaceIsolationPolicies")
}

/// A tenant's record.
pub fn tenant(name: &str) -> String {
    format!("{POLICIES}/{name}")
}

/// A namespace's policies.
pub fn namespace(name: &NamespaceName) -> String {
    format!("{POLICIES}/{name}")
}

/// A namespace's bundles.
pub fn local_policies(name: &NamespaceName) -> String {
    format!("{LOCAL_POLICIES}/{name}")
}

/// Parent of a namespace's partitioned topics.
pub fn partitioned_topics(name: &NamespaceName, domain: &str) -> String {
    format!("{PARTITIONED_TOPICS}/{name}/{domain}")
}

/// A partitioned topic's record; `topic` is the topic without a partition suffix.
pub fn partitioned_topic(topic: &TopicName) -> String {
    let parent = partitioned_topics(topic.namespace(), topic.domain().as_str());
    format!("{parent}/{}", encode(topic.local()))
}

/// Parent of a namespace's managed ledgers.
pub fn managed_ledgers(name: &NamespaceName) -> String {
    format!("{MANAGED_LEDGERS}/{name}/persistent")
}

/// A managed ledger's record.
pub fn managed_ledger(managed_ledger_name: &str) -> String {
    format!("{MANAGED_LEDGERS}/{managed_ledger_name}")
}

/// A cursor's record.
pub fn cursor(managed_ledger_name: &str, cursor: &str) -> String {
    format!("{MANAGED_LEDGERS}/{managed_ledger_name}/{}", encode(cursor))
}

/// Ownership of a bundle: ephemeral.
pub fn bundle_owner(name: &NamespaceName, range: BundleRange) -> String {
    format!("{BUNDLE_OWNERS}/{name}/{range}")
}

/// A broker's registration: ephemeral. Its id is the `host:port` of its HTTP port.
pub fn broker(id: &str) -> String {
    format!("{BROKERS}/{id}")
}

/// A writable bookie's registration: ephemeral.
pub fn bookie(id: &BookieId) -> String {
    format!("{BOOKIES}/{id}")
}

/// A read-only bookie's registration: ephemeral.
pub fn bookie_read_only(id: &BookieId) -> String {
    format!("{BOOKIES_READ_ONLY}/{id}")
}

/// A bookie's identity.
pub fn cookie(id: &BookieId) -> String {
    format!("{COOKIES}/{id}")
}

/// An operator's wish that a bookie hand over what it holds.
pub fn draining(id: &BookieId) -> String {
    format!("{DRAINING}/{id}")
}
