//! Reads every live entry of every log now and then, so that damage is found while other copies are still good.
//! It must never be felt: it keeps to its rate, and makes at most one pass a day.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use magnetar_common::clock::SharedClock;

use crate::background::{Pace, Stop, blocking};
use crate::engine::Engine;
use crate::error::FatalError;

/// From the beginning of one pass to that of the next, at least.
const PASS_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Before the first pass: whoever has just started has a journal to write to logs and readers whose caches are cold.
const FIRST_AFTER: Duration = Duration::from_secs(300);

/// Read between two looks at the clock.
const STEP_BYTES: u64 = 256 << 10;

/// See the module.
pub(crate) struct Scrubber<T> {
    pub(crate) engine: Arc<Engine<T>>,
    pub(crate) clock: SharedClock,
    /// At most; 0: nothing is read.
    pub(crate) bytes_per_second: u64,
    pub(crate) stop: Stop,
}

impl<T: Send + 'static> Scrubber<T> {
    /// Makes passes until told to stop.
    pub(crate) async fn run(self) {
        if self.bytes_per_second == 0 {
            return;
        }
        let mut next = self.clock.now() + FIRST_AFTER;
        loop {
            tokio::select! {
                () = self.clock.sleep(next.saturating_sub(self.clock.now())) => {}
                () = self.stop.wait() => return,
            }
            next = self.clock.now() + PASS_EVERY;
            // It fails only while the runtime ends.
            if self.pass().await.is_err() {
                return;
            }
        }
    }

    async fn pass(&self) -> Result<(), FatalError> {
        let mut pace = Pace::new(self.clock.clone(), self.bytes_per_second);
        let step = pace.step(STEP_BYTES);
        for log in self.engine.log_ids() {
            let mut scrub = blocking(&self.engine, move |engine| engine.begin_scrub(log)).await?;
            while let Some(mut under_way) = scrub.take() {
                let some = move |engine: &Engine<T>| {
                    let bytes = engine.scrub_some(&mut under_way, step);
                    (under_way, bytes)
                };
                let (rest, bytes) = blocking(&self.engine, some).await?;
                if self.stop.requested() {
                    return Ok(());
                }
                scrub = (bytes > 0).then_some(rest);
                pace.took(bytes, &self.stop).await;
            }
        }
        self.engine.findings.count_scrub_pass();
        Ok(())
    }
}
