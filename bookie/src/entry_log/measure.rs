//! What writing entry logs does to a journal's syncs on the same disk. Run by hand, in a release build:
//! `cargo test --release -p magnetar-bookie --lib entry_log::measure -- --ignored --nocapture`, with the disk to measure
//! as `TMPDIR`.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use magnetar_common::clock::{Clock, SystemClock};
use magnetar_common::storage::{ALIGNMENT, AlignedBuffer, DirLock, File, RealStorage, Space, Storage};
use magnetar_proto::ids::{EntryId, LedgerId};

use super::write;
use crate::testing::instance;

/// The machine's files, with all direct access refused.
struct Cached;

impl Storage for Cached {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        RealStorage.create(path)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        RealStorage.open(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealStorage.list(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealStorage.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealStorage.remove(path)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        RealStorage.exists(path)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealStorage.create_dir_all(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealStorage.sync_dir(dir)
    }
    fn space(&self, dir: &Path) -> io::Result<Space> {
        RealStorage.space(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        RealStorage.lock(path)
    }
}

const JOURNAL_BYTES: u64 = 64 << 20;
const LOG_BYTES: usize = 64 << 20;
const SECONDS: u64 = 10;

/// Writes logs until told to stop; returns bytes a second.
fn write_logs(storage: &Arc<dyn Storage>, dir: &Path, clock: &SystemClock, stop: &AtomicBool) -> f64 {
    let body = Bytes::from(vec![5; 1024]);
    let (start, mut bytes, mut log) = (clock.now(), 0, 0);
    while !stop.load(Ordering::Relaxed) {
        log += 1;
        let entries = (0..(LOG_BYTES / body.len()) as u64).map(|n| (LedgerId(1), EntryId(n), body.clone()));
        bytes += write(storage, dir, instance(), log, entries).unwrap();
        storage.remove(&dir.join(super::format::file_name(log))).unwrap();
    }
    bytes as f64 / (clock.now() - start).as_secs_f64()
}

/// Durable 4 KiB writes, one after the other; returns their times, sorted.
fn write_journal(file: &dyn File, clock: &SystemClock) -> Vec<Duration> {
    let mut block = AlignedBuffer::with_capacity(ALIGNMENT);
    block.extend_from_slice(&[7; ALIGNMENT]);
    let (start, mut times, mut at) = (clock.now(), Vec::new(), 0);
    while clock.now() - start < Duration::from_secs(SECONDS) {
        let before = clock.now();
        if file.is_direct() {
            file.write_durably_at(&block, at).unwrap();
        } else {
            file.write_all_at(&block, at).unwrap();
            file.sync_data().unwrap();
        }
        times.push(clock.now() - before);
        at = (at + ALIGNMENT as u64) % JOURNAL_BYTES;
    }
    times.sort_unstable();
    times
}

#[test]
#[ignore = "a measurement, for an otherwise idle machine"]
fn journal_syncs_beside_an_entry_log_written_at_full_speed() {
    let real: Arc<dyn Storage> = Arc::new(RealStorage);
    let cached: Arc<dyn Storage> = Arc::new(Cached);
    println!("journal | logs | log MB/s | syncs/s | p50 | p99 | p99.9 | max");
    for (journal, storage) in [("buffered", &cached), ("direct", &real)] {
        for (logs, log_storage) in [("none", None), ("buffered", Some(&cached)), ("direct", Some(&real))] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("journal");
            let file = storage.create_direct(&path).unwrap();
            let mut zeros = AlignedBuffer::with_capacity(1 << 20);
            zeros.extend_from_slice(&vec![0; 1 << 20]);
            (0..JOURNAL_BYTES).step_by(1 << 20).for_each(|at| file.write_all_at(&zeros, at).unwrap());
            file.sync_data().unwrap();
            let (clock, stop) = (SystemClock::default(), AtomicBool::new(false));
            let (times, rate) = std::thread::scope(|scope| {
                let logs = log_storage.map(|s| scope.spawn(|| write_logs(s, dir.path(), &clock, &stop)));
                let times = write_journal(&*file, &clock);
                stop.store(true, Ordering::Relaxed);
                (times, logs.map_or(0.0, |logs| logs.join().unwrap()))
            });
            let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_micros();
            println!(
                "{journal} | {logs} | {:.0} | {} | {} | {} | {} | {}",
                rate / 1e6,
                times.len() as u64 / SECONDS,
                at(0.5),
                at(0.99),
                at(0.999),
                at(1.0)
            );
        }
    }
}
