//! An etcd server of a test's own, on free ports, with its data in a temporary directory.
//!
//! The program is named by MAGNETAR_ETCD (`tests/run` sets it) or found in PATH.

use crate::process::free_ports;
use crate::wait;
use anyhow::{Context, Result};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// A start with its election takes about a second on an idle machine.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// The etcd program, or why there is none.
pub fn program() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("MAGNETAR_ETCD").map(PathBuf::from) {
        return if path.is_file() { Ok(path) } else { Err(format!("{} is no file", path.display())) };
    }
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&dirs).map(|dir| dir.join("etcd")).find(|path| path.is_file());
    found.ok_or_else(|| "no etcd in PATH, and MAGNETAR_ETCD names none (run tests/run)".into())
}

/// A running single-member cluster. Killed when dropped.
pub struct Etcd {
    program: PathBuf,
    dir: TempDir,
    ports: (u16, u16),
    flags: Vec<String>,
    scheme: &'static str,
    child: Child,
}

impl Etcd {
    /// Starts an empty cluster and waits until it takes connections.
    pub fn start(program: PathBuf) -> Result<Self> {
        Self::start_with(program, "http", &[])
    }

    /// Like [`start`](Self::start), with clients on `scheme` and further flags.
    pub fn start_with(program: PathBuf, scheme: &'static str, flags: &[String]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let ports = free_ports()?;
        let child = spawn(&program, &dir, ports, scheme, flags)?;
        let mut etcd = Self { program, dir, ports, flags: flags.to_vec(), scheme, child };
        etcd.wait_for_port();
        Ok(etcd)
    }

    /// `host:port` for clients.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.0)
    }

    /// As `--metadata` takes it.
    pub fn url(&self) -> String {
        format!("etcd:{}://{}", self.scheme, self.address())
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts again over the same data, on the same ports.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.child = spawn(&self.program, &self.dir, self.ports, self.scheme, &self.flags)?;
        self.wait_for_port();
        Ok(())
    }

    /// etcd listens for clients only once it has joined its cluster.
    fn wait_for_port(&mut self) {
        let address = self.address();
        wait::until("etcd's port", READY_LIMIT, || {
            if let Ok(Some(status)) = self.child.try_wait() {
                let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                panic!("etcd ended ({status}); its log:\n{log}");
            }
            TcpStream::connect(&address).ok()
        });
    }
}

fn spawn(
    program: &PathBuf,
    dir: &TempDir,
    (client, peer): (u16, u16),
    scheme: &str,
    flags: &[String],
) -> Result<Child> {
    let (client, peer) = (format!("{scheme}://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.path().join("log"))?;
    Command::new(program)
        .args(["--name", "test", "--logger", "zap", "--log-outputs", "stderr"])
        .arg("--data-dir")
        .arg(dir.path().join("data"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("test={peer}")])
        .args(flags)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {}", program.display()))
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
