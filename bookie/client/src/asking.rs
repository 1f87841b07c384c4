//! Asking the bookies of a ledger's last segment what they hold: for a recovery with a fence in every question, for a
//! reader of an open ledger without.

use crate::bad_replicas::BadReplica;
use crate::client::{Client, quorum_of};
use crate::error::LedgerError;
use crate::protocol::quorum::Quorum;
use crate::protocol::recovery::{Answer, FenceMachine, FoundEntry, Progress};
use futures_util::stream::{FuturesUnordered, StreamExt};
use magnetar_proto::bookkeeper::entry::Digest;
use magnetar_proto::bookkeeper::metadata_format::LedgerMetadata;
use magnetar_proto::bookkeeper::v2::{Flags, MasterKey};
use magnetar_proto::bookkeeper::{BookieId, Code, master_key};
use magnetar_proto::ids::{EntryId, LedgerId};

/// The last segment of a ledger, as one record told it: later changes of the ensemble are none of its business.
pub(crate) struct Asking<'a> {
    client: &'a Client,
    id: LedgerId,
    quorum: Quorum,
    segment_start: EntryId,
    ensemble: Vec<BookieId>,
    digest: Digest,
    flags: Flags,
    key: Option<MasterKey>,
}

impl<'a> Asking<'a> {
    /// Every question fences the bookie that it is put to.
    pub(crate) fn fencing(
        client: &'a Client,
        id: LedgerId,
        record: &LedgerMetadata,
    ) -> Result<Self, LedgerError> {
        Self::new(client, id, record, Flags::RECOVERY_READ, Some(master_key(&record.password)))
    }

    /// Questions that change nothing.
    pub(crate) fn plain(
        client: &'a Client,
        id: LedgerId,
        record: &LedgerMetadata,
    ) -> Result<Self, LedgerError> {
        Self::new(client, id, record, Flags::NONE, None)
    }

    fn new(
        client: &'a Client,
        id: LedgerId,
        record: &LedgerMetadata,
        flags: Flags,
        key: Option<MasterKey>,
    ) -> Result<Self, LedgerError> {
        let (segment_start, ensemble) = record.last_segment();
        Ok(Self {
            client,
            id,
            quorum: quorum_of(id, record)?,
            segment_start,
            ensemble: ensemble.to_vec(),
            digest: Digest::new(record.digest, &record.password),
            flags,
            key,
        })
    }

    /// Asks every bookie for its newest entry, until no write set has Qa silent bookies; gives the highest last add
    /// confirmed that they know of. With a fence, no older writer gets another entry acknowledged once this returns.
    pub(crate) async fn last_add_confirmed(&self) -> Result<Option<EntryId>, LedgerError> {
        let mut machine = FenceMachine::new(self.quorum, self.segment_start);
        let mut answers: FuturesUnordered<_> =
            (0..self.ensemble.len()).map(|slot| async move { (slot, self.ask(slot, None).await) }).collect();
        while let Some((slot, answer)) = answers.next().await {
            machine.on_answer(slot, answer?);
            if let Progress::Done(start) = machine.progress() {
                return Ok(start);
            }
        }
        Err(LedgerError::NotEnoughBookies { ledger: self.id, reason: "its end cannot be told".to_owned() })
    }

    /// Reads an entry, or the newest one, from the bookie in a slot.
    pub(crate) async fn ask(&self, slot: usize, entry: Option<EntryId>) -> Result<Answer, LedgerError> {
        let connection = self.client.pool().get(&self.ensemble[slot]);
        Ok(match connection.read(self.id, entry, self.flags, self.key).await {
            Some((Code::Ok, Some(body))) => match self.digest.open(body, self.id, entry) {
                Ok((header, payload)) => Answer::Entry(FoundEntry {
                    id: header.entry_id,
                    last_add_confirmed: header.last_add_confirmed,
                    length: header.length,
                    payload,
                }),
                Err(error) => {
                    let (bookie, reason) = (self.ensemble[slot].clone(), error.to_string());
                    self.client.report_bad(BadReplica { ledger: self.id, entry, bookie, reason });
                    Answer::Unknown
                }
            },
            Some((Code::NoEntry | Code::NoLedger, _)) => Answer::Absent,
            Some((Code::Unauthorized, _)) => return Err(LedgerError::Unauthorized(self.id)),
            Some(_) | None => Answer::Unknown,
        })
    }
}
