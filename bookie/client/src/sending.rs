//! Sending entries to the bookies of an ensemble: what a writer and a recovery do alike.

use crate::connection::{Add, AddDone, AddReply, Connection, ENTRY_OVERHEAD, Load};
use crate::pool::Pool;
use crate::protocol::quorum::Slots;
use crate::protocol::writer::{AddOutcome, PendingEntry, WriterMachine};
use bytes::{Bytes, BytesMut};
use magnetar_proto::bookkeeper::entry::{BodyHeader, Digest};
use magnetar_proto::bookkeeper::metadata_format::LedgerMetadata;
use magnetar_proto::bookkeeper::v2::{self, Flags, MasterKey};
use magnetar_proto::bookkeeper::{BookieId, master_key};
use magnetar_proto::ids::{EntryId, LedgerId};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Outcomes taken from the channel at once.
const OUTCOMES_MAX: usize = 1024;
/// Heads of entries are cut from blocks, so that not every entry allocates. The first block is small, for most ledgers are
/// written now and then; each is twice as large as the one before it.
const HEADS_BYTES_MIN: usize = 512;
const HEADS_BYTES_MAX: usize = 32 * 1024;

/// The ensemble as connections, and the way back from them.
pub(crate) struct Sending {
    ledger: LedgerId,
    flags: Flags,
    digest: Digest,
    master_key: MasterKey,
    pool: Pool,
    slots: Vec<Slot>,
    heads: BytesMut,
    /// Size of the last block.
    heads_bytes: usize,
    /// The head encoded last: the bookies of a write set share it.
    last_head: Option<(EntryId, Bytes)>,
    done_sender: mpsc::UnboundedSender<AddDone>,
    /// Bounded by what the bookies' connections have outstanding.
    done: mpsc::UnboundedReceiver<AddDone>,
    received: Vec<AddDone>,
    load: Arc<Load>,
    /// This writer's part of the load.
    counted: usize,
}

/// A place in the ensemble. `generation` rises when its bookie is replaced: older answers do not count.
struct Slot {
    bookie: BookieId,
    connection: Connection,
    generation: u64,
    /// Payload bytes that this bookie was sent and has not answered.
    unanswered: usize,
}

impl Sending {
    /// To the last ensemble of `record`.
    pub(crate) fn new(pool: Pool, ledger: LedgerId, record: &LedgerMetadata, flags: Flags) -> Self {
        let (done_sender, done) = mpsc::unbounded_channel();
        let slot = |bookie: &BookieId| Slot {
            bookie: bookie.clone(),
            connection: pool.get(bookie),
            generation: 0,
            unanswered: 0,
        };
        Self {
            ledger,
            flags,
            digest: Digest::new(record.digest, &record.password),
            master_key: master_key(&record.password),
            slots: record.last_segment().1.iter().map(slot).collect(),
            load: pool.load(),
            counted: 0,
            pool,
            heads: BytesMut::new(),
            heads_bytes: 0,
            last_head: None,
            done_sender,
            done,
            received: Vec::new(),
        }
    }

    /// The digest of the ledger's entries.
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The bookies by slot.
    pub(crate) fn ensemble(&self) -> Vec<BookieId> {
        self.slots.iter().map(|slot| slot.bookie.clone()).collect()
    }

    /// Payload bytes that wait for the slowest bookie, acknowledged by the others or not.
    pub(crate) fn unanswered_bytes(&self) -> usize {
        self.slots.iter().map(|slot| slot.unanswered).max().unwrap_or(0)
    }

    /// Slots whose bookies are set aside for being slow, while there is anything that they have not answered.
    pub(crate) fn slow_slots(&self) -> Slots {
        let mut slots = Slots::NONE;
        let slow = self.pool.slow();
        for (number, slot) in self.slots.iter().enumerate() {
            if slot.unanswered > 0 && slow.is_quarantined(&slot.bookie) {
                slots.insert(number);
            }
        }
        slots
    }

