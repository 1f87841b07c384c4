//! Reading the settled entries of a ledger.

use crate::client::{Client, quorum_of};
use crate::error::LedgerError;
use crate::metadata;
use crate::protocol::quorum::Quorum;
use crate::protocol::reading::{Miss, Next, ReadMachine};
use crate::view::View;
use bytes::Bytes;
use futures_util::future::join_all;
use magnetar_proto::bookkeeper::Code;
use magnetar_proto::bookkeeper::entry::{BodyHeader, Digest};
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::bookkeeper::v2::Flags;
use magnetar_proto::ids::{EntryId, LedgerId};
use std::sync::Arc;

/// Entries asked for at once by one read: enough to hide the round trip, few enough for a bookie's queues.
const WINDOW_ENTRIES_MAX: u64 = 256;
/// What a read asks for first: should the entries be far larger than the ledger's average, little too much is in memory.
const WINDOW_ENTRIES_MIN: u64 = 16;

/// Reads a ledger. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    client: Client,
    id: LedgerId,
    quorum: Quorum,
    digest: Digest,
    /// Shared with the writer of an open ledger.
    view: Arc<View>,
}

impl Reader {
    pub(crate) fn of_record(
        client: Client,
        id: LedgerId,
        record: LedgerMetadata,
    ) -> Result<Self, LedgerError> {
        let (last_entry, length) = match record.state {
            LedgerState::Closed { last_entry, length } => (last_entry, length),
            LedgerState::Open | LedgerState::InRecovery => (None, 0),
        };
        let (quorum, digest) = (quorum_of(id, &record)?, Digest::new(record.digest, &record.password));
        Ok(Self::new(client, id, quorum, digest, Arc::new(View::new(record, last_entry, length))))
    }

    pub(crate) fn new(client: Client, id: LedgerId, quorum: Quorum, digest: Digest, view: Arc<View>) -> Self {
        Self { client, id, quorum, digest, view }
    }

    /// The end of a ledger that is being written, as found by asking.
    pub(crate) fn advance(&self, last_entry: EntryId, length: u64) {
        self.view.advance(last_entry, length);
    }

    /// The ledger.
    pub fn id(&self) -> LedgerId {
        self.id
    }

    /// The last entry that may be read; `None` when there is none. That of a closed ledger is final; of an open one it is
    /// the last add confirmed that its writer in this process has reported, or that was found when it was opened.
    pub fn last_entry(&self) -> Option<EntryId> {
        self.view.last_entry()
    }

    /// Payload bytes up to the last entry.
    pub fn length(&self) -> u64 {
        self.view.length()
    }

    /// Entries from `first` to at most `last`, consecutive, checked by their digests. Stops early at about `max_bytes`, but
    /// gives at least one entry. The caller asks only for acknowledged entries: then a failure is never an absence.
    /// Cancel-safe.
    pub async fn read(
        &self,
        first: EntryId,
        last: EntryId,
        max_bytes: usize,
    ) -> Result<Vec<(EntryId, Bytes)>, LedgerError> {
        let mut entries: Vec<(EntryId, Bytes)> = Vec::new();
        let (mut bytes, mut next, mut window) = (0, first, WINDOW_ENTRIES_MIN);
        while entries.is_empty() || (next <= last && bytes < max_bytes) {
            let average = match entries.len() {
                0 => self.average_entry_bytes(),
                count => bytes / count,
            };
            let fitting = (max_bytes.saturating_sub(bytes) / average.max(1)) as u64;
            let count = (last.0.saturating_sub(next.0) + 1).min(fitting).min(window).max(1);
            let reads = (next.0..next.0 + count).map(|entry| self.read_one(EntryId(entry)));
            for read in join_all(reads).await {
                match read {
                    Ok((_, payload)) if entries.is_empty() || bytes + payload.len() <= max_bytes => {
                        bytes += payload.len();
                        entries.push((next, payload));
                        next = next.next();
                    }
                    Ok(_) => return Ok(entries),
                    Err(error) if entries.is_empty() => return Err(error),
                    // What follows is asked for again by the next read, which then reports the error.
                    Err(_) => return Ok(entries),
                }
            }
            window = (window * 4).min(WINDOW_ENTRIES_MAX);
        }
        Ok(entries)
    }

    fn average_entry_bytes(&self) -> usize {
        let count = self.view.last_entry().map_or(1, |last| last.0 + 1);
        usize::try_from(self.view.length() / count).unwrap_or(usize::MAX)
    }

    /// One entry with its header. When every replica denies it, the record is read again once: re-replication may have
    /// moved it.
    pub(crate) async fn read_one(&self, entry: EntryId) -> Result<(BodyHeader, Bytes), LedgerError> {
        match self.read_from_replicas(entry).await {
            Err(LedgerError::NoSuchEntry(..)) => {
                let fresh = metadata::read(self.client.metadata_store(), self.id).await?.metadata;
                if self.view.record().segments == fresh.segments {
                    return Err(LedgerError::NoSuchEntry(self.id, entry));
                }
                self.view.set_record(fresh);
                self.read_from_replicas(entry).await
            }
            other => other,
        }
    }

    async fn read_from_replicas(&self, entry: EntryId) -> Result<(BodyHeader, Bytes), LedgerError> {
        let record = self.view.record();
        let ensemble = record.ensemble_of(entry);
        let mut machine = ReadMachine::new(self.quorum, entry, self.id.0);
        let mut reason = String::new();
        loop {
            let slot = match machine.poll_next() {
                Next::Ask(slot) => slot,
                Next::NoSuchEntry => return Err(LedgerError::NoSuchEntry(self.id, entry)),
                Next::Unreadable => return Err(LedgerError::Unreadable { ledger: self.id, entry, reason }),
            };
            let bookie = &ensemble[slot];
            let connection = self.client.pool().get(bookie);
            let miss = match connection.read(self.id, Some(entry), Flags::NONE, None).await {
                Some((Code::Ok, Some(body))) => match self.digest.open(body, self.id, Some(entry)) {
                    Ok(opened) => return Ok(opened),
                    Err(error) => {
                        tracing::warn!(ledger = %self.id, %entry, %bookie, %error, "a replica is corrupt; asking the next");
                        reason = format!("{bookie}: {error}");
                        Miss::Unreadable
                    }
                },
                Some((Code::NoEntry | Code::NoLedger, _)) => Miss::Absent,
                Some((code, _)) => {
                    reason = format!("{bookie}: {code:?}");
                    Miss::Unreadable
                }
                None => {
                    reason = format!("{bookie}: no answer");
                    Miss::Unreadable
                }
            };
            machine.on_miss(miss);
        }
    }
}
