//! A `lone_bookie` process: a bookie without a cluster, over a directory of a test's own.
//!
//! Its binary is a target of this crate, so only a test target can tell where it is (`CARGO_BIN_EXE_lone_bookie`).

use crate::process::free_ports;
use crate::wait;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// A running bookie. Killed when dropped.
pub struct Lone {
    binary: PathBuf,
    dir: PathBuf,
    /// Behind directory and port on its command line.
    more: Vec<String>,
    address: SocketAddr,
    child: Child,
}

impl Lone {
    /// Starts over `dir` on a free port that nobody else takes over its restarts; it serves when this returns.
    pub fn start(binary: &str, dir: &Path, more: &[String]) -> Result<Self> {
        let (binary, dir, more) = (PathBuf::from(binary), dir.to_owned(), more.to_vec());
        let (child, address) = spawn(&binary, &dir, free_ports()?.0, &more)?;
        Ok(Self { binary, dir, more, address, child })
    }

    /// Where it listens, over all its restarts.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for the end, at most `limit`.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let child = &mut self.child;
        Ok(wait::until("the end after SIGTERM", limit, || child.try_wait().ok().flatten()))
    }

    /// Starts again at the same address after the process has ended: what is stored there names the bookie by it.
    pub fn restart(&mut self) -> Result<()> {
        (self.child, self.address) = spawn(&self.binary, &self.dir, self.address.port(), &self.more)?;
        Ok(())
    }
}

impl Drop for Lone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the bookie logs is seen with the test's output.
fn spawn(binary: &Path, dir: &Path, port: u16, more: &[String]) -> Result<(Child, SocketAddr)> {
    let mut child = Command::new(binary)
        .arg(dir)
        .arg(port.to_string())
        .args(more)
        .env("RUST_LOG", "error")
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", binary.display()))?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("piped stdout")?).read_line(&mut line)?;
    match line.strip_prefix("lone_bookie ready ").and_then(|address| address.trim().parse().ok()) {
        Some(address) => Ok((child, address)),
        None => bail!("a bookie did not start: {line:?}, {}", child.wait()?),
    }
}
