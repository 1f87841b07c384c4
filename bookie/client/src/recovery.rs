//! Taking a ledger over: gives the machines of [`crate::protocol::recovery`] their sockets and their metadata.

use crate::client::{Client, quorum_of};
use crate::connection::{Add, AddReply};
use crate::error::LedgerError;
use crate::metadata::{self, Versioned};
use crate::protocol::quorum::Quorum;
use crate::protocol::recovery::{Answer, FenceMachine, FoundEntry, Probe, ProbeMachine, Progress};
use crate::protocol::writer::AddOutcome;
use crate::reader::Reader;
use bytes::BytesMut;
use futures_util::future::{join_all, try_join_all};
use futures_util::stream::{FuturesUnordered, StreamExt};
use magnetar_proto::bookkeeper::entry::{BodyHeader, Digest};
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::bookkeeper::v2::{self, Flags, MasterKey};
use magnetar_proto::bookkeeper::{BookieId, Code, master_key};
use magnetar_proto::ids::{EntryId, LedgerId};
use tokio::sync::mpsc;

/// Entries probed, and then made durable, at once. A writer's whole pipeline may have to be recovered.
const WINDOW_ENTRIES: u64 = 64;

/// Fences the ledger, finds its end and closes it there. Gives its final record.
pub(crate) async fn recover(
    client: &Client,
    id: LedgerId,
    current: Versioned,
) -> Result<LedgerMetadata, LedgerError> {
    let current = metadata::update(client.metadata_store(), id, current, |record| match record.state {
        LedgerState::Open => Ok(Some(LedgerMetadata { state: LedgerState::InRecovery, ..record.clone() })),
        LedgerState::InRecovery | LedgerState::Closed { .. } => Ok(None),
    })
    .await?;
    if matches!(current.metadata.state, LedgerState::Closed { .. }) {
        return Ok(current.metadata);
    }
    let (segment_start, ensemble) = current.metadata.last_segment();
    let recovery = Recovery {
        client,
        id,
        quorum: quorum_of(id, &current.metadata)?,
        ensemble: ensemble.to_vec(),
        digest: Digest::new(current.metadata.digest, &current.metadata.password),
        key: master_key(&current.metadata.password),
    };
    let start = recovery.fence(segment_start).await?;
    let (last_entry, length) = recovery.copy_from(start).await?;
    let length = match (last_entry, length) {
        (None, _) => 0,
        (Some(_), Some(length)) => length,
        (Some(last), None) => {
            let reader = Reader::of_record(client.clone(), id, current.metadata.clone())?;
            reader.read_one(last).await?.0.length
        }
    };
    tracing::info!(ledger = %id, last_entry = last_entry.map(|entry| entry.0), "recovered a ledger");
    let closed = metadata::update(client.metadata_store(), id, current, |record| match record.state {
        LedgerState::InRecovery => {
            Ok(Some(LedgerMetadata { state: LedgerState::Closed { last_entry, length }, ..record.clone() }))
        }
        // Another recovery was quicker: what it found is the end.
        LedgerState::Closed { .. } => Ok(None),
        LedgerState::Open => {
            Err(LedgerError::DamagedMetadata { ledger: id, reason: "it was opened again".into() })
        }
    })
    .await?;
    Ok(closed.metadata)
}

struct Recovery<'a> {
    client: &'a Client,
    id: LedgerId,
    quorum: Quorum,
    /// The last segment as recorded before recovery began.
    ensemble: Vec<BookieId>,
    digest: Digest,
    key: MasterKey,
}

