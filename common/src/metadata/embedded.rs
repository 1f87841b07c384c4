//! A store in one file of this process: what standalone uses in place of etcd.
//!
//! Values live in memory and in an embedded database; one writer thread makes a group of queued transactions durable
//! with one commit, and only then shows them to readers and watchers. Ephemeral keys are never written to the file:
//! with the process end all its leases.

use super::error::MetadataError;
use super::lease::{Lease, LeaseId};
use super::ops::{Op, Value, Version};
use super::tree::{Change, Tree, check_key};
use super::watch::{Watch, Watchers};
use super::{MetadataStore, Result};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Key → (version, bytes).
const VALUES: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("values");
/// Facts about the file itself.
const FILE: TableDefinition<'_, &str, u64> = TableDefinition::new("file");
const FORMAT_KEY: &str = "format";
/// The layout of the tables above.
const FORMAT: u64 = 1;
/// The database's own page cache: everything is read once, at open, so it only helps writes.
const CACHE_BYTES: usize = 1 << 20;
/// Transactions that may wait for the writer; callers beyond it wait for a place.
const QUEUE_MAX: usize = 1024;
/// Transactions in one commit: bounds what a crash can leave unknown at once.
const GROUP_MAX: usize = 256;

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another process; stop that one, or choose another data directory", .0.display())]
    InUse(PathBuf),
    /// It was written by a newer version.
    #[error(
        "{} has metadata format {found}, this version reads up to {FORMAT}; start the newer version again", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The file or its directory cannot be read or written.
    #[error("cannot open {}: {source}; check that the directory exists and may be written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The content is damaged.
    #[error("{} is damaged: {reason}; restore it from a copy", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

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
}

