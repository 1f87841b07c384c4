//! How much waits for a bookie, and for how long.
//!
//! Memory is bounded in two steps. What is not acknowledged yet is the caller's to bound, by one budget for all it
//! publishes; copies of that wait at every bookie, but share their bytes. What is acknowledged is held on to only by
//! bookies that are slower than an ack quorum: so much of it as [`Load::lag_bytes_max`] a bookie, and then its adds fail.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// What the writers of a client have in flight together.
#[derive(Debug)]
pub(crate) struct Load {
    /// Bytes of all entries that are not acknowledged, each counted once.
    in_flight: AtomicUsize,
    lag_bytes_max: usize,
}

impl Load {
    pub(crate) fn new(lag_bytes_max: usize) -> Self {
        Self { in_flight: AtomicUsize::new(0), lag_bytes_max }
    }

    /// A writer's part of what is in flight has changed.
    pub(crate) fn change(&self, from: usize, to: usize) {
        // Wraps around as often as it wraps back.
        self.in_flight.fetch_add(to.wrapping_sub(from), Ordering::Relaxed);
    }

    /// More than this of one bookie's is unanswered only if it lags behind the others by more than is allowed.
    fn unanswered_max(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed).saturating_add(self.lag_bytes_max)
    }
}

/// How quick the adds of one connection are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AddTimes {
    /// Adds answered so far, and what they took together.
    pub(crate) answered: u64,
    pub(crate) took: Duration,
    /// Adds wait, and this is when the last answer came, or the first of them was queued.
    pub(crate) waiting_since: Option<Duration>,
}

/// The adds of one connection that have no outcome yet, queued or sent.
#[derive(Debug, Default)]
pub(super) struct Adds {
    bytes: AtomicUsize,
    answered: AtomicU64,
    took_us: AtomicU64,
    progress_us: AtomicU64,
}

impl Adds {
    /// Counts an add in; false when this bookie is too far behind. It must be released in either case.
    pub(super) fn take(&self, bytes: usize, load: &Load, now: impl FnOnce() -> Duration) -> bool {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before == 0 {
            self.on_progress(now());
        }
        before + bytes <= load.unanswered_max()
    }

    pub(super) fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn on_answer(&self, sent: Duration, now: Duration) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.took_us.fetch_add(micros(now.saturating_sub(sent)), Ordering::Relaxed);
    }

    pub(super) fn on_progress(&self, now: Duration) {
        self.progress_us.store(micros(now), Ordering::Relaxed);
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn progress(&self) -> Duration {
        Duration::from_micros(self.progress_us.load(Ordering::Relaxed))
    }

    pub(super) fn times(&self) -> AddTimes {
        AddTimes {
            answered: self.answered.load(Ordering::Relaxed),
            took: Duration::from_micros(self.took_us.load(Ordering::Relaxed)),
            waiting_since: (self.bytes() > 0).then(|| self.progress()),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bookie_may_lag_by_so_much_behind_what_is_acknowledged_and_no_more() {
        let (load, adds) = (Load::new(100), Adds::default());
        let take = |bytes| adds.take(bytes, &load, || Duration::ZERO);
        // However much is in flight: while nothing is acknowledged, no bookie is behind.
        load.change(0, 1_000);
        assert!(take(1_000));
        load.change(1_000, 500);
        load.change(500, 0);
        assert!(!take(1), "all of it is acknowledged elsewhere");
        adds.release(1);
        adds.release(950);
        assert!(take(50));
        assert!(!take(1));
    }

    #[test]
    fn adds_wait_since_the_last_answer_or_the_first_of_them() {
        let (load, adds, ms) = (Load::new(100), Adds::default(), Duration::from_millis(1));
        assert_eq!(adds.times().waiting_since, None);
        adds.take(1, &load, || ms);
        adds.take(1, &load, || ms * 2);
        assert_eq!(adds.times().waiting_since, Some(ms));
        adds.on_progress(ms * 5);
        adds.on_answer(ms, ms * 5);
        adds.release(1);
        assert_eq!(adds.times(), AddTimes { answered: 1, took: ms * 4, waiting_since: Some(ms * 5) });
    }
}
