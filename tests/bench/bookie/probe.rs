//! What the disk does without a bookie: the figures that the bookie's are held against.
//!
//! `fio` measures where it is installed; else a loop of the same system calls does, and the table says so. Called by: the
//! bench's main. Must never know: anything of the bookie.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use serde_json::Value;

/// What one sync costs.
const SYNCS: u64 = 3000;
/// The smallest write that a disk makes durable.
pub(super) const SYNC_BLOCK: usize = 4096;
const SYNC_FILE_BYTES: usize = 8 << 20;

pub(super) struct Probe {
    directory: PathBuf,
    fio: bool,
    /// Bytes of the files that bandwidth is measured with.
    bytes: u64,
    seconds: u64,
}

/// One fdatasync after the other, each behind a write of one block over what is on disk already.
pub(super) struct Syncs {
    file: File,
    block: Vec<u8>,
    next: usize,
}

impl Syncs {
    /// Writes the file that is overwritten, in blocks of so many bytes.
    pub(super) fn begin(path: &Path, block_bytes: usize) -> Result<Self> {
        let file = File::create(path)?;
        file.write_all_at(&vec![0x5a; SYNC_FILE_BYTES], 0)?;
        file.sync_all()?;
        Ok(Self { file, block: vec![0x5a; block_bytes], next: 0 })
    }

    /// Microseconds of the next one, at least 1; without its write.
    #[expect(clippy::disallowed_methods, reason = "a bench measures the real time")]
    pub(super) fn next_us(&mut self) -> Result<u64> {
        let blocks = SYNC_FILE_BYTES / self.block.len();
        self.file.write_all_at(&self.block, (self.next % blocks * self.block.len()) as u64)?;
        self.next += 1;
        let before = Instant::now();
        self.file.sync_data()?;
        Ok((before.elapsed().as_micros() as u64).max(1))
    }
}

impl Probe {
    /// Measures below `directory`.
    pub(super) fn new(directory: &Path, bytes: u64, seconds: u64) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let fio = Command::new("fio").arg("--version").output().is_ok_and(|output| output.status.success());
        Ok(Self { directory: directory.to_owned(), fio, bytes, seconds })
    }

    /// What measures.
    pub(super) fn tool(&self) -> &'static str {
        if self.fio { "fio" } else { "own loop (fio is not installed)" }
    }

    fn file(&self) -> PathBuf {
        self.directory.join("probe")
    }

    /// Microseconds that fdatasync takes after overwriting 4 KiB of a file that is on disk already.
    pub(super) fn sync_us(&self) -> Result<Histogram<u64>> {
        let mut syncs = Syncs::begin(&self.file(), SYNC_BLOCK)?;
        let mut took = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        for _ in 0..SYNCS {
            took.saturating_record(syncs.next_us()?);
        }
        self.clear()?;
        Ok(took)
    }

    /// Bytes a second of sequential writes of `block` bytes, each made durable before the next; into a growing file and
    /// into one that is there already, whichever is faster.
    pub(super) fn durable_writes(&self, block: usize) -> Result<f64> {
        let growing = self.sequential("write", block, &["--fdatasync=1"], false)?;
        let overwriting = self.sequential("write", block, &["--fdatasync=1"], true)?;
        Ok(f64::max(growing, overwriting))
    }

    /// Bytes a second of sequential O_DIRECT reads or writes of 1 MiB, one or four at a time, whichever is faster.
    pub(super) fn raw(&self, direction: &str) -> Result<f64> {
        let one = self.sequential(direction, 1 << 20, &["--direct=1"], true)?;
        let depth = ["--direct=1", "--ioengine=libaio", "--iodepth=4"];
        let four = if self.fio { self.sequential(direction, 1 << 20, &depth, true)? } else { one };
        Ok(f64::max(one, four))
    }

    fn sequential(&self, direction: &str, block: usize, options: &[&str], over: bool) -> Result<f64> {
        let rate = if self.fio {
            self.fio(direction, block, options, over)
        } else {
            self.own_loop(direction, block, options, over)
        };
        self.clear()?;
        rate
    }

    fn fio(&self, direction: &str, block: usize, options: &[&str], over: bool) -> Result<f64> {
        let mut command = Command::new("fio");
        command
            .args(["--name=probe", "--ioengine=psync", "--output-format=json"])
            .arg(format!("--filename={}", self.file().display()))
            .arg(format!("--rw={direction}"))
            .arg(format!("--bs={block}"))
            .arg(format!("--size={}", self.bytes))
            .arg(format!("--overwrite={}", u8::from(over)))
            .arg(format!("--runtime={}", self.seconds))
            .args(options);
        let output = command.output().context("run fio")?;
        if !output.status.success() {
            bail!("fio: {}", String::from_utf8_lossy(&output.stderr));
        }
        // Warnings may stand before the report.
        let start = output.stdout.iter().position(|byte| *byte == b'{').context("fio's report")?;
        let report = serde_json::from_slice::<Value>(&output.stdout[start..]).context("fio's report")?;
        let rate = report.pointer(&format!("/jobs/0/{direction}/bw_bytes")).and_then(Value::as_f64);
        rate.context("bandwidth in fio's report")
    }

    #[expect(clippy::disallowed_methods, reason = "a bench measures the real time")]
    fn own_loop(&self, direction: &str, block: usize, options: &[&str], over: bool) -> Result<f64> {
        let direct = options.contains(&"--direct=1");
        let buffer = Aligned::new(block);
        if over {
            let file = File::create(self.file())?;
            let chunk = vec![0x5a; 1 << 20];
            for at in (0..self.bytes).step_by(chunk.len()) {
                file.write_all_at(&chunk, at)?;
            }
            file.sync_all()?;
        }
        let flags = if direct { rustix::fs::OFlags::DIRECT.bits() } else { 0 };
        let mut open = File::options();
        open.read(true).write(true).create(true).truncate(false).custom_flags(flags.cast_signed());
        let file = open.open(self.file())?;
        let mut buffer = buffer;
        let started = Instant::now();
        let mut done = 0;
        while done + block as u64 <= self.bytes && started.elapsed() < Duration::from_secs(self.seconds) {
            match direction {
                "read" => file.read_exact_at(buffer.bytes(), done)?,
                _ => file.write_all_at(buffer.bytes(), done)?,
            }
            if !direct {
                file.sync_data()?;
            }
            done += block as u64;
        }
        Ok(done as f64 / started.elapsed().as_secs_f64())
    }

    /// Removes what a measurement left.
    fn clear(&self) -> Result<()> {
        match fs::remove_file(self.file()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("remove the probe")
            }
            _ => Ok(()),
        }
    }
}

/// Memory aligned as O_DIRECT wants it.
struct Aligned {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    fn new(len: usize) -> Self {
        let memory = vec![0x5a; len + SYNC_BLOCK];
        let start = memory.as_ptr().align_offset(SYNC_BLOCK);
        Self { memory, start, len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}
