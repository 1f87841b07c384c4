//! One load by Apache BookKeeper's client, and what the server spent on it.
//!
//! Called by: the runner of `bench peer`. Must never treat one server differently from another.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdout, Stdio};

use anyhow::{Context, Result, bail};

use super::apache;
use super::server::Server;

/// The client's own collector and memory: enough that it is not what limits the load.
const CLIENT_JVM: &[&str] = &["-Xms512m", "-Xmx512m", "-XX:+UseParallelGC"];

/// Adds to one ledger on one bookie.
pub(super) struct Load {
    /// `v2` or `v3`.
    pub(super) version: &'static str,
    pub(super) payload_bytes: u32,
    pub(super) in_flight: u32,
    /// Of the load that is measured, and of the one before it that is not.
    pub(super) seconds: u32,
}

/// What one run showed.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) adds_per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// User and system time of the server's process.
    pub(super) cpu_seconds_per_million: f64,
    /// Resident memory of the server after the load.
    pub(super) rss_mb: f64,
}

pub(super) struct Client<'a> {
    pub(super) java: &'a Path,
    pub(super) scratch: &'a Path,
}

impl Client<'_> {
    /// Runs the load from a new process. Server time is counted from when the client is warm.
    pub(super) fn run(&self, load: &Load, server: &Server) -> Result<Outcome> {
        let metadata = self.scratch.join("client-metadata");
        fs::create_dir_all(&metadata)?;
        let uri = format!("files:{}?bookies={}", metadata.display(), server.address());
        let log = self.scratch.join("client.log");
        let mut child = apache::jvm(self.java, CLIENT_JVM, &log)?
            .args(["magnetar.Main", "load", &uri, load.version])
            .args([load.payload_bytes, load.in_flight, load.seconds, load.seconds].map(|n| n.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the client")?;
        let mut answers = child.stdin.take().context("piped stdin")?;
        let mut lines = BufReader::new(child.stdout.take().context("piped stdout")?);
        if line(&mut lines)? != "MEASURE" {
            bail!("the client failed, {}:\n{}", child.wait()?, fs::read_to_string(log)?);
        }
        let before = server.cpu_seconds()?;
        writeln!(answers, "done")?;
        let measured = line(&mut lines)?;
        let cpu_seconds = server.cpu_seconds()? - before;
        let status = child.wait()?;
        let fields = measured.split(' ').skip(1).map(str::parse).collect::<Result<Vec<f64>, _>>();
        let Ok([adds, seconds, p50_us, p99_us]) = fields.as_deref() else {
            bail!("the client said {measured:?}, {status}:\n{}", fs::read_to_string(log)?);
        };
        Ok(Outcome {
            adds_per_second: adds / seconds,
            p50_ms: p50_us / 1e3,
            p99_ms: p99_us / 1e3,
            cpu_seconds_per_million: cpu_seconds * 1e6 / adds,
            rss_mb: server.rss_mb()?,
        })
    }
}

fn line(lines: &mut BufReader<ChildStdout>) -> Result<String> {
    let mut line = String::new();
    lines.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}
