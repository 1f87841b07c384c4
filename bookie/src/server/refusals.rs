//! Connections that are refused by the dozen for one reason: told once in a while, not each.

use std::sync::Mutex;
use std::time::Duration;

/// Between two lines.
const EVERY: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// When the last line was written, and how many refusals it did not count.
    state: Mutex<(Option<Duration>, u64)>,
}

impl Refusals {
    /// One more; `Some` when it is time to tell, with how many there were since the last time.
    pub(super) fn count(&self, now: Duration) -> Option<u64> {
        let mut state = self.state.lock().expect("nothing panics while counting");
        state.1 += 1;
        if state.0.is_some_and(|last| now < last + EVERY) {
            return None;
        }
        state.0 = Some(now);
        Some(std::mem::take(&mut state.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_others_together_once_a_minute() {
        let refusals = Refusals::default();
        let at = |second| refusals.count(Duration::from_secs(second));
        assert_eq!([at(5), at(6), at(64)], [Some(1), None, None]);
        assert_eq!([at(65), at(66), at(200)], [Some(3), None, Some(2)]);
    }
}
