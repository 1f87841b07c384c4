//! What a flush writes of the checkpoint, and what a start makes of one whose last change is torn or rotten.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use magnetar_common::storage::{MemoryStorage, Storage, Unsynced};
use magnetar_proto::ids::{EntryId, LedgerId};

use super::*;
use crate::checkpoint::Checkpoint;
use crate::testing::{JOURNAL, KEY, LEDGERS, Store};

fn new() -> (MemoryStorage, Arc<dyn Storage>, Store) {
    let memory = MemoryStorage::new();
    for dir in [JOURNAL, LEDGERS] {
        memory.create_dir_all(Path::new(dir)).unwrap();
    }
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let store = Store::open(&storage);
    (memory, storage, store)
}

fn copies() -> [PathBuf; 2] {
    [JOURNAL, LEDGERS].map(|dir| Path::new(dir).join("checkpoint"))
}

fn read(memory: &MemoryStorage, at: usize) -> Checkpoint {
    Checkpoint::decode(&memory.read(&copies()[at]).unwrap().into()).unwrap()
}

fn bytes(memory: &MemoryStorage) -> Vec<usize> {
    copies().iter().map(|path| memory.read(path).unwrap().len()).collect()
}

/// Cuts the last change off every copy, or flips a bit in it.
fn lose_last_change(memory: &MemoryStorage, rotten: bool) {
    for path in copies() {
        let mut whole = memory.read(&path).unwrap();
        let at = whole.len() - 4096 + 30;
        if rotten {
            whole[at] ^= 4;
        } else {
            whole.truncate(at);
        }
        memory.overwrite(&path, &whole).unwrap();
    }
}

#[test]
fn a_flush_writes_what_it_changed_and_every_copy_says_the_same() {
    let (memory, storage, store) = new();
    for ledger in 0..3000 {
        store.engine.turn().fence(LedgerId(ledger), &KEY).unwrap();
    }
    store.put(4000, 0, 0);
    store.flush();
    let base = bytes(&memory);
    assert!(base[0] > 90_000 && base[0] == base[1], "{base:?}");
    // One of them is only forgotten, one leaves a memory of its fence, and one comes anew.
    store.engine.forget(&[LedgerId(7)], 5);
    store.put(5000, 0, 0);
    store.engine.forget(&[LedgerId(5000)], 5);
    store.put(5001, 0, 0);
    store.flush();
    assert_eq!(bytes(&memory), [base[0] + 4096, base[1] + 4096]);
    let (first, second) = (read(&memory, 0), read(&memory, 1));
    assert_eq!(first, second);
    assert_eq!(first.ledgers.len(), 3002);
    let row = |ledger| first.ledgers.iter().find(|row| row.ledger == LedgerId(ledger));
    assert_eq!(row(7).unwrap().deleted_ms, Some(5));
    assert!(row(5000).is_none() && row(5001).unwrap().master_key == Some(KEY));
    assert_eq!(first.logs, store.engine.lock().log_rows());
    store.engine.abandon();
    let again = Store::open(&storage);
    again.holds(4000, [0]);
    again.holds(5001, [0]);
    assert_eq!(again.engine.turn().fence(LedgerId(2999), &KEY), Ok(true));
    // The start has found files that it can go on with.
    again.put(4000, 1, 0);
    again.flush();
    assert_eq!(bytes(&memory), [base[0] + 2 * 4096, base[1] + 2 * 4096]);
}

#[test]
fn a_ledger_that_comes_back_after_it_was_forgotten_is_named() {
    let (memory, _, store) = new();
    store.put(1, 0, 0);
    store.flush();
    store.engine.forget(&[LedgerId(1)], 5);
    store.put(1, 1, 0);
    store.flush();
    assert_eq!(read(&memory, 1).ledgers[0].last_add_confirmed, Some(EntryId(0)));
    // A checkpoint that does not come about forgets nothing of that.
    store.engine.forget(&[LedgerId(1)], 5);
    store.put(2, 0, 0);
    memory.set_free(3000);
    assert!(!store.engine.write_checkpoint(&mut store.engine.flush.hold()).unwrap());
    memory.set_free(1 << 30);
    let number = read(&memory, 0).number;
    assert!(store.engine.write_checkpoint(&mut store.engine.flush.hold()).unwrap());
    let found = read(&memory, 0);
    assert_eq!((found.number, found.ledgers.len()), (number + 1, 1));
    assert_eq!(found.ledgers[0].ledger, LedgerId(2));
    assert_eq!(bytes(&memory), [3 * 4096; 2]);
}

