//! A bookie process over a directory of its own, and the core it may run on.
//!
//! Called by: every measurement. Must never know: what is measured.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Which cores the bookie and the load generator have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cores {
    /// All of them, shared.
    Shared,
    /// The bookie has core 0 alone, the load generator core 1.
    OneEach,
}

/// A running bookie. Killed when dropped.
pub(super) struct Bookie {
    child: Child,
    address: SocketAddr,
}

/// How a bookie is started.
#[derive(Clone)]
pub(super) struct Launch {
    pub(super) binary: PathBuf,
    pub(super) directory: PathBuf,
}

impl Launch {
    /// Over an empty directory.
    pub(super) fn fresh(&self, cores: Cores) -> Result<Bookie> {
        self.clear()?;
        fs::create_dir_all(&self.directory)?;
        Ok(self.start(cores)?.0)
    }

    /// Removes the data of a bookie that has ended.
    pub(super) fn clear(&self) -> Result<()> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("remove old data")
            }
            _ => Ok(()),
        }
    }

    /// Over whatever is there; also tells how long it took from before the spawn to the ready line.
    #[expect(clippy::disallowed_methods, reason = "a bench measures the real time")]
    pub(super) fn start(&self, cores: Cores) -> Result<(Bookie, Duration)> {
        let log = self.directory.with_extension("log");
        let started = Instant::now();
        let mut child = spawn_on(cores, || {
            Command::new(&self.binary)
                .arg(&self.directory)
                .stdout(Stdio::piped())
                .stderr(File::create(&log)?)
                .spawn()
                .with_context(|| format!("start {}", self.binary.display()))
        })?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("piped stdout")?).read_line(&mut line)?;
        let ready = started.elapsed();
        let address = line.strip_prefix("lone_bookie ready ").and_then(|text| text.trim().parse().ok());
        let Some(address) = address else {
            bail!("no ready line; {}; log:\n{}", child.wait()?, fs::read_to_string(&log)?);
        };
        Ok((Bookie { child, address }, ready))
    }

    /// Where entry logs are.
    pub(super) fn ledgers(&self) -> PathBuf {
        self.directory.join("ledgers")
    }
}

impl Bookie {
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM, and waits until everything is in entry logs.
    pub(super) fn stop(self) -> Result<()> {
        self.stop_watching(|| ())
    }

    /// The same, and looks at the process over and over until it has ended.
    #[expect(clippy::disallowed_methods, reason = "the kernel tells only by polling")]
    pub(super) fn stop_watching(mut self, mut look: impl FnMut()) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = loop {
            look();
            match self.child.try_wait()? {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        if !status.success() {
            bail!("the bookie ended with {status}");
        }
        Ok(())
    }

    /// SIGKILL.
    pub(super) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Bookie {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Spawns a child that inherits the bookie's cores.
fn spawn_on(cores: Cores, spawn: impl FnOnce() -> Result<Child>) -> Result<Child> {
    match cores {
        Cores::Shared => spawn(),
        Cores::OneEach => on_core(0, spawn),
    }
}

/// Runs `work` on the load generator's cores.
pub(super) fn generating<R>(cores: Cores, work: impl FnOnce() -> Result<R>) -> Result<R> {
    match cores {
        Cores::Shared => work(),
        Cores::OneEach => on_core(1, work),
    }
}

fn on_core<R>(core: usize, work: impl FnOnce() -> Result<R>) -> Result<R> {
    let before = sched_getaffinity(None)?;
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only).with_context(|| format!("stay on core {core}"))?;
    let result = work();
    sched_setaffinity(None, &before)?;
    result
}

/// The block device under a directory, as `/proc/diskstats` names it.
pub(super) fn device_of(directory: &Path) -> Result<(u32, u32)> {
    let device = rustix::fs::stat(directory)?.st_dev;
    Ok((rustix::fs::major(device), rustix::fs::minor(device)))
}

/// Bytes written to a block device since the machine started, by everybody.
pub(super) fn device_written(device: (u32, u32)) -> Result<u64> {
    let stats = fs::read_to_string("/proc/diskstats")?;
    for line in stats.lines() {
        let fields = line.split_whitespace().collect::<Vec<_>>();
        let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
        if number(0) == Some(device.0.into()) && number(1) == Some(device.1.into()) {
            // The tenth field, in sectors of 512 bytes whatever the device's are.
            return Ok(number(9).context("sectors written")? * 512);
        }
    }
    bail!("{}:{} is not in /proc/diskstats", device.0, device.1)
}
