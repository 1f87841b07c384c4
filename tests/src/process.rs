//! A `magnetar standalone` process on free ports, its log, and its end.

use crate::wait;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Long enough for a debug build on a busy two-core machine; the start itself is measured by the bench target.
const READY_LIMIT: Duration = Duration::from_secs(30);

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
    let start = u16::try_from(std::process::id() % 400)? * 50;
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

/// A running `magnetar standalone`. Killed when dropped.
pub struct Standalone {
    child: Child,
    data_dir: PathBuf,
    ports: (u16, u16),
    log: Arc<Mutex<Vec<String>>>,
}

impl Standalone {
    /// Starts on free ports over `data_dir` and waits for the ready line.
    pub fn start(data_dir: &Path) -> Result<Self> {
        Self::start_on(data_dir, free_ports()?)
    }

    fn start_on(data_dir: &Path, ports: (u16, u16)) -> Result<Self> {
        let mut child = Command::new(binary())
            .args(["standalone", "--data-dir"])
            .arg(data_dir)
            .args(["--broker-port", &ports.0.to_string(), "--http-port", &ports.1.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start magnetar standalone")?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let (ready_to, ready) = std::sync::mpsc::channel();
        let stdout = child.stdout.take().context("piped stdout")?;
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = ready_to.send(line);
            }
        });
        let stderr = child.stderr.take().context("piped stderr")?;
        let lines = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().expect("log").push(line);
            }
        });
        let mut process = Self { child, data_dir: data_dir.to_owned(), ports, log };
        match ready.recv_timeout(READY_LIMIT) {
            Ok(line) if line.contains(" ready ") => Ok(process),
            other => {
                let _ = process.child.kill();
                let status = process.child.wait()?;
                bail!("no ready line ({other:?}), {status}; log:\n{}", process.log().join("\n"))
            }
        }
    }

    /// Starts again, on the same ports and data directory, after the process has ended.
    pub fn restart(&mut self) -> Result<()> {
        let again = Self::start_on(&self.data_dir, self.ports)?;
        *self = again;
        Ok(())
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
        self.child.id()
    }

    /// What the process has logged so far, a line each.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("log").clone()
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for the end at most `limit`.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let child = &mut self.child;
        Ok(wait::until("the end after SIGTERM", limit, || child.try_wait().ok().flatten()))
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of magnetar standalone\n{}\n---", self.log().join("\n"));
        }
    }
}
