//! One add at a time beside one fdatasync of as many bytes at a time, in short turns: a disk's latency changes from one
//! moment to the next by more than what is measured, and adds of 64 KiB one behind the other are no small load, whose flushes
//! to entry logs both have to see. The time of the bare write before the sync is left out.
//!
//! A client that sleeps until its answer is there measures its own waking, too, which on a virtual machine may take as long
//! as all that the bookie does; one that spins measures the bookie alone, on the processor that is left.
//!
//! Called by: the bench's main. Must never know: what the figures are compared with.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;

use super::probe::{SYNC_BLOCK, Syncs};
use super::process::{Bookie, Cores, Launch};
use super::writer::{Answered, Writer};
use magnetar_tests::usage;

/// How often they take turns, and for how long each: a flush lasts for several.
const TURNS: u64 = 800;
const TURN: Duration = Duration::from_millis(25);
/// Added before, as fast as it goes: the journal comes to write over segments that it wrote before, as it does for all of
/// its life but the first quarter of a gigabyte.
const WARMUP_BYTES: usize = 512 << 20;
const WARMUP_WINDOW_BYTES: usize = 2 << 20;
/// And one at a time: the flush of all that comes to its end.
const WARMUP: Duration = Duration::from_secs(2);

/// Microseconds each.
pub(super) struct Outcome {
    pub(super) syncs: Histogram<u64>,
    pub(super) adds: Histogram<u64>,
    /// Of the bookie.
    pub(super) cpu_us_per_add: f64,
}

struct Recorder(Histogram<u64>);

impl Answered for Recorder {
    fn answered(&mut self, sent: Instant, now: Instant) {
        self.0.saturating_record(((now - sent).as_micros() as u64).max(1));
    }
}

/// How the client waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    Sleeps,
    Spins,
}

/// Adds of `payload_bytes` to a fresh bookie.
pub(super) fn run(launch: &Launch, payload_bytes: usize, waiting: Waiting) -> Result<Outcome> {
    let bookie = launch.fresh(Cores::Shared)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(take_turns(&bookie, launch, payload_bytes, waiting))?;
    bookie.kill()?;
    launch.clear()?;
    Ok(outcome)
}

async fn warm_up(bookie: &Bookie, payload_bytes: usize) -> Result<()> {
    let window = WARMUP_WINDOW_BYTES / payload_bytes;
    let mut writer = Writer::connect(bookie.address(), [1], payload_bytes, window).await?;
    let left = Cell::new(WARMUP_BYTES / payload_bytes);
    writer.run(|| left.get() > 0, &mut Countdown(&left)).await
}

struct Countdown<'a>(&'a Cell<usize>);

impl Answered for Countdown<'_> {
    fn answered(&mut self, _: Instant, _: Instant) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures the real time")]
async fn take_turns(
    bookie: &Bookie,
    launch: &Launch,
    payload_bytes: usize,
    waiting: Waiting,
) -> Result<Outcome> {
    warm_up(bookie, payload_bytes).await?;
    let block_bytes = payload_bytes.next_multiple_of(SYNC_BLOCK);
    let mut syncs = Syncs::begin(&launch.directory.join("probe"), block_bytes)?;
    let mut writer = Writer::connect(bookie.address(), [0], payload_bytes, 1).await?;
    if waiting == Waiting::Spins {
        writer.spin();
    }
    let empty = || Histogram::new_with_bounds(1, 60_000_000, 3);
    let mut warm = Recorder(empty()?);
    let end = Instant::now() + WARMUP;
    writer.run(|| Instant::now() < end, &mut warm).await?;
    let (mut took, mut adds) = (empty()?, Recorder(empty()?));
    let cpu_before = usage::cpu_seconds(bookie.pid())?;
    for _ in 0..TURNS / 2 {
        let end = Instant::now() + TURN;
        while Instant::now() < end {
            took.saturating_record(syncs.next_us()?);
        }
        let end = Instant::now() + TURN;
        writer.run(|| Instant::now() < end, &mut adds).await?;
    }
    let cpu_seconds = usage::cpu_seconds(bookie.pid())? - cpu_before;
    let cpu_us_per_add = cpu_seconds * 1e6 / adds.0.len() as f64;
    Ok(Outcome { syncs: took, adds: adds.0, cpu_us_per_add })
}
