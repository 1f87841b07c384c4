//! What the kernel counts for one process.
//!
//! Called by: the benches and the chaos suite. Must never know: what the process is.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// CPU time so far, in user and system mode, of all threads.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    cpu_seconds_in(&format!("/proc/{pid}/stat"))
}

/// The same, of the calling thread.
pub fn thread_cpu_seconds() -> Result<f64> {
    cpu_seconds_in("/proc/thread-self/stat")
}

/// CPU time so far of the process's threads that live now and whose name does not begin with `but`, to the nanosecond where
/// [`cpu_seconds`] counts hundredths.
pub fn cpu_seconds_of_threads(pid: u32, but: &str) -> Result<f64> {
    let mut total = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?.path();
        if fs::read_to_string(thread.join("comm")).is_ok_and(|name| !name.starts_with(but)) {
            // One that has just ended counts nothing.
            total += scheduled_seconds(&thread.join("schedstat")).unwrap_or(0.0);
        }
    }
    Ok(total)
}

/// CPU time so far of the calling thread, to the nanosecond.
pub fn thread_scheduled_seconds() -> Result<f64> {
    scheduled_seconds(Path::new("/proc/thread-self/schedstat"))
}

fn scheduled_seconds(path: &Path) -> Result<f64> {
    let stat = fs::read_to_string(path)?;
    let nanoseconds = stat.split(' ').next().and_then(|field| field.parse::<u64>().ok());
    Ok(nanoseconds.context("a time in schedstat")? as f64 / 1e9)
}

fn cpu_seconds_in(path: &str) -> Result<f64> {
    let stat = fs::read_to_string(path)?;
    // Fields 14 and 15, counted behind the name, which may contain spaces.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect::<Vec<_>>();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    let total = ticks(11).zip(ticks(12)).map(|(user, system)| user + system);
    Ok(total.context("times in /proc/PID/stat")? as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Resident memory in 10^6 bytes.
pub fn rss_mb(pid: u32) -> Result<f64> {
    status_mb(pid, "VmRSS:")
}

/// The most that was ever resident, in 10^6 bytes.
pub fn peak_rss_mb(pid: u32) -> Result<f64> {
    status_mb(pid, "VmHWM:")
}

/// Bytes that the process has made the storage layer read and write so far, through the page cache or past it.
pub fn disk_bytes(pid: u32) -> Result<(u64, u64)> {
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let field = |name: &str| {
        let value = io.lines().find_map(|line| line.strip_prefix(name)).with_context(|| name.to_owned())?;
        value.trim().parse::<u64>().with_context(|| name.to_owned())
    };
    Ok((field("read_bytes:")?, field("write_bytes:")?))
}

fn status_mb(pid: u32, name: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| name.to_owned())?;
    let kib = line.trim().trim_end_matches(" kB").parse::<f64>().context("a size in kB")?;
    Ok(kib * 1024.0 / 1e6)
}
