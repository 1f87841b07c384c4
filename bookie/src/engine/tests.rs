//! The engine over files in memory: what is accepted stays, what is refused never enters, damage is never absence.

use std::path::Path;
use std::sync::mpsc;

use super::*;
use crate::entry_log;
use crate::error::OpenError;
use crate::journal::Complete;
use crate::testing::{KEY, add, body, content, files, instance, memory, overwrite};
use bytes::Bytes;
use magnetar_common::storage::Storage;
use magnetar_proto::ids::{EntryId, LedgerId};

const JOURNAL: &str = "/journal";
const LEDGERS: &str = "/ledgers";

fn limits() -> Limits {
    Limits {
        write_cache_bytes: 1 << 20,
        read_cache_bytes: 1 << 20,
        journal_bytes: 1 << 20,
        segment_bytes: 1 << 16,
        journal_device: DeviceOptions::default(),
        free_bytes_min: 0,
    }
}

struct Running {
    engine: Arc<Engine<u64>>,
    done: mpsc::Receiver<u64>,
}

fn open(storage: &Arc<dyn Storage>) -> Result<Running, OpenError> {
    open_with(storage, limits())
}

fn open_with(storage: &Arc<dyn Storage>, limits: Limits) -> Result<Running, OpenError> {
    open_by(Engine::open, storage, limits)
}

type Open = fn(Disk, Limits, Arc<Metrics>, Complete<u64>) -> Result<Arc<Engine<u64>>, OpenError>;

fn open_by(open: Open, storage: &Arc<dyn Storage>, limits: Limits) -> Result<Running, OpenError> {
    let (send, done) = mpsc::channel();
    let disk = Disk {
        storage: storage.clone(),
        journal_dir: JOURNAL.into(),
        ledger_dirs: vec![LEDGERS.into()],
        instance: instance(),
    };
    let complete =
        Box::new(move |tokens: &mut Vec<u64>| tokens.drain(..).for_each(|token| _ = send.send(token)));
    Ok(Running { engine: open(disk, limits, crate::testing::metrics(), complete)?, done })
}

