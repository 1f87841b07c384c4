//! What perf measures: counts, bytes and latency histograms, and how they are told.
//!
//! Called by: both sides of perf.
//! Must never know: where latencies come from, or the clock.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies above this are counted as this: one hour.
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;
/// Three significant digits: an error of 0.1 % for 0.5 MB a histogram.
const DIGITS: u8 = 3;

/// Counts of one span of time.
#[derive(Clone)]
pub(super) struct Recorder {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) errors: u64,
    latency_ns: Histogram<u64>,
}

impl Recorder {
    pub(super) fn new() -> Self {
        let latency_ns =
            Histogram::new_with_bounds(1, LATENCY_MAX_NS, DIGITS).expect("constant bounds are valid");
        Self { messages: 0, bytes: 0, errors: 0, latency_ns }
    }

    /// Counts one message of `bytes` payload; `latency_ns` is None where the time it was sent is not known.
    pub(super) fn record(&mut self, bytes: u64, latency_ns: Option<u64>) {
        self.messages += 1;
        self.bytes += bytes;
        if let Some(latency_ns) = latency_ns {
            self.latency_ns.saturating_record(latency_ns.max(1));
        }
    }

    /// Adds all of `other`.
    pub(super) fn merge(&mut self, other: &Recorder) {
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.latency_ns.add(&other.latency_ns).expect("all recorders have the same bounds");
    }

    fn clear(&mut self) {
        (self.messages, self.bytes, self.errors) = (0, 0, 0);
        self.latency_ns.reset();
    }

    /// The figures of a span that took `span`.
    pub(super) fn figures(&self, span: Duration) -> Figures {
        let seconds = span.as_secs_f64().max(1e-9);
        let at = |quantile: f64| self.latency_ns.value_at_quantile(quantile) as f64 / 1e6;
        let latency_ms = (!self.latency_ns.is_empty()).then(|| LatencyMs {
            mean: self.latency_ns.mean() / 1e6,
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: self.latency_ns.max() as f64 / 1e6,
        });
        Figures {
            messages: self.messages,
            bytes: self.bytes,
            errors: self.errors,
            seconds,
            messages_per_second: self.messages as f64 / seconds,
            megabytes_per_second: self.bytes as f64 / 1e6 / seconds,
            latency_ms,
        }
    }
}

/// A recorder that one worker fills while the reporter empties it; the lock is held for a batch at most.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Recorder>>);

impl Shared {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Recorder::new())))
    }

    /// Lets `work` record.
    pub(super) fn with(&self, work: impl FnOnce(&mut Recorder)) {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Moves what was recorded since the last call into `target`.
    pub(super) fn drain_into(&self, target: &mut Recorder) {
        self.with(|recorder| {
            target.merge(recorder);
            recorder.clear();
        });
    }
}

/// Final figures; their JSON form is what scripts read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figures {
    pub(super) messages: u64,
    /// Payload bytes, without metadata.
    pub(super) bytes: u64,
    pub(super) errors: u64,
    pub(super) seconds: f64,
    pub(super) messages_per_second: f64,
    /// 10^6 payload bytes a second.
    pub(super) megabytes_per_second: f64,
    /// None if no latency was recorded.
    pub(super) latency_ms: Option<LatencyMs>,
}

/// Latency in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct LatencyMs {
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    #[serde(rename = "p99.9")]
    pub(super) p999: f64,
    pub(super) max: f64,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} messages in {:.1} s, {:.0} msg/s, {:.2} MB/s",
            self.messages, self.seconds, self.messages_per_second, self.megabytes_per_second
        )?;
        if let Some(ms) = &self.latency_ms {
            let LatencyMs { mean, p50, p99, p999, max } = ms;
            write!(f, "; latency ms: mean {mean:.3} p50 {p50:.3} p99 {p99:.3} p99.9 {p999:.3} max {max:.3}")?;
        }
        match self.errors {
            0 => Ok(()),
            errors => write!(f, "; {errors} errors"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_come_from_counts_and_the_span() {
        let mut recorder = Recorder::new();
        for message in 1..=1000 {
            recorder.record(1000, Some(message * 1_000_000));
        }
        let figures = recorder.figures(Duration::from_secs(2));
        assert_eq!((figures.messages, figures.bytes), (1000, 1_000_000));
        assert_eq!((figures.messages_per_second, figures.megabytes_per_second), (500.0, 0.5));
        let latency = figures.latency_ms.unwrap();
        for (value, expected) in
            [(latency.p50, 500.0), (latency.p99, 990.0), (latency.p999, 999.0), (latency.max, 1000.0)]
        {
            assert!((value - expected).abs() <= expected * 0.001, "{value} is not {expected}");
        }
    }

    #[test]
    fn draining_moves_every_message_once() {
        let (shared, mut total) = (Shared::new(), Recorder::new());
        for _ in 0..2 {
            shared.with(|recorder| recorder.record(10, Some(5)));
            shared.drain_into(&mut total);
        }
        shared.drain_into(&mut total);
        assert_eq!((total.messages, total.bytes), (2, 20));
    }

    #[test]
    fn without_latencies_there_are_none_in_the_figures() {
        let mut recorder = Recorder::new();
        recorder.record(1, None);
        let figures = recorder.figures(Duration::ZERO);
        assert_eq!(figures.latency_ms, None);
        assert!(figures.messages_per_second.is_finite());
    }

    #[test]
    fn an_absurd_latency_is_counted_at_the_bound() {
        let mut recorder = Recorder::new();
        recorder.record(1, Some(u64::MAX));
        recorder.record(1, Some(0));
        assert_eq!(recorder.figures(Duration::from_secs(1)).messages, 2);
    }

    #[test]
    fn the_json_names_are_a_contract() {
        let mut recorder = Recorder::new();
        recorder.record(1, Some(1_000_000));
        let json = serde_json::to_value(recorder.figures(Duration::from_secs(1))).unwrap();
        for key in
            ["/messages", "/messages_per_second", "/megabytes_per_second", "/latency_ms/p99.9", "/errors"]
        {
            assert!(json.pointer(key).is_some(), "{key} is missing in {json}");
        }
    }
}
