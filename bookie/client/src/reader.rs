//! Reading the settled entries of a ledger.

use crate::client::{Client, quorum_of};
use crate::error::LedgerError;
use crate::metadata;
use crate::protocol::quorum::Quorum;
use crate::protocol::reading::{Miss, Next, ReadMachine};
use bytes::Bytes;
use futures_util::future::join_all;
use magnetar_proto::bookkeeper::entry::{BodyHeader, Digest};
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::bookkeeper::v2::Flags;
use magnetar_proto::bookkeeper::{BookieId, Code};
use magnetar_proto::ids::{EntryId, LedgerId};
use std::sync::{Arc, PoisonError, RwLock};

/// Entries asked for at once by one read: enough to hide the round trip, few enough for a bookie's queues.
const WINDOW_ENTRIES: u64 = 256;
/// What an entry is taken to weigh before the ledger's length tells better.
const ENTRY_BYTES_GUESS: u64 = 4096;

/// Reads a ledger. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    client: Client,
    id: LedgerId,
    quorum: Quorum,
    digest: Digest,
    /// Shared with the writer of an open ledger, which follows its ensemble changes here.
    record: Arc<RwLock<LedgerMetadata>>,
}

impl Reader {
    pub(crate) fn of_record(
        client: Client,
        id: LedgerId,
        record: LedgerMetadata,
    ) -> Result<Self, LedgerError> {
        let (quorum, digest) = (quorum_of(id, &record)?, Digest::new(record.digest, &record.password));
        Ok(Self::new(client, id, quorum, digest, Arc::new(RwLock::new(record))))
    }

    pub(crate) fn new(
        client: Client,
        id: LedgerId,
        quorum: Quorum,
        digest: Digest,
        record: Arc<RwLock<LedgerMetadata>>,
    ) -> Self {
        Self { client, id, quorum, digest, record }
    }

    /// The ledger.
    pub fn id(&self) -> LedgerId {
        self.id
    }

    /// The last entry of a closed ledger; `None` when it is empty, or not closed.
    pub fn last_entry(&self) -> Option<EntryId> {
        match self.state() {
            LedgerState::Closed { last_entry, .. } => last_entry,
            LedgerState::Open | LedgerState::InRecovery => None,
        }
    }

    /// Payload bytes of a closed ledger; 0 when it is not closed.
    pub fn length(&self) -> u64 {
        match self.state() {
            LedgerState::Closed { length, .. } => length,
            LedgerState::Open | LedgerState::InRecovery => 0,
        }
    }

    /// Entries from `first` to at most `last`, consecutive, checked by their digests. Stops early at about `max_bytes`, but
    /// gives at least one entry. The caller asks only for acknowledged entries: then a failure is never an absence.
    pub async fn read(
        &self,
        first: EntryId,
        last: EntryId,
        max_bytes: usize,
    ) -> Result<Vec<(EntryId, Bytes)>, LedgerError> {
        let count = (last.0.saturating_sub(first.0) + 1).min(self.window(max_bytes));
        let reads = (first.0..first.0 + count).map(|entry| self.read_one(EntryId(entry)));
        let mut entries = Vec::new();
        let mut bytes = 0;
        for (id, read) in (first.0..).map(EntryId).zip(join_all(reads).await) {
            match read {
                Ok((_, payload)) if entries.is_empty() || bytes + payload.len() <= max_bytes => {
                    bytes += payload.len();
                    entries.push((id, payload));
                }
                Ok(_) => break,
                Err(error) if entries.is_empty() => return Err(error),
                // What follows is asked for again by the next read, which then reports the error.
                Err(_) => break,
            }
        }
        Ok(entries)
    }

    /// How many entries to ask for at once.
    fn window(&self, max_bytes: usize) -> u64 {
        let average = match self.state() {
            LedgerState::Closed { last_entry: Some(last), length } => (length / (last.0 + 1)).max(1),
            _ => ENTRY_BYTES_GUESS,
        };
        (max_bytes as u64 / average).clamp(1, WINDOW_ENTRIES)
    }

    /// One entry with its header. When every replica denies it, the record is read again once: re-replication may have
    /// moved it.
    pub(crate) async fn read_one(&self, entry: EntryId) -> Result<(BodyHeader, Bytes), LedgerError> {
        match self.read_from_replicas(entry).await {
            Err(LedgerError::NoSuchEntry(..)) => {
                let fresh = metadata::read(self.client.metadata_store(), self.id).await?.metadata;
                if *self.record.read().unwrap_or_else(PoisonError::into_inner) == fresh {
                    return Err(LedgerError::NoSuchEntry(self.id, entry));
                }
                *self.record.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                self.read_from_replicas(entry).await
            }
            other => other,
        }
    }

    async fn read_from_replicas(&self, entry: EntryId) -> Result<(BodyHeader, Bytes), LedgerError> {
        let ensemble = self.ensemble_of(entry);
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

    fn ensemble_of(&self, entry: EntryId) -> Vec<BookieId> {
        self.record.read().unwrap_or_else(PoisonError::into_inner).ensemble_of(entry).to_vec()
    }

    fn state(&self) -> LedgerState {
        self.record.read().unwrap_or_else(PoisonError::into_inner).state
    }
}
