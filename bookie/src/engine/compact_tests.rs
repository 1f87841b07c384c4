//! Rewriting logs while power fails, disks fill up, entries rot, and clients go on: nothing live is ever lost.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use magnetar_common::storage::{DirLock, File, MemoryStorage, Space, Storage, Unsynced};
use magnetar_proto::ids::LedgerId;

use super::{CompactError, Engine};
use crate::testing::{JOURNAL, LEDGERS, Store, content, copy_of, files, log_bytes, overwrite};

fn memory() -> MemoryStorage {
    let storage = MemoryStorage::new();
    for dir in [JOURNAL, LEDGERS] {
        storage.create_dir_all(dir.as_ref()).unwrap();
    }
    storage
}

/// Three logs; ledgers 2, 4 and 6 are deleted, entry 1:2 was written again.
fn half_dead(storage: &Arc<dyn Storage>) -> Store {
    let store = Store::open(storage);
    for log in 0..3 {
        for ledger in 1..=6 {
            store.add(ledger, log * 4..log * 4 + 4);
        }
        if log == 2 {
            store.put(1, 2, 9);
        }
        store.flush();
    }
    store.engine.forget(&[2, 4, 6].map(LedgerId), 1);
    store
}

fn holds_what_is_live(store: &Store) {
    for ledger in [1, 3, 5] {
        store.holds(ledger, (0..12).filter(|entry| (ledger, *entry) != (1, 2)));
    }
    assert_eq!(store.read(1, 2), Some(copy_of(1, 2, 9)));
}

fn rewrite(engine: &Engine<u64>, logs: &[u64]) -> Result<u64, CompactError> {
    let mut under_way = engine.begin_compaction(logs)?;
    loop {
        match engine.copy_some(&mut under_way, 1500) {
            Ok(0) => return engine.finish_compaction(under_way),
            Ok(_) => {}
            Err(error) => {
                engine.abandon_compaction(under_way);
                return Err(error);
            }
        }
    }
}

#[test]
fn live_entries_of_several_logs_become_one_log() {
    let storage: Arc<dyn Storage> = Arc::new(memory());
    let store = half_dead(&storage);
    let (before, spaces) = (log_bytes(&storage), store.engine.log_spaces());
    let dead: u64 = spaces.iter().map(|space| space.dead).sum();
    let freed = rewrite(&store.engine, &[1, 2, 3]).unwrap();
    assert_eq!(before - log_bytes(&storage), freed);
    assert!(freed >= dead, "headers and rows are saved too");
    assert_eq!(files(&storage, LEDGERS, ".elog").len(), 1);
    let [space] = store.engine.log_spaces()[..] else { panic!("one log") };
    assert_eq!(space.dead, 0);
    holds_what_is_live(&store);
    store.engine.abandon();
    let again = Store::open(&storage);
    holds_what_is_live(&again);
    assert_eq!(again.engine.log_spaces(), [space]);
}

#[test]
fn what_is_written_or_deleted_meanwhile_counts() {
    let storage: Arc<dyn Storage> = Arc::new(memory());
    let store = half_dead(&storage);
    let mut under_way = store.engine.begin_compaction(&[1, 2]).unwrap();
    store.put(3, 1, 7);
    store.flush();
    while store.engine.copy_some(&mut under_way, 1500).unwrap() > 0 {}
    store.put(3, 6, 8);
    store.flush();
    store.engine.forget(&[LedgerId(5)], 1);
    store.engine.finish_compaction(under_way).unwrap();
    let check = |store: &Store| {
        store.holds(1, (0..12).filter(|entry| *entry != 2));
        store.holds(3, [0, 2, 3, 4, 5, 7, 8, 9, 10, 11]);
        assert_eq!([store.read(3, 1), store.read(3, 6)], [Some(copy_of(3, 1, 7)), Some(copy_of(3, 6, 8))]);
        assert_eq!(store.read(5, 1), None);
    };
    check(&store);
    store.engine.abandon();
    check(&Store::open(&storage));
}

#[test]
fn a_log_with_an_unreadable_live_entry_is_left_alone() {
    let storage: Arc<dyn Storage> = Arc::new(memory());
    let store = half_dead(&storage);
    let path = files(&storage, LEDGERS, ".elog").remove(0);
    let whole = content(&storage, &path);
    let at = whole.windows(14).position(|bytes| bytes == b"payload of 3:1").unwrap();
    let file = storage.open(&path).unwrap();
    file.write_all_at(&[whole[at] ^ 1], at as u64).unwrap();
    let error = rewrite(&store.engine, &[1, 2]).unwrap_err();
    assert_eq!(error.unreadable_log(), Some(1), "{error}");
    assert_eq!(files(&storage, LEDGERS, "").len(), 4, "three logs and the checkpoint");
    store.holds(3, [0, 2, 3]);
    overwrite(&storage, &path, &whole);
}