impl Running {
    /// One turn, durable when this returns.
    fn turn<R>(&self, act: impl FnOnce(&mut Turn<'_, u64>) -> R) -> R {
        let room = self.engine.room.clone().try_acquire_many_owned(1000).ok();
        let mut turn = self.engine.turn();
        let result = act(&mut turn);
        turn.finish(room, Some(7));
        self.done.recv().unwrap();
        result
    }

    fn add(&self, ledger: u64, entries: impl IntoIterator<Item = u64>) {
        for entry in entries {
            self.turn(|turn| turn.add(add(ledger, entry))).unwrap();
        }
    }

    fn lookup(&self, ledger: u64, entry: Option<u64>) -> Lookup {
        self.engine.turn().lookup(LedgerId(ledger), entry.map(EntryId))
    }

    fn read(&self, ledger: u64, entry: u64) -> Option<Bytes> {
        match self.lookup(ledger, Some(entry)) {
            Lookup::Here(body) => Some(body),
            Lookup::OnDisk(place) => Some(place.read(1, 0).unwrap().remove(0)),
            _ => None,
        }
    }

    fn holds(&self, ledger: u64, entries: impl IntoIterator<Item = u64>) {
        for entry in entries {
            assert_eq!(self.read(ledger, entry), Some(body(ledger, entry)), "{ledger}:{entry}");
        }
    }
}

fn new() -> (Arc<dyn Storage>, Running) {
    let storage = memory(&[JOURNAL, LEDGERS]);
    let running = open(&storage).unwrap();
    (storage, running)
}

#[test]
fn an_accepted_entry_is_read_back_from_the_cache_and_from_a_log() {
    let (_, running) = new();
    running.add(1, 0..5);
    running.add(2, [3, 1]);
    running.holds(1, 0..5);
    running.engine.flush_now().unwrap();
    running.holds(1, 0..5);
    running.holds(2, [1, 3]);
    assert!(matches!(running.lookup(1, Some(0)), Lookup::OnDisk(_)));
    assert!(matches!(running.lookup(2, Some(2)), Lookup::NoEntry));
    assert!(matches!(running.lookup(3, Some(0)), Lookup::NoLedger));
    let Lookup::OnDisk(last) = running.lookup(2, None) else { panic!("flushed") };
    assert_eq!(last.entry(), EntryId(3));
}

#[test]
fn a_stretch_is_read_in_one_go_and_ends_where_the_run_ends() {
    let (_, running) = new();
    running.add(1, [0, 1, 2, 4]);
    running.engine.flush_now().unwrap();
    let Lookup::OnDisk(place) = running.lookup(1, Some(1)) else { panic!("flushed") };
    assert_eq!(place.read(100, 1 << 20).unwrap(), [body(1, 1), body(1, 2)]);
    assert_eq!(place.read(100, 0).unwrap(), [body(1, 1)]);
}

#[test]
fn everything_acknowledged_survives_a_crash_before_and_after_a_flush() {
    let (storage, running) = new();
    running.add(1, 0..5);
    running.turn(|turn| turn.fence(LedgerId(2), &KEY)).unwrap();
    let lac = Bytes::from([&1u64.to_be_bytes()[..], &9u64.to_be_bytes(), b"digest"].concat());
    running.turn(|turn| turn.write_lac(LedgerId(1), &KEY, Some(EntryId(9)), lac.clone())).unwrap();
    for flush in [false, true, false] {
        if flush {
            running.engine.flush_now().unwrap();
        }
        let again = open(&storage).unwrap();
        again.holds(1, 0..5);
        let mut turn = again.engine.turn();
        assert_eq!(turn.explicit_lac(LedgerId(1)), Some(lac.clone()));
        assert_eq!(turn.last_add_confirmed(LedgerId(1)), Some(EntryId(9)));
        assert_eq!(turn.add(add(2, 0)), Err(Refused::Fenced));
        assert_eq!(turn.add(Add { master_key: [9; 20], ..add(1, 5) }), Err(Refused::WrongMasterKey));
        assert_eq!(turn.fence(LedgerId(2), &KEY), Ok(true), "a replayed fence is durable");
        drop(turn);
        again.engine.abandon();
    }
}

#[test]
fn a_fenced_ledger_takes_recovery_adds_only() {
    let (_, running) = new();
    running.add(1, [0]);
    assert_eq!(running.turn(|turn| turn.fence(LedgerId(1), &KEY)), Ok(false));
    assert_eq!(running.turn(|turn| turn.fence(LedgerId(1), &KEY)), Ok(true));
    assert_eq!(running.turn(|turn| turn.add(add(1, 1))), Err(Refused::Fenced));
    assert_eq!(running.turn(|turn| turn.add(Add { recovery: true, ..add(1, 1) })), Ok(()));
    running.holds(1, 0..2);
}

#[test]
fn a_fence_of_an_unknown_ledger_makes_it_known_and_its_key_fixed() {
    let (_, running) = new();
    assert_eq!(running.turn(|turn| turn.fence(LedgerId(1), &KEY)), Ok(false));
    assert!(matches!(running.lookup(1, None), Lookup::NoEntry));
    assert_eq!(running.turn(|turn| turn.fence(LedgerId(1), &[9; 20])), Err(Refused::WrongMasterKey));
}

#[test]
fn the_newest_copy_of_an_entry_wins_over_flushes_and_restarts() {
    let (storage, running) = new();
    let rewritten = |text: &[u8]| Bytes::from([&body(1, 2)[..32], text].concat());
    running.add(1, 0..4);
    running.engine.flush_now().unwrap();
    running.turn(|turn| turn.add(Add { body: rewritten(b"second"), ..add(1, 2) })).unwrap();
    assert_eq!(running.read(1, 2), Some(rewritten(b"second")));
    running.engine.flush_now().unwrap();
    assert_eq!(running.read(1, 2), Some(rewritten(b"second")));
    let again = open(&storage).unwrap();
    assert_eq!(again.read(1, 2), Some(rewritten(b"second")));
    again.holds(1, [0, 1, 3]);
}

fn big(entry: u64) -> Bytes {
    [&body(1, entry)[..], &vec![entry as u8; 60_000]].concat().into()
}

/// A bookie has crashed that had so many of these entries in its journal only.
fn journalled(entries: u64) -> Arc<dyn Storage> {
    let storage = memory(&[JOURNAL, LEDGERS]);
    // No flush of the first life is still running when the second one begins.
    let running = open_with(&storage, Limits { journal_bytes: 64 << 20, ..limits() }).unwrap();
    for entry in 0..entries {
        let room = running.engine.room.clone().try_acquire_many_owned(1).ok();
        let mut turn = running.engine.turn();
        turn.add(Add { body: big(entry), ..add(1, entry) }).unwrap();
        turn.finish(room, Some(1));
        running.done.recv().unwrap();
    }
    running.engine.abandon();
    storage
}

#[test]
fn what_was_in_the_cache_at_a_crash_is_taken_whole_and_flushed_while_the_bookie_serves() {
    // More than half of the cache, which is when a flush is due.
    let storage = journalled(10);
    let without_threads = open_by(Engine::open_stepped, &storage, limits()).unwrap();
    for entry in 0..10 {
        assert!(matches!(without_threads.lookup(1, Some(entry)), Lookup::Here(body) if body == big(entry)));
    }
    assert_eq!(files(&storage, LEDGERS, ".elog").len(), 0, "a start writes no log");
    drop(without_threads);
    let again = open(&storage).unwrap();
    while matches!(again.lookup(1, Some(9)), Lookup::Here(_)) {
        std::thread::yield_now();
    }
    for entry in 0..10 {
        assert_eq!(again.read(1, entry), Some(big(entry)));
    }
}

#[test]
fn a_journal_longer_than_the_cache_is_replayed() {
    let storage = journalled(40);
    let again = open(&storage).unwrap();
    for entry in 0..40 {
        assert_eq!(again.read(1, entry), Some(big(entry)));
    }
    assert!(files(&storage, LEDGERS, ".elog").len() >= 2);
}

#[test]
fn a_clean_close_leaves_nothing_to_replay() {
    let (storage, running) = new();
    running.add(1, 0..5);
    running.engine.close().unwrap();
    let again = open(&storage).unwrap();
    assert!(matches!(again.lookup(1, Some(4)), Lookup::OnDisk(_)));
    again.holds(1, 0..5);
    again.add(1, 5..8);
    again.holds(1, 0..8);
}

#[test]
fn leftovers_of_a_crashed_flush_are_removed_and_their_entries_replayed() {
    let (storage, running) = new();
    running.add(1, 0..3);
    running.engine.flush_now().unwrap();
    let log = content(&storage, &files(&storage, LEDGERS, ".elog")[0]);
    running.add(1, 3..6);
    running.engine.abandon();
    overwrite(&storage, &Path::new(LEDGERS).join(entry_log::format::file_name(2)), &log);
    overwrite(&storage, &Path::new(LEDGERS).join(entry_log::format::temporary_name(3)), b"half");
    let again = open(&storage).unwrap();
    again.holds(1, 0..6);
    assert_eq!(files(&storage, LEDGERS, "").len(), 2, "one log and the checkpoint");
}

#[test]
fn a_flipped_bit_in_a_log_is_noticed_or_harmless_and_never_an_absence() {
    let (storage, running) = new();
    running.add(1, 0..2);
    running.add(2, 0..2);
    running.engine.close().unwrap();
    let path = files(&storage, LEDGERS, ".elog").remove(0);
    let whole = content(&storage, &path);
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        overwrite(&storage, &path, &bytes);
        let again = open(&storage).unwrap();
        for (ledger, entry) in [(1, 0), (1, 1), (2, 0), (2, 1)] {
            match again.lookup(ledger, Some(entry)) {
                Lookup::OnDisk(place) => {
                    if let Ok(bodies) = place.read(1, 0) {
                        assert_eq!(bodies, [body(ledger, entry)], "byte {at}");
                    }
                }
                Lookup::Unknown => {}
                _ => panic!("byte {at}: {ledger}:{entry} is called absent"),
            }
        }
        again.engine.abandon();
    }
}

