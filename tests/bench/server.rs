//! The release binary and a standalone process of it, with what the kernel tells about its cost.
//!
//! Called by: the bench's main and its loads.
//! Must never know: which load is running.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use magnetar_tests::usage;

/// Builds the binary as a user would, and tells where it is. `MAGNETAR_BIN` names another one.
pub(crate) fn build() -> Result<PathBuf> {
    release("magnetar", "magnetar", "MAGNETAR_BIN")
}

/// Builds `binary` of `package` in release mode, unless the environment variable `instead` names one that is built.
pub(crate) fn release(package: &str, binary: &str, instead: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(instead) {
        return Ok(path.into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "-p", package, "--bin", binary]);
    if !build.status().context("run cargo")?.success() {
        bail!("the release build failed");
    }
    let here = std::env::current_exe()?;
    let target = here.ancestors().nth(2).context("the bench lies in target/<profile>")?;
    Ok(target.join("release").join(binary))
}

/// A running `magnetar standalone` on free ports.
pub(crate) struct Server {
    child: Child,
    service_url: String,
}

impl Server {
    /// Starts over `data_dir`, and tells how long it took from before the spawn to the ready line.
    #[expect(clippy::disallowed_methods, reason = "a bench measures the real time")]
    pub(crate) fn start(binary: &Path, data_dir: &Path) -> Result<(Self, Duration)> {
        fs::create_dir_all(data_dir)?;
        let log = File::create(data_dir.with_extension("log"))?;
        let started = Instant::now();
        let mut child = Command::new(binary)
            .args(["standalone", "--broker-port", "0", "--http-port", "0", "--data-dir"])
            .arg(data_dir)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("start magnetar standalone")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("piped stdout")?).read_line(&mut line)?;
        let ready = started.elapsed();
        let url = line.split_whitespace().find_map(|word| word.strip_prefix("broker="));
        let Some(service_url) = url.map(str::to_owned) else {
            let log = fs::read_to_string(data_dir.with_extension("log"))?;
            bail!("no ready line; {}; log:\n{log}", child.wait()?);
        };
        Ok((Self { child, service_url }, ready))
    }

    pub(crate) fn service_url(&self) -> &str {
        &self.service_url
    }

    /// Watches the idle process for `span`: percent of a core, and resident memory in 10^6 bytes.
    #[expect(clippy::disallowed_methods, reason = "a bench measures over real time")]
    pub(crate) fn idle(&self, span: Duration) -> Result<(f64, f64)> {
        let before = self.cpu_seconds()?;
        std::thread::sleep(span);
        let used = self.cpu_seconds()? - before;
        Ok((used / span.as_secs_f64() * 100.0, self.rss_mb()?))
    }

    /// CPU time of the process so far, in user and system mode.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        usage::cpu_seconds(self.child.id())
    }

    /// The same, to the nanosecond, of all threads but the bookie's journal and flushes, which go on when all is published.
    pub(crate) fn cpu_seconds_beside_bookie(&self) -> Result<f64> {
        usage::cpu_seconds_of_threads(self.child.id(), "bookie-")
    }

    /// Resident memory in 10^6 bytes.
    pub(crate) fn rss_mb(&self) -> Result<f64> {
        usage::rss_mb(self.child.id())
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(&mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("magnetar standalone ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
