//! Getting entries from the replicas of a ledger: many with one request where the ledger's layout and the bookie allow it,
//! from a second replica when the first is slow, and from the next when a copy is damaged or missing.

use crate::bad_replicas::BadReplica;
use crate::client::Client;
use crate::error::LedgerError;
use crate::metadata;
use crate::protocol::hedged::{HedgedRead, Miss, Step, slots_in_order};
use crate::protocol::quorum::Quorum;
use crate::view::View;
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use magnetar_proto::bookkeeper::entry::{BodyHeader, Digest};
use magnetar_proto::bookkeeper::metadata_format::LedgerMetadata;
use magnetar_proto::bookkeeper::v2::Flags;
use magnetar_proto::bookkeeper::{BookieId, Code};
use magnetar_proto::ids::{EntryId, LedgerId};
use std::sync::Arc;
use std::time::Duration;

/// The longest answer that is asked for: what a bookie reads with a few disk accesses, and a buffer that is not held for
/// long by the one entry of it that a consumer still needs.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Entries of one answer.
const BATCH_ENTRIES_MAX: u64 = 8_192;
/// What an entry takes in an answer besides its payload, with the longest digest.
const BODY_OVERHEAD: usize = 64;
/// Entries asked for one by one at once: enough to hide the round trip, few enough for a bookie's queues.
const SINGLES_MAX: u64 = 256;
/// What is asked for first one by one: should the entries be far larger than expected, little too much is in memory.
const SINGLES_MIN: u64 = 16;

/// Consecutive entries that are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) first: EntryId,
    pub(crate) last: EntryId,
    /// Of payload. At least one entry is given all the same.
    pub(crate) bytes: usize,
}

/// An entry whose digest is right.
type Opened = (BodyHeader, Bytes);

/// Where the entries of a ledger come from.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) client: Client,
    pub(crate) id: LedgerId,
    pub(crate) quorum: Quorum,
    pub(crate) digest: Digest,
    /// Shared with the writer of an open ledger.
    pub(crate) view: Arc<View>,
}

impl Source {
    /// What is wanted, as far as the bytes go, each entry checked by its digest. Fails only if not even the first entry can
    /// be had. Cancel-safe.
    pub(crate) async fn read(&self, wanted: Wanted) -> Result<Vec<(EntryId, Bytes)>, LedgerError> {
        let mut entries: Vec<(EntryId, Bytes)> = Vec::new();
        let (mut bytes, mut next) = (0, wanted.first);
        let mut singles = SINGLES_MIN;
        while entries.is_empty() || (next <= wanted.last && bytes < wanted.bytes) {
            let average = match entries.len() {
                0 => self.average_entry_bytes(),
                count => bytes / count,
            };
            let rest = Wanted { first: next, last: wanted.last, bytes: wanted.bytes.saturating_sub(bytes) };
            let mut run = self.next_run(rest, average, singles).await;
            if let Err(error) = &run
                && self.is_elsewhere(error).await?
            {
                run = self.next_run(rest, average, singles).await;
            }
            let run = match run {
                Ok(run) => run,
                Err(error) if entries.is_empty() => return Err(error),
                // What follows is asked for again by the next read, which then reports the error.
                Err(_) => break,
            };
            for (header, payload) in run {
                assert_eq!(header.entry_id, next, "entries are given in order");
                if !entries.is_empty() && bytes + payload.len() > wanted.bytes {
                    return Ok(entries);
                }
                bytes += payload.len();
                entries.push((next, payload));
                next = next.next();
            }
            singles = (singles * 4).min(SINGLES_MAX);
        }
        Ok(entries)
    }

    /// One entry with its header.
    pub(crate) async fn read_one(&self, entry: EntryId) -> Result<Opened, LedgerError> {
        let read = self.single(entry).await;
        match &read {
            Err(error) if self.is_elsewhere(error).await? => self.single(entry).await,
            _ => read,
        }
    }

    async fn single(&self, entry: EntryId) -> Result<Opened, LedgerError> {
        let run = self.run(entry, 1, 0).await?;
        run.into_iter().next().ok_or(LedgerError::NoSuchEntry(self.id, entry))
    }

