//! Disks that are full, and directories that are lost: what was accepted stays, what cannot be kept is refused.

use std::path::Path;
use std::sync::mpsc;

use magnetar_common::storage::{MemoryStorage, Storage};
use magnetar_proto::ids::{EntryId, LedgerId};

use super::*;
use crate::testing::{KEY, add, body, instance};

const DIRS: [&str; 3] = ["/journal", "/ledgers-0", "/ledgers-1"];
const RESERVE: u64 = 1 << 20;

struct Running {
    engine: Arc<Engine<u64>>,
    done: mpsc::Receiver<u64>,
}

fn storage() -> MemoryStorage {
    let storage = MemoryStorage::new();
    for dir in DIRS {
        storage.create_dir_all(Path::new(dir)).unwrap();
    }
    // What others keep on the disk: the reserve is a small part of the whole.
    storage.create_dir_all(Path::new("/others")).unwrap();
    storage.create(Path::new("/others/data")).unwrap().allocate(16 * RESERVE).unwrap();
    storage
}

fn open(storage: &MemoryStorage, ledger_dirs: &[&str]) -> Running {
    let (send, done) = mpsc::channel();
    let disk = Disk {
        storage: Arc::new(storage.clone()),
        journal_dir: DIRS[0].into(),
        ledger_dirs: ledger_dirs.iter().map(Into::into).collect(),
        instance: instance(),
    };
    let limits = Limits {
        write_cache_bytes: 1 << 20,
        read_cache_bytes: 1 << 20,
        journal_bytes: 1 << 20,
        segment_bytes: 1 << 16,
        journal_device: DeviceOptions::default(),
        free_bytes_min: RESERVE,
    };
    let complete =
        Box::new(move |tokens: &mut Vec<u64>| tokens.drain(..).for_each(|token| _ = send.send(token)));
    Running { engine: Engine::open(disk, limits, crate::testing::metrics(), complete).unwrap(), done }
}

impl Running {
    fn try_add(&self, add: Add) -> Result<(), Refused> {
        let room = self.engine.room.clone().try_acquire_many_owned(1000).ok();
        let mut turn = self.engine.turn();
        let result = turn.add(add);
        turn.finish(room, Some(7));
        self.done.recv().unwrap();
        result
    }

    fn add(&self, ledger: u64, entries: impl IntoIterator<Item = u64>) {
        entries.into_iter().for_each(|entry| self.try_add(add(ledger, entry)).unwrap());
    }

    fn fence(&self, ledger: u64) -> Result<bool, Refused> {
        let mut turn = self.engine.turn();
        let fenced = turn.fence(LedgerId(ledger), &KEY);
        turn.finish(None, Some(7));
        self.done.recv().unwrap();
        fenced
    }

    fn read(&self, ledger: u64, entry: u64) -> Option<bytes::Bytes> {
        match self.engine.turn().lookup(LedgerId(ledger), Some(EntryId(entry))) {
            Lookup::Here(body) => Some(body),
            Lookup::OnDisk(place) => Some(place.read(1, 0).unwrap().remove(0)),
            _ => None,
        }
    }

    fn holds(&self, ledger: u64, entries: impl IntoIterator<Item = u64>) {
        for entry in entries {
            let found = match self.engine.turn().lookup(LedgerId(ledger), Some(EntryId(entry))) {
                Lookup::Here(body) => body,
                Lookup::OnDisk(place) => place.read(1, 0).unwrap().remove(0),
                _ => panic!("{ledger}:{entry} is gone"),
            };
            assert_eq!(found, body(ledger, entry));
        }
    }
}

fn recovery(ledger: u64, entry: u64) -> Add {
    Add { recovery: true, ..add(ledger, entry) }
}

#[test]
fn below_the_reserve_only_recovery_adds_are_taken_and_below_a_quarter_of_it_none() {
    let storage = storage();
    let running = open(&storage, &DIRS[1..]);
    running.add(1, [0]);
    storage.set_free(RESERVE - 1);
    running.engine.check_space();
    assert_eq!(running.try_add(add(1, 1)), Err(Refused::ReadOnly));
    assert_eq!(running.try_add(recovery(1, 1)), Ok(()));
    assert_eq!(running.engine.turn().fence(LedgerId(1), &KEY), Ok(false), "fencing goes on");
    storage.set_free(RESERVE / 8);
    running.engine.check_space();
    assert_eq!(running.try_add(recovery(1, 2)), Err(Refused::ReadOnly));
    storage.set_free(RESERVE + RESERVE / 8);
    running.engine.check_space();
    assert_eq!(running.try_add(add(2, 0)), Err(Refused::ReadOnly), "only with some space to spare");
    storage.set_free(2 * RESERVE);
    running.engine.check_space();
    assert_eq!(running.try_add(add(2, 0)), Ok(()));
    running.holds(1, 0..2);
}

