//! A small store made by the real engine, damaged in every way, against the tools.

mod damage;
mod inspect;
mod repair;
mod roles;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use magnetar_common::storage::{MemoryStorage, Storage, Unsynced};
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::ids::{EntryId, LedgerId};

use super::{Dirs, Finding, Verified, verify};
use crate::engine::{Disk, Engine, Limits, Lookup, Turn};
use crate::identity::{self, Identity};
use crate::journal::DeviceOptions;
use crate::testing::{KEY, add, instance};

const JOURNAL: &str = "/journal";
const LEDGERS: [&str; 2] = ["/ledgers-a", "/ledgers-b"];

/// What the store holds: ledgers 1 to 4, ten entries each; the last ones only in the journal. Ledger 3 is fenced.
const LEDGER_COUNT: u64 = 4;
const ENTRY_COUNT: u64 = 10;
const FENCED: u64 = 3;

fn dirs() -> Dirs {
    Dirs { journal_dir: JOURNAL.into(), ledger_dirs: LEDGERS.map(PathBuf::from).to_vec() }
}

fn explicit_lac(ledger: u64) -> Bytes {
    Bytes::from([&ledger.to_be_bytes()[..], &7u64.to_be_bytes(), b"digest"].concat())
}

struct Running {
    engine: Arc<Engine<()>>,
    done: mpsc::Receiver<()>,
}

fn open(storage: &MemoryStorage) -> Result<Running, crate::OpenError> {
    let disk = Disk {
        storage: Arc::new(storage.clone()),
        journal_dir: JOURNAL.into(),
        ledger_dirs: LEDGERS.map(PathBuf::from).to_vec(),
        instance: instance(),
    };
    let limits = Limits {
        write_cache_bytes: 1 << 20,
        read_cache_bytes: 1 << 20,
        journal_bytes: 1 << 20,
        segment_bytes: 1400,
        journal_device: DeviceOptions::default(),
        free_bytes_min: 0,
    };
    let (send, done) = mpsc::channel();
    let complete = Box::new(move |tokens: &mut Vec<()>| tokens.drain(..).for_each(|()| _ = send.send(())));
    Ok(Running { engine: Engine::open(disk, limits, crate::testing::metrics(), complete)?, done })
}

impl Running {
    /// One batch, durable when this returns.
    fn batch(&self, act: impl FnOnce(&mut Turn<'_, ()>)) {
        let mut turn = self.engine.turn();
        act(&mut turn);
        turn.finish(None, Some(()));
        self.done.recv().unwrap();
    }

    /// Everything is as it was stored.
    fn holds_everything(&self) {
        for ledger in 1..=LEDGER_COUNT {
            for entry in 0..ENTRY_COUNT {
                assert_eq!(self.read(ledger, entry), Some(add(ledger, entry).body), "{ledger}:{entry}");
            }
            let mut turn = self.engine.turn();
            assert!(matches!(turn.lookup(LedgerId(ledger), Some(EntryId(ENTRY_COUNT))), Lookup::NoEntry));
            assert_eq!(turn.explicit_lac(LedgerId(ledger)), Some(explicit_lac(ledger)));
            assert_eq!(turn.last_add_confirmed(LedgerId(ledger)), Some(EntryId(ENTRY_COUNT - 2)));
            assert_eq!(turn.fence(LedgerId(ledger), &KEY), Ok(ledger == FENCED), "{ledger}");
            assert!(turn.fence(LedgerId(ledger), &[9; 20]).is_err(), "the master key of {ledger}");
        }
    }

    /// `None` when it cannot be read, or is not there.
    fn read(&self, ledger: u64, entry: u64) -> Option<Bytes> {
        let found = self.engine.turn().lookup(LedgerId(ledger), Some(EntryId(entry)));
        match found {
            Lookup::Here(body) => Some(body),
            Lookup::OnDisk(place) => Some(place.read(1, 0).ok()?.remove(0)),
            _ => None,
        }
    }
}

/// Two logs, one a directory; then a journal of several segments that no checkpoint covers, ending in a batch of three.
fn store() -> MemoryStorage {
    let storage = MemoryStorage::new();
    let shared: Arc<dyn Storage> = Arc::new(storage.clone());
    let all = identity::data_dirs(Path::new(JOURNAL), &dirs().ledger_dirs);
    drop(identity::lock(&shared, &all).unwrap());
    let bookie = BookieId::new("bookie-1:3181").unwrap();
    identity::stamp(&shared, &all, &Identity { instance: instance(), bookie }).unwrap();
    for entries in [0..3, 3..6] {
        let running = open(&storage).unwrap();
        for entry in entries {
            running.batch(|turn| (1..=LEDGER_COUNT).for_each(|ledger| turn.add(add(ledger, entry)).unwrap()));
        }
        for ledger in 1..=LEDGER_COUNT {
            let lac = explicit_lac(ledger);
            running.batch(|turn| turn.write_lac(LedgerId(ledger), &KEY, Some(EntryId(7)), lac).unwrap());
        }
        running.engine.close().unwrap();
    }
    let running = open(&storage).unwrap();
    for entry in 6..ENTRY_COUNT {
        for ledger in 1..=LEDGER_COUNT {
            running.batch(|turn| turn.add(add(ledger, entry)).unwrap());
        }
    }
    running.batch(|turn| {
        for ledger in [1, 2] {
            turn.write_lac(LedgerId(ledger), &KEY, Some(EntryId(7)), explicit_lac(ledger)).unwrap();
        }
        turn.fence(LedgerId(FENCED), &KEY).unwrap();
    });
    running.engine.abandon();
    storage.crash(Unsynced::Kept)
}

fn files(storage: &MemoryStorage) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for dir in [JOURNAL, LEDGERS[0], LEDGERS[1]] {
        for name in storage.list(Path::new(dir)).unwrap() {
            let path = Path::new(dir).join(name);
            let bytes = storage.read(&path).unwrap();
            files.insert(path, bytes);
        }
    }
    files
}

fn verified(storage: &MemoryStorage) -> (Vec<Finding>, Verified) {
    let shared: Arc<dyn Storage> = Arc::new(storage.clone());
    let mut findings = Vec::new();
    let verified = verify(&shared, &dirs(), &mut |finding| findings.push(finding)).unwrap();
    (findings, verified)
}

/// The store's entry logs, oldest first.
fn logs(storage: &MemoryStorage) -> Vec<PathBuf> {
    let mut logs: Vec<_> =
        files(storage).into_keys().filter(|path| path.to_string_lossy().ends_with(".elog")).collect();
    logs.sort_by_key(|path| path.file_name().map(ToOwned::to_owned));
    logs
}
