//! How values spread: count, sum, and quantiles of the last minute or two, from buckets that are never more than an
//! eighth wide. Adding is three relaxed atomic additions; only asking for quantiles takes a lock, which nothing else takes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets in each doubling: the relative error of a quantile is at most one in this.
const STEPS: u64 = 8;
const STEPS_LOG2: u32 = STEPS.ilog2();

/// Values from 2^40 on (13 days in microseconds, a tebibyte) count into the last bucket.
const OCTAVES: u32 = 40;
const BUCKETS: usize = ((OCTAVES - STEPS_LOG2 + 1) as u64 * STEPS) as usize;

/// Quantiles are taken over at least this long, once the bookie has run for it, and at most twice as long between
/// regular scrapes.
const WINDOW: Duration = Duration::from_secs(60);

pub(super) struct Distribution {
    buckets: [AtomicU64; BUCKETS],
    count: AtomicU64,
    sum: AtomicU64,
    marks: Mutex<Marks>,
}

/// Where the buckets stood before: `older` is at least [`WINDOW`] before `newer`.
#[derive(Default)]
struct Marks {
    older: Option<Mark>,
    newer: Option<Mark>,
}

struct Mark {
    at: Duration,
    buckets: Box<[u64; BUCKETS]>,
}

impl Default for Distribution {
    fn default() -> Self {
        Distribution {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            count: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            marks: Mutex::default(),
        }
    }
}

fn bucket_of(value: u64) -> usize {
    if value < STEPS {
        return value as usize;
    }
    let octave = value.ilog2();
    if octave >= OCTAVES {
        return BUCKETS - 1;
    }
    let step = (value >> (octave - STEPS_LOG2)) & (STEPS - 1);
    (u64::from(octave - STEPS_LOG2 + 1) * STEPS + step) as usize
}

/// The largest value of a bucket.
fn top_of(bucket: usize) -> u64 {
    let (octave, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    match octave {
        0 => step,
        _ => ((STEPS + step + 1) << (octave - 1)) - 1,
    }
}

impl Distribution {
    /// Counts `value`, `times` times.
    pub(super) fn record(&self, value: u64, times: u64) {
        if times == 0 {
            return;
        }
        self.buckets[bucket_of(value)].fetch_add(times, Ordering::Relaxed);
        self.count.fetch_add(times, Ordering::Relaxed);
        self.sum.fetch_add(value.saturating_mul(times), Ordering::Relaxed);
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    /// The values below which these shares of the recent values lie; `None` when there was none.
    pub(super) fn quantiles<const N: usize>(&self, shares: [f64; N], now: Duration) -> Option<[u64; N]> {
        let mut recent: Box<[u64; BUCKETS]> = Box::new([0; BUCKETS]);
        for (recent, bucket) in recent.iter_mut().zip(&self.buckets) {
            *recent = bucket.load(Ordering::Relaxed);
        }
        let mut marks = self.marks.lock().expect("nothing panics while holding the marks");
        if marks.newer.as_ref().is_none_or(|newer| now.saturating_sub(newer.at) >= WINDOW) {
            marks.older = marks.newer.take();
            marks.newer = Some(Mark { at: now, buckets: recent.clone() });
        }
        if let Some(older) = &marks.older {
            for (recent, before) in recent.iter_mut().zip(older.buckets.iter()) {
                *recent -= before;
            }
        }
        let total: u64 = recent.iter().sum();
        (total > 0).then(|| shares.map(|share| value_at(&recent, (share * total as f64).ceil() as u64)))
    }
}

/// The value that `rank` values reach up to, counted from the lowest.
fn value_at(buckets: &[u64; BUCKETS], rank: u64) -> u64 {
    let mut seen = 0;
    let reaches = |count: &u64| {
        seen += count;
        seen >= rank.max(1)
    };
    buckets.iter().position(reaches).map_or(0, top_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_no_bucket_is_wider_than_an_eighth() {
        for value in (0..5000).chain((3..63).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1])) {
            let bucket = bucket_of(value);
            if value < 1 << OCTAVES {
                let top = top_of(bucket);
                assert!(top >= value && top - value <= value / STEPS, "{value} has top {top}");
                assert_eq!(bucket_of(top), bucket);
                assert_eq!(bucket_of(top + 1), (bucket + 1).min(BUCKETS - 1));
            } else {
                assert_eq!(bucket, BUCKETS - 1);
            }
        }
    }

    #[test]
    fn quantiles_follow_what_happened_lately_while_count_and_sum_go_on() {
        let at = Duration::from_secs;
        let values = Distribution::default();
        assert_eq!(values.quantiles([0.5], at(0)), None);
        values.record(2, 90);
        values.record(7, 10);
        values.record(9, 0);
        assert_eq!(values.quantiles([0.5, 0.9, 0.91, 1.0], at(1)), Some([2, 2, 7, 7]));
        values.record(5, 1000);
        assert_eq!(values.quantiles([0.01, 0.5], at(60)), Some([2, 5]), "everything so far");
        assert_eq!(values.quantiles([0.01], at(119)), Some([2]), "since the mark at the start");
        assert_eq!(values.quantiles([0.5], at(120)), None, "nothing since the mark a minute ago");
        values.record(6, 1);
        assert_eq!(values.quantiles([0.01, 1.0], at(121)), Some([6, 6]));
        assert_eq!((values.count(), values.sum()), (1101, 180 + 70 + 5000 + 6));
    }
}
