//! What is deleted is forgotten, soon; what might not be deleted never.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use magnetar_common::clock::ManualClock;
use magnetar_common::layout;
use magnetar_common::metadata::{
    Expect, Lease, MemoryStore, MetadataStore, Op, Result as MetadataResult, Value, Version, Watch,
};
use magnetar_common::storage::{MemoryStorage, Storage};
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::bookkeeper::cookie::Cookie;
use magnetar_proto::bookkeeper::entry::DigestType;
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::ids::EntryId;

use super::elsewhere::QUIET;
use super::*;
use crate::background::Background;
use crate::engine::{Add, Refused};
use crate::testing::{JOURNAL, LEDGERS, Store, add, instance};

const GRACE: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_secs(900);

/// A store that can be told to answer no point read.
struct Flaky {
    inner: MemoryStore,
    fails: AtomicBool,
}

impl MetadataStore for Flaky {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, MetadataResult<Option<Value>>> {
        if self.fails.load(Ordering::Relaxed) && !key.contains("cookies") {
            return Box::pin(async { Err(MetadataError::Unavailable("told so".into())) });
        }
        self.inner.get(key)
    }
    fn children<'a>(&'a self, key: &'a str) -> BoxFuture<'a, MetadataResult<Vec<String>>> {
        self.inner.children(key)
    }
    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, MetadataResult<Vec<(String, Value)>>> {
        self.inner.scan(prefix, start_after, limit)
    }
    fn transact(&self, ops: Vec<Op>) -> BoxFuture<'_, MetadataResult<Vec<Option<Version>>>> {
        self.inner.transact(ops)
    }
    fn next_sequence<'a>(&'a self, parent: &'a str) -> BoxFuture<'a, MetadataResult<u64>> {
        self.inner.next_sequence(parent)
    }
    fn watch(&self, prefix: &str) -> Watch {
        self.inner.watch(prefix)
    }
    fn grant_lease(&self, ttl: Duration) -> BoxFuture<'_, MetadataResult<Lease>> {
        self.inner.grant_lease(ttl)
    }
}

struct World {
    store: Store,
    metadata: Arc<Flaky>,
    clock: Arc<ManualClock>,
    background: Background,
}

impl World {
    /// A bookie with these ledgers, all of them in the metadata store, and a collector that has looked once.
    async fn with(ledgers: std::ops::Range<u64>) -> World {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        for dir in [JOURNAL, LEDGERS] {
            storage.create_dir_all(dir.as_ref()).unwrap();
        }
        let store = Store::open(&storage);
        let metadata = Arc::new(Flaky { inner: MemoryStore::new(), fails: AtomicBool::new(false) });
        let bookie = BookieId::new("bookie-1").unwrap();
        let cookie = Cookie {
            bookie_id: bookie.to_string(),
            journal_dirs: vec![JOURNAL.into()],
            ledger_dirs: vec![LEDGERS.into()],
            index_dirs: None,
            instance_id: Some(instance().to_string()),
        };
        metadata.put(&layout::cookie(&bookie), cookie.encode().into(), Expect::Any).await.unwrap();
        for ledger in ledgers {
            metadata.put(&ledger_path(LedgerId(ledger)), Bytes::new(), Expect::Any).await.unwrap();
            store.engine.turn().fence(LedgerId(ledger), &[1; 20]).unwrap();
        }
        let clock = ManualClock::new();
        let mut background = Background::new();
        let collector = Collector {
            engine: store.engine.clone(),
            metadata: metadata.clone(),
            clock: clock.clone(),
            identity: Identity { instance: instance(), bookie },
            settings: Settings { interval: INTERVAL, grace: GRACE },
            freed: Arc::default(),
            asked: Arc::default(),
            stop: background.stop(),
        };
        background.spawn(collector.run());
        let world = World { store, metadata, clock, background };
        world.idle().await;
        world
    }

