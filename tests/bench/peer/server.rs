//! A bookie process under load, whoever made it.
//!
//! Called by: the runner of `bench peer`. Must never know: what it is measured for.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use magnetar_tests::usage;

/// A running bookie. Killed when dropped: its data are of no use afterwards.
pub(super) struct Server {
    name: &'static str,
    address: String,
    child: Child,
}

impl Server {
    pub(super) fn new(name: &'static str, address: String, child: Child) -> Self {
        Server { name, address, child }
    }

    /// Starts one of ours over `dir` with its defaults.
    pub(super) fn ours(binary: &Path, dir: &Path) -> Result<Self> {
        let mut child =
            Command::new(binary).arg(dir).stdout(Stdio::piped()).spawn().context("start our bookie")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("piped stdout")?).read_line(&mut line)?;
        let Some((_, address)) = line.trim_end().split_once(" ready ") else {
            bail!("our bookie did not start: {line:?}, {}", child.wait()?);
        };
        Ok(Server::new("ours", address.to_owned(), child))
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// `host:port`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        usage::cpu_seconds(self.child.id())
    }

    pub(super) fn rss_mb(&self) -> Result<f64> {
        usage::rss_mb(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
