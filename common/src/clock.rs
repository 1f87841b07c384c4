//! Time behind a trait, so that logic can be driven by a test's hand.

use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

/// A clock shared by all parts of a role.
pub type SharedClock = Arc<dyn Clock>;

/// Monotonic time for decisions, wall time for records.
pub trait Clock: Send + Sync + 'static {
    /// Time since an arbitrary start; never goes back. Every decision (timeouts, ages within a process) uses this.
    fn now(&self) -> Duration;
    /// Milliseconds since the Unix epoch; may jump. Only for values that outlive the process.
    fn unix_ms(&self) -> u64;
    /// Resolves once `duration` has passed. Cancel-safe: dropping it forgets the timer.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// The machine's clock, with tokio's timer.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
    fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that sleeps")]
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A clock that a test moves by hand. Starts at zero, with a wall clock of its own.
#[derive(Debug, Default)]
pub struct ManualClock {
    state: Mutex<ManualState>,
}

#[derive(Debug, Default)]
struct ManualState {
    now: Duration,
    next_timer: u64,
    /// Sleepers by the time they wake, then by order of arrival.
    timers: BTreeMap<(Duration, u64), oneshot::Sender<()>>,
}

/// The wall clock of a [`ManualClock`] at its start: 2026-01-01.
const MANUAL_UNIX_MS: u64 = 1_767_225_600_000;

impl ManualClock {
    /// A clock at zero.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Moves time forwards and wakes every sleeper whose time has come, earliest first.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.now += by;
        let first_later = (state.now, u64::MAX);
        let later = state.timers.split_off(&first_later);
        for (_, waker) in std::mem::replace(&mut state.timers, later) {
            let _ = waker.send(());
        }
    }

    /// How many sleepers wait.
    pub fn sleepers(&self) -> usize {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .timers
            .values()
            .filter(|t| !t.is_closed())
            .count()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).now
    }

    fn unix_ms(&self) -> u64 {
        MANUAL_UNIX_MS + u64::try_from(self.now().as_millis()).unwrap_or(0)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if duration.is_zero() {
            return Box::pin(async {});
        }
        let (waker, woken) = oneshot::channel();
        state.next_timer += 1;
        let key = (state.now + duration, state.next_timer);
        state.timers.insert(key, waker);
        Box::pin(async move {
            // The sender is dropped only with the clock itself: then nobody waits for anything any more.
            if woken.await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_only_those_whose_time_has_come() {
        let clock = ManualClock::new();
        let soon = clock.sleep(Duration::from_secs(1));
        let mut late = clock.sleep(Duration::from_secs(2));
        clock.advance(Duration::from_secs(1));
        soon.await;
        assert!(futures_util::FutureExt::now_or_never(&mut late).is_none());
        clock.advance(Duration::from_secs(1));
        late.await;
        assert_eq!(clock.now(), Duration::from_secs(2));
    }
}
