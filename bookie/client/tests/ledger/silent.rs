//! A metadata store that can be told to fall silent: wholly, or only after it has carried out what it was told to write, or
//! only about bookies that come and go.

use futures_util::future::BoxFuture;
use magnetar_common::layout;
use magnetar_common::metadata::{
    Lease, MetadataError, MetadataStore, Op, Result, SharedMetadata, Value, Version, Watch,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

pub(crate) struct Silent {
    inner: SharedMetadata,
    reads: AtomicBool,
    writes: AtomicBool,
    bookies: AtomicBool,
    /// A write was carried out and its answer lost.
    pub(crate) lost_answer: Notify,
}

impl Silent {
    pub(crate) fn over(inner: &SharedMetadata) -> Arc<Self> {
        let [reads, writes, bookies] = std::array::from_fn(|_| AtomicBool::new(false));
        Arc::new(Self { inner: inner.clone(), reads, writes, bookies, lost_answer: Notify::new() })
    }

    /// Nothing is answered, and nothing is written.
    pub(crate) fn silence(&self) {
        self.reads.store(true, Ordering::SeqCst);
        self.writes.store(true, Ordering::SeqCst);
    }

    /// Writes are carried out, and from the first of them on nothing is answered.
    pub(crate) fn lose_answers_of_writes(&self) {
        self.writes.store(true, Ordering::SeqCst);
    }

    /// Who begins to watch from now on is told of no bookie that comes or goes.
    pub(crate) fn tell_nothing_of_bookies(&self) {
        self.bookies.store(true, Ordering::SeqCst);
    }

    pub(crate) fn speak(&self) {
        self.reads.store(false, Ordering::SeqCst);
        self.writes.store(false, Ordering::SeqCst);
    }

    fn check(silent: &AtomicBool) -> Result<()> {
        let silent = silent.load(Ordering::SeqCst);
        if silent { Err(MetadataError::Unavailable("no answer".into())) } else { Ok(()) }
    }
}

impl MetadataStore for Silent {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Value>>> {
        Box::pin(async move {
            Self::check(&self.reads)?;
            self.inner.get(key).await
        })
    }

    fn children<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Vec<String>>> {
        self.inner.children(key)
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(String, Value)>>> {
        self.inner.scan(prefix, start_after, limit)
    }

    fn transact(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<Vec<Option<Version>>>> {
        Box::pin(async move {
            Self::check(&self.reads)?;
            let done = self.inner.transact(ops).await;
            if self.writes.load(Ordering::SeqCst) {
                self.reads.store(true, Ordering::SeqCst);
                self.lost_answer.notify_one();
            }
            Self::check(&self.writes)?;
            done
        })
    }

    fn next_sequence<'a>(&'a self, parent: &'a str) -> BoxFuture<'a, Result<u64>> {
        self.inner.next_sequence(parent)
    }

    fn watch(&self, prefix: &str) -> Watch {
        let untold = prefix == layout::BOOKIES && self.bookies.load(Ordering::SeqCst);
        self.inner.watch(if untold { "/nothing" } else { prefix })
    }

    fn grant_lease(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease>> {
        self.inner.grant_lease(ttl)
    }
}
