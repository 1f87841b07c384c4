//! Reads from bookies for one subscription, when the tail cache does not go back far enough.
//!
//! They run as tasks of their own and report to the actor, which goes on meanwhile. At most two are under way per
//! subscription: one ahead of the read position, one for entries to be replayed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use magnetar_proto::checksum::crc32c;
use magnetar_proto::ids::{EntryId, Position};
use magnetar_proto::pulsar::entry::headers_and_payload;
use magnetar_proto::pulsar::message::{Summary, summarize_entry};

use super::compaction::Compacted;
use super::event::Events;
use super::request::Name;
use super::tail_cache::Entry;
use crate::managed_ledger::MlReader;

/// Entries of one read: keeps a subscription with tiny messages from taking the reader for long.
const ENTRIES_MAX: usize = 1_000;

/// Pause after a failed read. The ledger client has tried every bookie by then.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a read task reports.
pub(crate) struct ReadDone {
    pub subscription: Name,
    token: u64,
    /// `None`: ahead of the read position. Otherwise the entries to be replayed which turned out not to exist.
    missing: Option<Vec<Position>>,
    from: Position,
    up_to: Position,
    result: Result<Vec<Entry>, String>,
}

/// Where entries are read.
#[derive(Clone)]
pub(crate) enum Entries {
    Topic(MlReader),
    Compacted(Compacted),
}

impl Entries {
    async fn read(
        &self,
        from: Position,
        entries_max: usize,
        bytes_max: usize,
        up_to: Position,
    ) -> Result<Vec<(Position, Bytes)>, String> {
        match self {
            Entries::Topic(reader) => {
                reader.read(from, entries_max, bytes_max, up_to).await.map_err(|error| error.to_string())
            }
            Entries::Compacted(compacted) => {
                compacted.read(from, entries_max, bytes_max).await.map_err(|error| error.to_string())
            }
        }
    }
}

/// How reads are made: the same for all subscriptions of a topic.
pub(crate) struct Source {
    pub reader: Entries,
    pub done: Events,
    /// Last durable entry, or the last one that was compacted.
    pub up_to: Position,
    pub bytes_max: usize,
}

/// The next entry at or after a position.
pub(crate) enum Ahead {
    Entry(Entry),
    /// Nothing there up to the given position.
    NothingUpTo(Position),
    /// A read is under way, or is to be tried again later.
    Wait,
}

/// Bounded by `bytes_max` ahead, and as much again for replays, plus one entry each.
pub(crate) struct Reads {
    subscription: Name,
    /// Results of reads begun under another token are void.
    token: u64,
    ahead: VecDeque<Entry>,
    ahead_bytes: usize,
    /// A read ahead found nothing from the first to the second position.
    nothing: Option<(Position, Position)>,
    reading_ahead: bool,
    replay: BTreeMap<Position, Entry>,
    reading_replay: bool,
    retry_at: Option<Duration>,
}

impl Reads {
    /// `serial` is unique among all subscriptions this topic ever had since it was loaded.
    pub(crate) fn new(subscription: Name, serial: u32) -> Self {
        Reads {
            subscription,
            token: u64::from(serial) << 32,
            ahead: VecDeque::new(),
            ahead_bytes: 0,
            nothing: None,
            reading_ahead: false,
            replay: BTreeMap::new(),
            reading_replay: false,
            retry_at: None,
        }
    }

    /// Forgets everything read and to be read: the read position moved back.
    pub(crate) fn clear(&mut self) {
        let serial = (self.token >> 32) as u32;
        let token = self.token + 1;
        *self = Reads { token, ..Reads::new(self.subscription.clone(), serial) };
    }

    pub(crate) fn pending(&self) -> (bool, bool) {
        (self.reading_ahead, self.reading_replay)
    }

