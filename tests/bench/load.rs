//! One load: a consumer and a producer of `magnetar perf` on a topic of their own.
//!
//! Called by: the bench's main.
//! Must never know: how the table looks.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::server::Server;

/// A line of the table.
pub(crate) struct Load {
    pub(crate) name: &'static str,
    /// Messages a second; None is flat-out.
    pub(crate) rate: Option<u32>,
    pub(crate) batching: bool,
    /// Payload bytes.
    pub(crate) size: u32,
    pub(crate) producers: u32,
}

/// What one side saw.
pub(crate) struct Side {
    pub(crate) messages: f64,
    pub(crate) messages_per_second: f64,
    pub(crate) megabytes_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
}

/// What a load showed.
pub(crate) struct Outcome {
    pub(crate) publish: Side,
    pub(crate) end_to_end: Side,
    pub(crate) cpu_seconds_per_million: f64,
}

impl Load {
    /// Runs for `seconds`. `phase` makes the topic a different one. CPU time covers publishing and receiving.
    pub(crate) fn run(&self, binary: &Path, server: &Server, seconds: u64, phase: &str) -> Result<Outcome> {
        let topic = format!("bench-{}-{phase}", self.name.replace([' ', ','], "-"));
        let consumer = Perf::start(binary, server, &["consume", &topic])?;
        let before = server.cpu_seconds()?;
        let (seconds, size, rate) =
            (seconds.to_string(), self.size.to_string(), self.rate.unwrap_or(0).to_string());
        let producers = self.producers.to_string();
        let mut produce = vec![
            "produce",
            &topic,
            "--duration",
            &seconds,
            "--size",
            &size,
            "--rate",
            &rate,
            "--producers",
            &producers,
        ];
        if !self.batching {
            produce.push("--no-batching");
        }
        let publish = Perf::start(binary, server, &produce)?.finish()?;
        // Interrupted, a consumer ends where it stands: at a fixed rate that is the end of the topic.
        let end_to_end = consumer.interrupt()?;
        let cpu_seconds = server.cpu_seconds()? - before;
        let cpu_seconds_per_million = cpu_seconds / publish.messages * 1e6;
        Ok(Outcome { publish, end_to_end, cpu_seconds_per_million })
    }
}

/// A running `magnetar perf`. Killed when dropped.
struct Perf(Child);

impl Perf {
    /// Starts it, and waits until it works (a consumer: until it is subscribed).
    fn start(binary: &Path, server: &Server, arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new(binary)
            .arg("perf")
            .args(arguments)
            .args(["--json", "--service-url", server.service_url()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start magnetar perf")?;
        let mut stderr = BufReader::new(child.stderr.take().context("piped stderr")?);
        let mut line = String::new();
        stderr.read_line(&mut line)?;
        if line.starts_with("magnetar:") {
            bail!("perf {}: {line}", arguments.join(" "));
        }
        // The rest is a line a second, and must be read so that the pipe never fills.
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                eprintln!("  {line}");
            }
        });
        Ok(Self(child))
    }

    fn interrupt(self) -> Result<Side> {
        kill_process(Pid::from_child(&self.0), Signal::INT)?;
        self.finish()
    }

    /// Waits for the end and reads the summary.
    fn finish(mut self) -> Result<Side> {
        let stdout = self.0.stdout.take().context("piped stdout")?;
        let summary = std::io::read_to_string(stdout)?;
        let status = self.0.wait()?;
        if !status.success() {
            bail!("magnetar perf ended with {status}");
        }
        let summary = serde_json::from_str::<Value>(&summary).context("the summary")?;
        let number = |path: &str| {
            summary.pointer(path).and_then(Value::as_f64).with_context(|| format!("{path} in {summary}"))
        };
        Ok(Side {
            messages: number("/messages")?,
            messages_per_second: number("/messages_per_second")?,
            megabytes_per_second: number("/megabytes_per_second")?,
            p50_ms: number("/latency_ms/p50")?,
            p99_ms: number("/latency_ms/p99")?,
            p999_ms: number("/latency_ms/p99.9")?,
        })
    }
}

impl Drop for Perf {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
