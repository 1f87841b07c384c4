//! Taking a ledger over: gives the machines of [`crate::protocol::recovery`] their sockets and their metadata.

use crate::asking::Asking;
use crate::client::{Client, quorum_of};
use crate::error::LedgerError;
use crate::metadata::{self, Versioned};
use crate::placement::{self, Needs, Trust};
use crate::protocol::recovery::{FoundEntry, Probe};
use crate::protocol::writer::{Action, WriterFailure, WriterMachine};
use crate::reader::Reader;
use crate::sending::Sending;
use futures_util::future::join_all;
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::bookkeeper::v2::Flags;
use magnetar_proto::ids::{EntryId, LedgerId};
use std::collections::BTreeMap;

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
    let asking = Asking::fencing(client, id, &current.metadata)?;
    let start = asking.last_add_confirmed().await?;
    let mut copying = Copying::new(client, id, &current.metadata, start)?;
    let (last_entry, length) = copying.copy_all(&asking).await?;
    let length = match (last_entry, length) {
        (None, _) => 0,
        (Some(_), Some(length)) => length,
        (Some(last), None) => {
            Reader::of_record(client.clone(), id, current.metadata.clone())?.read_one(last).await?.0.length
        }
    };
    tracing::info!(ledger = %id, last_entry = last_entry.map(|entry| entry.0), "recovered a ledger");
    let state = LedgerState::Closed { last_entry, length };
    let segments = copying.segments;
    let closed = metadata::update(client.metadata_store(), id, current, |record| match record.state {
        LedgerState::InRecovery => {
            let mut record = LedgerMetadata { state, ..record.clone() };
            record.segments.extend(segments.clone());
            Ok(Some(record))
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

/// Writes what is found after the last add confirmed again, as it was. A failed bookie is replaced as by a writer, but
/// only in memory: other recoveries must find the ensemble that the writer used, until one of them closes the ledger.
struct Copying<'a> {
    client: &'a Client,
    id: LedgerId,
    needs: Needs,
    machine: WriterMachine,
    sending: Sending,
    /// Ensembles to be recorded when the ledger is closed. Their keys are not below that of the last recorded segment.
    segments: BTreeMap<EntryId, Vec<BookieId>>,
}

impl<'a> Copying<'a> {
    fn new(
        client: &'a Client,
        id: LedgerId,
        record: &LedgerMetadata,
        start: Option<EntryId>,
    ) -> Result<Self, LedgerError> {
        Ok(Self {
            client,
            id,
            needs: Needs::of_record(record),
            // The length at the start is not known; every entry tells it anew.
            machine: WriterMachine::resume(quorum_of(id, record)?, start, 0),
            sending: Sending::new(client.pool().clone(), id, record, Flags::RECOVERY_WRITE),
            segments: BTreeMap::new(),
        })
    }

    /// Makes every entry that may have been acknowledged durable; gives the last one, and the length there if an entry
    /// told it.
    async fn copy_all(&mut self, asking: &Asking<'_>) -> Result<(Option<EntryId>, Option<u64>), LedgerError> {
        let mut length = None;
        loop {
            let first = self.machine.last_add_pushed().map_or(0, |last| last.0 + 1);
            let probes =
                join_all((first..first + WINDOW_ENTRIES).map(|entry| asking.probe(EntryId(entry)))).await;
            let mut ended = false;
            // In order, up to the first entry that does not exist; what lies behind it is of no interest, errors included.
            for probe in probes {
                match probe? {
                    Probe::Exists(FoundEntry { id, payload, length: at, .. }) => {
                        let written = self.machine.append_at(payload, at);
                        assert!(written.is_err() || written == Ok(id), "entries are recovered in order");
                        length = Some(at);
                    }
                    Probe::Absent => {
                        ended = true;
                        break;
                    }
                }
            }
            self.settle().await?;
            if ended {
                return Ok((self.machine.last_add_confirmed(), length));
            }
        }
    }

    /// Ends when everything written is on Qa bookies.
    async fn settle(&mut self) -> Result<(), LedgerError> {
        self.sending.count(&self.machine);
        loop {
            while let Some(action) = self.machine.poll_action() {
                self.act(action);
            }
            if let Some(failure) = self.machine.failure() {
                return Err(self.error_of(failure));
            }
            if self.machine.last_add_confirmed() == self.machine.last_add_pushed() {
                return Ok(());
            }
            self.sending.outcomes().await;
            self.sending.tell(&mut self.machine);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Send { slot, entry } => self.sending.send(slot, entry),
            Action::ChangeEnsemble { first_entry, failed, required } => {
                let trust = if required { Trust::First } else { Trust::Only };
                let before = self.sending.ensemble();
                let (ensemble, changed) =
                    placement::replace(self.client, &self.needs, &before, failed, trust);
                if changed.is_empty() {
                    return self.machine.on_no_replacement();
                }
                self.sending.replace(changed, &ensemble);
                self.segments.insert(first_entry, ensemble);
                self.machine.on_ensemble_changed(changed);
            }
        }
    }

    fn error_of(&self, failure: WriterFailure) -> LedgerError {
        match failure {
            WriterFailure::Unauthorized => LedgerError::Unauthorized(self.id),
            // A bookie takes what a recovery writes, fenced or not, unless the ledger has been deleted.
            WriterFailure::Fenced => LedgerError::NoSuchLedger(self.id),
            WriterFailure::OutOfReach => LedgerError::NotEnoughBookies {
                ledger: self.id,
                reason: "a recovered entry could not be made durable".into(),
            },
        }
    }
}