    /// Whether a read has failed by a record that is not the newest: re-replication may have moved what it looked for. Then
    /// the newest is the one to go by from now on. An entry is neither absent nor unreadable before this has been asked.
    async fn is_elsewhere(&self, failure: &LedgerError) -> Result<bool, LedgerError> {
        let unreadable = matches!(failure, LedgerError::Unreadable { .. });
        if !unreadable && !matches!(failure, LedgerError::NoSuchEntry(..)) {
            return Ok(false);
        }
        let fresh = match metadata::read(self.client.metadata_store(), self.id).await {
            Ok(fresh) => fresh.metadata,
            // What is wrong with the replicas stays true, and says more.
            Err(LedgerError::Metadata(_)) if unreadable => return Ok(false),
            Err(error) => return Err(error),
        };
        let changed = self.view.record().segments != fresh.segments;
        if changed {
            self.view.set_record(fresh);
        }
        Ok(changed)
    }

    /// At least one entry from the start of what is wanted.
    async fn next_run(
        &self,
        wanted: Wanted,
        average: usize,
        singles: u64,
    ) -> Result<Vec<Opened>, LedgerError> {
        let Wanted { first, last, bytes } = wanted;
        let left = last.0.saturating_sub(first.0) + 1;
        // Each bookie has all entries only if none is left out.
        if self.quorum.ensemble() == self.quorum.write() {
            return self.run(first, left.min(BATCH_ENTRIES_MAX), bytes).await;
        }
        let fitting = (bytes / average.max(1)) as u64;
        let count = left.min(fitting).min(singles).max(1);
        let mut run = Vec::new();
        for read in join_all((first.0..first.0 + count).map(|entry| self.single(EntryId(entry)))).await {
            match read {
                Ok(opened) => run.push(opened),
                Err(error) if run.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(run)
    }

    /// Up to `count` entries that have the same replicas; at least one.
    async fn run(&self, first: EntryId, count: u64, bytes: usize) -> Result<Vec<Opened>, LedgerError> {
        let record = self.view.record();
        let count = count.min(entries_in_segment(&record, first));
        let ensemble = record.ensemble_of(first);
        let pool = self.client.pool();
        let clock = &self.client.env().clock;
        let batch = count > 1;
        let slots = self.slots(first, ensemble);
        let mut read = HedgedRead::new(slots, clock.now(), &mut pool.speculation(batch));
        let mut asked = FuturesUnordered::new();
        let mut reason = String::new();
        loop {
            let step = read.poll(clock.now(), &mut pool.speculation(batch));
            match step {
                Step::Ask(slot) => asked.push(self.ask(&ensemble[slot], first, count, bytes)),
                Step::NoSuchEntry => return Err(LedgerError::NoSuchEntry(self.id, first)),
                Step::Unreadable => {
                    return Err(LedgerError::Unreadable { ledger: self.id, entry: first, reason });
                }
                Step::Wait(until) => tokio::select! {
                    biased;
                    Some(answer) = asked.next() => match answer {
                        Ok(run) => return Ok(run),
                        Err((miss, why)) => {
                            reason = why;
                            read.on_miss(miss);
                        }
                    },
                    () = self.sleep_until(until) => {}
                },
            }
        }
    }

    /// The slots that keep an entry in the order of asking: bookies that are slow, failed lately or are not registered come
    /// last.
    fn slots(&self, entry: EntryId, ensemble: &[BookieId]) -> Vec<usize> {
        let mut slots = slots_in_order(self.quorum, entry, self.id);
        let bookies = self.client.directory().now();
        slots.sort_by_key(|slot| {
            let bookie = &ensemble[*slot];
            !bookies.is_registered(bookie) || self.client.pool().is_distrusted(bookie)
        });
        slots
    }

    /// Asks one bookie.
    async fn ask(
        &self,
        bookie: &BookieId,
        first: EntryId,
        count: u64,
        bytes: usize,
    ) -> Result<Vec<Opened>, (Miss, String)> {
        let pool = self.client.pool();
        let clock = &self.client.env().clock;
        let begun = clock.now();
        let may_batch = |now| pool.batches(bookie, |support| support.may_ask(now));
        if count > 1 && may_batch(begun) {
            let wire_bytes = bytes.saturating_add(count as usize * BODY_OVERHEAD).min(BATCH_BYTES_MAX);
            let (count_max, bytes_max) =
                (i32::try_from(count).unwrap_or(i32::MAX), i64::try_from(wire_bytes).unwrap_or(i64::MAX));
            let answer = pool.reading(bookie).read_batch(self.id, first, count_max, bytes_max).await;
            let now = clock.now();
            match &answer {
                Some((Code::BadRequest | Code::BadVersion, _)) => pool.batches(bookie, |s| s.on_refusal(now)),
                Some(_) => pool.batches(bookie, |support| support.on_answer()),
                None => pool.batches(bookie, |support| support.on_silence(now)),
            }
            if may_batch(now) {
                let (code, bodies) =
                    answer.ok_or_else(|| (Miss::Unreadable, format!("{bookie}: no answer")))?;
                pool.speculation(true).on_answer(now.saturating_sub(begun));
                return self.open(bookie, first, count, code, bodies);
            }
            // It does not know such requests: asked one by one it may well have the entries.
        }
        // The connection that a bookie has closed on a batch rests for a moment, the other one does not.
        let connection = if may_batch(clock.now()) { pool.reading(bookie) } else { pool.get(bookie) };
        let fitting = (bytes / self.average_entry_bytes().max(1)) as u64;
        let count = count.min(fitting).clamp(1, SINGLES_MAX / 4);
        let reads = (first.0..first.0 + count)
            .map(|entry| connection.read(self.id, Some(EntryId(entry)), Flags::NONE, None));
        let (mut bodies, mut end) = (Vec::new(), None);
        for answer in join_all(reads).await {
            match answer {
                Some((Code::Ok, Some(body))) if end.is_none() => bodies.push(body),
                other => drop(end.get_or_insert(other.map(|(code, _)| code))),
            }
        }
        let code = match (bodies.is_empty(), end) {
            (true, Some(Some(code))) => code,
            (true, _) => return Err((Miss::Unreadable, format!("{bookie}: no answer"))),
            (false, _) => Code::Ok,
        };
        pool.speculation(false).on_answer(clock.now().saturating_sub(begun));
        self.open(bookie, first, count, code, bodies)
    }

    /// Checks what a bookie gave, up to the first copy that is damaged: that one is reported, and asked for elsewhere.
    fn open(
        &self,
        bookie: &BookieId,
        first: EntryId,
        count: u64,
        code: Code,
        bodies: Vec<Bytes>,
    ) -> Result<Vec<Opened>, (Miss, String)> {
        match code {
            Code::Ok => {}
            Code::NoEntry | Code::NoLedger => return Err((Miss::Absent, format!("{bookie}: {code:?}"))),
            _ => return Err((Miss::Unreadable, format!("{bookie}: {code:?}"))),
        }
        let mut run = Vec::with_capacity(bodies.len());
        for (body, entry) in bodies.into_iter().zip((first.0..first.0 + count).map(EntryId)) {
            match self.digest.open(body, self.id, Some(entry)) {
                Ok(opened) => run.push(opened),
                Err(error) => {
                    let reason = error.to_string();
                    let miss = format!("{bookie}: {reason}");
                    self.client.report_bad(BadReplica {
                        ledger: self.id,
                        entry: Some(entry),
                        bookie: bookie.clone(),
                        reason,
                    });
                    if run.is_empty() {
                        return Err((Miss::Unreadable, miss));
                    }
                    break;
                }
            }
        }
        if run.is_empty() { Err((Miss::Unreadable, format!("{bookie}: an empty answer"))) } else { Ok(run) }
    }

    async fn sleep_until(&self, until: Option<Duration>) {
        let clock = &self.client.env().clock;
        match until {
            Some(until) => clock.sleep(until.saturating_sub(clock.now())).await,
            None => std::future::pending().await,
        }
    }

    fn average_entry_bytes(&self) -> usize {
        let count = self.view.last_entry().map_or(1, |last| last.0 + 1);
        usize::try_from(self.view.length() / count).unwrap_or(usize::MAX)
    }
}

/// How many entries from `first` on have the same ensemble.
fn entries_in_segment(record: &LedgerMetadata, first: EntryId) -> u64 {
    let next = record.segments.range(first.next()..).next();
    next.map_or(u64::MAX, |(start, _)| start.0 - first.0)
}