#[test]
fn a_last_change_that_nothing_depended_on_may_be_torn_in_every_copy() {
    for rotten in [false, true] {
        let (memory, storage, store) = new();
        store.add(1, 0..5);
        store.flush();
        store.add(1, 5..10);
        store.engine.turn().fence(LedgerId(1), &KEY).unwrap();
        // No segment of the journal is freed: they are larger than that.
        store.flush();
        store.engine.abandon();
        lose_last_change(&memory, rotten);
        let again = Store::open(&storage);
        assert!(!again.engine.mode().borrow().is_read_only());
        again.holds(1, 0..10);
        assert_eq!(again.read(1, 10), None);
        assert_eq!(again.engine.turn().fence(LedgerId(1), &KEY), Ok(true));
        again.engine.close().unwrap();
        Store::open(&storage).holds(1, 0..10);
    }
}

#[test]
fn a_last_change_for_which_journal_segments_were_freed_is_missed() {
    let (memory, storage, store) = new();
    store.add(1, 0..5);
    store.flush();
    // More than a segment.
    store.add(2, 0..1500);
    store.engine.turn().fence(LedgerId(1), &KEY).unwrap();
    store.flush();
    store.add(2, 1500..1502);
    store.engine.abandon();
    lose_last_change(&memory, true);
    for _ in 0..2 {
        let again = Store::open(&storage);
        assert!(again.engine.mode().borrow().is_read_only());
        again.holds(2, 0..1502);
        assert!(matches!(again.engine.turn().lookup(LedgerId(2), Some(EntryId(1502))), Lookup::Unknown));
        again.engine.close().unwrap();
    }
}

#[test]
fn a_last_change_for_which_logs_were_unlinked_is_missed_and_their_copy_is_kept() {
    let (memory, storage, store) = new();
    store.add(1, 0..5);
    store.add(2, 0..5);
    store.flush();
    store.engine.forget(&[LedgerId(2)], 5);
    let mut under_way = store.engine.begin_compaction(&[1]).unwrap();
    while store.engine.copy_some(&mut under_way, 1 << 20).unwrap() > 0 {}
    store.engine.finish_compaction(under_way).unwrap();
    store.engine.abandon();
    lose_last_change(&memory, true);
    for _ in 0..2 {
        let again = Store::open(&storage);
        again.holds(1, 0..5);
        let absent = again.engine.turn().lookup(LedgerId(1), Some(EntryId(5)));
        assert!(matches!(absent, Lookup::Unknown));
        again.engine.close().unwrap();
    }
}

#[test]
fn a_power_cut_between_two_copies_leaves_the_newer_one_to_start_from() {
    let (memory, storage, store) = new();
    store.add(1, 0..5);
    store.flush();
    store.add(1, 5..10);
    // The first copy gets its change, the second one half of it.
    let writes = memory.writes();
    store.flush();
    let in_flush = memory.writes() - writes;
    for n in in_flush - 1..=in_flush {
        let (memory, storage, store) = new();
        store.add(1, 0..5);
        store.flush();
        store.add(1, 5..10);
        memory.fail_nth_write(n, std::io::ErrorKind::Other);
        assert!(store.engine.flush_now().is_err());
        let left: Arc<dyn Storage> = Arc::new(memory.crash(Unsynced::Kept));
        let again = Store::open(&left);
        again.holds(1, 0..10);
        again.engine.close().unwrap();
        Store::open(&left).holds(1, 0..10);
        drop(storage);
    }
    drop(storage);
}
