//! Gives space back: unlinks logs without live entries, rewrites those with few, and makes one of many small ones. Told
//! when ledgers were forgotten, and looking by itself now and then. It must never drop an entry that it could not read: a
//! log with such an entry is left as it is.

mod choice;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use magnetar_common::clock::SharedClock;
use tokio::sync::Notify;

use self::choice::{small, sparse};
use crate::background::{Pace, Stop, blocking};
use crate::engine::{CompactError, Compaction, Engine};
use crate::error::FatalError;

/// How often to look without having been told: entries written twice are dead space that nobody deletes.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// After each pass: ledgers deleted one by one must not lead to a checkpoint each.
const PAUSE: Duration = Duration::from_secs(1);

/// Free space that a rewrite leaves alone.
const ROOM_LEFT: u64 = 16 << 20;

/// A log is small below this part of the write cache: an eighth of the logs that a busy bookie writes, which are half of
/// the cache.
pub(crate) const SMALL_PART: u64 = 16;

/// Copied between two looks at the clock.
const STEP_BYTES: u64 = 1 << 20;

/// When and how fast logs are rewritten.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// A log with a smaller share of live bytes is rewritten.
    pub(crate) live_ratio: f64,
    /// Copied at most; 0: nothing is ever rewritten.
    pub(crate) bytes_per_second: u64,
    /// Logs below this size are merged, whatever lives in them.
    pub(crate) small_bytes: u64,
}

/// See the module.
pub(crate) struct Compactor<T> {
    pub(crate) engine: Arc<Engine<T>>,
    pub(crate) clock: SharedClock,
    pub(crate) settings: Settings,
    /// Wakes it: there is space to be had.
    pub(crate) freed: Arc<Notify>,
    pub(crate) stop: Stop,
}

impl<T: Send + 'static> Compactor<T> {
    /// Gives space back until told to stop: then it ends after the step under way, and touches no file any more.
    pub(crate) async fn run(self) {
        let mut unreadable = HashSet::new();
        while !self.stop.requested() {
            tokio::select! {
                () = self.freed.notified() => {}
                () = self.clock.sleep(LOOK_EVERY) => {}
                () = self.stop.wait() => return,
            }
            if let Err(error) = self.pass(&mut unreadable).await {
                self.engine.fail(error);
                return;
            }
            tokio::select! {
                () = self.clock.sleep(PAUSE) => {}
                () = self.stop.wait() => return,
            }
        }
    }

    /// Unlinks and rewrites what there is to. `unreadable` are logs left alone.
    async fn pass(&self, unreadable: &mut HashSet<u64>) -> Result<(), FatalError> {
        let counts = &self.engine.metrics().gc;
        let dropped = blocking(&self.engine, |engine| engine.drop_dead_logs()).await??;
        counts.reclaimed_deletion_bytes.add(dropped);
        while self.settings.bytes_per_second > 0 && !self.stop.requested() {
            let room = blocking(&self.engine, |engine| engine.compaction_room()).await?;
            let room = room.unwrap_or(0).saturating_sub(ROOM_LEFT);
            let mut spaces = self.engine.log_spaces();
            spaces.retain(|space| !unreadable.contains(&space.log));
            let victims = sparse(spaces.clone(), self.settings.live_ratio, room);
            let victims =
                if victims.is_empty() { small(spaces, self.settings.small_bytes, room) } else { victims };
            if victims.is_empty() {
                return Ok(());
            }
            let begun = self.clock.now();
            let rewritten = self.rewrite(&victims).await;
            counts.compaction.ended(self.clock.now() - begun, &rewritten);
            match rewritten {
                Ok(None) => return Ok(()),
                Ok(Some(freed)) => {
                    tracing::info!(?victims, freed, "rewrote entry logs");
                    counts.minor_compactions.add(1);
                    counts.reclaimed_compaction_bytes.add(freed);
                }
                Err(CompactError::Fatal(error)) => return Err(error),
                Err(error) => match error.unreadable_log() {
                    Some(log) => {
                        tracing::error!(log, %error, "an entry log cannot be rewritten");
                        unreadable.insert(log);
                    }
                    None => {
                        tracing::warn!(%error, "cannot rewrite entry logs now");
                        return Ok(());
                    }
                },
            }
        }
        Ok(())
    }

    /// Rewrites these logs as one, no faster than allowed; returns the bytes freed, or nothing when
    /// stopped on the way.
    async fn rewrite(&self, victims: &[u64]) -> Result<Option<u64>, CompactError> {
        let logs = victims.to_vec();
        let mut under_way = blocking(&self.engine, move |engine| engine.begin_compaction(&logs)).await??;
        let mut pace = Pace::new(self.clock.clone(), self.settings.bytes_per_second);
        let step = pace.step(STEP_BYTES);
        loop {
            let copy = move |engine: &Engine<T>| copy_some(engine, under_way, step);
            let (rest, copied) = blocking(&self.engine, copy).await??;
            under_way = rest;
            if copied == 0 {
                let finish = |engine: &Engine<T>| engine.finish_compaction(under_way);
                return Ok(Some(blocking(&self.engine, finish).await??));
            }
            pace.took(copied, &self.stop).await;
            if self.stop.requested() {
                blocking(&self.engine, |engine| engine.abandon_compaction(under_way)).await?;
                return Ok(None);
            }
        }
    }
}

fn copy_some<T: Send + 'static>(
    engine: &Engine<T>,
    mut under_way: Compaction,
    bytes: usize,
) -> Result<(Compaction, u64), CompactError> {
    match engine.copy_some(&mut under_way, bytes) {
        Ok(copied) => Ok((under_way, copied)),
        Err(error) => {
            engine.abandon_compaction(under_way);
            Err(error)
        }
    }
}
