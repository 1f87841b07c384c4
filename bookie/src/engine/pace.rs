//! How fast a generation is written to its entry log: spread over half the time that it took to fill.
//!
//! Written in one go it takes a processor and the disk for a tenth of a second, and meanwhile the journal's syncs and
//! whoever answers adds wait. The next generation cannot be full before the other half of that time has passed, unless
//! entries come faster than before; then the flush is asked for again, which ends the waiting.

use std::time::Duration;

/// Written between two waits: long enough that they cost nothing, short enough to be no burst.
const STEP_BYTES: u64 = 1 << 20;

/// However slowly entries come: the journal keeps them until the flush ends.
const SPAN_MAX: Duration = Duration::from_secs(5);

/// The plan of one flush.
#[derive(Debug)]
pub(super) struct Pace {
    begun: Duration,
    span: Duration,
    /// In all.
    bytes: u64,
    written: u64,
    /// What may be written before the next wait.
    until: u64,
}

impl Pace {
    /// For `bytes` that came in `filled_in`.
    pub(super) fn new(now: Duration, filled_in: Duration, bytes: u64) -> Self {
        Pace { begun: now, span: (filled_in / 2).min(SPAN_MAX), bytes, written: 0, until: STEP_BYTES }
    }

    /// Notes that `bytes` more go to the log; gives the time before which no more should, if a step is done.
    pub(super) fn wrote(&mut self, bytes: usize) -> Option<Duration> {
        self.written += bytes as u64;
        if self.written < self.until {
            return None;
        }
        self.until = self.written + STEP_BYTES;
        let part = (self.written as f64 / self.bytes as f64).min(1.0);
        Some(self.begun + self.span.mul_f64(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_flush_takes_half_the_time_in_which_its_entries_came() {
        let now = Duration::from_secs(100);
        let mut pace = Pace::new(now, Duration::from_secs(2), 4 * MIB);
        let mut due = Vec::new();
        for _ in 0..4 * 1024 {
            due.extend(pace.wrote(1024));
        }
        let after: Vec<u128> = due.iter().map(|due| (*due - now).as_millis()).collect();
        assert_eq!(after, [250, 500, 750, 1000]);
    }

    #[test]
    fn what_came_slowly_does_not_wait_in_the_journal_for_long() {
        let mut pace = Pace::new(Duration::ZERO, Duration::from_secs(3600), 2 * MIB);
        assert_eq!(pace.wrote(2 * MIB as usize), Some(SPAN_MAX));
    }
}
