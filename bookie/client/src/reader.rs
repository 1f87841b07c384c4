//! Reading the settled entries of a ledger.

use crate::client::{Client, quorum_of};
use crate::error::LedgerError;
use crate::fetching::{Source, Wanted};
use crate::protocol::quorum::Quorum;
use crate::read_ahead::Ahead;
use crate::view::View;
use bytes::Bytes;
use magnetar_proto::bookkeeper::entry::{BodyHeader, Digest};
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::ids::{EntryId, LedgerId};
use std::sync::Arc;

/// Reads a ledger. Cheap to clone; clones share what is loaded ahead.
#[derive(Clone)]
pub struct Reader {
    source: Source,
    ahead: Arc<Ahead>,
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
        Self { source: Source { client, id, quorum, digest, view }, ahead: Arc::default() }
    }

    /// The end of a ledger that is being written, as found by asking.
    pub(crate) fn advance(&self, last_entry: EntryId, length: u64) {
        self.source.view.advance(last_entry, length);
    }

    /// The ledger.
    pub fn id(&self) -> LedgerId {
        self.source.id
    }

    /// The last entry that may be read; `None` when there is none. That of a closed ledger is final; of an open one it is
    /// the last add confirmed that its writer in this process has reported, or that was found when it was opened.
    pub fn last_entry(&self) -> Option<EntryId> {
        self.source.view.last_entry()
    }

    /// Payload bytes up to the last entry.
    pub fn length(&self) -> u64 {
        self.source.view.length()
    }

    /// Entries from `first` to at most `last`, consecutive, checked by their digests. Stops early at about `max_bytes`, but
    /// gives at least one entry. The caller asks only for acknowledged entries: then a failure is never an absence.
    ///
    /// A read that goes on where an earlier one ended finds its entries loaded ahead; see
    /// [`ClientConfig::read_ahead_bytes_max`](crate::ClientConfig). A damaged copy is reported (see
    /// [`Client::bad_replicas`](crate::Client::bad_replicas)) and never given: another one is. Cancel-safe.
    pub async fn read(
        &self,
        first: EntryId,
        last: EntryId,
        max_bytes: usize,
    ) -> Result<Vec<(EntryId, Bytes)>, LedgerError> {
        self.ahead.read(&self.source, Wanted { first, last, bytes: max_bytes }).await
    }

    /// Payload bytes up to and including this entry, which must be an acknowledged one: its header tells. Cancel-safe.
    pub async fn length_at(&self, entry: EntryId) -> Result<u64, LedgerError> {
        let (header, _) = self.read_one(entry).await?;
        Ok(header.length)
    }

    /// One entry with its header.
    pub(crate) async fn read_one(&self, entry: EntryId) -> Result<(BodyHeader, Bytes), LedgerError> {
        self.source.read_one(entry).await
    }
}
