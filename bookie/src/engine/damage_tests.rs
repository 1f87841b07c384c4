//! What a start makes of files that are cut or rotten: everything that can be read is served, and nothing else is called
//! absent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use bytes::Bytes;
use magnetar_common::random::{Random, SeededRandom};
use magnetar_common::storage::{MemoryStorage, Storage, Unsynced};
use magnetar_proto::ids::{EntryId, LedgerId};

use super::*;
use crate::entry_log::Unreadable;
use crate::journal::record;
use crate::testing::{add, body, instance};

const JOURNAL: &str = "/journal";
const LEDGERS: &str = "/ledgers";

fn limits() -> Limits {
    Limits {
        write_cache_bytes: 8 << 20,
        read_cache_bytes: 1 << 20,
        journal_bytes: 8 << 20,
        segment_bytes: 1 << 20,
        journal_device: DeviceOptions::default(),
        free_bytes_min: 0,
    }
}

fn open(storage: &MemoryStorage) -> (Arc<Engine<u64>>, mpsc::Receiver<u64>) {
    let (send, done) = mpsc::channel();
    let disk = Disk {
        storage: Arc::new(storage.clone()),
        journal_dir: JOURNAL.into(),
        ledger_dirs: vec![LEDGERS.into()],
        instance: instance(),
    };
    let complete =
        Box::new(move |tokens: &mut Vec<u64>| tokens.drain(..).for_each(|token| _ = send.send(token)));
    let engine = Engine::open(disk, limits(), crate::testing::metrics(), complete);
    (engine.expect("a damaged bookie starts all the same"), done)
}

/// What a bookie says about an entry.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Body(Bytes),
    Unreadable,
    Absent,
}

fn ask(engine: &Engine<u64>, ledger: u64, entry: u64) -> Said {
    match engine.turn().lookup(LedgerId(ledger), Some(EntryId(entry))) {
        Lookup::Here(body) => Said::Body(body),
        Lookup::OnDisk(place) => match place.read(1, 0) {
            Ok(mut bodies) => Said::Body(bodies.remove(0)),
            Err(Unreadable::Damaged { .. } | Unreadable::Io(_)) => Said::Unreadable,
        },
        Lookup::Unknown => Said::Unreadable,
        Lookup::NoEntry | Lookup::NoLedger => Said::Absent,
    }
}

/// A store with entries in logs and in the journal.
struct Store {
    storage: MemoryStorage,
    entries: BTreeMap<(u64, u64), Bytes>,
}

impl Store {
    /// `flushed` and `journalled` entries over three ledgers, each journalled one in a batch of its own.
    fn new(flushed: u64, journalled: u64, payload: usize) -> Self {
        let storage = MemoryStorage::new();
        for dir in [JOURNAL, LEDGERS] {
            storage.create_dir_all(Path::new(dir)).unwrap();
        }
        let (engine, done) = open(&storage);
        let mut entries = BTreeMap::new();
        for n in 0..flushed + journalled {
            if n == flushed / 2 || n == flushed {
                engine.flush_now().unwrap();
            }
            let (ledger, entry) = (n % 3 + 1, n / 3);
            let bytes = Bytes::from([&body(ledger, entry)[..], &vec![n as u8; payload]].concat());
            let room = engine.room.clone().try_acquire_many_owned(1000).ok();
            let mut turn = engine.turn();
            turn.add(Add { body: bytes.clone(), ..add(ledger, entry) }).unwrap();
            turn.finish(room, Some(n));
            done.recv().unwrap();
            entries.insert((ledger, entry), bytes);
        }
        engine.abandon();
        let storage = storage.crash(Unsynced::Lost);
        Store { storage, entries }
    }

    fn path(&self, dir: &str, which: impl Fn(&str) -> bool) -> PathBuf {
        let names = self.storage.list(Path::new(dir)).unwrap();
        Path::new(dir).join(names.iter().rfind(|name| which(name)).unwrap())
    }

    /// Every file but those that say whose the directory is.
    fn files(&self) -> Vec<PathBuf> {
        let list = |dir: &str| {
            let names = self.storage.list(Path::new(dir)).unwrap();
            names.into_iter().map(|name| Path::new(dir).join(name)).collect::<Vec<_>>()
        };
        [list(JOURNAL), list(LEDGERS)].concat()
    }

    /// A copy with one file's bytes replaced.
    fn with(&self, path: &Path, bytes: &[u8]) -> MemoryStorage {
        let copy = self.storage.crash(Unsynced::Kept);
        copy.overwrite(path, bytes).unwrap();
        copy
    }

    /// Asks for everything; returns how many entries could not be served. Nothing wrong is ever said.
    fn unserved(&self, engine: &Engine<u64>, context: &dyn Fn() -> String) -> usize {
        let mut unserved = 0;
        for ((ledger, entry), expected) in &self.entries {
            match ask(engine, *ledger, *entry) {
                Said::Body(found) => assert_eq!(found, expected, "{}: {ledger}:{entry}", context()),
                Said::Unreadable => unserved += 1,
                Said::Absent => panic!("{}: {ledger}:{entry} is called absent", context()),
            }
        }
        unserved
    }
}

/// The ends of the records in a journal segment, and the ids of those that are entries.
fn records(segment: &[u8]) -> Vec<(usize, Option<(u64, u64)>)> {
    let mut at = crate::journal::segment::HEADER_BYTES;
    let mut records = Vec::new();
    while let Ok((_, record, bytes)) = record::decode(&Bytes::copy_from_slice(&segment[at..])) {
        at += bytes;
        let ids = match record {
            record::Record::Entry(body) => Some((
                u64::from_be_bytes(body[..8].try_into().unwrap()),
                u64::from_be_bytes(body[8..16].try_into().unwrap()),
            )),
            _ => None,
        };
        records.push((at, ids));
    }
    records
}

