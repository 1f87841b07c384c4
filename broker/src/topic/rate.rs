//! Counters with a rate, without a timer: the rate is computed when somebody asks.

use std::time::Duration;

/// Length of the window a rate is taken over, at least: shorter ones jump about, Pulsar's are a minute.
const WINDOW: Duration = Duration::from_secs(10);

/// A counter of messages and bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rate {
    pub messages: u64,
    pub bytes: u64,
    /// Starts of the two latest windows; the rate is over both, so that it never rests on a few milliseconds.
    previous: Mark,
    current: Mark,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    at: Duration,
    messages: u64,
    bytes: u64,
}

impl Rate {
    pub(crate) fn new(now: Duration) -> Self {
        let start = Mark { at: now, ..Mark::default() };
        Rate { messages: 0, bytes: 0, previous: start, current: start }
    }

    pub(crate) fn add(&mut self, messages: u64, bytes: usize) {
        self.messages += messages;
        self.bytes += bytes as u64;
    }

    /// Messages and bytes per second.
    pub(crate) fn per_second(&mut self, now: Duration) -> (f64, f64) {
        if now.saturating_sub(self.current.at) >= WINDOW {
            self.previous = self.current;
            self.current = Mark { at: now, messages: self.messages, bytes: self.bytes };
        }
        let seconds = now.saturating_sub(self.previous.at).as_secs_f64();
        if seconds < 0.001 {
            return (0.0, 0.0);
        }
        (
            (self.messages - self.previous.messages) as f64 / seconds,
            (self.bytes - self.previous.bytes) as f64 / seconds,
        )
    }

    pub(crate) fn average_size(&self) -> f64 {
        if self.messages == 0 { 0.0 } else { self.bytes as f64 / self.messages as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_falls_to_zero_when_nothing_happens() {
        let mut rate = Rate::new(Duration::ZERO);
        rate.add(100, 1_000);
        assert_eq!(rate.per_second(Duration::from_secs(10)), (10.0, 100.0));
        assert_eq!(rate.per_second(Duration::from_secs(20)), (0.0, 0.0));
        assert_eq!((rate.messages, rate.average_size()), (100, 10.0));
    }
}
