//! Prometheus' text format 0.0.4. Not OpenMetrics: there every counter's name must end in `_total`, which BookKeeper's do
//! not, and published dashboards ask for its summaries with their quantiles.

use std::fmt::{Display, Write};
use std::time::Duration;

use super::distribution::Distribution;
use super::{Counter, Operation, Sizes};

/// Upstream's.
const QUANTILES: [f64; 7] = [0.5, 0.75, 0.95, 0.99, 0.999, 0.9999, 1.0];

/// Durations are counted in microseconds and told, as upstream does, in milliseconds.
const MICROS_PER_MILLI: f64 = 1000.0;

/// Names and values of a sample's labels.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

pub(super) struct Text {
    out: String,
    now: Duration,
}

impl Text {
    pub(super) fn new(now: Duration) -> Self {
        Text { out: String::with_capacity(64 << 10), now }
    }

    pub(super) fn finish(self) -> String {
        self.out
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, labels: Labels<'_>, value: &Counter) {
        self.head(name, "counter", help);
        self.sample(name, "", labels, value.get());
    }

    /// A counter that somebody else keeps.
    pub(super) fn count(&mut self, name: &str, help: &str, labels: Labels<'_>, value: u64) {
        self.head(name, "counter", help);
        self.sample(name, "", labels, value);
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, labels: Labels<'_>, value: impl Display) {
        self.head(name, "gauge", help);
        self.sample(name, "", labels, value);
    }

    /// Times in milliseconds, by success.
    pub(super) fn operation(&mut self, name: &str, help: &str, labels: Labels<'_>, value: &Operation) {
        self.head(name, "summary", help);
        for (success, distribution) in [("false", &value.failed), ("true", &value.succeeded)] {
            self.summary(name, labels, success, distribution, MICROS_PER_MILLI);
        }
    }

    /// Plain numbers; upstream counts them as successes.
    pub(super) fn sizes(&mut self, name: &str, help: &str, labels: Labels<'_>, value: &Sizes) {
        self.head(name, "summary", help);
        self.summary(name, labels, "true", &value.0, 1.0);
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn summary(
        &mut self,
        name: &str,
        labels: Labels<'_>,
        success: &str,
        values: &Distribution,
        per_unit: f64,
    ) {
        let mut all = vec![("success", success)];
        all.extend_from_slice(labels);
        let quantiles = values.quantiles(QUANTILES, self.now);
        for (at, quantile) in QUANTILES.iter().enumerate() {
            let value = quantiles.map_or(f64::NAN, |values| values[at] as f64 / per_unit);
            // Upstream writes the last one as 1.0.
            let quantile = format!("{quantile:?}");
            let labels = [&all[..], &[("quantile", &quantile)]].concat();
            self.sample(name, "", &labels, value);
        }
        self.sample(name, "_count", &all, values.count());
        self.sample(name, "_sum", &all, values.sum() as f64 / per_unit);
    }

    fn sample(&mut self, name: &str, suffix: &str, labels: Labels<'_>, value: impl Display) {
        self.write(format_args!("{name}{suffix}"));
        for (at, (label, value)) in labels.iter().enumerate() {
            let opening = if at == 0 { '{' } else { ',' };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            self.write(format_args!("{opening}{label}=\"{value}\""));
        }
        let closing = if labels.is_empty() { "" } else { "}" };
        self.write(format_args!("{closing} {value}\n"));
    }

    fn write(&mut self, what: std::fmt::Arguments<'_>) {
        self.out.write_fmt(what).expect("a string takes everything");
    }
}
