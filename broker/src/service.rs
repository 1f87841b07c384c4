//! The broker as one thing: what its parts share, how it starts, how it ends.
//!
//! `deploy` and tests start a [`Broker`]; connections and the admin API work on its [`BrokerService`]. It must never
//! know of single commands or requests: it puts parts together and keeps count of who is connected.

mod accept;
mod balancing;
mod connections;
mod elsewhere;
mod http;
mod idle;
mod loader;
mod neighbours;
pub mod peer;
mod start;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use magnetar_common::Environment;
use magnetar_common::budget::ByteBudget;
use magnetar_common::clock::SharedClock;
use magnetar_common::metadata::SharedMetadata;
use magnetar_common::random::SharedRandom;

pub use connections::Connections;
#[cfg(test)]
pub(crate) use start::assemble;
pub use start::{Broker, StartError};

use crate::config::BrokerConfig;
use crate::namespace::{
    Cluster, NamespaceStore, Owner, Ownership, SchemaRegistry, TopicFeeds, TopicRegistry,
};
use crate::policies::RecentPolicies;

/// What everything in a broker shares.
pub struct BrokerService {
    pub config: BrokerConfig,
    /// Clusters, tenants, namespaces, partitioned topics.
    pub store: NamespaceStore,
    pub schemas: SchemaRegistry,
    /// Policies as they were read lately.
    pub policies: Arc<RecentPolicies>,
    /// The topics in memory, and the way to load others.
    pub topics: Arc<TopicRegistry>,
    /// Lists of topics for clients that watch them.
    pub feeds: Arc<TopicFeeds>,
    pub ownership: Arc<dyn Ownership>,
    /// This broker's part in a cluster; `None` where it is the only one.
    pub cluster: Option<Arc<Cluster>>,
    /// For calls to other brokers.
    pub environment: Environment,
    /// The addresses that clients and tools are told.
    pub advertised: Owner,
    pub connections: Connections,
    /// Bytes of messages received and not yet durable, over all connections.
    pub publish_budget: ByteBudget,
    pub metadata: SharedMetadata,
    pub clock: SharedClock,
    pub random: SharedRandom,
}
