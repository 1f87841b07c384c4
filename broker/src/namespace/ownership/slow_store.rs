//! A metadata store whose answers to reads arrive late, for tests of what happens meanwhile.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use magnetar_common::metadata::{
    Lease, MetadataError, MetadataStore, Op, SharedMetadata, Value, Version, Watch,
};
use tokio::sync::Semaphore;

type Answer<'a, T> = BoxFuture<'a, Result<T, MetadataError>>;

/// A read has happened when it is first polled; its answer takes a permit.
pub(super) struct Slow {
    pub(super) store: SharedMetadata,
    pub(super) answers: Arc<Semaphore>,
}

impl MetadataStore for Slow {
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Value>> {
        Box::pin(async move {
            let found = self.store.get(key).await;
            self.answers.acquire().await.expect("never closed").forget();
            found
        })
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
        self.store.transact(ops)
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