impl Recovery<'_> {
    /// Fences every bookie of the last segment; gives the last entry known to be confirmed.
    async fn fence(&self, segment_start: EntryId) -> Result<Option<EntryId>, LedgerError> {
        let mut machine = FenceMachine::new(self.quorum, segment_start);
        let mut answers: FuturesUnordered<_> =
            (0..self.ensemble.len()).map(|slot| async move { (slot, self.ask(slot, None).await) }).collect();
        while let Some((slot, answer)) = answers.next().await {
            machine.on_answer(slot, answer?);
            if let Progress::Done(start) = machine.progress() {
                return Ok(start);
            }
        }
        Err(self.stuck("too few bookies could be fenced"))
    }

    /// Makes every entry after `start` that may have been acknowledged durable; gives the last one, and the length there
    /// if an entry told it.
    async fn copy_from(&self, start: Option<EntryId>) -> Result<(Option<EntryId>, Option<u64>), LedgerError> {
        let (mut last, mut length) = (start, None);
        loop {
            let first = last.map_or(EntryId::ZERO, EntryId::next);
            let probes =
                join_all((first.0..first.0 + WINDOW_ENTRIES).map(|entry| self.probe(EntryId(entry)))).await;
            let mut found = Vec::new();
            let mut ended = false;
            // In order, up to the first entry that does not exist; what lies behind it is of no interest, errors included.
            for probe in probes {
                match probe? {
                    Probe::Exists(entry) => found.push(entry),
                    Probe::Absent => {
                        ended = true;
                        break;
                    }
                }
            }
            try_join_all(found.iter().map(|entry| self.add(entry, start))).await?;
            if let Some(entry) = found.last() {
                (last, length) = (Some(entry.id), Some(entry.length));
            }
            if ended {
                return Ok((last, length));
            }
        }
    }

    async fn probe(&self, entry: EntryId) -> Result<Probe, LedgerError> {
        let mut machine = ProbeMachine::new(self.quorum, entry);
        let mut answers: FuturesUnordered<_> =
            self.quorum.write_set(entry).map(|slot| self.ask(slot, Some(entry))).collect();
        while let Some(answer) = answers.next().await {
            machine.on_answer(answer?);
            if let Progress::Done(probe) = machine.progress() {
                return Ok(probe);
            }
        }
        Err(self.stuck(&format!("whether entry {entry} exists cannot be told")))
    }

    /// A fencing read of an entry, or of the newest one.
    async fn ask(&self, slot: usize, entry: Option<EntryId>) -> Result<Answer, LedgerError> {
        let connection = self.client.pool().get(&self.ensemble[slot]);
        Ok(match connection.read(self.id, entry, Flags::RECOVERY_READ, Some(self.key)).await {
            Some((Code::Ok, Some(body))) => match self.digest.open(body, self.id, entry) {
                Ok((header, payload)) => Answer::Entry(FoundEntry {
                    id: header.entry_id,
                    last_add_confirmed: header.last_add_confirmed,
                    length: header.length,
                    payload,
                }),
                Err(error) => {
                    tracing::warn!(ledger = %self.id, bookie = %self.ensemble[slot], %error, "a replica is corrupt");
                    Answer::Unknown
                }
            },
            Some((Code::NoEntry | Code::NoLedger, _)) => Answer::Absent,
            Some((Code::Unauthorized, _)) => return Err(LedgerError::Unauthorized(self.id)),
            Some(_) | None => Answer::Unknown,
        })
    }

    /// Writes an entry again, as it was, to its write set; done when Qa bookies have it.
    async fn add(&self, entry: &FoundEntry, confirmed: Option<EntryId>) -> Result<(), LedgerError> {
        let header = BodyHeader {
            ledger_id: self.id,
            entry_id: entry.id,
            last_add_confirmed: confirmed,
            length: entry.length,
        };
        let sealed = self.digest.seal(&header, &entry.payload);
        let mut head = BytesMut::new();
        v2::encode_add_header(
            &self.key,
            Flags::RECOVERY_WRITE,
            sealed.as_ref(),
            entry.payload.len(),
            &mut head,
        );
        let head = head.freeze();
        let (to, mut done) = mpsc::unbounded_channel();
        for slot in self.quorum.write_set(entry.id) {
            let reply = AddReply::new(to.clone(), slot, 0, entry.id);
            let (head, payload) = (head.clone(), entry.payload.clone());
            let add = Add { ledger: self.id, entry: entry.id, head, payload, reply };
            self.client.pool().get(&self.ensemble[slot]).add(add);
        }
        drop(to);
        let (mut stored, mut failed) = (0, 0);
        while let Some(done) = done.recv().await {
            match done.outcome {
                AddOutcome::Stored => stored += 1,
                AddOutcome::Unauthorized => return Err(LedgerError::Unauthorized(self.id)),
                AddOutcome::Fenced | AddOutcome::Failed => failed += 1,
            }
            if self.quorum.is_acknowledged(stored) {
                return Ok(());
            }
            if self.quorum.is_out_of_reach(failed) {
                break;
            }
        }
        Err(self.stuck(&format!("entry {} could not be made durable again", entry.id)))
    }

    fn stuck(&self, reason: &str) -> LedgerError {
        LedgerError::NotEnoughBookies { ledger: self.id, reason: reason.to_owned() }
    }
}