#[test]
fn a_missing_log_makes_absences_unknown() {
    let (storage, running) = new();
    running.add(1, 0..2);
    running.engine.close().unwrap();
    storage.remove(&files(&storage, LEDGERS, ".elog")[0]).unwrap();
    let again = open(&storage).unwrap();
    assert!(matches!(again.lookup(1, Some(0)), Lookup::Unknown));
    assert!(matches!(again.lookup(5, Some(0)), Lookup::Unknown));
    again.add(1, [2]);
    again.holds(1, [2]);
}

fn damage(storage: &Arc<dyn Storage>, path: &Path) {
    let mut bytes = content(storage, path);
    bytes[40] ^= 1;
    overwrite(storage, path, &bytes);
}

#[test]
fn one_whole_copy_of_the_checkpoint_is_enough() {
    for dir in [JOURNAL, LEDGERS] {
        let (storage, running) = new();
        running.add(1, 0..2);
        running.turn(|turn| turn.fence(LedgerId(1), &KEY)).unwrap();
        running.engine.close().unwrap();
        damage(&storage, &Path::new(dir).join("checkpoint"));
        let again = open(&storage).unwrap();
        again.holds(1, 0..2);
        assert_eq!(again.turn(|turn| turn.add(add(1, 2))), Err(Refused::Fenced));
        assert!(matches!(again.lookup(5, None), Lookup::NoLedger));
    }
}

