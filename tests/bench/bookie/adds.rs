//! Durable adds against a fresh bookie: rate, latency, and the bookie's CPU time.
//!
//! Called by: the bench's main. Must never know: what the figures are compared with.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use tokio::task::LocalSet;

use super::process::{Cores, Launch, generating};
use super::writer::{Answered, Writer};
use magnetar_tests::usage;

/// Not measured: connections, the first segment and the first flush come into being.
const WARMUP: Duration = Duration::from_secs(2);
const LEDGERS_PER_CONNECTION: u64 = 4;
const LATENCY_MAX_US: u64 = 60_000_000;

/// One line of the table.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) payload_bytes: usize,
    pub(super) connections: u64,
    /// Unanswered adds of one connection.
    pub(super) window: usize,
    pub(super) cores: Cores,
}

pub(super) struct Outcome {
    pub(super) adds_per_second: f64,
    /// Payload, 10^6 bytes.
    pub(super) megabytes_per_second: f64,
    pub(super) latency_us: Histogram<u64>,
    /// Of the bookie.
    pub(super) cpu_seconds_per_million: f64,
}

/// What the answers within the measured span add up to.
struct Recorder {
    from: Instant,
    until: Instant,
    adds: u64,
    latency_us: Histogram<u64>,
}

struct Shared(Rc<RefCell<Recorder>>);

impl Answered for Shared {
    fn answered(&mut self, sent: Instant, now: Instant) {
        let mut recorder = self.0.borrow_mut();
        if now >= recorder.from && now < recorder.until {
            recorder.adds += 1;
            let latency = u64::try_from((now - sent).as_micros()).unwrap_or(u64::MAX);
            recorder.latency_us.saturating_record(latency.max(1));
        }
    }
}

impl Load {
    /// Runs the load for `span` behind a warm-up.
    pub(super) fn run(&self, launch: &Launch, span: Duration) -> Result<Outcome> {
        let bookie = launch.fresh(self.cores)?;
        let outcome = generating(self.cores, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&runtime, self.load(&bookie, span))
        })?;
        bookie.kill()?;
        launch.clear()?;
        Ok(outcome)
    }

    #[expect(clippy::disallowed_methods, reason = "a bench measures the real time")]
    async fn load(&self, bookie: &super::process::Bookie, span: Duration) -> Result<Outcome> {
        let from = Instant::now() + WARMUP;
        let until = from + span;
        let latency_us = Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)?;
        let recorder = Rc::new(RefCell::new(Recorder { from, until, adds: 0, latency_us }));
        let mut writing = Vec::new();
        for connection in 0..self.connections {
            let first = connection * LEDGERS_PER_CONNECTION;
            let ledgers = first..first + LEDGERS_PER_CONNECTION;
            let mut writer =
                Writer::connect(bookie.address(), ledgers, self.payload_bytes, self.window).await?;
            let mut told = Shared(recorder.clone());
            writing.push(tokio::task::spawn_local(async move {
                writer.run(|| Instant::now() < until, &mut told).await
            }));
        }
        tokio::time::sleep_until(from.into()).await;
        let cpu_before = usage::cpu_seconds(bookie.pid())?;
        tokio::time::sleep_until(until.into()).await;
        let cpu_seconds = usage::cpu_seconds(bookie.pid())? - cpu_before;
        for writer in writing {
            writer.await.context("a connection's task")??;
        }
        let recorder = recorder.borrow();
        let adds_per_second = recorder.adds as f64 / span.as_secs_f64();
        Ok(Outcome {
            adds_per_second,
            megabytes_per_second: adds_per_second * self.payload_bytes as f64 / 1e6,
            latency_us: recorder.latency_us.clone(),
            cpu_seconds_per_million: cpu_seconds / recorder.adds as f64 * 1e6,
        })
    }
}