    /// When a failed read is to be tried again.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.retry_at
    }

    pub(crate) fn on_timer(&mut self, now: Duration) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
    }

    /// The entry at or after `position` (which only ever rises between two calls of `clear`), reading it if needed.
    pub(crate) fn ahead(&mut self, position: Position, source: &Source) -> Ahead {
        while let Some(entry) = self.ahead.front()
            && entry.position < position
        {
            self.ahead_bytes -= entry.bytes.len();
            self.ahead.pop_front();
        }
        if let Some((from, up_to)) = self.nothing
            && from <= position
            && position <= up_to
        {
            return Ahead::NothingUpTo(up_to);
        }
        let next = self.ahead.back().map_or(position, |last| after(last.position));
        if self.ahead_bytes < source.bytes_max / 2 && next <= source.up_to {
            self.read_ahead(next, source);
        }
        match self.ahead.front() {
            Some(entry) => Ahead::Entry(entry.clone()),
            None => Ahead::Wait,
        }
    }

    fn read_ahead(&mut self, from: Position, source: &Source) {
        if self.reading_ahead || self.retry_at.is_some() {
            return;
        }
        self.reading_ahead = true;
        let (subscription, token) = (self.subscription.clone(), self.token);
        let (reader, done) = (source.reader.clone(), source.done.clone());
        let (up_to, bytes_max) = (source.up_to, source.bytes_max / 2);
        tokio::spawn(async move {
            let result = reader.read(from, ENTRIES_MAX, bytes_max, up_to).await;
            let result = result.map(parse_all);
            // The topic may be gone by now.
            done.tell(ReadDone { subscription, token, missing: None, from, up_to, result });
        });
    }

    /// An entry read for replay.
    pub(crate) fn replayed(&mut self, position: Position) -> Option<&Entry> {
        self.replay.get(&position)
    }

    pub(crate) fn forget(&mut self, position: Position) {
        self.replay.remove(&position);
    }

    /// Reads entries for replay; `wanted` is sorted and not empty.
    pub(crate) fn read_replay(&mut self, wanted: Vec<Position>, source: &Source) {
        if self.reading_replay || self.retry_at.is_some() {
            return;
        }
        let Some((&from, &up_to)) = wanted.first().zip(wanted.last()) else { return };
        self.replay.clear();
        self.reading_replay = true;
        let (subscription, token) = (self.subscription.clone(), self.token);
        let (reader, done, bytes_max) = (source.reader.clone(), source.done.clone(), source.bytes_max);
        tokio::spawn(async move {
            let (missing, result) = match read_scattered(reader, wanted, bytes_max).await {
                Ok((entries, missing)) => (missing, Ok(entries)),
                Err(error) => (Vec::new(), Err(error)),
            };
            done.tell(ReadDone { subscription, token, missing: Some(missing), from, up_to, result });
        });
    }

    /// Takes a result. Returns entries for replay that do not exist any longer.
    pub(crate) fn on_done(&mut self, done: ReadDone, now: Duration) -> Vec<Position> {
        if done.token != self.token {
            return Vec::new();
        }
        match done.missing {
            None => self.reading_ahead = false,
            Some(_) => self.reading_replay = false,
        }
        let entries = match done.result {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(subscription = %self.subscription, from = %done.from, error, "read entries");
                self.retry_at = Some(now + RETRY_AFTER);
                return Vec::new();
            }
        };
        let Some(missing) = done.missing else {
            if entries.is_empty() {
                self.nothing = Some((done.from, done.up_to));
            }
            self.ahead_bytes += entries.iter().map(|e| e.bytes.len()).sum::<usize>();
            self.ahead.extend(entries);
            return Vec::new();
        };
        self.replay.extend(entries.into_iter().map(|e| (e.position, e)));
        missing
    }
}

/// The next position within a ledger, whether it exists or not.
pub(crate) fn after(position: Position) -> Position {
    Position { entry_id: position.entry_id.next(), ..position }
}

/// Reads each run of neighbours at once, until `bytes_max` is reached.
async fn read_scattered(
    reader: Entries,
    wanted: Vec<Position>,
    bytes_max: usize,
) -> Result<(Vec<Entry>, Vec<Position>), String> {
    let (mut entries, mut missing) = (Vec::new(), Vec::new());
    let (mut at, mut bytes) = (0, 0);
    while at < wanted.len() && bytes < bytes_max {
        let from = wanted[at];
        let run = wanted[at..].iter().zip(0u64..);
        let run = run
            .take_while(|(p, n)| p.ledger_id == from.ledger_id && p.entry_id == EntryId(from.entry_id.0 + n))
            .count();
        let last = wanted[at + run - 1];
        let read = reader.read(from, run, bytes_max - bytes, last).await?;
        let read = parse_all(read);
        if read.is_empty() {
            missing.extend(&wanted[at..at + run]);
            at += run;
            continue;
        }
        // Entries before the first one returned are gone.
        for entry in read {
            while wanted[at] < entry.position {
                missing.push(wanted[at]);
                at += 1;
            }
            at += 1;
            bytes += entry.bytes.len();
            entries.push(entry);
        }
    }
    Ok((entries, missing))
}

pub(crate) fn parse_all(stored: Vec<(Position, Bytes)>) -> Vec<Entry> {
    stored.into_iter().map(|(position, bytes)| parse(position, bytes)).collect()
}

/// Looks at a stored entry. One that cannot be understood is passed over like a marker: it was accepted by somebody
/// else's broker, and must not stop the topic.
pub(crate) fn parse(position: Position, stored: Bytes) -> Entry {
    let parsed = headers_and_payload(&stored).ok().and_then(|bytes| {
        let summary = summarize_entry(&bytes).ok()?;
        Some((with_checksum(bytes), summary))
    });
    let (bytes, summary) = parsed.unwrap_or_else(|| {
        tracing::error!(%position, "stored entry has no readable metadata; it is skipped");
        (Bytes::new(), Summary { num_messages: 1, marker_type: Some(-1), ..Summary::default() })
    });
    Entry { position, bytes, summary: Arc::new(summary) }
}

/// What goes out to consumers: some clients insist on the checksum, which very old producers do not send.
pub(crate) fn with_checksum(bytes: Bytes) -> Bytes {
    const MAGIC: [u8; 2] = [0x0e, 0x01];
    if bytes.starts_with(&MAGIC) {
        return bytes;
    }
    let mut framed = BytesMut::with_capacity(bytes.len() + 6);
    framed.extend_from_slice(&MAGIC);
    framed.put_u32(crc32c(&bytes));
    framed.extend_from_slice(&bytes);
    framed.freeze()
}
