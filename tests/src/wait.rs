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
pub fn until<T>(what: &str, limit: Duration, condition: impl FnMut() -> Option<T>) -> T {
    first_within(limit, condition).unwrap_or_else(|| panic!("{what}: not within {limit:?}"))
}

/// Asks `condition` until it is true, at most for `limit`. For where a panic would wait for threads that never end.
pub fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    first_within(limit, || condition().then_some(())).is_some()
}

#[expect(clippy::disallowed_methods, reason = "a real process is watched in real time")]
fn first_within<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        let value = condition();
        if value.is_some() || Instant::now() >= deadline {
            return value;
        }
        std::thread::sleep(PAUSE);
    }
}
