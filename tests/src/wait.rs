//! Waiting for another process: there is no watch to wait on, so a condition is asked again until it holds.

use std::time::{Duration, Instant};

/// How often a condition is asked. Short, because most conditions hold at once; never a stand-in for one.
const PAUSE: Duration = Duration::from_millis(10);

/// Waits between two looks at something that only real time changes.
#[expect(clippy::disallowed_methods, reason = "a real process is watched in real time")]
pub fn pause(pause: Duration) {
    std::thread::sleep(pause);
}

/// Asks `condition` until it gives a value, and panics with `what` after `limit`.
#[expect(clippy::disallowed_methods, reason = "a real process is watched in real time")]
pub fn until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        std::thread::sleep(PAUSE);
    }
}
