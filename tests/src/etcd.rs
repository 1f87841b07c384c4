//! An etcd cluster of a test's own, on free ports, with its data in temporary directories.
//!
//! The program is named by MAGNETAR_ETCD (`tests/run` sets it) or found in PATH.

use crate::process::free_ports;
use crate::site::Site;
use crate::{http, wait};
use anyhow::{Context, Result};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// A start with its election takes about a second on an idle machine; each of its many syncs may take one on a busy disk.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// The etcd program, or why there is none.
pub fn program() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("MAGNETAR_ETCD").map(PathBuf::from) {
        return if path.is_file() { Ok(path) } else { Err(format!("{} is no file", path.display())) };
    }
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&dirs).map(|dir| dir.join("etcd")).find(|path| path.is_file());
    found.ok_or_else(|| "no etcd in PATH, and MAGNETAR_ETCD names none (run tests/run)".into())
}

/// A running cluster. Killed when dropped.
pub struct Etcd {
    members: Vec<Member>,
    scheme: &'static str,
}

struct Member {
    program: PathBuf,
    words: Vec<String>,
    dir: TempDir,
    site: Site,
    /// `host:port` for clients.
    address: String,
    child: Child,
}

impl Etcd {
    /// Starts an empty cluster of one member and waits until it serves.
    pub fn start(program: PathBuf) -> Result<Self> {
        Self::start_with(program, "http", &[])
    }

    /// Like [`start`](Self::start), with clients on `scheme` and further flags.
    pub fn start_with(program: PathBuf, scheme: &'static str, flags: &[String]) -> Result<Self> {
        Self::start_at(program, &[Site::local()], scheme, flags)
    }

    /// Like [`start_with`](Self::start_with), with a member on each site.
    pub fn start_at(
        program: PathBuf,
        sites: &[Site],
        scheme: &'static str,
        flags: &[String],
    ) -> Result<Self> {
        let ports = sites.iter().map(|_| free_ports()).collect::<Result<Vec<_>>>()?;
        let at: Vec<_> = sites.iter().zip(ports).enumerate().collect();
        let peer_url = |(number, (site, (_, peer))): &(usize, (&Site, (u16, u16)))| {
            format!("test{number}=http://{}:{peer}", site.address)
        };
        let all = at.iter().map(peer_url).collect::<Vec<_>>().join(",");
        let start = |(number, (site, (client, peer))): (usize, (&Site, (u16, u16)))| {
            let address = format!("{}:{client}", site.address);
            let (client, peer) = (format!("{scheme}://{address}"), format!("http://{}:{peer}", site.address));
            let words = format!(
                "--name test{number} --listen-client-urls {client} --advertise-client-urls {client} \
                 --listen-peer-urls {peer} --initial-advertise-peer-urls {peer} --initial-cluster {all} \
                 --logger zap --log-outputs stderr"
            );
            let words = words.split(' ').map(str::to_owned).chain(flags.iter().cloned()).collect();
            Member::start(program.clone(), words, site.clone(), address)
        };
        let members = at.into_iter().map(start).collect::<Result<_>>()?;
        let mut etcd = Self { members, scheme };
        etcd.members.iter_mut().for_each(|member| member.wait_until_it_serves(scheme));
        Ok(etcd)
    }

    /// `host:port` of the first member, for clients.
    pub fn address(&self) -> String {
        self.members[0].address.clone()
    }

    /// As `--metadata` takes it.
    pub fn url(&self) -> String {
        let urls = self.members.iter().map(|member| format!("{}://{}", self.scheme, member.address));
        format!("etcd:{}", urls.collect::<Vec<_>>().join(","))
    }

    /// SIGKILL for all members, and waits for their end.
    pub fn kill(&mut self) -> Result<()> {
        self.members.iter_mut().try_for_each(Member::kill)
    }

    /// Starts all members again over the same data, on the same ports.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.members.iter_mut().try_for_each(Member::spawn_again)?;
        self.members.iter_mut().for_each(|member| member.wait_until_it_serves(self.scheme));
        Ok(())
    }

    /// SIGKILL for one member.
    pub fn kill_member(&mut self, number: usize) -> Result<()> {
        self.members[number].kill()
    }

    /// Starts a killed member again.
    pub fn restart_member(&mut self, number: usize) -> Result<()> {
        self.members[number].spawn_again()?;
        self.members[number].wait_until_it_serves(self.scheme);
        Ok(())
    }

    /// The member that leads.
    pub fn leader(&self) -> Option<usize> {
        self.members
            .iter()
            .position(|member| member.metric("etcd_server_is_leader").is_ok_and(|value| value == 1.0))
    }

    /// The sum of a metric over its labels and all members that answer.
    pub fn metric(&self, name: &str) -> f64 {
        self.members.iter().filter_map(|member| member.metric(name).ok()).sum()
    }
}

impl Member {
    fn start(program: PathBuf, words: Vec<String>, site: Site, address: String) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let child = spawn(&program, &words, &dir, &site)?;
        Ok(Self { program, words, dir, site, address, child })
    }

    fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn spawn_again(&mut self) -> Result<()> {
        self.child = spawn(&self.program, &self.words, &self.dir, &self.site)?;
        Ok(())
    }

    /// Its port takes connections from the start, but nobody reads from them before it has joined its cluster. Over TLS
    /// only the port is looked at.
    fn wait_until_it_serves(&mut self, scheme: &str) {
        wait::until("an answer from etcd", READY_LIMIT, || {
            if let Ok(Some(status)) = self.child.try_wait() {
                let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                panic!("etcd ended ({status}); its log:\n{log}");
            }
            match scheme {
                "http" => http::get(&format!("http://{}/version", self.address)).map(drop).ok(),
                _ => TcpStream::connect(&self.address).map(drop).ok(),
            }
        });
    }

    fn metric(&self, name: &str) -> Result<f64> {
        let answer = http::get(&format!("http://{}/metrics", self.address))?;
        let value = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let value = rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next())??;
            value.parse::<f64>().ok()
        };
        Ok(answer.body.lines().filter_map(value).sum())
    }
}

fn spawn(program: &PathBuf, words: &[String], dir: &TempDir, site: &Site) -> Result<Child> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.path().join("log"))?;
    site.command(program)
        .arg("--data-dir")
        .arg(dir.path().join("data"))
        .args(words)
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