/// Every cut of the last 64 KiB of a journal is a crash at that byte: the bookie starts, and has every entry whose
/// record had been written whole.
#[test]
fn a_journal_cut_at_any_byte_starts_with_everything_before_the_cut() {
    let store = Store::new(0, 900, 30);
    let path = store.path(JOURNAL, |name| name.starts_with("journal-"));
    let whole = store.storage.read(&path).unwrap();
    let records = records(&whole);
    let end = records.last().unwrap().0;
    assert!(end > (64 << 10) + 1000, "{end} bytes were journalled");
    std::thread::scope(|scope| {
        for half in 0..2 {
            let (store, path, whole, records) = (&store, &path, &whole, &records);
            scope.spawn(move || {
                for cut in (end - (64 << 10)..=end).filter(|cut| cut % 2 == half) {
                    let copy = store.with(path, &whole[..cut]);
                    let (engine, _) = open(&copy);
                    assert!(!engine.mode().borrow().is_read_only(), "cut at {cut}");
                    // Those around the cut at each byte, all of them now and then.
                    let last = records.partition_point(|(end, _)| *end <= cut);
                    let from = if cut % 512 == 0 { 0 } else { last.saturating_sub(3) };
                    for (at, (_, ids)) in records.iter().enumerate().skip(from).take(last - from + 1) {
                        let Some((ledger, entry)) = ids else { continue };
                        let said = ask(&engine, *ledger, *entry);
                        let expected = &store.entries[&(*ledger, *entry)];
                        let there = if at < last { Said::Body(expected.clone()) } else { Said::Absent };
                        assert_eq!(said, there, "cut at {cut}: {ledger}:{entry}");
                    }
                    engine.abandon();
                }
            });
        }
    });
}

/// Checkpoints and entry logs are synced before anything counts on them, so a cut there is rot: noticed, and never an
/// absence.
#[test]
fn a_checkpoint_or_log_cut_at_any_byte_is_noticed() {
    let store = Store::new(24, 6, 0);
    for path in store.files() {
        if path.starts_with(JOURNAL) && !path.ends_with("checkpoint") {
            continue;
        }
        let whole = store.storage.read(&path).unwrap();
        for cut in 0..whole.len() {
            // A checkpoint is mostly zeros up to its next block.
            if cut % 64 != 0 && whole[cut.saturating_sub(64)..cut].iter().all(|byte| *byte == 0) {
                continue;
            }
            let (engine, _) = open(&store.with(&path, &whole[..cut]));
            let unserved = store.unserved(&engine, &|| format!("{} cut at {cut}", path.display()));
            assert!(unserved == 0 || path.extension().is_some_and(|e| e == "elog"), "{}", path.display());
            engine.abandon();
        }
    }
}

/// One flipped bit, anywhere: at most one entry cannot be served any more.
#[test]
fn of_ten_thousand_flipped_bits_each_costs_at_most_the_entry_it_hits() {
    let store = Store::new(24, 12, 40);
    let files = store.files();
    let whole: Vec<Vec<u8>> = files.iter().map(|path| store.storage.read(path).unwrap()).collect();
    let used = used_bytes(&files, &whole);
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let (store, files, whole, used) = (&store, &files, &whole, &used);
            scope.spawn(move || {
                let random: &dyn Random = &SeededRandom::new(seed);
                for _ in 0..5000 {
                    let file = random.below(files.len() as u64) as usize;
                    let (at, bit) = (random.below(used[file] as u64) as usize, random.below(8));
                    let mut bytes = whole[file].clone();
                    bytes[at] ^= 1 << bit;
                    let (engine, _) = open(&store.with(&files[file], &bytes));
                    let context = || format!("{} byte {at} bit {bit}", files[file].display());
                    let unserved = store.unserved(&engine, &context);
                    // A slot tells where one entry ends and the next one begins.
                    assert!(unserved <= 2, "{}: {unserved} entries", context());
                    engine.abandon();
                }
            });
        }
    });
}

#[test]
fn of_a_thousand_truncations_none_makes_an_entry_wrong_or_absent() {
    let store = Store::new(24, 12, 40);
    let files = store.files();
    let whole: Vec<Vec<u8>> = files.iter().map(|path| store.storage.read(path).unwrap()).collect();
    let used = used_bytes(&files, &whole);
    let random: &dyn Random = &SeededRandom::new(9);
    for _ in 0..1000 {
        let file = random.below(files.len() as u64) as usize;
        // A cut journal is a shorter journal: that test is above.
        if files[file].file_name().is_some_and(|name| name.to_string_lossy().starts_with("journal-")) {
            continue;
        }
        let cut = random.below(used[file] as u64) as usize;
        let (engine, _) = open(&store.with(&files[file], &whole[file][..cut]));
        store.unserved(&engine, &|| format!("{} cut at {cut}", files[file].display()));
        engine.abandon();
    }
}

/// The bytes of each file that mean something: of a segment those up to the record before the last one, because rot in
/// the batch written last cannot be told from a crash while it was written.
fn used_bytes(files: &[PathBuf], whole: &[Vec<u8>]) -> Vec<usize> {
    let used = |(path, bytes): (&PathBuf, &Vec<u8>)| {
        let name = path.file_name().unwrap().to_string_lossy();
        let records = if name.starts_with("journal-") { records(bytes) } else { return bytes.len() };
        records.iter().rev().nth(1).map_or(bytes.len(), |(end, _)| *end)
    };
    files.iter().zip(whole).map(used).collect()
}