    async fn delete(&self, ledger: u64) {
        self.metadata.delete(&ledger_path(LedgerId(ledger)), Expect::Any).await.unwrap();
    }

    /// Until the collector waits for time to pass.
    async fn idle(&self) {
        for _ in 0..50 {
            tokio::task::yield_now().await;
            while self.clock.sleepers() == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    async fn pass(&self, time: Duration) {
        for _ in 0..time.as_secs() {
            self.clock.advance(Duration::from_secs(1));
            self.idle().await;
        }
    }

    fn ledgers(&self) -> Vec<u64> {
        let mut ledgers: Vec<u64> = self.store.engine.ledgers().into_iter().map(|ledger| ledger.0).collect();
        ledgers.sort_unstable();
        ledgers
    }
}

#[tokio::test]
async fn a_deleted_ledger_is_forgotten_after_the_grace_period_and_no_other() {
    let world = World::with(1..5).await;
    world.delete(2).await;
    world.pass(GRACE - Duration::from_secs(2)).await;
    assert_eq!(world.ledgers(), [1, 2, 3, 4]);
    world.pass(Duration::from_secs(4)).await;
    assert_eq!(world.ledgers(), [1, 3, 4]);
    world.pass(2 * GRACE).await;
    assert_eq!(world.ledgers(), [1, 3, 4]);
    world.background.end().await;
}

#[tokio::test]
async fn a_ledger_that_is_there_again_is_kept() {
    let world = World::with(1..3).await;
    world.delete(2).await;
    world.pass(GRACE / 2).await;
    world.metadata.put(&ledger_path(LedgerId(2)), Bytes::new(), Expect::Missing).await.unwrap();
    world.pass(2 * GRACE).await;
    assert_eq!(world.ledgers(), [1, 2]);
    world.background.end().await;
}

impl World {
    /// Replaces the metadata of a ledger by that of one on these bookies.
    async fn place(&self, ledger: u64, bookies: &[&str], closed: bool) {
        let segments = [(EntryId(0), bookies.iter().map(|id| BookieId::new(id).unwrap()).collect())];
        let metadata = LedgerMetadata {
            ensemble_size: bookies.len() as u32,
            write_quorum: bookies.len() as u32,
            ack_quorum: 1,
            state: match closed {
                true => LedgerState::Closed { last_entry: Some(EntryId(4)), length: 5 },
                false => LedgerState::Open,
            },
            segments: segments.into(),
            digest: DigestType::Crc32c,
            password: Bytes::new(),
            ctime_ms: None,
            custom: Default::default(),
            c_token: None,
        };
        let key = ledger_path(LedgerId(ledger));
        self.metadata.put(&key, metadata.encode(), Expect::Any).await.unwrap();
    }

    /// In longer steps.
    async fn pass_long(&self, time: Duration) {
        for _ in 0..time.as_secs() / 60 {
            self.clock.advance(Duration::from_secs(60));
            self.idle().await;
        }
    }

    fn has(&self, ledger: u64) -> bool {
        self.store.engine.holding(LedgerId(ledger)).is_some()
    }
}

const US: &str = "bookie-1";

#[tokio::test]
async fn entries_that_only_other_bookies_are_asked_for_go_and_a_fence_stays() {
    let world = World::with(1..6).await;
    for ledger in 10..14 {
        world.place(ledger, &["bookie-2", US], true).await;
        world.store.add(ledger, 0..5);
    }
    for ledger in 1..6 {
        world.store.engine.turn().add(Add { recovery: true, ..add(ledger, 0) }).unwrap();
    }
    world.store.flush();
    world.place(10, &["bookie-2", "bookie-3"], true).await;
    world.place(11, &["bookie-2", "bookie-3"], false).await;
    world.place(1, &["bookie-2", "bookie-3"], true).await;
    // A replicator copies it to this bookie, and has not named it yet.
    world.place(12, &["bookie-2", "bookie-3"], true).await;
    let lock = "/ledgers/underreplication/locks/urL0000000012";
    world.metadata.put(lock, Bytes::new(), Expect::Missing).await.unwrap();
    world.pass_long(QUIET).await;
    assert!(world.has(10) && world.has(1), "one look is no proof");
    world.pass_long(QUIET).await;
    assert!(!world.has(10) && !world.has(1));
    assert!([2, 3, 11, 12, 13].into_iter().all(|ledger| world.has(ledger)));
    assert!(!world.ledgers().contains(&10));
    // The writer of ledger 1 finds its fence, a replicator brings it back.
    let refused = world.store.engine.turn().add(add(1, 9));
    assert_eq!(refused, Err(Refused::Fenced));
    world.store.engine.turn().add(Add { recovery: true, ..add(1, 0) }).unwrap();
    assert!(world.has(1));
    world.background.end().await;
}

#[tokio::test]
async fn a_ledger_that_is_being_copied_here_is_kept_however_long_its_metadata_does_not_name_this_bookie() {
    let world = World::with(1..2).await;
    world.place(10, &["bookie-2", "bookie-3"], true).await;
    for entry in 0..6 {
        world.store.engine.turn().add(Add { recovery: true, ..add(10, entry) }).unwrap();
        world.store.flush();
        world.pass_long(QUIET - INTERVAL).await;
    }
    assert!(world.has(10));
    world.place(10, &["bookie-2", US], true).await;
    world.pass_long(2 * QUIET).await;
    assert!(world.has(10));
    world.background.end().await;
}

#[tokio::test]
async fn while_the_store_answers_with_errors_nothing_is_forgotten() {
    let world = World::with(1..3).await;
    world.delete(1).await;
    world.pass(Duration::from_secs(1)).await;
    world.delete(2).await;
    world.metadata.fails.store(true, Ordering::Relaxed);
    world.pass(INTERVAL + 3 * GRACE).await;
    assert_eq!(world.ledgers(), [1, 2]);
    world.metadata.fails.store(false, Ordering::Relaxed);
    world.pass(GRACE + 3 * RETRY).await;
    assert_eq!(world.ledgers(), [0; 0]);
    world.background.end().await;
}

#[tokio::test]
async fn an_emptied_store_is_no_proof_of_anything() {
    let world = World::with(1..3).await;
    let cookie = layout::cookie(&BookieId::new("bookie-1").unwrap());
    let kept = world.metadata.get(&cookie).await.unwrap().unwrap();
    world.metadata.delete(&cookie, Expect::Any).await.unwrap();
    world.delete(1).await;
    world.delete(2).await;
    world.pass(INTERVAL + 3 * GRACE).await;
    assert_eq!(world.ledgers(), [1, 2]);
    world.metadata.put(&cookie, kept.bytes, Expect::Any).await.unwrap();
    world.pass(3 * RETRY).await;
    assert_eq!(world.ledgers(), [0; 0]);
    world.background.end().await;
}

#[tokio::test]
async fn a_burst_of_deletions_too_long_for_the_watch_is_found_at_once_all_the_same() {
    let world = World::with(1..3001).await;
    let delete = |ledger| Op::Delete { key: ledger_path(LedgerId(ledger)), expect: Expect::Any };
    world.metadata.transact((1..=2990).map(delete).collect()).await.unwrap();
    world.pass(GRACE + 2 * RETRY).await;
    assert_eq!(world.ledgers(), (2991..=3000).collect::<Vec<_>>());
    world.background.end().await;
}

#[tokio::test]
async fn what_was_deleted_while_nobody_watched_is_found_by_the_next_sweep() {
    let world = World::with(1..3).await;
    // Known here, but never in the metadata store: nobody deletes it.
    world.store.engine.turn().fence(LedgerId(7), &[1; 20]).unwrap();
    world.pass(2 * GRACE).await;
    assert_eq!(world.ledgers(), [1, 2, 7]);
    world.pass(INTERVAL).await;
    assert_eq!(world.ledgers(), [1, 2]);
    world.background.end().await;
}