#[test]
fn without_any_copy_of_the_checkpoint_the_logs_are_served_read_only() {
    let (storage, running) = new();
    // More than a segment, so that the journal no longer reaches back to the beginning.
    running.add(1, 0..1500);
    running.engine.flush_now().unwrap();
    running.turn(|turn| turn.fence(LedgerId(1), &KEY)).unwrap();
    running.engine.close().unwrap();
    for dir in [JOURNAL, LEDGERS] {
        damage(&storage, &Path::new(dir).join("checkpoint"));
    }
    // Also at the start after that one: the doubt is remembered.
    for _ in 0..2 {
        let again = open(&storage).unwrap();
        again.holds(1, 0..1500);
        assert!(matches!(again.lookup(1, Some(1500)), Lookup::Unknown));
        assert_eq!(again.turn(|turn| turn.add(add(1, 1500))), Err(Refused::ReadOnly));
        again.engine.close().unwrap();
    }
}

#[test]
fn a_damaged_journal_leaves_the_rest_served_read_only_and_nothing_absent() {
    let (storage, running) = new();
    running.add(1, 0..5);
    running.engine.abandon();
    let path =
        files(&storage, JOURNAL, "").into_iter().find(|p| p.to_string_lossy().contains("journal-")).unwrap();
    let mut bytes = content(&storage, &path);
    bytes[700] ^= 1;
    overwrite(&storage, &path, &bytes);
    for _ in 0..2 {
        let again = open(&storage).unwrap();
        let found: Vec<u64> = (0..5).filter(|entry| again.read(1, *entry).is_some()).collect();
        assert_eq!(found.len(), 4, "one record was hit: {found:?}");
        (0..5).filter(|entry| !found.contains(entry)).chain([6]).for_each(|entry| {
            assert!(matches!(again.lookup(1, Some(entry)), Lookup::Unknown), "{entry}");
        });
        assert_eq!(again.turn(|turn| turn.add(add(1, 5))), Err(Refused::ReadOnly));
        assert_eq!(again.turn(|turn| turn.add(Add { recovery: true, ..add(1, 5) })), Ok(()));
        again.engine.close().unwrap();
    }
}

