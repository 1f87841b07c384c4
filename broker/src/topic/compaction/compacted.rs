//! Reading what a compaction has left.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use magnetar_ledger::{Client, LedgerError, Reader};
use magnetar_proto::ids::{EntryId, LedgerId, Position};
use magnetar_proto::pulsar::api::MessageMetadata;
use magnetar_proto::pulsar::entry::split;
use prost::Message;

use super::entry;
use crate::topic::error::TopicError;
use crate::topic::reads::parse;

/// Reads that ended lately: whoever goes on from there is spared the search. As many as there are readers, usually.
const ENDS_MAX: usize = 64;

/// What stands for everything in the topic up to its horizon. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Compacted(Arc<Inner>);

struct Inner {
    client: Client,
    password: Bytes,
    ledger: LedgerId,
    horizon: Position,
    /// `None`: not opened yet, or to be opened anew after a failure.
    reader: Mutex<Option<Reader>>,
    /// The position after a read, and the entry that comes there; the latest at the back.
    ends: Mutex<VecDeque<(Position, u64)>>,
}

/// The last message that is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Last {
    pub position: Position,
    /// −1 for a single message.
    pub batch_index: i32,
}

impl Compacted {
    pub(crate) fn new(client: Client, password: Bytes, ledger: LedgerId, horizon: Position) -> Self {
        Compacted(Arc::new(Inner {
            client,
            password,
            ledger,
            horizon,
            reader: Mutex::default(),
            ends: Mutex::default(),
        }))
    }

    pub(crate) fn ledger(&self) -> LedgerId {
        self.0.ledger
    }

    /// The last position that it stands for. What follows is in the topic.
    pub(crate) fn horizon(&self) -> Position {
        self.0.horizon
    }

    /// Messages in order from the first one at or after `from`, with the positions they have in the topic. Stops after
    /// `max_entries` or once `max_bytes` are exceeded; empty when none follows. Cancel-safe.
    pub(crate) async fn read(
        &self,
        from: Position,
        max_entries: usize,
        max_bytes: usize,
    ) -> Result<Vec<(Position, Bytes)>, LedgerError> {
        let first = match self.continued(from) {
            Some(entry) => entry,
            None => self.first_at_or_after(from).await?,
        };
        self.read_entries(first, max_entries, max_bytes).await
    }

    /// The same from the `first`th entry on.
    pub(super) async fn read_entries(
        &self,
        first: u64,
        max_entries: usize,
        max_bytes: usize,
    ) -> Result<Vec<(Position, Bytes)>, LedgerError> {
        let reader = self.reader().await?;
        let Some(last) = reader.last_entry().filter(|last| first <= last.0) else { return Ok(Vec::new()) };
        let last = last.0.min(first.saturating_add(max_entries as u64 - 1));
        let read = reader.read(EntryId(first), EntryId(last), max_bytes).await;
        let read = read.inspect_err(|_| self.forget())?;
        let messages: Vec<_> =
            read.into_iter().map(|(id, stored)| self.decode(id, stored)).collect::<Result<_, _>>()?;
        if let Some((end, _)) = messages.last() {
            self.remember(after(*end), first + messages.len() as u64);
        }
        Ok(messages)
    }

    /// The first message published at or after `unix_ms`.
    pub(crate) async fn find_by_time(&self, unix_ms: u64) -> Result<Option<Position>, TopicError> {
        let is_before =
            |position: Position, bytes: Bytes| parse(position, bytes).summary.publish_time < unix_ms;
        let found = async {
            let first = self.partition_point(is_before).await?;
            self.read_entries(first, 1, 1).await
        };
        let found = found.await.map_err(|error| TopicError::Persistence(error.to_string()))?;
        Ok(found.first().map(|(position, _)| *position))
    }

    /// `None`: every message is gone.
    pub(crate) async fn last(&self) -> Result<Option<Last>, TopicError> {
        let unreadable = |error: LedgerError| TopicError::Persistence(error.to_string());
        let reader = self.reader().await.map_err(unreadable)?;
        let Some(entry) = reader.last_entry() else { return Ok(None) };
        let read = self.read_entries(entry.0, 1, 1).await.map_err(unreadable)?;
        Ok(read.last().map(|(position, bytes)| Last { position: *position, batch_index: last_index(bytes) }))
    }

