//! The bookies of one suite: processes that can be killed and started again at the same address.

use anyhow::{Context, Result, bail};
use magnetar_tests::process;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Address to bookie. All are killed when this is dropped.
pub(crate) struct Bookies(BTreeMap<String, Bookie>);

struct Bookie {
    dir: PathBuf,
    port: u16,
    /// Where the files for TLS are, if it takes requests over mutual TLS only.
    tls: Option<PathBuf>,
    child: Child,
}

impl Bookies {
    /// Starts `count` bookies below `dir`, over mutual TLS only when `tls` names its files; they serve when this returns.
    pub(crate) fn start(dir: &Path, count: usize, tls: Option<&Path>) -> Result<Self> {
        let mut bookies = BTreeMap::new();
        for number in 0..count {
            let (port, _) = process::free_ports()?;
            let dir = dir.join(format!("bookie-{number}"));
            let tls = tls.map(Path::to_owned);
            let child = spawn(&dir, port, tls.as_deref())?;
            bookies.insert(format!("127.0.0.1:{port}"), Bookie { dir, port, tls, child });
        }
        let mut bookies = Bookies(bookies);
        for bookie in bookies.0.values_mut() {
            ready(&mut bookie.child)?;
        }
        Ok(bookies)
    }

    /// `host:port`, joined by a plus.
    pub(crate) fn addresses(&self) -> String {
        self.0.keys().cloned().collect::<Vec<_>>().join("+")
    }

    /// SIGKILL, and waits for the end. Killing a dead one changes nothing.
    pub(crate) fn kill(&mut self, address: &str) -> Result<()> {
        let bookie = self.0.get_mut(address).with_context(|| format!("no bookie {address}"))?;
        bookie.child.kill()?;
        bookie.child.wait()?;
        Ok(())
    }

    /// Starts a killed bookie over its old directories; it serves when this returns.
    pub(crate) fn restart(&mut self, address: &str) -> Result<()> {
        let bookie = self.0.get_mut(address).with_context(|| format!("no bookie {address}"))?;
        bookie.child = spawn(&bookie.dir, bookie.port, bookie.tls.as_deref())?;
        ready(&mut bookie.child)
    }
}

impl Drop for Bookies {
    fn drop(&mut self) {
        for bookie in self.0.values_mut() {
            let _ = bookie.child.kill();
            let _ = bookie.child.wait();
        }
    }
}

/// What a bookie logs is seen with the test's output.
fn spawn(dir: &Path, port: u16, tls: Option<&Path>) -> Result<Child> {
    Command::new(env!("CARGO_BIN_EXE_lone_bookie"))
        .arg(dir)
        .arg(port.to_string())
        .env("RUST_LOG", "warn")
        .envs(tls.map(|files| ("LONE_BOOKIE_TLS", files)))
        .stdout(Stdio::piped())
        .spawn()
        .context("start a bookie")
}

fn ready(child: &mut Child) -> Result<()> {
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("piped stdout")?).read_line(&mut line)?;
    if !line.contains(" ready ") {
        bail!("a bookie did not start: {line:?}, {}", child.wait()?);
    }
    Ok(())
}
