//! The writer of an open ledger: gives [`WriterMachine`] its sockets and its metadata.

use crate::client::Client;
use crate::connection::{Add, AddDone, AddReply, Connection};
use crate::error::{AppendError, LedgerError};
use crate::metadata::{self, Versioned};
use crate::placement;
use crate::protocol::quorum::{Quorum, Slots};
use crate::protocol::writer::{Action, PendingEntry, WriterFailure, WriterMachine};
use crate::reader::Reader;
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use magnetar_common::bookies::BookieDirectory;
use magnetar_proto::bookkeeper::entry::{BodyHeader, Digest};
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::bookkeeper::v2::{self, Flags, MasterKey};
use magnetar_proto::bookkeeper::{BookieId, master_key};
use magnetar_proto::ids::{EntryId, LedgerId};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::mpsc;

/// Outcomes taken from the channel at once.
const OUTCOMES_MAX: usize = 1024;
/// Heads of entries are cut from blocks of this size, so that not every entry allocates.
const HEADS_BYTES: usize = 32 * 1024;

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
    record: Arc<RwLock<LedgerMetadata>>,
    slots: Vec<Slot>,
    digest: Digest,
    master_key: MasterKey,
    heads: BytesMut,
    /// The head encoded last: the bookies of a write set share it.
    last_head: Option<(EntryId, Bytes)>,
    done_sender: mpsc::UnboundedSender<AddDone>,
    /// Bounded by what the bookies' connections have outstanding.
    done: mpsc::UnboundedReceiver<AddDone>,
    received: Vec<AddDone>,
    change: Option<BoxFuture<'static, Change>>,
    directory: BookieDirectory,
    reported: Option<EntryId>,
}

/// A place in the ensemble. `generation` rises when its bookie is replaced: older answers do not count.
struct Slot {
    connection: Connection,
    generation: u64,
}

/// How an ensemble change ended.
enum Change {
    Made { current: Versioned, slots: Slots },
    NoReplacement,
    TakenOver,
}

impl Writer {
    pub(crate) fn new(client: Client, id: LedgerId, quorum: Quorum, current: Versioned) -> Self {
        let (done_sender, done) = mpsc::unbounded_channel();
        let (_, ensemble) = current.metadata.last_segment();
        let slot = |bookie: &BookieId| Slot { connection: client.pool().get(bookie), generation: 0 };
        Self {
            slots: ensemble.iter().map(slot).collect(),
            digest: Digest::new(current.metadata.digest, &current.metadata.password),
            master_key: master_key(&current.metadata.password),
            record: Arc::new(RwLock::new(current.metadata.clone())),
            machine: WriterMachine::new(quorum),
            directory: client.directory().clone(),
            client,
            id,
            current,
            heads: BytesMut::new(),
            last_head: None,
            done_sender,
            done,
            received: Vec::new(),
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
                return Event::Confirmed { last };
            }
            tokio::select! {
                biased;
                change = finished(&mut self.change) => self.on_change(change),
                _ = self.done.recv_many(&mut self.received, OUTCOMES_MAX) => self.on_done(),
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

    /// A reader of the acknowledged entries, which follows ensemble changes of this writer.
    pub fn reader(&self) -> Reader {
        Reader::new(
            self.client.clone(),
            self.id,
            self.machine.quorum(),
            self.digest.clone(),
            self.record.clone(),
        )
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

    fn on_done(&mut self) {
        for done in self.received.drain(..) {
            if self.slots[done.slot].generation == done.generation {
                self.machine.on_added(done.slot, done.entry, done.outcome);
            }
        }
    }

    fn on_change(&mut self, change: Change) {
        match change {
            Change::Made { current, slots } => {
                let (_, ensemble) = current.metadata.last_segment();
                for slot in slots.iter() {
                    let generation = self.slots[slot].generation + 1;
                    let connection = self.client.pool().get(&ensemble[slot]);
                    self.slots[slot] = Slot { connection, generation };
                }
                *self.record.write().unwrap_or_else(PoisonError::into_inner) = current.metadata.clone();
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
                Action::Send { slot, entry } => self.send(slot, entry),
                Action::ChangeEnsemble { first_entry, failed } => {
                    let change = change_ensemble(
                        self.client.clone(),
                        self.id,
                        self.current.clone(),
                        first_entry,
                        failed,
                    );
                    self.change = Some(Box::pin(change));
                }
            }
        }
    }

    fn send(&mut self, slot: usize, entry: PendingEntry) {
        let head = self.head_of(&entry);
        let Slot { connection, generation } = &self.slots[slot];
        let reply = AddReply::new(self.done_sender.clone(), slot, *generation, entry.id);
        connection.add(Add { ledger: self.id, entry: entry.id, head, payload: entry.payload, reply });
    }

    fn head_of(&mut self, entry: &PendingEntry) -> Bytes {
        if let Some((_, head)) = self.last_head.as_ref().filter(|(id, _)| *id == entry.id) {
            return head.clone();
        }
        let header = BodyHeader {
            ledger_id: self.id,
            entry_id: entry.id,
            last_add_confirmed: entry.last_add_confirmed,
            length: entry.length,
        };
        let sealed = self.digest.seal(&header, &entry.payload);
        if self.heads.capacity() < sealed.as_ref().len() * 4 {
            self.heads.reserve(HEADS_BYTES);
        }
        v2::encode_add_header(
            &self.master_key,
            Flags::NONE,
            sealed.as_ref(),
            entry.payload.len(),
            &mut self.heads,
        );
        let head = self.heads.split().freeze();
        self.last_head = Some((entry.id, head.clone()));
        head
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

/// Puts other bookies into the failed slots, from `first_entry` on, by compare-and-set: only while the ledger is open and
/// the failed bookies are still in their slots.
async fn change_ensemble(
    client: Client,
    id: LedgerId,
    current: Versioned,
    first_entry: EntryId,
    failed: Slots,
) -> Change {
    let (_, before) = current.metadata.last_segment();
    let before = before.to_vec();
    let bookies = client.directory().now();
    let replacements = placement::choose(&bookies, &client.env().random, failed.len(), &before);
    if replacements.is_empty() {
        return Change::NoReplacement;
    }
    let mut slots = Slots::NONE;
    let mut ensemble = before.clone();
    for (slot, bookie) in failed.iter().zip(replacements) {
        tracing::warn!(ledger = %id, slot, failed = %before[slot], replacement = %bookie, "replacing a bookie");
        ensemble[slot] = bookie;
        slots.insert(slot);
    }
    let changed = metadata::update(client.metadata_store(), id, current, |record| {
        let (start, now) = record.last_segment();
        if record.state != LedgerState::Open {
            return Err(LedgerError::Fenced(id));
        }
        if now == ensemble && start <= first_entry {
            return Ok(None);
        }
        if now != before || first_entry < start {
            return Err(LedgerError::Fenced(id));
        }
        let mut record = record.clone();
        // Equal to the start of the last segment: that segment has no confirmed entry, so it is replaced.
        record.segments.insert(first_entry, ensemble.clone());
        Ok(Some(record))
    })
    .await;
    match changed {
        Ok(current) => Change::Made { current, slots },
        Err(LedgerError::Fenced(_)) => Change::TakenOver,
        Err(error) => {
            tracing::warn!(ledger = %id, %error, "cannot record another ensemble; going on with the bookies that answer");
            Change::NoReplacement
        }
    }
}
