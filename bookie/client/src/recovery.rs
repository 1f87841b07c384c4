//! Taking a ledger over: gives [`RecoveryMachine`] its sockets and its metadata.

use crate::asking::Asking;
use crate::client::{Client, quorum_of};
use crate::error::LedgerError;
use crate::metadata::{self, Versioned};
use crate::placement::{self, Needs, Trust};
use crate::protocol::quorum::Slots;
use crate::protocol::record;
use crate::protocol::recoverer::{Action, Recovered, RecoveryFailure, RecoveryMachine};
use crate::protocol::writer::WriterFailure;
use crate::reader::Reader;
use crate::sending::Sending;
use futures_util::stream::{FuturesUnordered, StreamExt};
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::bookkeeper::v2::Flags;
use magnetar_proto::ids::{EntryId, LedgerId};
use std::collections::BTreeMap;

/// Entries probed or being made durable at once. A writer's whole pipeline may have to be recovered.
const WINDOW_ENTRIES: u64 = 64;

/// Fences the ledger, finds its end and closes it there. Gives its final record.
pub(crate) async fn recover(
    client: &Client,
    id: LedgerId,
    current: Versioned,
) -> Result<LedgerMetadata, LedgerError> {
    let begin = |record: &LedgerMetadata| Ok(record::begin_recovery(record));
    let current = metadata::update(client.metadata_store(), id, current, begin).await?;
    if matches!(current.metadata.state, LedgerState::Closed { .. }) {
        return Ok(current.metadata);
    }
    let mut copying = Copying::new(client, id, &current.metadata);
    let Recovered { last_entry, length } = copying.run(&current.metadata).await?;
    let length = match (last_entry, length) {
        (None, _) => 0,
        (Some(_), Some(length)) => length,
        (Some(last), None) => {
            Reader::of_record(client.clone(), id, current.metadata.clone())?.read_one(last).await?.0.length
        }
    };
    tracing::info!(ledger = %id, last_entry = last_entry.map(|entry| entry.0), "recovered a ledger");
    let state = LedgerState::Closed { last_entry, length };
    let close = |record: &LedgerMetadata| {
        let damaged =
            |error: record::NotOurs| LedgerError::DamagedMetadata { ledger: id, reason: error.to_string() };
        record::close_recovered(record, state, &copying.segments).map_err(damaged)
    };
    Ok(metadata::update(client.metadata_store(), id, current, close).await?.metadata)
}

/// The recovery's own ensemble. A failed bookie is replaced as by a writer, but only in memory.
struct Copying<'a> {
    client: &'a Client,
    id: LedgerId,
    needs: Needs,
    sending: Sending,
    /// Ensembles to be recorded when the ledger is closed. Their keys are not below that of the last recorded segment.
    segments: BTreeMap<EntryId, Vec<BookieId>>,
}

impl<'a> Copying<'a> {
    fn new(client: &'a Client, id: LedgerId, record: &LedgerMetadata) -> Self {
        let sending = Sending::new(client.pool().clone(), id, record, Flags::RECOVERY_WRITE);
        Self { client, id, needs: Needs::of_record(record), sending, segments: BTreeMap::new() }
    }

    /// Finds the end, and makes every entry up to there that may have been acknowledged durable.
    async fn run(&mut self, record: &LedgerMetadata) -> Result<Recovered, LedgerError> {
        let asking = Asking::fencing(self.client, self.id, record)?;
        let (start, _) = record.last_segment();
        let mut machine = RecoveryMachine::new(quorum_of(self.id, record)?, start, WINDOW_ENTRIES);
        let mut answers = FuturesUnordered::new();
        loop {
            // Before anything of it is sent.
            machine.tell_writer(|writer| self.sending.count(writer));
            while let Some(action) = machine.poll_action() {
                match action {
                    Action::Ask { slot, entry } => {
                        let asking = &asking;
                        answers.push(async move { (slot, entry, asking.ask(slot, entry).await) });
                    }
                    Action::Send { slot, entry } => self.sending.send(slot, entry),
                    Action::Replace { first_entry, failed, required } => {
                        let changed = self.replace(first_entry, failed, required);
                        machine.tell_writer(|writer| match changed {
                            Some(changed) => writer.on_ensemble_changed(changed),
                            None => writer.on_no_replacement(),
                        });
                    }
                }
            }
            if let Some(outcome) = machine.outcome() {
                return outcome.map_err(|failure| self.error_of(failure));
            }
            tokio::select! {
                biased;
                Some((slot, entry, answer)) = answers.next() => machine.on_answer(slot, entry, answer?),
                () = self.sending.outcomes() => machine.tell_writer(|writer| self.sending.tell(writer)),
            }
        }
    }

    /// The slots that have other bookies now; `None` when there are none to choose.
    fn replace(&mut self, first_entry: EntryId, failed: Slots, required: bool) -> Option<Slots> {
        let trust = if required { Trust::First } else { Trust::Only };
        let before = self.sending.ensemble();
        let (ensemble, changed) = placement::replace(self.client, &self.needs, &before, failed, trust);
        if changed.is_empty() {
            return None;
        }
        self.sending.replace(changed, &ensemble);
        self.segments.insert(first_entry, ensemble);
        Some(changed)
    }

    fn error_of(&self, failure: RecoveryFailure) -> LedgerError {
        let reason = match failure {
            RecoveryFailure::NotFenced => "its end cannot be told".to_owned(),
            RecoveryFailure::Unknown(entry) => format!("whether entry {entry} exists cannot be told"),
            RecoveryFailure::NotCopied(WriterFailure::Unauthorized) => {
                return LedgerError::Unauthorized(self.id);
            }
            // A bookie takes what a recovery writes, fenced or not, unless the ledger has been deleted.
            RecoveryFailure::NotCopied(WriterFailure::Fenced) => return LedgerError::NoSuchLedger(self.id),
            RecoveryFailure::NotCopied(WriterFailure::OutOfReach) => {
                "a recovered entry could not be made durable".to_owned()
            }
        };
        LedgerError::NotEnoughBookies { ledger: self.id, reason }
    }
}
