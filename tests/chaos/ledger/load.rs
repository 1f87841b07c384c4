//! One writer that always has some entries in flight, what it sees, and whether a reader finds all of it.

use super::PATIENCE;
use anyhow::{Result, bail};
use bytes::Bytes;
use hdrhistogram::Histogram;
use magnetar_common::clock::{Clock, SystemClock};
use magnetar_ledger::{Client, Event, LedgerOptions, Reader, Writer};
use magnetar_proto::ids::EntryId;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const PAYLOAD_BYTES: usize = 1024;
/// A writer that has room waits so long for what is due next.
const TICK: Duration = Duration::from_millis(1);

/// Worth being told of.
const LONG_GAP: Duration = Duration::from_millis(100);

/// As a topic's ledger is.
pub(super) fn options() -> LedgerOptions {
    LedgerOptions {
        ensemble: 3,
        write_quorum: 3,
        ack_quorum: 2,
        password: Bytes::new(),
        custom: BTreeMap::new(),
    }
}

/// The bytes of an entry follow from its id.
pub(super) fn payload(entry: u64) -> Bytes {
    let mut bytes = vec![0; PAYLOAD_BYTES];
    for (word, chunk) in bytes.chunks_exact_mut(8).enumerate() {
        let value = entry.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ word as u64;
        chunk.copy_from_slice(&value.to_le_bytes());
    }
    bytes.into()
}

/// How hard a writer is driven.
#[derive(Clone, Copy)]
pub(super) struct Load {
    /// Entries in flight at most.
    pub(super) window: usize,
    /// Entries appended each second at most; after a pause it catches up. `None`: as many as the window lets through.
    pub(super) per_second: Option<u32>,
}

impl Load {
    /// How many entries are due `since` the start.
    fn due(&self, since: Duration) -> u64 {
        let Some(per_second) = self.per_second else { return u64::MAX };
        u64::try_from(since.as_micros() * u128::from(per_second) / 1_000_000).unwrap_or(u64::MAX)
    }
}

/// What a writer saw.
pub(super) struct Seen {
    /// Entries that were acknowledged.
    pub(super) acknowledged: u64,
    /// From append to acknowledgement, in ms.
    pub(super) latency_ms: Histogram<u64>,
    /// The longest time without any acknowledgement in each period, in ms.
    pub(super) gaps_ms: Histogram<u64>,
    /// When after the start a gap of [`LONG_GAP`] or more ended, and how long it was.
    pub(super) long_gaps: Vec<(Duration, Duration)>,
    /// Acknowledgements in each period.
    pub(super) per_period: Vec<u64>,
}

/// Writes for `span`; `acknowledged` rises as it goes. Looks at it in periods of `period`.
pub(super) async fn write(
    writer: &mut Writer,
    load: Load,
    span: Duration,
    period: Duration,
    acknowledged: &Arc<AtomicU64>,
) -> Result<Seen> {
    let clock = SystemClock::default();
    let mut seen = Seen {
        acknowledged: 0,
        latency_ms: Histogram::new(3)?,
        gaps_ms: Histogram::new(3)?,
        long_gaps: Vec::new(),
        per_period: Vec::new(),
    };
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut in_flight = VecDeque::new();
    let (mut next, mut last_news) = (0, clock.now());
    let (mut period_end, mut period_gap, mut period_count) = (clock.now() + period, Duration::ZERO, 0);
    let (start, end) = (clock.now(), clock.now() + span);
    while clock.now() < end || !in_flight.is_empty() {
        while in_flight.len() < load.window && clock.now() < end && next < load.due(clock.now() - start) {
            writer.append(payload(next))?;
            in_flight.push_back(clock.now());
            next += 1;
        }
        let full = in_flight.len() >= load.window || clock.now() >= end;
        let event = tokio::time::timeout(if full { PATIENCE } else { TICK }, writer.next()).await;
        let now = clock.now();
        let last = match event {
            Ok(Event::Confirmed { last }) => last,
            Ok(Event::Failed(error)) => bail!("the writer failed: {error}"),
            Err(_) if now - last_news < PATIENCE => continue,
            Err(_) => bail!("no acknowledgement for {PATIENCE:?}"),
        };
        let gap = now - last_news;
        if gap >= LONG_GAP {
            seen.long_gaps.push((now - start, gap));
        }
        period_gap = period_gap.max(gap);
        last_news = now;
        while seen.acknowledged <= last.0 {
            let Some(sent) = in_flight.pop_front() else { bail!("{last} was never sent") };
            seen.latency_ms.saturating_record(ms(now - sent));
            seen.acknowledged += 1;
            period_count += 1;
        }
        acknowledged.store(seen.acknowledged, Ordering::Relaxed);
        if now >= period_end {
            seen.gaps_ms.saturating_record(ms(period_gap));
            seen.per_period.push(std::mem::take(&mut period_count));
            (period_end, period_gap) = (now + period, Duration::ZERO);
        }
    }
    Ok(seen)
}

/// Reads and compares all entries up to `count`, which must be the ledger's.
pub(super) async fn compare(reader: &Reader, count: u64) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    // A panic: whoever tries again what failed must not try this again.
    assert!(reader.last_entry() >= Some(EntryId(count - 1)), "lost: {:?} of {count}", reader.last_entry());
    let mut next = 0;
    while next < count {
        let read = reader.read(EntryId(next), EntryId(count - 1), 1 << 20);
        for (id, read) in tokio::time::timeout(PATIENCE * 2, read).await?? {
            assert!(id == EntryId(next) && read == payload(next), "entry {id} is not what was written");
            next += 1;
        }
    }
    Ok(())
}

/// Takes the ledger over and compares it, as whoever comes after a crash.
pub(super) async fn recover_and_compare(client: &Client, writer: Writer, count: u64) -> Result<()> {
    let id = writer.id();
    drop(writer);
    let reader = tokio::time::timeout(PATIENCE * 2, client.recover(id, b"")).await??;
    compare(&reader, count).await
}