#[test]
fn what_was_accepted_before_others_filled_the_disk_becomes_durable_and_the_bookie_lives_on() {
    let storage = storage();
    let running = open(&storage, &DIRS[1..]);
    storage.set_free(3 * RESERVE);
    running.engine.check_space();
    // From one look to the next, to the last byte.
    storage.set_free(0);
    // More than the segment that is being written.
    for entry in 0..300 {
        assert_eq!(running.try_add(Add { body: long(entry, 250), ..add(1, entry) }), Ok(()));
    }
    assert!(!running.engine.flush_now().unwrap());
    assert_eq!(running.try_add(add(1, 300)), Err(Refused::ReadOnly));
    assert_eq!(running.fence(2), Ok(false), "fencing goes on");
    running.engine.check_space();
    assert!(running.engine.failure().borrow().is_none());
    running.holds_long(1, 0..300, 250);

    // A start finds the disk as full, and serves; so does the one after it.
    let mut left = storage;
    for _ in 0..3 {
        left = left.crash(magnetar_common::storage::Unsynced::Lost);
        left.set_free(0);
        let again = open(&left, &DIRS[1..]);
        assert!(again.engine.mode().borrow().is_exhausted());
        again.holds_long(1, 0..300, 250);
        assert_eq!(again.engine.turn().fence(LedgerId(2), &KEY), Ok(true));
        again.engine.abandon();
    }
    left.set_free(100 * RESERVE);
    let again = open(&left, &DIRS[1..]);
    again.add(1, 300..305);
    again.engine.close().unwrap();
    open(&left, &DIRS[1..]).holds(1, 300..305);
}

#[test]
fn a_journal_longer_than_the_cache_is_taken_up_without_space_and_flushed_when_there_is_some() {
    let storage = storage();
    let running = open(&storage, &DIRS[1..]);
    running.add(1, 0..20);
    assert!(running.engine.flush_now().unwrap());
    running.engine.flush.stop();
    // The cache takes a tenth of that.
    for entry in 20..3000 {
        let mut turn = running.engine.turn();
        turn.add(Add { body: long(entry, 4000), ..add(1, entry) }).unwrap();
        turn.finish(None, Some(7));
        running.done.recv().unwrap();
    }
    running.engine.abandon();
    let left = storage.crash(magnetar_common::storage::Unsynced::Lost);
    // For the next segment's header.
    left.set_free(5000);
    let again = open(&left, &DIRS[1..]);
    assert!(again.engine.mode().borrow().is_exhausted());
    assert_eq!(again.try_add(recovery(1, 5000)), Err(Refused::ReadOnly));
    again.holds(1, 0..20);
    again.holds_long(1, 20..3000, 4000);
    left.set_free(100 * RESERVE);
    again.engine.check_space();
    assert!(again.engine.flush_now().unwrap());
    assert!(!again.engine.mode().borrow().is_read_only());
    again.holds_long(1, 20..3000, 4000);
    again.engine.close().unwrap();
    assert_eq!(open(&left, &DIRS[1..]).read(1, 2999), Some(long(2999, 4000)));
}

fn long(entry: u64, more: usize) -> bytes::Bytes {
    [&body(1, entry)[..], &vec![entry as u8; more]].concat().into()
}

impl Running {
    fn holds_long(&self, ledger: u64, entries: std::ops::Range<u64>, more: usize) {
        for entry in entries {
            assert_eq!(self.read(ledger, entry), Some(long(entry, more)), "{entry}");
        }
    }
}

