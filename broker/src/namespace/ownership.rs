//! Which broker serves a bundle. One broker owns all of them; a cluster's ownership comes from leases later.

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

/// Decides who serves a topic. A hint for clients: safety comes from ledger fencing, never from here.
pub trait Ownership: Send + Sync + 'static {
    /// The owner of the topic's bundle, after claiming it if nobody has it.
    fn owner<'a>(&'a self, topic: &'a TopicName) -> BoxFuture<'a, Result<Owner, StoreError>>;

    /// Does this process serve the topic's bundle now? Cheap.
    fn is_owned(&self, topic: &TopicName) -> bool;
}

/// The only broker of its cluster.
pub struct SingleBroker(pub Owner);

impl Ownership for SingleBroker {
    fn owner<'a>(&'a self, _topic: &'a TopicName) -> BoxFuture<'a, Result<Owner, StoreError>> {
        Box::pin(async { Ok(self.0.clone()) })
    }

    fn is_owned(&self, _topic: &TopicName) -> bool {
        true
    }
}
