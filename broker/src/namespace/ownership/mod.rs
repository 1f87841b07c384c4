//! Which broker serves a bundle, and how a cluster's brokers agree on it.
//!
//! The protocol and the admin API ask it for every lookup and before every load of a topic. Ownership is a hint for
//! speed: whoever opens a topic fences its ledgers, so it must never be what keeps a message safe.

mod boundaries;
mod claim;
mod cluster;
mod directory;
mod handover;
mod leader;
mod locate;
mod probe;
mod record;
mod release;
mod report;
mod session;
#[cfg(test)]
mod slow_store;
mod split;
mod table;
#[cfg(test)]
mod tests;

pub use boundaries::Boundaries;
pub use cluster::{Cluster, ClusterSettings};
pub use directory::{Brokers, Directory};
pub use handover::{HandOver, Neighbours};
pub use record::{BrokerRecord, BundleStats, Listener};
pub use release::BundleError;
pub use split::SplitAt;

use futures_util::future::BoxFuture;
use magnetar_common::topic_name::TopicName;

use super::error::StoreError;

/// The addresses of a broker, as clients and tools dial them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `pulsar://host:port`
    pub broker_url: String,
    /// `http://host:port`
    pub http_url: String,
}

/// What a lookup says besides the topic.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// Another broker sent the client here to have the bundle claimed.
    pub authoritative: bool,
    /// Which of the owner's addresses the client can dial; `None`: the usual one.
    pub listener: Option<&'a str>,
}

/// The answer to a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Located {
    /// It serves the topic.
    Serves(Owner),
    /// Ask this broker: with `authoritative` it will claim the bundle, without it will say who is to.
    Ask { broker: Owner, authoritative: bool },
}

/// Decides who serves a topic.
pub trait Ownership: Send + Sync + 'static {
    /// Who serves the topic, after its bundle was given to somebody if nobody has it. Waits, within bounds well below
    /// what clients wait, while the bundle is on its way from one broker to another.
    fn locate<'a>(
        &'a self,
        topic: &'a TopicName,
        asked: Asked<'a>,
    ) -> BoxFuture<'a, Result<Located, StoreError>>;

    /// Does this process serve the topic's bundle now? Cheap, and never waits.
    fn is_owned(&self, topic: &TopicName) -> bool;

    /// Resolves when no hand-over of the topic's bundle by this process is under way, or has been for too long.
    fn settled<'a>(&'a self, topic: &'a TopicName) -> BoxFuture<'a, ()>;

    /// Whether other brokers may serve topics too.
    fn is_shared(&self) -> bool;
}

/// The only broker of its cluster.
pub struct SingleBroker(pub Owner);

impl Ownership for SingleBroker {
    fn locate<'a>(
        &'a self,
        _topic: &'a TopicName,
        _asked: Asked<'a>,
    ) -> BoxFuture<'a, Result<Located, StoreError>> {
        Box::pin(async { Ok(Located::Serves(self.0.clone())) })
    }

    fn is_owned(&self, _topic: &TopicName) -> bool {
        true
    }

    fn settled<'a>(&'a self, _topic: &'a TopicName) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn is_shared(&self) -> bool {
        false
    }
}
