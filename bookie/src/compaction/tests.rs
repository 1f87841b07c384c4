//! Space comes back within a minute of the last reason to keep it.

use std::time::Duration;

use magnetar_common::clock::{Clock, ManualClock};
use magnetar_common::storage::{MemoryStorage, Storage};
use magnetar_proto::ids::LedgerId;

use super::*;
use crate::background::Background;
use crate::engine::LogSpace;
use crate::testing::{BODY_BYTES, JOURNAL, LEDGERS, Store, content, files, log_bytes};

const LEDGERS_STORED: u64 = 40;
const ENTRIES: u64 = 60;

fn empty() -> (Arc<dyn Storage>, Store) {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    for dir in [JOURNAL, LEDGERS] {
        storage.create_dir_all(dir.as_ref()).unwrap();
    }
    let store = Store::open(&storage);
    (storage, store)
}

struct World {
    storage: Arc<dyn Storage>,
    store: Store,
    clock: Arc<ManualClock>,
    freed: Arc<Notify>,
    background: Background,
}

impl World {
    /// Six logs, each with ten entries of each ledger.
    fn new(bytes_per_second: u64) -> World {
        let (storage, store) = empty();
        for log in 0..6 {
            for ledger in 0..LEDGERS_STORED {
                store.add(ledger, log * ENTRIES / 6..(log + 1) * ENTRIES / 6);
            }
            store.flush();
        }
        World::over(storage, store, Settings { live_ratio: 0.8, bytes_per_second, small_bytes: 0 })
    }

    fn over(storage: Arc<dyn Storage>, store: Store, settings: Settings) -> World {
        let (clock, freed) = (ManualClock::new(), Arc::new(Notify::new()));
        let mut background = Background::new();
        let compactor = Compactor {
            engine: store.engine.clone(),
            clock: clock.clone(),
            settings,
            freed: freed.clone(),
            stop: background.stop(),
        };
        background.spawn(compactor.run());
        World { storage, store, clock, freed, background }
    }

    /// A moment for the compactor, after which it waits for time to pass.
    async fn step(&self) {
        for _ in 0..10 {
            tokio::task::yield_now().await;
            while self.clock.sleepers() == 0 {
                tokio::task::yield_now().await;
            }
        }
        self.clock.advance(Duration::from_millis(100));
    }

    fn forget(&self, ledgers: std::ops::Range<u64>) {
        self.store.engine.forget(&ledgers.map(LedgerId).collect::<Vec<_>>(), 1);
        self.freed.notify_one();
    }
}

fn live_bytes(ledgers: u64) -> u64 {
    ledgers * ENTRIES * BODY_BYTES as u64
}

#[tokio::test]
async fn space_of_deleted_ledgers_comes_back_within_seconds_and_never_more_than_that() {
    let world = World::new(1 << 20);
    let all = log_bytes(&world.storage);
    assert!(all >= live_bytes(LEDGERS_STORED));
    // Nothing is rewritten for little.
    world.forget(0..4);
    for _ in 0..200 {
        world.step().await;
    }
    assert_eq!(log_bytes(&world.storage), all);

    world.forget(4..36);
    let begun = world.clock.now();
    while log_bytes(&world.storage) > live_bytes(4) * 5 / 4 {
        world.step().await;
        assert!(log_bytes(&world.storage) >= live_bytes(4));
        (36..40).for_each(|ledger| world.store.holds(ledger, [0, 31, 59]));
        let took = world.clock.now() - begun;
        assert!(took < Duration::from_secs(30), "still {} bytes", log_bytes(&world.storage));
    }
    world.forget(36..40);
    while log_bytes(&world.storage) > 0 {
        world.step().await;
        assert!(world.clock.now() - begun < Duration::from_secs(60));
    }
    world.background.end().await;
}

#[tokio::test]
async fn copying_keeps_to_its_rate() {
    let world = World::new(20_000);
    world.forget(0..20);
    let (begun, live) = (world.clock.now(), live_bytes(20));
    while log_bytes(&world.storage) > live * 5 / 4 {
        world.step().await;
    }
    let took = world.clock.now() - begun;
    let least = Duration::from_secs(live / 20_000);
    assert!(took >= least && took < least * 5 / 4, "{live} bytes took {took:?}");
    world.background.end().await;
}

