//! A store in one file of this process: what standalone uses in place of etcd.
//!
//! Values live in memory and in an embedded database; one writer thread makes a group of queued transactions durable
//! with one commit, and only then shows them to readers and watchers. Ephemeral keys are never written to the file:
//! with the process end all its leases.

mod file;
mod writer;

pub use file::OpenError;

use super::error::MetadataError;
use super::lease::{Lease, LeaseId};
use super::ops::{Op, Value, Version};
use super::tree::{Tree, check_key};
use super::watch::{Watch, Watchers};
use super::{MetadataStore, Result};
use file::Records;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use writer::{Request, Writer};

/// The file's name in its directory.
const FILE_NAME: &str = "metadata.redb";
/// Transactions that may wait for the writer; callers beyond it wait for a place.
const QUEUE_MAX: usize = 1024;
/// The embedded store. Clones share it; the file is closed when the last one is dropped and the writer has finished.
#[derive(Clone, Debug)]
pub struct EmbeddedStore {
    requests: mpsc::Sender<Request>,
    shared: Arc<Shared>,
}

/// What readers see: only what is durable.
#[derive(Debug, Default)]
struct Shared {
    durable: RwLock<Tree>,
    watchers: Watchers,
    leases: Mutex<Leases>,
}

#[derive(Debug, Default)]
struct Leases {
    last: i64,
    alive: BTreeMap<LeaseId, watch::Sender<bool>>,
    /// Still to be ended by the writer; never more than were alive.
    given_up: Vec<LeaseId>,
    /// The writer has gone: no lease is granted any more, and none is alive.
    stopped: bool,
}