#[test]
fn adds_stop_before_the_disk_is_full_even_if_nobody_looks_in_between() {
    let storage = storage();
    let running = open(&storage, &DIRS[1..]);
    storage.set_free(RESERVE + 2_000);
    running.engine.check_space();
    let accepted = (0..100).take_while(|entry| running.try_add(add(1, *entry)).is_ok()).count();
    assert!((5..20).contains(&accepted), "{accepted} entries of 80 bytes into 1000");
    assert_eq!(running.try_add(recovery(1, 200)), Ok(()));
    storage.set_free(2 * RESERVE);
    running.engine.check_space();
    assert_eq!(running.try_add(add(1, 100)), Ok(()));
}

#[test]
fn a_flush_that_finds_the_disks_full_loses_nothing_and_goes_on_when_there_is_space() {
    let storage = storage();
    let running = open(&storage, &DIRS[1..]);
    running.add(1, 0..5);
    storage.set_free(0);
    assert!(!running.engine.flush_now().unwrap());
    assert_eq!(running.try_add(recovery(1, 5)), Err(Refused::ReadOnly));
    running.holds(1, 0..5);
    // What GC frees must be nameable while the flush is stuck, and nothing stuck may count as flushed.
    storage.set_free(100 * RESERVE);
    assert!(running.engine.write_checkpoint(&mut running.engine.flush.hold()).unwrap());
    let again = open(&storage.crash(magnetar_common::storage::Unsynced::Lost), &DIRS[1..]);
    again.holds(1, 0..5);
    running.engine.check_space();
    assert!(running.engine.flush_now().unwrap());
    running.add(1, 5..8);
    assert!(running.engine.flush_now().unwrap());
    assert!(matches!(running.engine.turn().lookup(LedgerId(1), Some(EntryId(4))), Lookup::OnDisk(_)));
    running.holds(1, 0..8);
    let again = open(&storage.crash(magnetar_common::storage::Unsynced::Lost), &DIRS[1..]);
    again.holds(1, 0..8);
}

#[tokio::test]
async fn who_waits_for_room_is_refused_when_the_disks_are_full() {
    let storage = storage();
    let running = open(&storage, &DIRS[1..]);
    let all = running.engine.room(1 << 20).await;
    assert!(all.is_some());
    running.add_without_room();
    storage.set_free(0);
    assert!(running.engine.room(1000).await.is_none());
}

impl Running {
    /// Something for a flush to fail with.
    fn add_without_room(&self) {
        let mut turn = self.engine.turn();
        turn.add(add(1, 0)).unwrap();
        turn.finish(None, Some(7));
        self.done.recv().unwrap();
    }
}

#[test]
fn a_ledger_directory_that_fails_is_given_up_and_its_entries_are_not_called_absent() {
    let storage = storage();
    let running = open(&storage, &DIRS[1..]);
    // Logs take turns over the directories.
    for first in [0, 10] {
        running.add(1, first..first + 5);
        assert!(running.engine.flush_now().unwrap());
    }
    storage.fail_syncs(Path::new(DIRS[2]));
    for first in [20, 30, 40] {
        running.add(1, first..first + 5);
        assert!(running.engine.flush_now().unwrap());
    }
    assert!(running.engine.failure().borrow().is_none());
    running.holds(1, (0..5).chain(10..15).chain(20..25).chain(30..35).chain(40..45));
    running.engine.close().unwrap();

    // The disk is taken out: its files are gone, the path too.
    let other = MemoryStorage::new();
    copy(&storage, &other, &DIRS[..2]);
    let again = open(&other, &DIRS[1..]);
    let lookup = |entry| again.engine.turn().lookup(LedgerId(1), Some(EntryId(entry)));
    again.holds(1, 20..25);
    again.holds(1, 30..35);
    let lost = (0..50).filter(|entry| matches!(lookup(*entry), Lookup::Unknown)).count();
    assert_eq!(lost, 25 + 5, "the gaps and the one log that was there");
    again.add(1, 50..55);
    assert!(again.engine.flush_now().unwrap());
    again.holds(1, 50..55);
}

/// Copies directories as they are.
fn copy(from: &MemoryStorage, to: &MemoryStorage, dirs: &[&str]) {
    for dir in dirs.iter().map(Path::new) {
        to.create_dir_all(dir).unwrap();
        for name in from.list(dir).unwrap() {
            let file = to.create(&dir.join(&name)).unwrap();
            file.write_all_at(&from.read(&dir.join(&name)).unwrap(), 0).unwrap();
        }
    }
}