    /// Puts other bookies into `changed` slots.
    pub(crate) fn replace(&mut self, changed: Slots, ensemble: &[BookieId]) {
        for slot in changed.iter() {
            let bookie = ensemble[slot].clone();
            let generation = self.slots[slot].generation + 1;
            self.slots[slot] = Slot { connection: self.pool.get(&bookie), bookie, generation, unanswered: 0 };
        }
    }

    /// Counts what the machine has in flight; before it is sent, and when some of it is acknowledged.
    pub(crate) fn count(&mut self, machine: &WriterMachine) {
        let overhead = machine.in_flight_entries().saturating_mul(ENTRY_OVERHEAD);
        let bytes = usize::try_from(machine.in_flight_bytes()).unwrap_or(usize::MAX);
        self.count_as(bytes.saturating_add(overhead));
    }

    /// Queues an entry for the bookie in a slot. Never blocks.
    pub(crate) fn send(&mut self, slot: usize, entry: PendingEntry) {
        self.pool.note_activity();
        let head = self.head_of(&entry);
        let payload_bytes = entry.payload.len();
        let Slot { connection, generation, unanswered, .. } = &mut self.slots[slot];
        *unanswered += payload_bytes;
        let reply = AddReply::new(self.done_sender.clone(), slot, *generation, entry.id, payload_bytes);
        connection.add(Add { ledger: self.ledger, entry: entry.id, head, payload: entry.payload, reply });
    }

    /// Resolves when outcomes have come; [`tell`](Self::tell) hands them on. Cancel-safe.
    pub(crate) async fn outcomes(&mut self) {
        self.done.recv_many(&mut self.received, OUTCOMES_MAX).await;
    }

    /// Hands the outcomes that have come to the machine, but for those of bookies that have been replaced.
    pub(crate) fn tell(&mut self, machine: &mut WriterMachine) {
        for done in self.received.drain(..) {
            let slot = &mut self.slots[done.slot];
            if slot.generation != done.generation {
                continue;
            }
            slot.unanswered -= done.payload_bytes;
            if done.outcome == AddOutcome::Failed {
                self.pool.note_failure(&slot.bookie);
            }
            machine.on_added(done.slot, done.entry, done.outcome);
        }
        self.count(machine);
    }

    fn count_as(&mut self, bytes: usize) {
        self.load.change(self.counted, bytes);
        self.counted = bytes;
    }

    fn head_of(&mut self, entry: &PendingEntry) -> Bytes {
        if let Some((_, head)) = self.last_head.as_ref().filter(|(id, _)| *id == entry.id) {
            return head.clone();
        }
        let header = BodyHeader {
            ledger_id: self.ledger,
            entry_id: entry.id,
            last_add_confirmed: entry.last_add_confirmed,
            length: entry.length,
        };
        let sealed = self.digest.seal(&header, &entry.payload);
        let sealed = sealed.as_ref();
        if self.heads.capacity() < sealed.len() * 4 {
            self.heads_bytes = (self.heads_bytes * 2).clamp(HEADS_BYTES_MIN, HEADS_BYTES_MAX);
            self.heads.reserve(self.heads_bytes);
        }
        v2::encode_add_header(&self.master_key, self.flags, sealed, entry.payload.len(), &mut self.heads);
        let head = self.heads.split().freeze();
        self.last_head = Some((entry.id, head.clone()));
        head
    }
}

impl Drop for Sending {
    /// What bookies have not answered yet still counts as in flight: those of a writer that is gone are no slower for it.
    fn drop(&mut self) {
        let (load, counted) = (self.load.clone(), self.counted);
        let (_, closed) = mpsc::unbounded_channel();
        let mut done = std::mem::replace(&mut self.done, closed);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if counted > 0 => drop(runtime.spawn(async move {
                // Ends with the last add's reply; each has its outcome within the connection's patience.
                while done.recv().await.is_some() {}
                load.change(counted, 0);
            })),
            _ => load.change(counted, 0),
        }
    }
}
