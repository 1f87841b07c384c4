//! Keeps copying below a rate: takes times and sizes, gives pauses.

use std::time::Duration;

/// How far ahead of its rate the work may run: one window of entries does not have to wait for itself.
const BURST: Duration = Duration::from_millis(250);

/// Bytes a second, as debt paid off by time.
#[derive(Debug)]
pub struct Pace {
    /// 0: no limit.
    per_second: u64,
    /// When everything taken so far would have been done at the rate.
    paid_at: Duration,
}

impl Pace {
    /// `per_second` 0 is no limit.
    pub fn new(per_second: u64) -> Self {
        Self { per_second, paid_at: Duration::ZERO }
    }

    /// Takes note of work that was done, and tells how long to wait before the next. What was not used in the past is lost
    /// but for a short burst.
    pub fn done(&mut self, now: Duration, amount: u64) -> Duration {
        if self.per_second == 0 {
            return Duration::ZERO;
        }
        let cost = Duration::from_secs_f64(amount as f64 / self.per_second as f64);
        self.paid_at = self.paid_at.max(now.saturating_sub(BURST)) + cost;
        self.paid_at.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_held_to_its_rate_however_it_is_portioned() {
        for portion in [1_000, 100_000, 2_500_000] {
            let mut pace = Pace::new(1_000_000);
            let mut now = Duration::from_secs(100);
            for _ in 0..10_000_000 / portion {
                now += pace.done(now, portion);
            }
            let took = now - Duration::from_secs(100);
            assert!(took <= Duration::from_secs(10) && took >= Duration::from_millis(9_700), "{took:?}");
        }
    }

    #[test]
    fn idle_time_is_not_saved_up_and_no_limit_never_waits() {
        let mut pace = Pace::new(1000);
        assert_eq!(pace.done(Duration::from_secs(1000), 1000), Duration::from_millis(750));
        assert_eq!(Pace::new(0).done(Duration::ZERO, u64::MAX), Duration::ZERO);
    }
}
