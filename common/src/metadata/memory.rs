//! A store in memory, for simulation and tests.

use super::lease::{Lease, LeaseId};
use super::ops::{Op, Value, Version};
use super::tree::{Change, Pending, Tree, check_key};
use super::watch::{Watch, Watchers};
use super::{MetadataStore, Result};
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Keeps everything in memory. Clones share it. Leases end only when dropped, or by [`expire`](Self::expire).
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    watchers: Watchers,
}

#[derive(Debug, Default)]
struct State {
    tree: Tree,
    last_lease: i64,
    leases: BTreeMap<LeaseId, watch::Sender<bool>>,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watchers are told under the state's lock, so that they hear changes in their order.
    fn apply(&self, state: &mut State, changes: Vec<Change>) {
        let events = state.tree.apply(changes);
        self.watchers.notify(&events);
    }

    fn end_lease(&self, lease: LeaseId) {
        let mut state = self.state();
        if let Some(lost) = state.leases.remove(&lease) {
            let changes = state.tree.plan_lease_end(&Pending::new(), lease);
            self.apply(&mut state, changes);
            let _ = lost.send(true);
        }
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends a lease as if its holder had been silent for too long.
    pub fn expire(&self, lease: LeaseId) {
        self.inner.end_lease(lease);
    }
}

impl MetadataStore for MemoryStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Value>>> {
        Box::pin(async move {
            check_key(key)?;
            Ok(self.inner.state().tree.get(key).cloned())
        })
    }

    fn children<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move { Ok(self.inner.state().tree.children(key)) })
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(String, Value)>>> {
        Box::pin(async move { Ok(self.inner.state().tree.scan(prefix, start_after, limit)) })
    }

    fn transact(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<Vec<Option<Version>>>> {
        Box::pin(async move {
            let mut state = self.inner.state();
            super::check_leases(&ops, |lease| state.leases.contains_key(&lease))?;
            let (changes, versions) = state.tree.plan(&Pending::new(), ops)?;
            self.inner.apply(&mut state, changes);
            Ok(versions)
        })
    }

    fn next_sequence<'a>(&'a self, parent: &'a str) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let mut state = self.inner.state();
            let (changes, number) = state.tree.plan_sequence(&Pending::new(), parent)?;
            self.inner.apply(&mut state, changes);
            Ok(number)
        })
    }

    fn watch(&self, prefix: &str) -> Watch {
        let _in_order = self.inner.state();
        self.inner.watchers.add(prefix)
    }

    fn grant_lease(&self, _ttl: Duration) -> BoxFuture<'_, Result<Lease>> {
        Box::pin(async move {
            let mut state = self.inner.state();
            state.last_lease += 1;
            let id = LeaseId(state.last_lease);
            let (sender, lost) = watch::channel(false);
            state.leases.insert(id, sender);
            let inner = Arc::downgrade(&self.inner);
            Ok(Lease::new(id, lost, move || {
                if let Some(inner) = inner.upgrade() {
                    inner.end_lease(id);
                }
            }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn conforms() {
        super::super::conformance::run_all(async || Arc::new(MemoryStore::new())).await;
    }

    #[tokio::test]
    async fn an_expired_lease_is_noticed_by_its_holder() {
        let store = MemoryStore::new();
        let lease = store.grant_lease(Duration::from_secs(1)).await.expect("a lease");
        store.expire(lease.id());
        lease.lost().await;
    }
}
