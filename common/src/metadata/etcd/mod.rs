//! The store that processes share: an etcd cluster, with keys as Pulsar lays them out there.
//!
//! Called through [`MetadataStore`] by every role of a cluster. It must never wait without bound, never repeat a write
//! that etcd may have seen, and never take an unreachable cluster for an empty one.

mod config;
mod failure;
mod lease;
mod link;
mod range;
mod transaction;
mod watch;

pub use config::{EtcdConfig, EtcdTls, EtcdUrlError, EtcdUser};

use super::lease::Lease;
use super::ops::{Op, Value, Version};
use super::tree::check_key;
use super::watch::Watch;
use super::{MetadataError, MetadataStore, Result};
use crate::clock::SharedClock;
use crate::shutdown::Signal;
use etcd_client::{KvClient, ResponseHeader, TxnResponse};
use failure::Repeat;
use futures_util::future::BoxFuture;
use link::Link;
use std::time::Duration;
use transaction::Plan;

/// A client of an etcd cluster. Dropping it ends its watches; leases end when they are dropped themselves.
///
/// When etcd's answer to a write is lost the write is not repeated, and [`MetadataError::Unavailable`] says that its
/// outcome is unknown. Reads, which always see the newest state, are repeated on other members within
/// [`EtcdConfig::limit`].
#[derive(Debug)]
pub struct EtcdStore {
    link: Link,
    closed: Signal,
    /// Watches and leases live here, wherever their owner is called from.
    runtime: tokio::runtime::Handle,
}

impl EtcdStore {
    /// Connects to any member of the cluster; fails within about the limit when none answers. Must be called in a tokio
    /// runtime with time and network on.
    pub async fn connect(config: &EtcdConfig, clock: SharedClock) -> Result<Self> {
        let link = Link::connect(config, clock).await?;
        Ok(Self { link, closed: Signal::new(), runtime: tokio::runtime::Handle::current() })
    }

    async fn commit(&self, ops: Vec<Op>, repeated: Repeat) -> Result<Vec<Option<Version>>> {
        if ops.is_empty() {
            return Ok(Vec::new());
        }
        let plan = Plan::new(ops)?;
        let request = plan.request();
        let send = |mut kv: KvClient| {
            let request = request.clone();
            async move { kv.txn(request).await }
        };
        let answer: TxnResponse = self.link.ask(repeated, send).await?;
        self.link.saw(answer.header());
        if answer.succeeded() {
            let revision = answer.header().map(ResponseHeader::revision);
            let missing = || MetadataError::Corrupt("etcd: an answer without a revision".into());
            Ok(plan.versions(revision.ok_or_else(missing)?))
        } else {
            Err(plan.refusal(answer.op_responses()))
        }
    }

    async fn read(&self, key: &str) -> Result<Option<Value>> {
        check_key(key)?;
        let read = |mut kv: KvClient| async move { kv.get(key, None).await };
        let mut answer = self.link.ask(Repeat::Freely, read).await?;
        self.link.saw(answer.header());
        Ok(answer.take_kvs().pop().map(range::value_of))
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.closed.give();
    }
}

impl MetadataStore for EtcdStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Value>>> {
        Box::pin(self.read(key))
    }

    fn children<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(range::children(&self.link, key))
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(String, Value)>>> {
        Box::pin(range::scan(&self.link, prefix, start_after, limit))
    }

    fn transact(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<Vec<Option<Version>>>> {
        Box::pin(self.commit(ops, Repeat::IfUnseen))
    }

    fn next_sequence<'a>(&'a self, parent: &'a str) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            check_key(parent)?;
            let request = transaction::counted(parent);
            let send = |mut kv: KvClient| {
                let request = request.clone();
                async move { kv.txn(request).await }
            };
            // Repeated freely: a number that nobody heard of is only left out.
            let answer: TxnResponse = self.link.ask(Repeat::Freely, send).await?;
            self.link.saw(answer.header());
            let missing =
                || MetadataError::Corrupt(format!("etcd: {parent} is missing in the answer to its put"));
            transaction::count(answer.op_responses()).ok_or_else(missing)
        })
    }

    fn watch(&self, prefix: &str) -> Watch {
        watch::start(self.link.clone(), prefix, self.closed.clone(), &self.runtime)
    }

    fn grant_lease(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease>> {
        Box::pin(lease::grant(self.link.clone(), ttl, &self.runtime))
    }
}