#[test]
fn a_full_or_failing_disk_leaves_everything_as_it_was() {
    let steps = {
        let memory = memory();
        let storage: Arc<dyn Storage> = Arc::new(memory.clone());
        let store = half_dead(&storage);
        let before = memory.writes();
        rewrite(&store.engine, &[1, 2, 3]).unwrap();
        memory.writes() - before
    };
    // The last two writes are the copies of the checkpoint.
    for n in 1..=steps - 2 {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
            let memory = memory();
            let storage: Arc<dyn Storage> = Arc::new(memory.clone());
            let store = half_dead(&storage);
            memory.fail_nth_write(n, kind);
            let error = rewrite(&store.engine, &[1, 2, 3]).unwrap_err();
            assert!(matches!(error, CompactError::Write(_)), "write {n}: {error}");
            assert_eq!(files(&storage, LEDGERS, "").len(), 4, "write {n}: three logs and the checkpoint");
            holds_what_is_live(&store);
            rewrite(&store.engine, &[1, 2, 3]).unwrap();
            holds_what_is_live(&store);
        }
    }
}

#[test]
fn a_checkpoint_that_finds_no_space_keeps_the_old_logs() {
    let memory = memory();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let store = half_dead(&storage);
    // A checkpoint of so many ledgers takes more than 50 kB.
    for ledger in 100..2000 {
        store.engine.turn().fence(LedgerId(ledger), &[7; 20]).unwrap();
    }
    store.put(1, 0, 0);
    let mut under_way = store.engine.begin_compaction(&[1, 2, 3]).unwrap();
    while store.engine.copy_some(&mut under_way, 1500).unwrap() > 0 {}
    // The new log fits, the checkpoint does not.
    memory.set_free(45_000);
    assert_eq!(store.engine.finish_compaction(under_way).unwrap(), 0);
    assert_eq!(files(&storage, LEDGERS, ".elog").len(), 4);
    holds_what_is_live(&store);
    memory.set_free(1 << 30);
    assert!(store.engine.drop_dead_logs().unwrap() > 0);
    assert_eq!(files(&storage, LEDGERS, ".elog").len(), 1);
    holds_what_is_live(&store);
    store.engine.abandon();
    holds_what_is_live(&Store::open(&storage));
}

/// Takes an image of what a power cut would leave before each step that changes something.
struct Photographed {
    inner: MemoryStorage,
    images: Arc<Mutex<Vec<MemoryStorage>>>,
}

struct PhotographedFile {
    inner: Arc<dyn File>,
    storage: Arc<Photographed>,
}

impl Photographed {
    fn photograph(&self) {
        let torn = (0..4).map(|seed| Unsynced::Torn { seed });
        let fates = torn.chain([Unsynced::Lost, Unsynced::Kept]);
        self.images.lock().unwrap().extend(fates.map(|fate| self.inner.crash(fate)));
    }

    fn file(&self, inner: Arc<dyn File>) -> Arc<dyn File> {
        let storage = Photographed { inner: self.inner.clone(), images: self.images.clone() };
        Arc::new(PhotographedFile { inner, storage: Arc::new(storage) })
    }
}

impl Storage for Photographed {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.photograph();
        Ok(self.file(self.inner.create(path)?))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.file(self.inner.open(path)?))
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.photograph();
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.photograph();
        self.inner.remove(path)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.inner.exists(path)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir_all(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.photograph();
        self.inner.sync_dir(dir)
    }
    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.inner.space(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        self.inner.lock(path)
    }
}

impl File for PhotographedFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_exact_at(buffer, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.storage.photograph();
        self.inner.write_all_at(bytes, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.storage.photograph();
        self.inner.sync_data()
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn allocate(&self, length: u64) -> io::Result<()> {
        self.inner.allocate(length)
    }
    fn truncate(&self, length: u64) -> io::Result<()> {
        self.storage.photograph();
        self.inner.truncate(length)
    }
}

#[test]
fn a_power_failure_at_any_step_of_a_rewrite_loses_nothing() {
    let images = Arc::new(Mutex::new(Vec::new()));
    let photographed = Photographed { inner: memory(), images: images.clone() };
    let storage: Arc<dyn Storage> = Arc::new(photographed);
    let store = half_dead(&storage);
    let before = images.lock().unwrap().len();
    rewrite(&store.engine, &[1, 2, 3]).unwrap();
    let images = images.lock().unwrap().split_off(before);
    assert!(images.len() > 6 * 10, "{} images", images.len());
    for (number, image) in images.into_iter().enumerate() {
        let storage: Arc<dyn Storage> = Arc::new(image);
        let store = Store::open(&storage);
        holds_what_is_live(&store);
        let left = files(&storage, LEDGERS, ".elog").len();
        assert!((1..=4).contains(&left), "image {number}: {left} logs");
        assert!(files(&storage, LEDGERS, ".elog.tmp").is_empty(), "image {number}");
        store.engine.abandon();
    }
}
