//! A `magnetar standalone` process on free ports, its log, and its end.

use crate::role::Role;
use anyhow::{Result, bail};
use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// The binary that cargo built beside the running test.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("MAGNETAR_BIN") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().expect("a running test has a path");
    let profile = test.ancestors().nth(2).expect("tests run from target/<profile>/deps");
    let binary = profile.join("magnetar");
    assert!(binary.exists(), "{} is missing: run `cargo build -p magnetar` first", binary.display());
    binary
}

/// Below the range from which the kernel takes ports for outgoing connections: one of those could hold the port just when
/// the process is restarted on it.
const FIRST_PORT: u16 = 10_000;
const PORTS: u16 = 20_000;

/// Two free ports that no other test of this process gets. Test processes begin at different places.
pub fn free_ports() -> Result<(u16, u16)> {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 200)? * 100;
    for _ in 0..PORTS {
        let offset = (start + TAKEN.fetch_add(2, Ordering::Relaxed)) % PORTS;
        let ports = (FIRST_PORT + offset, FIRST_PORT + offset + 1);
        let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free(ports.0) && is_free(ports.1) {
            return Ok(ports);
        }
    }
    bail!("no free ports from {FIRST_PORT} on")
}

/// The first of `count` neighbouring free ports that no other test of this process gets.
pub fn free_block(count: u16) -> Result<u16> {
    let (mut first, mut last) = free_ports()?;
    while last - first + 1 < count {
        let (next, end) = free_ports()?;
        if next != last + 1 {
            first = next;
        }
        last = end;
    }
    Ok(first)
}

/// A running `magnetar standalone`. Killed when dropped.
pub struct Standalone {
    role: Role,
    ports: (u16, u16),
}

impl Standalone {
    /// Starts on free ports over `data_dir` and waits for the ready line.
    pub fn start(data_dir: &Path) -> Result<Self> {
        let ports = free_ports()?;
        let (broker, http) = (ports.0.to_string(), ports.1.to_string());
        let words = ["standalone", "--broker-port", &broker, "--http-port", &http, "--data-dir"];
        let words = words.into_iter().map(OsString::from).chain([data_dir.as_os_str().to_owned()]);
        Ok(Self { role: Role::start(words)?, ports })
    }

    /// Starts again, on the same ports and data directory, after the process has ended.
    pub fn restart(&mut self) -> Result<()> {
        self.role.restart()
    }

    /// `pulsar://host:port`.
    pub fn service_url(&self) -> String {
        format!("pulsar://{}", self.broker_address())
    }

    /// `host:port` of the binary protocol.
    pub fn broker_address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.0)
    }

    /// `http://host:port` of the admin REST.
    pub fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.1)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.role.pid()
    }

    /// What the process has logged so far, a line each.
    pub fn log(&self) -> Vec<String> {
        self.role.log()
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) -> Result<()> {
        self.role.kill()
    }

    /// SIGTERM, and waits for the end at most `limit`.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.role.terminate(limit)
    }
}
