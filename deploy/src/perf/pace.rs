//! When each message is due at a fixed rate, and a timer exact enough to send it then.
//!
//! Called by: the producing side of perf.
//! Must never know: whether sending keeps up. The schedule never shifts because of a slow system: that is what makes
//! latencies measured from it free of coordinated omission.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Nanoseconds of the system's real-time clock: read by producer and consumer, which may be two processes.
/// A load generator measures the real world, so this is not the simulated clock of the servers.
pub(super) fn unix_nanos() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// A fixed-rate schedule: message `n` is due at `start + n / rate`.
#[derive(Debug)]
pub(super) struct Schedule {
    start_ns: u64,
    rate: f64,
    taken: u64,
}

impl Schedule {
    /// `rate` in messages a second, above 0; the first message is due at `start_ns`.
    pub(super) fn new(start_ns: u64, rate: f64) -> Self {
        Self { start_ns, rate, taken: 0 }
    }

    /// When the next message is due.
    pub(super) fn next_due_ns(&self) -> u64 {
        self.start_ns + (self.taken as f64 * 1e9 / self.rate) as u64
    }

    /// Takes the next message if it is due at `now_ns`, and tells when it was due.
    pub(super) fn take(&mut self, now_ns: u64) -> Option<u64> {
        let due_ns = self.next_due_ns();
        (due_ns <= now_ns).then(|| {
            self.taken += 1;
            due_ns
        })
    }
}

/// A kernel timer with microseconds of slack, where the runtime's own timer has a millisecond.
pub(super) struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    /// Must be called inside the runtime.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "safe for an OwnedFd, whose descriptor can neither change nor be closed early"
        )]
        let registered = AsyncFd::with_interest(timer, Interest::READABLE)?;
        Ok(Self(registered))
    }

    /// Waits `delay`; cancel-safe, a later call starts anew.
    pub(super) async fn wait(&self, delay: Duration) -> io::Result<()> {
        if delay.is_zero() {
            return Ok(());
        }
        let value = Timespec { tv_sec: delay.as_secs() as i64, tv_nsec: i64::from(delay.subsec_nanos()) };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.0.readable().await?;
            // An expiry of an earlier, cancelled wait is not readable any more after the timer was set again.
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0_u8; 8])?));
            match read {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_not_yet) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_evenly_whatever_the_pace_of_the_caller() {
        let mut schedule = Schedule::new(1_000, 4.0);
        assert_eq!(schedule.take(999), None);
        assert_eq!(schedule.take(1_000), Some(1_000));
        assert_eq!(schedule.take(1_000), None);
        // A stall of two seconds: all eight messages that were due come at once, each with its own due time.
        let late = std::iter::from_fn(|| schedule.take(2_000_001_000)).collect::<Vec<_>>();
        assert_eq!(late.len(), 8);
        assert_eq!(late[0], 250_001_000);
        assert_eq!(late[7], 2_000_001_000);
    }

    #[tokio::test]
    async fn the_timer_fires_again_after_a_cancelled_wait() {
        let timer = Timer::new().unwrap();
        let cancelled = tokio::time::timeout(Duration::ZERO, timer.wait(Duration::from_secs(60))).await;
        assert!(cancelled.is_err());
        timer.wait(Duration::from_micros(50)).await.unwrap();
        timer.wait(Duration::from_micros(50)).await.unwrap();
    }
}