    /// Number of the first entry at or after a position.
    async fn first_at_or_after(&self, from: Position) -> Result<u64, LedgerError> {
        self.partition_point(|position, _| position < from).await
    }

    /// Number of the first entry for which `is_before` does not hold, if it holds for none after that.
    async fn partition_point(&self, is_before: impl Fn(Position, Bytes) -> bool) -> Result<u64, LedgerError> {
        let reader = self.reader().await?;
        let (mut low, mut high) = (0, reader.last_entry().map_or(0, |last| last.0 + 1));
        // Invariant: it holds for those below `low`, and not from `high` on.
        while low < high {
            let middle = low + (high - low) / 2;
            let read =
                reader.read(EntryId(middle), EntryId(middle), 1).await.inspect_err(|_| self.forget())?;
            let (id, stored) =
                read.into_iter().next().ok_or(LedgerError::NoSuchEntry(reader.id(), EntryId(middle)))?;
            let (position, bytes) = self.decode(id, stored)?;
            match is_before(position, bytes) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        Ok(low)
    }

    fn decode(&self, id: EntryId, stored: Bytes) -> Result<(Position, Bytes), LedgerError> {
        entry::decode(stored).map_err(|reason| LedgerError::Unreadable {
            ledger: self.0.ledger,
            entry: id,
            reason: format!("no entry of a compacted ledger: {reason}"),
        })
    }

    async fn reader(&self) -> Result<Reader, LedgerError> {
        if let Some(reader) = lock(&self.0.reader).clone() {
            return Ok(reader);
        }
        let reader = self.0.client.open(self.0.ledger, &self.0.password).await?;
        *lock(&self.0.reader) = Some(reader.clone());
        Ok(reader)
    }

    /// Its record may be out of date: re-replication moves entries to other bookies.
    fn forget(&self) {
        *lock(&self.0.reader) = None;
    }

    fn continued(&self, from: Position) -> Option<u64> {
        lock(&self.0.ends).iter().rev().find(|(position, _)| *position == from).map(|(_, entry)| *entry)
    }

    fn remember(&self, position: Position, entry: u64) {
        let mut ends = lock(&self.0.ends);
        if ends.iter().any(|(known, _)| *known == position) {
            return;
        }
        if ends.len() >= ENDS_MAX {
            ends.pop_front();
        }
        ends.push_back((position, entry));
    }
}

fn after(position: Position) -> Position {
    Position { entry_id: position.entry_id.next(), ..position }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Index of the last message of a batch that compaction has left.
fn last_index(headers_and_payload: &Bytes) -> i32 {
    let Some(metadata) = batch(headers_and_payload) else { return -1 };
    let left = metadata.compacted_batch_indexes.iter().copied().max();
    left.unwrap_or(metadata.num_messages_in_batch() - 1)
}

/// Which messages of a batch compaction has left, a bit each; `None` for one that it has left as it was. The C++ client and
/// those built on it take what is gone for empty messages, unless the bits tell them to pass it over.
pub(crate) fn left_of(headers_and_payload: &Bytes) -> Option<Vec<u64>> {
    let metadata = batch(headers_and_payload).filter(|found| !found.compacted_batch_indexes.is_empty())?;
    let count = usize::try_from(metadata.num_messages_in_batch()).ok()?;
    let mut left = vec![0; count.div_ceil(64)];
    for index in metadata.compacted_batch_indexes {
        let index = usize::try_from(index).ok()?;
        *left.get_mut(index / 64)? |= 1 << (index % 64);
    }
    Some(left)
}

fn batch(headers_and_payload: &Bytes) -> Option<MessageMetadata> {
    let parts = split(headers_and_payload).ok()?;
    let metadata = MessageMetadata::decode(parts.metadata).ok()?;
    metadata.num_messages_in_batch.is_some().then_some(metadata)
}
