//! A `magnetar` process of any role: its command line, ready line, log, and end.

use crate::process::binary;
use crate::site::Site;
use crate::wait;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Long enough for a debug build on a busy two-core machine; the start itself is measured by the bench target.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// A running process that has told that it is ready. Killed when dropped.
pub struct Role {
    child: Child,
    args: Vec<OsString>,
    site: Site,
    ready_line: String,
    log: Arc<Mutex<Vec<String>>>,
    /// Ends with the process, when `log` is complete.
    logging: Option<JoinHandle<()>>,
}

impl Role {
    /// Starts `magnetar` with these words and waits for the ready line.
    pub fn start(args: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Self> {
        Self::start_at(&Site::local(), args)
    }

    /// Like [`start`](Self::start), on a site.
    pub fn start_at(site: &Site, args: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Self> {
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        let mut child = site
            .command(binary())
            .args(&args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start magnetar {args:?}"))?;
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
        let logging = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().expect("log").push(line);
            }
        });
        let logging = Some(logging);
        let mut process = Self { child, args, site: site.clone(), ready_line: String::new(), log, logging };
        match ready.recv_timeout(READY_LIMIT) {
            Ok(line) if line.contains(" ready ") => {
                process.ready_line = line;
                Ok(process)
            }
            other => {
                let _ = process.child.kill();
                let status = process.child.wait()?;
                bail!("no ready line ({other:?}), {status}; log:\n{}", process.log().join("\n"))
            }
        }
    }

    /// What stands behind `name=` in the ready line.
    pub fn told(&self, name: &str) -> Option<&str> {
        let words = self.ready_line.split(' ');
        words.filter_map(|word| word.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Starts again with the same words after the process has ended.
    pub fn restart(&mut self) -> Result<()> {
        let again = Self::start_at(&self.site, self.args.clone())?;
        *self = again;
        Ok(())
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
        let status = wait::until("the end after SIGTERM", limit, || child.try_wait().ok().flatten());
        if let Some(logging) = self.logging.take() {
            logging.join().ok().context("the thread of its log")?;
        }
        Ok(status)
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let words: Vec<_> = self.args.iter().map(|word| word.to_string_lossy()).collect();
            eprintln!("--- log of magnetar {}\n{}\n---", words.join(" "), self.log().join("\n"));
        }
    }
}

/// What a start that must fail said, as its one line, and its exit code.
pub fn refusal(args: impl IntoIterator<Item = impl Into<OsString>>) -> Result<(String, Option<i32>)> {
    let output =
        Command::new(binary()).args(args.into_iter().map(Into::into)).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let lines = said.lines().filter(|line| line.starts_with("magnetar: "));
    Ok((lines.collect::<Vec<_>>().join("\n"), output.status.code()))
}