impl Shared {
    fn read<T>(&self, look: impl FnOnce(&Tree) -> T) -> T {
        look(&self.durable.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn leases<T>(&self, look: impl FnOnce(&mut Leases) -> T) -> T {
        look(&mut self.leases.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

enum Request {
    Transact(Vec<Op>, oneshot::Sender<Result<Vec<Option<Version>>>>),
    Sequence(String, oneshot::Sender<Result<u64>>),
    /// Leases have been given up: see [`Leases::given_up`].
    EndLeases,
}

impl EmbeddedStore {
    /// Opens `metadata.redb` in `dir`, creating it if it is missing. Blocks for some milliseconds.
    pub fn open(dir: &Path) -> std::result::Result<Self, OpenError> {
        let path = dir.join("metadata.redb");
        let database = open_database(&path)?;
        let planned = load(&database, &path)?;
        let shared = Arc::new(Shared { durable: RwLock::new(planned.clone()), ..Shared::default() });
        let (requests, queue) = mpsc::channel(QUEUE_MAX);
        let writer = Writer { database, planned, shared: shared.clone() };
        std::thread::Builder::new()
            .name("metadata-writer".into())
            .spawn(move || writer.run(queue))
            .map_err(|source| OpenError::Io { path, source })?;
        Ok(Self { requests, shared })
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let gone =
            || MetadataError::Unavailable("the embedded store has stopped after a failed write".into());
        self.requests.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn open_database(path: &Path) -> std::result::Result<Database, OpenError> {
    let damaged = |reason: String| OpenError::Damaged { path: path.to_owned(), reason };
    Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse(path.to_owned()),
        DatabaseError::Storage(redb::StorageError::Io(source)) => {
            OpenError::Io { path: path.to_owned(), source }
        }
        other => damaged(other.to_string()),
    })
}

fn load(database: &Database, path: &Path) -> std::result::Result<Tree, OpenError> {
    let damaged =
        |error: redb::Error| OpenError::Damaged { path: path.to_owned(), reason: error.to_string() };
    let found = prepare(database).map_err(damaged)?;
    if found > FORMAT {
        return Err(OpenError::Newer { path: path.to_owned(), found });
    }
    read_all(database).map_err(damaged)
}

/// Creates what an empty file lacks and gives the file's format.
fn prepare(database: &Database) -> std::result::Result<u64, redb::Error> {
    if let Ok(table) = database.begin_read()?.open_table(FILE)
        && let Some(format) = table.get(FORMAT_KEY)?
    {
        return Ok(format.value());
    }
    let transaction = database.begin_write()?;
    transaction.open_table(FILE)?.insert(FORMAT_KEY, FORMAT)?;
    transaction.open_table(VALUES)?;
    transaction.commit()?;
    Ok(FORMAT)
}

fn read_all(database: &Database) -> std::result::Result<Tree, redb::Error> {
    let mut tree = Tree::default();
    for row in database.begin_read()?.open_table(VALUES)?.iter()? {
        let (key, value) = row?;
        let (version, bytes) = value.value();
        let value = Value { bytes: Bytes::copy_from_slice(bytes), version: Version(version), lease: None };
        tree.insert(key.value().to_owned(), value);
    }
    Ok(tree)
}

/// The writer thread. `planned` is ahead of the durable tree by the group that is being committed.
struct Writer {
    database: Database,
    planned: Tree,
    shared: Arc<Shared>,
}

/// Tells a caller how it went, once its group is durable.
type Answer = Box<dyn FnOnce(Result<()>)>;

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut group = Vec::with_capacity(GROUP_MAX);
        while queue.blocking_recv_many(&mut group, GROUP_MAX) > 0 {
            let mut changes = Vec::new();
            let mut answers = Vec::new();
            for request in group.drain(..) {
                self.plan(request, &mut changes, &mut answers);
            }
            self.plan_lease_ends(&mut changes, &mut answers);
            let outcome = self.commit(&changes);
            let failed = outcome.is_err();
            if !failed {
                self.publish(changes);
            }
            for answer in answers {
                answer(outcome.clone());
            }
            if failed {
                // What the file holds now is unknown; callers see a stopped store until the process starts again.
                tracing::error!(error = ?outcome, "the metadata store failed to write and stops");
                return;
            }
        }
    }

    fn plan(&mut self, request: Request, changes: &mut Vec<Change>, answers: &mut Vec<Answer>) {
        match request {
            Request::Transact(ops, reply) => {
                let alive = |lease| self.shared.leases(|leases| leases.alive.contains_key(&lease));
                match super::check_leases(&ops, alive).and_then(|()| self.planned.plan(ops)) {
                    Ok((planned, versions)) => {
                        self.accept(planned, changes);
                        answers.push(Box::new(|outcome| drop(reply.send(outcome.map(|()| versions)))));
                    }
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Request::Sequence(parent, reply) => match self.planned.plan_sequence(&parent) {
                Ok((planned, number)) => {
                    self.accept(planned, changes);
                    answers.push(Box::new(move |outcome| drop(reply.send(outcome.map(|()| number)))));
                }
                Err(error) => drop(reply.send(Err(error))),
            },
            Request::EndLeases => {}
        }
    }

    fn plan_lease_ends(&mut self, changes: &mut Vec<Change>, answers: &mut Vec<Answer>) {
        let ended = self.shared.leases(|leases| {
            let given_up = std::mem::take(&mut leases.given_up);
            given_up.into_iter().filter_map(|id| Some((id, leases.alive.remove(&id)?))).collect::<Vec<_>>()
        });
        for (lease, lost) in ended {
            let planned = self.planned.plan_lease_end(lease);
            self.accept(planned, changes);
            answers.push(Box::new(move |_| {
                lost.send_replace(true);
            }));
        }
    }

    fn accept(&mut self, planned: Vec<Change>, changes: &mut Vec<Change>) {
        self.planned.apply(planned.clone());
        changes.extend(planned);
    }

    fn commit(&self, changes: &[Change]) -> Result<()> {
        if changes.iter().all(|change| self.stays_in_memory(change)) {
            return Ok(());
        }
        self.write(changes).map_err(|error| MetadataError::Unavailable(error.to_string()))
    }

    /// True for a change of an ephemeral key that the file does not know.
    fn stays_in_memory(&self, change: &Change) -> bool {
        let ephemeral = |value: &Value| value.lease.is_some();
        let before = self.shared.read(|tree| tree.get(&change.key).is_none_or(ephemeral));
        before && change.value.as_ref().is_some_and(ephemeral)
            || change.value.is_none() && self.shared.read(|tree| tree.get(&change.key).is_some_and(ephemeral))
    }

    fn write(&self, changes: &[Change]) -> std::result::Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(VALUES)?;
            for Change { key, value } in changes {
                match value {
                    Some(value) if value.lease.is_none() => {
                        table.insert(key.as_str(), (value.version.0, value.bytes.as_ref()))?;
                    }
                    _ => drop(table.remove(key.as_str())?),
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn publish(&self, changes: Vec<Change>) {
        let mut durable = self.shared.durable.write().unwrap_or_else(PoisonError::into_inner);
        let events = durable.apply(changes);
        self.shared.watchers.notify(&events);
    }
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
        self.shared.read(|_in_order| self.shared.watchers.add(prefix))
    }

    fn grant_lease(&self, _ttl: Duration) -> BoxFuture<'_, Result<Lease>> {
        Box::pin(async move {
            let (sender, lost) = watch::channel(false);
            let id = self.shared.leases(|leases| {
                leases.last += 1;
                leases.alive.insert(LeaseId(leases.last), sender);
                LeaseId(leases.last)
            });
            let requests = self.requests.downgrade();
            let shared = self.shared.clone();
            Ok(Lease::new(id, lost, move || {
                shared.leases(|leases| leases.given_up.push(id));
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

    #[tokio::test]
    async fn conforms() {
        super::super::conformance::run_all(|| {
            let dir = tempfile::tempdir().expect("a directory").keep();
            Arc::new(EmbeddedStore::open(&dir).expect("a store"))
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
        store.put("/a", "2".into(), Expect::Any).await.expect("put");
        let lease = store.grant_lease(Duration::from_secs(9)).await.expect("a lease");
        store.put_ephemeral("/b", "x".into(), Expect::Missing, lease.id()).await.expect("put");
        std::mem::forget(lease);
        drop(store);
        let store = reopened(dir.path()).await;
        let value = store.get("/a").await.expect("get").expect("a value");
        assert_eq!((value.bytes, value.version), (Bytes::from("2"), Version(1)));
        assert_eq!(store.get("/b").await, Ok(None));
    }

    #[test]
    fn a_file_in_use_and_a_newer_format_are_told_apart() {
        let dir = tempfile::tempdir().expect("a directory");
        let database = open_database(&dir.path().join("metadata.redb")).expect("a database");
        assert!(matches!(EmbeddedStore::open(dir.path()), Err(OpenError::InUse(_))));
        let transaction = database.begin_write().expect("write");
        transaction.open_table(FILE).expect("table").insert(FORMAT_KEY, FORMAT + 1).expect("insert");
        transaction.commit().expect("commit");
        drop(database);
        let error = EmbeddedStore::open(dir.path()).expect_err("newer");
        assert!(matches!(error, OpenError::Newer { found: 2, .. }), "{error}");
    }

    #[test]
    fn a_missing_directory_is_a_clear_error() {
        let error = EmbeddedStore::open(Path::new("/nonexistent/dir")).expect_err("no directory");
        assert!(matches!(error, OpenError::Io { .. }), "{error}");
    }
}
