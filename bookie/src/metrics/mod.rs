//! Counts what the bookie does, and tells it as Prometheus reads it, under BookKeeper's names where the meaning is the
//! same. Every part of the bookie adds to it; the HTTP port asks for the text.
//! It must never cost the hot path more than a few relaxed atomic additions a batch, and never wait for a lock that a
//! request holds.

mod distribution;
mod gauges;
mod gc;
mod journal;
mod server;
mod storage;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use magnetar_common::clock::SharedClock;

use self::distribution::Distribution;
pub(crate) use self::gauges::{DirGauges, Gauges, ServerStatus};
pub(crate) use self::server::{Asked, Counts};
use self::text::Text;

/// A number that only grows.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Something that is done, and may fail: how often, and how long it took.
#[derive(Default)]
pub(crate) struct Operation {
    succeeded: Distribution,
    failed: Distribution,
}

impl Operation {
    /// Counts `times` successes that took `elapsed` each.
    pub(crate) fn succeeded(&self, elapsed: Duration, times: u64) {
        self.succeeded.record(micros(elapsed), times);
    }

    /// Counts `times` failures after `elapsed` each.
    pub(crate) fn failed(&self, elapsed: Duration, times: u64) {
        self.failed.record(micros(elapsed), times);
    }

    /// Counts one of either.
    pub(crate) fn ended<T, E>(&self, elapsed: Duration, result: &Result<T, E>) {
        match result {
            Ok(_) => self.succeeded(elapsed, 1),
            Err(_) => self.failed(elapsed, 1),
        }
    }
}

/// Sizes or counts of what is done in portions.
#[derive(Default)]
pub(crate) struct Sizes(Distribution);

impl Sizes {
    pub(crate) fn record(&self, size: u64) {
        self.0.record(size, 1);
    }
}

fn micros(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}

/// Everything that is counted; shared by all parts of one bookie.
pub(crate) struct Metrics {
    clock: SharedClock,
    pub(crate) server: server::Server,
    pub(crate) journal: journal::Journal,
    pub(crate) storage: storage::Storage,
    pub(crate) gc: gc::Gc,
}

impl Metrics {
    pub(crate) fn new(clock: SharedClock) -> Arc<Self> {
        Arc::new(Metrics {
            clock,
            server: server::Server::default(),
            journal: journal::Journal::default(),
            storage: storage::Storage::default(),
            gc: gc::Gc::default(),
        })
    }

    /// The time that durations are measured with.
    pub(crate) fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Everything as Prometheus' text format, version 0.0.4.
    pub(crate) fn render(&self, gauges: &Gauges) -> String {
        let mut text = Text::new(self.now());
        gauges.write(&mut text);
        self.server.write(&mut text);
        self.journal.write(&mut text);
        self.storage.write(&mut text);
        self.gc.write(&mut text);
        text.finish()
    }
}
