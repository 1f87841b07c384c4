//! Where the cluster's facts are kept: who owns what, which ledgers a topic has, where a ledger's entries are.
//!
//! Called by every role through `dyn MetadataStore`. It must never interpret a value, and never invent one: "cannot
//! read" is an error, not an absence. The model is etcd's seen through Pulsar's eyes: keys are paths, a version is
//! that of one change and of no other, ephemeral keys live as long as a lease.

mod embedded;
mod error;
mod etcd;
mod lease;
mod memory;
mod ops;
mod tree;
mod watch;

#[doc(hidden)]
pub mod conformance;

pub use embedded::{EmbeddedStore, OpenError};
pub use error::MetadataError;
pub use etcd::{EtcdConfig, EtcdStore, EtcdTls, EtcdUrlError, EtcdUser};
pub use lease::{Lease, LeaseId};
pub use memory::MemoryStore;
pub use ops::{Expect, Op, Value, Version};
pub use watch::{Watch, WatchEvent};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// A store shared by all parts of a role.
pub type SharedMetadata = Arc<dyn MetadataStore>;

/// The result of a metadata operation.
pub type Result<T> = std::result::Result<T, MetadataError>;

/// A consistent, versioned map from paths to bytes.
///
/// Every operation is atomic and, once it has returned, durable and visible to all later reads. Dropping a future
/// leaves it unknown whether a write happened: read before trying again.
pub trait MetadataStore: Send + Sync + 'static {
    /// The value of a key, or `None` when the store knows that there is none.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Value>>>;

    /// The first path component below `key` of every key there, sorted, each once.
    fn children<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Vec<String>>>;

    /// Up to `limit` keys that start with `prefix` and lie after `start_after`, in key order, with their values.
    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(String, Value)>>>;

    /// Applies all operations, or none. A failed expectation is [`MetadataError::Conflict`] with the first key that
    /// failed. Gives the new version of each put, in order, and `None` for the others. No key may occur twice.
    fn transact(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<Vec<Option<Version>>>>;

    /// How often this was asked for `parent` before: a number that nobody else gets as long as the key, which is for this
    /// alone, is never deleted. In etcd that is the count of its puts (Pulsar's rule for sequential keys).
    fn next_sequence<'a>(&'a self, parent: &'a str) -> BoxFuture<'a, Result<u64>>;

    /// Changes below a prefix from now on, in order. See [`Watch`].
    fn watch(&self, prefix: &str) -> Watch;

    /// A lease that is kept alive in the background until it is dropped or lost.
    fn grant_lease(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease>>;

    /// Writes a value. See [`Expect`] for what must hold before.
    fn put<'a>(&'a self, key: &'a str, value: Bytes, expect: Expect) -> BoxFuture<'a, Result<Version>> {
        Box::pin(put_one(self.transact(vec![Op::Put { key: key.to_owned(), value, expect, lease: None }])))
    }

    /// Writes a value that disappears with the lease.
    fn put_ephemeral<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expect: Expect,
        lease: LeaseId,
    ) -> BoxFuture<'a, Result<Version>> {
        Box::pin(put_one(self.transact(vec![Op::Put {
            key: key.to_owned(),
            value,
            expect,
            lease: Some(lease),
        }])))
    }

    /// Removes a key. A missing key is [`MetadataError::NotFound`], or a conflict where a version was expected.
    fn delete<'a>(&'a self, key: &'a str, expect: Expect) -> BoxFuture<'a, Result<()>> {
        Box::pin(
            async move { self.transact(vec![Op::Delete { key: key.to_owned(), expect }]).await.map(drop) },
        )
    }
}

async fn put_one(transaction: BoxFuture<'_, Result<Vec<Option<Version>>>>) -> Result<Version> {
    version_of_put(transaction.await?.first())
}

/// What [`MetadataStore::transact`] answered at a put's place.
pub fn version_of_put(answer: Option<&Option<Version>>) -> Result<Version> {
    answer.copied().flatten().ok_or_else(|| MetadataError::Corrupt("a put gave no version".into()))
}

/// Every lease that the operations name must be alive.
fn check_leases(ops: &[Op], alive: impl Fn(LeaseId) -> bool) -> Result<()> {
    let named = ops.iter().filter_map(|op| match op {
        Op::Put { lease, .. } => *lease,
        Op::Delete { .. } | Op::Check { .. } => None,
    });
    if named.into_iter().all(alive) { Ok(()) } else { Err(MetadataError::LeaseLost) }
}