impl Shared {
    fn read<T>(&self, look: impl FnOnce(&Tree) -> T) -> T {
        look(&self.durable.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn leases<T>(&self, look: impl FnOnce(&mut Leases) -> T) -> T {
        look(&mut self.leases.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets go of everybody who waits for the writer: a lease whose sender has gone counts as lost.
    fn stop(&self) {
        self.leases(|leases| {
            leases.stopped = true;
            leases.alive.clear();
            leases.given_up.clear();
        });
        self.watchers.end();
    }
}

impl EmbeddedStore {
    /// Opens `metadata.redb` in `dir`, creating it if it is missing. Blocks for some milliseconds.
    pub fn open(dir: &Path) -> std::result::Result<Self, OpenError> {
        let path = dir.join(FILE_NAME);
        let (records, tree) = Records::open(&path)?;
        let shared = Arc::new(Shared { durable: RwLock::new(tree), ..Shared::default() });
        let (requests, queue) = mpsc::channel(QUEUE_MAX);
        let writer = Writer { records, shared: shared.clone() };
        std::thread::Builder::new()
            .name("metadata-writer".into())
            .spawn(move || writer.run(queue))
            .map_err(|source| OpenError::Io { path, source })?;
        Ok(Self { requests, shared })
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

fn stopped() -> MetadataError {
    MetadataError::Unavailable("the embedded store has stopped after a failed write".into())
}

impl MetadataStore for EmbeddedStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Value>>> {
        Box::pin(async move {
            check_key(key)?;
            Ok(self.shared.read(|tree| tree.get(key).cloned()))
        })
    }

    fn children<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move { Ok(self.shared.read(|tree| tree.children(key))) })
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(String, Value)>>> {
        Box::pin(async move { Ok(self.shared.read(|tree| tree.scan(prefix, start_after, limit))) })
    }

    fn transact(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<Vec<Option<Version>>>> {
        Box::pin(self.ask(|reply| Request::Transact(ops, reply)))
    }

    fn next_sequence<'a>(&'a self, parent: &'a str) -> BoxFuture<'a, Result<u64>> {
        Box::pin(self.ask(|reply| Request::Sequence(parent.to_owned(), reply)))
    }

    fn watch(&self, prefix: &str) -> Watch {
        let watch = self.shared.read(|_in_order| self.shared.watchers.add(prefix));
        if self.shared.leases(|leases| leases.stopped) {
            self.shared.watchers.end();
        }
        watch
    }

    fn grant_lease(&self, _ttl: Duration) -> BoxFuture<'_, Result<Lease>> {
        Box::pin(async move {
            let (sender, lost) = watch::channel(false);
            let id = self.shared.leases(|leases| {
                if leases.stopped {
                    return Err(stopped());
                }
                leases.last += 1;
                leases.alive.insert(LeaseId(leases.last), sender);
                Ok(LeaseId(leases.last))
            })?;
            let requests = self.requests.downgrade();
            let shared = self.shared.clone();
            Ok(Lease::new(id, lost, move || {
                shared.leases(|leases| {
                    if !leases.stopped {
                        leases.given_up.push(id);
                    }
                });
                if let Some(requests) = requests.upgrade() {
                    // A full queue wakes the writer just as well.
                    let _ = requests.try_send(Request::EndLeases);
                }
            }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Expect;
    use super::*;
    use bytes::Bytes;

    const TTL: Duration = Duration::from_secs(9);

    #[tokio::test]
    async fn conforms() {
        super::super::conformance::run_all(async || {
            let dir = tempfile::tempdir().expect("a directory");
            // The open file outlives its name, so the directory need not be kept.
            Arc::new(EmbeddedStore::open(dir.path()).expect("a store"))
        })
        .await;
    }

    async fn reopened(dir: &Path) -> EmbeddedStore {
        loop {
            match EmbeddedStore::open(dir) {
                // The writer of the store dropped just before may still be closing the file.
                Err(OpenError::InUse(_)) => tokio::task::yield_now().await,
                other => return other.expect("a store"),
            }
        }
    }

    #[tokio::test]
    async fn what_was_put_is_there_after_reopening_but_not_ephemeral_keys() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = EmbeddedStore::open(dir.path()).expect("a store");
        store.put("/a", "1".into(), Expect::Any).await.expect("put");
        let version_of_a = store.put("/a", "2".into(), Expect::Any).await.expect("put");
        let lease = store.grant_lease(TTL).await.expect("a lease");
        store.put_ephemeral("/b", "x".into(), Expect::Missing, lease.id()).await.expect("put");
        store.put_ephemeral("/c", "x".into(), Expect::Missing, lease.id()).await.expect("put");
        let version_of_c = store.put("/c", "kept".into(), Expect::Any).await.expect("put");
        store.put("/d", "x".into(), Expect::Missing).await.expect("put");
        store.put_ephemeral("/d", "y".into(), Expect::Any, lease.id()).await.expect("put");
        std::mem::forget(lease);
        drop(store);
        let store = reopened(dir.path()).await;
        let value = store.get("/a").await.expect("get").expect("a value");
        assert_eq!((value.bytes, value.version), (Bytes::from("2"), version_of_a));
        assert_eq!(store.children("/").await, Ok(["a", "c"].map(String::from).to_vec()));
        let value = store.get("/c").await.expect("get").expect("a value");
        assert_eq!((value.bytes, value.version, value.lease), (Bytes::from("kept"), version_of_c, None));
        let later = store.put("/c", "new".into(), Expect::Any).await.expect("put");
        assert!(later > version_of_a && later > version_of_c, "no version is given twice");
    }

    #[tokio::test]
    async fn a_refused_writer_finds_the_change_it_lost_against() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = EmbeddedStore::open(dir.path()).expect("a store");
        for round in 0..50 {
            let key = format!("/race/{round}");
            let attempts = (0..8).map(|_| async {
                match store.put(&key, "x".into(), Expect::Missing).await {
                    Ok(_) => true,
                    Err(MetadataError::Conflict { .. }) => {
                        store.get(&key).await.expect("get").expect("the winner's value");
                        false
                    }
                    Err(other) => panic!("{other}"),
                }
            });
            let won = futures_util::future::join_all(attempts).await;
            assert_eq!(won.into_iter().filter(|won| *won).count(), 1);
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_a_store_that_has_gone() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = EmbeddedStore::open(dir.path()).expect("a store");
        let mut watch = store.watch("/");
        let (kept, given_up) = (store.grant_lease(TTL).await, store.grant_lease(TTL).await);
        drop(store);
        assert_eq!(watch.next().await, None);
        kept.expect("a lease").lost().await;
        given_up.expect("a lease").revoke().await;
    }
}
