//! Sequential reads of one ledger that lies interleaved with many others, from disk.
//!
//! Called by: the bench's main. Must never know: the raw bandwidth that it is compared with.

use std::cell::Cell;
use std::fs::{self, File};
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::fs::{Advice, fadvise};

use super::process::{Cores, Launch, device_of, device_written};
use super::reader::{By, read_all};
use super::writer::{Answered, BODY_OVERHEAD, Writer};
use magnetar_tests::usage;

/// The ledger that is read, and the others.
const READ: u64 = 0;
const OTHERS: u64 = 63;

/// Unanswered adds while writing: enough for full batches.
const WRITE_WINDOW_BYTES: usize = 8 << 20;
/// Answers under way while reading; far below what a connection may owe.
const READ_WINDOW_BYTES: usize = 4 << 20;
const BATCH_BYTES: usize = 1 << 20;

/// What writing the data showed.
pub(super) struct Written {
    /// Bytes that the device was made to write for each byte of entries, by everybody; and by the bookie alone.
    pub(super) amplification: f64,
    pub(super) amplification_of_process: f64,
    /// Bytes of entries in all.
    pub(super) bytes: u64,
    entries: u64,
}

/// What reading showed.
pub(super) struct Reading {
    pub(super) bytes_per_second: f64,
    /// Bytes read from disk for each byte of entries; near 0 would mean that caches answered.
    pub(super) from_disk: f64,
    /// The bookie's CPU time for each 10^9 bytes of entries.
    pub(super) cpu_seconds_per_gigabyte: f64,
}

struct Count(Rc<Cell<u64>>);

impl Answered for Count {
    fn answered(&mut self, _: Instant, _: Instant) {
        self.0.set(self.0.get() + 1);
    }
}

/// Writes `bytes` into the ledger to be read, every other entry going to one of the others in turn, and stops the bookie,
/// so that everything lies in entry logs.
pub(super) fn write(launch: &Launch, bytes: u64, payload_bytes: usize) -> Result<Written> {
    let bookie = launch.fresh(Cores::Shared)?;
    let device = device_of(&launch.directory)?;
    settle()?;
    let device_before = device_written(device)?;
    let entries = bytes / payload_bytes as u64;
    let order = (1..=OTHERS).flat_map(|other| [READ, other]);
    let window = WRITE_WINDOW_BYTES / payload_bytes;
    let answered = Rc::new(Cell::new(0));
    let kept = runtime()?.block_on(async {
        let mut writer = Writer::connect(bookie.address(), order, payload_bytes, window).await?;
        writer.run(|| answered.get() < 2 * entries, &mut Count(answered.clone())).await?;
        anyhow::Ok(writer.answered(READ))
    })?;
    let pid = bookie.pid();
    let mut of_process = usage::disk_bytes(pid)?.1;
    bookie.stop_watching(|| {
        // The last value before the process is gone.
        of_process = usage::disk_bytes(pid).map_or(of_process, |(_, written)| written);
    })?;
    settle()?;
    let body_bytes = (payload_bytes + BODY_OVERHEAD) as u64;
    let written = answered.get() * body_bytes;
    Ok(Written {
        amplification: (device_written(device)? - device_before) as f64 / written as f64,
        amplification_of_process: of_process as f64 / written as f64,
        bytes: written,
        entries: kept,
    })
}

/// Reads the ledger that [`write`] made, with nothing of it in any cache, from a bookie just started.
#[expect(clippy::disallowed_methods, reason = "a bench measures the real time")]
pub(super) fn read(
    launch: &Launch,
    written: &Written,
    payload_bytes: usize,
    batches: bool,
) -> Result<Reading> {
    let (bookie, _) = launch.start(Cores::Shared)?;
    forget(&launch.ledgers())?;
    let body_bytes = payload_bytes + BODY_OVERHEAD;
    let by = if batches {
        let entries = (BATCH_BYTES / body_bytes).max(1) as u64;
        By::Batch { entries, window: (READ_WINDOW_BYTES / BATCH_BYTES) as u64 }
    } else {
        By::One { window: (READ_WINDOW_BYTES / body_bytes).min(4096) as u64 }
    };
    let (cpu_before, disk_before) = (usage::cpu_seconds(bookie.pid())?, usage::disk_bytes(bookie.pid())?.0);
    let started = Instant::now();
    let read = read_all(bookie.address(), READ, written.entries, body_bytes, by);
    let bytes = runtime()?.block_on(read)? as f64;
    let seconds = started.elapsed().as_secs_f64();
    let cpu_seconds = usage::cpu_seconds(bookie.pid())? - cpu_before;
    let from_disk = usage::disk_bytes(bookie.pid())?.0 - disk_before;
    bookie.kill()?;
    Ok(Reading {
        bytes_per_second: bytes / seconds,
        from_disk: from_disk as f64 / bytes,
        cpu_seconds_per_gigabyte: cpu_seconds / bytes * 1e9,
    })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")
}

/// Lets nothing wait in the page cache that would be written later.
fn settle() -> Result<()> {
    rustix::fs::sync();
    Ok(())
}

/// Drops a directory's files from the page cache, and nothing else: others use the machine too.
fn forget(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let file = File::open(entry.path())?;
            file.sync_all()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}
