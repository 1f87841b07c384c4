//! One number for how much work a bundle is.

use crate::namespace::BundleStats;

/// What a bundle costs although nobody uses it: so bundles without load spread too.
pub const BUNDLE_LOAD: f64 = 1.0;
/// Messages a second, in and out, that count as much as an unused bundle.
const MESSAGES: f64 = 1_000.0;
/// Bytes a second.
const BYTES: f64 = 1_048_576.0;
/// Topics in memory.
const TOPICS: f64 = 100.0;

/// Never below [`BUNDLE_LOAD`], and finite whatever a report says.
pub fn bundle_load(stats: &BundleStats) -> f64 {
    let part = |value: f64, unit: f64| if value.is_finite() { value.max(0.0) / unit } else { 0.0 };
    BUNDLE_LOAD
        + part(stats.msg_rate_in + stats.msg_rate_out, MESSAGES)
        + part(stats.msg_throughput_in + stats.msg_throughput_out, BYTES)
        + part(stats.topics as f64, TOPICS)
}
