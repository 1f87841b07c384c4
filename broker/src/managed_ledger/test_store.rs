//! A metadata store that is lost, for tests of crashes.

use futures_util::future::BoxFuture;
use magnetar_common::metadata::{
    Lease, MetadataError, MetadataStore, Op, SharedMetadata, Value, Version, Watch,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

type Answer<'a, T> = BoxFuture<'a, Result<T, MetadataError>>;

/// A store that this owner loses after some transactions; of the one that it was lost at, it never hears.
pub(crate) struct Lost {
    pub(crate) store: SharedMetadata,
    pub(crate) left: AtomicUsize,
    /// Whether the last one was applied.
    pub(crate) applies: bool,
}

impl MetadataStore for Lost {
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Value>> {
        self.store.get(key)
    }

    fn children<'a>(&'a self, key: &'a str) -> Answer<'a, Vec<String>> {
        self.store.children(key)
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> Answer<'a, Vec<(String, Value)>> {
        self.store.scan(prefix, after, limit)
    }

    fn transact(&self, ops: Vec<Op>) -> Answer<'_, Vec<Option<Version>>> {
        let take = |left: usize| left.checked_sub(1);
        let reached = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok();
        Box::pin(async move {
            if reached {
                return self.store.transact(ops).await;
            }
            if self.applies {
                self.store.transact(ops).await?;
            }
            Err(MetadataError::Unavailable("lost in this test".into()))
        })
    }

    fn next_sequence<'a>(&'a self, parent: &'a str) -> Answer<'a, u64> {
        self.store.next_sequence(parent)
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.store.watch(prefix)
    }

    fn grant_lease(&self, ttl: Duration) -> Answer<'_, Lease> {
        self.store.grant_lease(ttl)
    }
}
