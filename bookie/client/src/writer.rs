//! The writer of an open ledger: gives [`WriterMachine`] its sockets and its metadata.

use crate::client::Client;
use crate::ensemble_change::{self, AwaitsMetadata, Change};
use crate::error::{AppendError, LedgerError};
use crate::metadata::{self, Versioned};
use crate::protocol::quorum::Quorum;
use crate::protocol::record;
use crate::protocol::writer::{Action, WriterFailure, WriterMachine};
use crate::reader::Reader;
use crate::sending::Sending;
use crate::view::View;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use magnetar_common::bookies::BookieDirectory;
use magnetar_common::metadata::{Expect, Op};
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::bookkeeper::paths::ledger_path;
use magnetar_proto::bookkeeper::v2::Flags;
use magnetar_proto::ids::{EntryId, LedgerId};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::watch;

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
    awaits_metadata: AwaitsMetadata,
    /// Until a change is tried again that was put off.
    postponed: Option<BoxFuture<'static, ()>>,
    directory: BookieDirectory,
    slow: watch::Receiver<u64>,
    reported: Option<EntryId>,
}

impl Writer {
    pub(crate) fn new(client: Client, id: LedgerId, quorum: Quorum, current: Versioned) -> Self {
        Self {
            sending: Sending::new(client.pool().clone(), id, &current.metadata, Flags::NONE),
            view: Arc::new(View::new(current.metadata.clone(), None, 0)),
            machine: WriterMachine::new(quorum),
            directory: client.directory().clone(),
            slow: client.pool().slow_version(),
            client,
            id,
            current,
            change: None,
            awaits_metadata: AwaitsMetadata::default(),
            postponed: None,
            reported: None,
        }
    }

    /// The ledger.
    pub fn id(&self) -> LedgerId {
        self.id
    }

    /// Takes an entry, gives it the next id and sends it to its bookies. Never blocks and never copies the payload. Whether
    /// and when the entry is acknowledged shows in [`next`](Self::next).
    ///
    /// While as many bytes wait to be acknowledged as [`ClientConfig::ledger_bytes_max`](crate::ClientConfig) allows, the
    /// error is [`LedgerError::Busy`]; every other error is final.
    pub fn append(&mut self, payload: Bytes) -> Result<EntryId, AppendError> {
        let in_flight_bytes = self.in_flight_bytes();
        // An entry alone is always taken, however large.
        if in_flight_bytes > 0 && in_flight_bytes + payload.len() > self.client.config().ledger_bytes_max {
            let awaiting_metadata = self.awaits_metadata.load(Ordering::Relaxed);
            let error = LedgerError::Busy { ledger: self.id, in_flight_bytes, awaiting_metadata };
            return Err(AppendError { error, payload });
        }
        match self.machine.append(payload.clone()) {
            Ok(id) => {
                self.sending.count(&self.machine);
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
                () = finished(&mut self.postponed) => self.machine.on_bookies_changed(),
                () = looked(&mut self.slow) => self.replace_slow(),
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

    /// Payload bytes that are kept: not acknowledged, or acknowledged while the ensemble changes and to be sent to its new
    /// bookies as well.
    pub fn in_flight_bytes(&self) -> usize {
        usize::try_from(self.machine.in_flight_bytes()).unwrap_or(usize::MAX)
    }

    /// Payload bytes that the slowest bookie of the ensemble has not answered, acknowledged by the others or not. Over all
    /// ledgers a bookie lags behind by at most [`ClientConfig::lag_bytes_max`](crate::ClientConfig); then its adds fail.
    pub fn unanswered_bytes(&self) -> usize {
        self.sending.unanswered_bytes()
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
    pub async fn close(mut self) -> Result<ClosedLedger, LedgerError> {
        if let Some(change) = self.change.take() {
            // It holds the newer version of the record, and its new bookies get what was acknowledged meanwhile.
            self.on_change(change.await);
            self.act();
        }
        let closed = self.end();
        let state = LedgerState::Closed { last_entry: closed.last_entry, length: closed.length };
        let id = self.id;
        let close = |record: &LedgerMetadata| {
            record::close_written(record, state).map_err(|_| LedgerError::Fenced(id))
        };
        metadata::update(self.client.metadata_store(), id, self.current, close).await?;
        Ok(closed)
    }

    /// What [`close`](Self::close) would write, for a transaction of the caller's, with the end that it gives the ledger. Once it
    /// is applied the writer is to be dropped; if it is refused, `close` tells why. `None` while entries wait to be acknowledged
    /// or the ensemble changes.
    pub fn closing(&self) -> Option<(ClosedLedger, Op)> {
        let all = self.machine.last_add_confirmed() == self.machine.last_add_pushed();
        if !all || self.change.is_some() || self.machine.failure().is_some() {
            return None;
        }
        let closed = self.end();
        let state = LedgerState::Closed { last_entry: closed.last_entry, length: closed.length };
        let record = record::close_written(&self.current.metadata, state).ok()??;
        let (key, expect) = (ledger_path(self.id), Expect::Version(self.current.version));
        Some((closed, Op::Put { key, value: record.encode(), expect, lease: None }))
    }

    fn end(&self) -> ClosedLedger {
        ClosedLedger {
            last_entry: self.machine.last_add_confirmed(),
            length: self.machine.confirmed_length(),
        }
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
            Change::Postponed => {
                self.machine.on_no_replacement();
                let again = ensemble_change::answers_again(self.client.clone(), self.id);
                self.postponed = Some(Box::pin(again));
            }
            Change::TakenOver => self.machine.on_taken_over(),
        }
    }

    /// Bookies of the ensemble may be far slower than their peers, or no longer.
    fn replace_slow(&mut self) {
        if self.postponed.is_none() {
            // One that was taken back is a candidate again.
            self.machine.on_bookies_changed();
        }
        for slot in self.sending.slow_slots().iter() {
            let now = self.client.env().clock.now();
            if self.client.pool().slow().may_replace(now) {
                self.machine.on_slow(slot);
            }
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Send { slot, entry } => self.sending.send(slot, entry),
                Action::ChangeEnsemble { first_entry, failed, required } => {
                    let (client, current) = (self.client.clone(), self.current.clone());
                    let request = ensemble_change::Request { id: self.id, first_entry, failed, required };
                    let change =
                        ensemble_change::change(client, current, request, self.awaits_metadata.clone());
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

/// Resolves when what runs has ended, and takes it out; pending while nothing does. Cancel-safe.
async fn finished<T>(running: &mut Option<BoxFuture<'static, T>>) -> T {
    match running {
        Some(future) => {
            let outcome = future.await;
            *running = None;
            outcome
        }
        None => std::future::pending().await,
    }
}

/// Resolves when there may be other slow bookies. Cancel-safe.
async fn looked(slow: &mut watch::Receiver<u64>) {
    if slow.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