#[test]
fn a_deleted_ledger_is_forgotten_with_its_logs_but_a_fenced_one_still_refuses_adds() {
    let (storage, running) = new();
    running.add(1, 0..2);
    running.add(2, 0..2);
    running.turn(|turn| turn.fence(LedgerId(2), &KEY)).unwrap();
    running.engine.flush_now().unwrap();
    running.engine.forget(&[LedgerId(1)], 5);
    running.engine.drop_dead_logs().unwrap();
    assert!(matches!(running.lookup(1, Some(0)), Lookup::NoLedger));
    running.holds(2, 0..2);
    assert_eq!(files(&storage, LEDGERS, ".elog").len(), 1);
    running.engine.forget(&[LedgerId(2)], 5);
    running.engine.drop_dead_logs().unwrap();
    assert_eq!(files(&storage, LEDGERS, ".elog").len(), 0);
    running.engine.abandon();

    let again = open(&storage).unwrap();
    assert!(matches!(again.lookup(2, Some(0)), Lookup::NoLedger));
    assert_eq!(again.turn(|turn| turn.add(add(2, 2))), Err(Refused::Fenced));
    assert_eq!(again.engine.ledgers(), []);
    again.engine.expire_deleted(5 + 8 * 24 * 3600 * 1000);
    assert_eq!(again.turn(|turn| turn.add(add(2, 2))), Ok(()));
}

/// An entry that is large against the windows of read-ahead.
fn large(entry: u64, fill: u8) -> Add {
    let body = Bytes::from([&body(1, entry)[..], &vec![fill; 20_000]].concat());
    Add { body, ..add(1, entry) }
}

/// Reads an entry as the server does.
fn read_cached(running: &Running, entry: u64, reads_on: bool) -> Result<Bytes, ()> {
    match running.lookup(1, Some(entry)) {
        Lookup::Here(body) => Ok(body),
        Lookup::OnDisk(place) => {
            let span = running.engine.read(&place, reads_on).map_err(|_| ())?;
            Ok(span.body(LedgerId(1), EntryId(entry)).unwrap())
        }
        _ => panic!("entry {entry} is called absent"),
    }
}

#[test]
fn readers_in_order_and_in_disorder_get_every_entry_also_one_written_again() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let _within = runtime.enter();
    let (_, running) = new();
    // Several logs, and more bytes than the read cache has.
    for log in 0..5 {
        for entry in log * 20..log * 20 + 20 {
            running.turn(|turn| turn.add(large(entry, 1))).unwrap();
        }
        running.engine.flush_now().unwrap();
    }
    for reads_on in [true, false] {
        for order in [1, 7, 99] {
            for entry in (0..100).map(|n| n * order % 100) {
                assert_eq!(read_cached(&running, entry, reads_on), Ok(large(entry, 1).body), "{entry}");
            }
        }
    }
    running.turn(|turn| turn.add(Add { recovery: true, ..large(50, 2) })).unwrap();
    assert_eq!(read_cached(&running, 50, true), Ok(large(50, 2).body));
    running.engine.flush_now().unwrap();
    for entry in 45..55 {
        let fill = if entry == 50 { 2 } else { 1 };
        assert_eq!(read_cached(&running, entry, true), Ok(large(entry, fill).body), "{entry}");
    }
}

#[test]
fn a_damaged_entry_spoils_neither_those_before_it_nor_those_after() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let _within = runtime.enter();
    let (storage, running) = new();
    for entry in 0..20 {
        running.turn(|turn| turn.add(large(entry, entry as u8 + 1))).unwrap();
    }
    running.engine.close().unwrap();
    let path = files(&storage, LEDGERS, ".elog").remove(0);
    let mut bytes = content(&storage, &path);
    let at = bytes.windows(100).position(|window| window.iter().all(|byte| *byte == 8)).unwrap();
    bytes[at] ^= 1;
    overwrite(&storage, &path, &bytes);
    let again = open(&storage).unwrap();
    for reads_on in [true, false] {
        for entry in 0..20 {
            let expected = if entry == 7 { Err(()) } else { Ok(large(entry, entry as u8 + 1).body) };
            assert_eq!(read_cached(&again, entry, reads_on), expected, "{entry}");
        }
    }
}