#[tokio::test]
async fn an_unreadable_log_does_not_keep_the_others_from_being_rewritten() {
    let world = World::new(1 << 30);
    let path = files(&world.storage, LEDGERS, ".elog").remove(2);
    let whole = content(&world.storage, &path);
    let at = whole.windows(16).position(|bytes| bytes == b"payload of 39:25").unwrap();
    let file = world.storage.open(&path).unwrap();
    file.write_all_at(&[whole[at] ^ 1], at as u64).unwrap();
    world.forget(0..38);
    let least = whole.len() as u64 + live_bytes(2) * 5 / 6;
    while log_bytes(&world.storage) > least * 5 / 4 {
        world.step().await;
    }
    assert_eq!(content(&world.storage, &path).len(), whole.len());
    world.store.holds(39, (0..ENTRIES).filter(|entry| *entry != 25));
    world.background.end().await;
}

#[tokio::test]
async fn small_logs_are_merged_though_everything_in_them_lives_and_large_ones_are_left_alone() {
    let (storage, store) = empty();
    store.add(1, 0..200);
    store.flush();
    let settings = Settings { live_ratio: 0.8, bytes_per_second: 50_000, small_bytes: 150_000 };
    let world = World::over(storage, store, settings);
    let large = files(&world.storage, LEDGERS, ".elog").remove(0);
    for flush in 0..40 {
        world.store.add(2 + flush % 3, flush * 5..flush * 5 + 5);
        world.store.flush();
        world.step().await;
    }
    let logs = || files(&world.storage, LEDGERS, ".elog");
    let begun = world.clock.now();
    // 40 of 5 kB each; those that were merged are of the next size, and fewer than eight.
    while logs().len() > 1 + 5 + 7 {
        world.step().await;
    }
    assert!(world.clock.now() - begun < Duration::from_secs(60));
    assert!(logs().contains(&large));
    for flush in 0..40 {
        world.store.holds(2 + flush % 3, flush * 5..flush * 5 + 5);
    }
    world.background.end().await;
    world.store.engine.abandon();
    let again = Store::open(&world.storage);
    (0..40).for_each(|flush| again.holds(2 + flush % 3, flush * 5..flush * 5 + 5));
}

#[test]
fn of_small_logs_those_of_one_size_are_merged_once_they_are_many() {
    const KIB: u64 = 1 << 10;
    let few = |from: u64, count: u64, live: u64| (from..from + count).map(move |log| space(log, 1, live, 0));
    let chosen = |spaces: Vec<LogSpace>, room| small(spaces, 1 << 20, room);
    assert_eq!(chosen(few(1, 7, 10 * KIB).collect(), 1 << 30), [0; 0]);
    assert_eq!(chosen(few(1, 20, 2 << 20).collect(), 1 << 30), [0; 0], "large ones");
    let mixed: Vec<_> = few(1, 7, 10 * KIB).chain(few(20, 9, 200 * KIB)).chain(few(9, 1, 11 * KIB)).collect();
    assert_eq!(chosen(mixed.clone(), 1 << 30), [1, 2, 3, 4, 5, 6, 7, 9], "the smallest size first");
    assert_eq!(chosen(mixed[7..16].to_vec(), 1 << 30), (20..29).collect::<Vec<_>>());
    assert_eq!(chosen(mixed, 30 * KIB), [0; 0], "not for a handful");
    assert_eq!(chosen(few(1, 1000, 10 * KIB).collect(), 1 << 30).len(), 256);
}

fn space(log: u64, age: u64, live: u64, dead: u64) -> LogSpace {
    LogSpace { log, age, live, dead }
}

#[test]
fn those_logs_are_chosen_that_give_back_most_for_what_is_copied() {
    const MIB: u64 = 1 << 20;
    let spaces = vec![
        space(1, 9, 90 * MIB, 10 * MIB),
        space(2, 8, 70 * MIB, 30 * MIB),
        space(3, 7, 10 * MIB, 90 * MIB),
        space(4, 6, 200 * MIB, 800 * MIB),
        space(5, 1, 10 * MIB, 0),
    ];
    let chosen = |room| sparse(spaces.clone(), 0.8, room);
    assert_eq!(chosen(1 << 40), [3, 4]);
    assert_eq!(chosen(100 * MIB), [3, 2]);
    assert_eq!(chosen(5 * MIB), [0; 0]);
    assert_eq!(sparse(spaces.clone(), 1.0, 190 * MIB), [3, 2, 1]);
    assert_eq!(sparse(vec![space(1, 1, 600 * MIB, 1000 * MIB)], 0.8, 1 << 40), [1]);
}
