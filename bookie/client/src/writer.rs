//! The writer of an open ledger: gives [`WriterMachine`] its sockets and its metadata.

use crate::client::Client;
use crate::ensemble_change::{self, Change};
use crate::error::{AppendError, LedgerError};
use crate::metadata::{self, Versioned};
use crate::placement::Trust;
use crate::protocol::quorum::Quorum;
use crate::protocol::writer::{Action, WriterFailure, WriterMachine};
use crate::reader::Reader;
use crate::sending::Sending;
use crate::view::View;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use magnetar_common::bookies::BookieDirectory;
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::bookkeeper::v2::Flags;
use magnetar_proto::ids::{EntryId, LedgerId};
use std::sync::Arc;

/// What has happened to a writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Every entry up to `last` is acknowledged: durable on Qa bookies, and found by whoever opens the ledger.
    Confirmed {
        /// The last add confirmed. Rises from event to event.
        last: EntryId,
    },
    /// The writer has ended; the fate of what was not confirmed is unknown. Final.
    Failed(LedgerError),
}

/// How a ledger ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedLedger {
    /// `None`: it has no entries.
    pub last_entry: Option<EntryId>,
    /// Sum of the payloads in bytes.
    pub length: u64,
}

/// The only writer of an open ledger. Dropped without [`close`](Self::close), it leaves the ledger open, to be recovered.
pub struct Writer {
    client: Client,
    id: LedgerId,
    machine: WriterMachine,
    current: Versioned,
    /// What readers of this ledger see; written only here.
    view: Arc<View>,
    sending: Sending,
    change: Option<BoxFuture<'static, Change>>,
    directory: BookieDirectory,
    reported: Option<EntryId>,
}

impl Writer {
    pub(crate) fn new(client: Client, id: LedgerId, quorum: Quorum, current: Versioned) -> Self {
        Self {
            sending: Sending::new(client.pool().clone(), id, &current.metadata, Flags::NONE),
            view: Arc::new(View::new(current.metadata.clone(), None, 0)),
            machine: WriterMachine::new(quorum),
            directory: client.directory().clone(),
            client,
            id,
            current,
            change: None,
            reported: None,
        }
    }

    /// The ledger.
    pub fn id(&self) -> LedgerId {
        self.id
    }

    /// Takes an entry, gives it the next id and sends it to its bookies. Never blocks and never copies the payload; the
    /// caller bounds what is in flight by [`in_flight_bytes`](Self::in_flight_bytes). Whether and when the entry is
    /// acknowledged shows in [`next`](Self::next).
    pub fn append(&mut self, payload: Bytes) -> Result<EntryId, AppendError> {
        match self.machine.append(payload.clone()) {
            Ok(id) => {
                self.act();
                Ok(id)
            }
            Err(failure) => Err(AppendError { error: self.error_of(failure), payload }),
        }
    }

    /// The next thing that has happened; pending while nothing does. Cancel-safe. Must be polled for entries to be
    /// acknowledged.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(failure) = self.machine.failure() {
                return Event::Failed(self.error_of(failure));
            }
            let confirmed = self.machine.last_add_confirmed();
            if let Some(last) = confirmed.filter(|_| confirmed > self.reported) {
                self.reported = confirmed;
                self.view.advance(last, self.machine.confirmed_length());
                return Event::Confirmed { last };
            }
            tokio::select! {
                biased;
                change = finished(&mut self.change) => self.on_change(change),
                () = self.sending.outcomes() => self.sending.tell(&mut self.machine),
                () = self.directory.changed() => self.machine.on_bookies_changed(),
            }
            self.act();
        }
    }

    /// Every entry up to this one is acknowledged.
    pub fn last_add_confirmed(&self) -> Option<EntryId> {
        self.machine.last_add_confirmed()
    }

    /// The last entry taken.
    pub fn last_add_pushed(&self) -> Option<EntryId> {
        self.machine.last_add_pushed()
    }

    /// Payload bytes taken and not acknowledged.
    pub fn in_flight_bytes(&self) -> usize {
        usize::try_from(self.machine.in_flight_bytes()).unwrap_or(usize::MAX)
    }

    /// Payload bytes taken.
    pub fn length(&self) -> u64 {
        self.machine.length()
    }

    /// A reader of the acknowledged entries, which follows this writer: its last entry is the last add confirmed that
    /// [`next`](Self::next) has reported.
    pub fn reader(&self) -> Reader {
        let digest = self.sending.digest().clone();
        Reader::new(self.client.clone(), self.id, self.machine.quorum(), digest, self.view.clone())
    }

    /// Closes the ledger at the last add confirmed. Entries not acknowledged by now are given up: wait for them first.
    /// Fails with [`LedgerError::Fenced`] when somebody else has recovered the ledger to another end.
    pub async fn close(self) -> Result<ClosedLedger, LedgerError> {
        let closed = ClosedLedger {
            last_entry: self.machine.last_add_confirmed(),
            length: self.machine.confirmed_length(),
        };
        let state = LedgerState::Closed { last_entry: closed.last_entry, length: closed.length };
        let id = self.id;
        let mut current = self.current;
        if let Some(change) = self.change {
            // A running change of the ensemble holds the newer version of the record.
            if let Change::Made { current: changed, .. } = change.await {
                current = changed;
            }
        }
        metadata::update(self.client.metadata_store(), id, current, |record| match record.state {
            LedgerState::Open => Ok(Some(LedgerMetadata { state, ..record.clone() })),
            other if other == state => Ok(None),
            LedgerState::InRecovery | LedgerState::Closed { .. } => Err(LedgerError::Fenced(id)),
        })
        .await?;
        Ok(closed)
    }

    fn on_change(&mut self, change: Change) {
        match change {
            Change::Made { current, slots } => {
                self.sending.replace(slots, current.metadata.last_segment().1);
                self.view.set_record(current.metadata.clone());
                self.current = current;
                self.machine.on_ensemble_changed(slots);
            }
            Change::NoReplacement => self.machine.on_no_replacement(),
            Change::TakenOver => self.machine.on_taken_over(),
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Send { slot, entry } => self.sending.send(slot, entry),
                Action::ChangeEnsemble { first_entry, failed, required } => {
                    let trust = if required { Trust::First } else { Trust::Only };
                    let (client, current) = (self.client.clone(), self.current.clone());
                    let change =
                        ensemble_change::change(client, self.id, current, first_entry, failed, trust);
                    self.change = Some(Box::pin(change));
                }
            }
        }
    }

    fn error_of(&self, failure: WriterFailure) -> LedgerError {
        match failure {
            WriterFailure::Fenced => LedgerError::Fenced(self.id),
            WriterFailure::Unauthorized => LedgerError::Unauthorized(self.id),
            WriterFailure::OutOfReach => LedgerError::NotEnoughBookies {
                ledger: self.id,
                reason: "an entry cannot reach its ack quorum, and no other bookie is writable".into(),
            },
        }
    }
}

/// Resolves when the change has ended, and takes it out; pending while there is none. Cancel-safe.
async fn finished(change: &mut Option<BoxFuture<'static, Change>>) -> Change {
    match change {
        Some(running) => {
            let outcome = running.await;
            *change = None;
            outcome
        }
        None => std::future::pending().await,
    }
}
