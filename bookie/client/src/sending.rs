//! Sending entries to the bookies of an ensemble: what a writer and a recovery do alike.

use crate::connection::{Add, AddDone, AddReply, Connection};
use crate::pool::Pool;
use crate::protocol::quorum::Slots;
use crate::protocol::writer::{AddOutcome, PendingEntry, WriterMachine};
use bytes::{Bytes, BytesMut};
use magnetar_proto::bookkeeper::entry::{BodyHeader, Digest};
use magnetar_proto::bookkeeper::metadata_format::LedgerMetadata;
use magnetar_proto::bookkeeper::v2::{self, Flags, MasterKey};
use magnetar_proto::bookkeeper::{BookieId, master_key};
use magnetar_proto::ids::{EntryId, LedgerId};
use tokio::sync::mpsc;

/// Outcomes taken from the channel at once.
const OUTCOMES_MAX: usize = 1024;
/// Heads of entries are cut from blocks of this size, so that not every entry allocates.
const HEADS_BYTES: usize = 32 * 1024;

/// The ensemble as connections, and the way back from them.
pub(crate) struct Sending {
    ledger: LedgerId,
    flags: Flags,
    digest: Digest,
    master_key: MasterKey,
    pool: Pool,
    slots: Vec<Slot>,
    heads: BytesMut,
    /// The head encoded last: the bookies of a write set share it.
    last_head: Option<(EntryId, Bytes)>,
    done_sender: mpsc::UnboundedSender<AddDone>,
    /// Bounded by what the bookies' connections have outstanding.
    done: mpsc::UnboundedReceiver<AddDone>,
    received: Vec<AddDone>,
}

/// A place in the ensemble. `generation` rises when its bookie is replaced: older answers do not count.
struct Slot {
    bookie: BookieId,
    connection: Connection,
    generation: u64,
}

impl Sending {
    /// To the last ensemble of `record`.
    pub(crate) fn new(pool: Pool, ledger: LedgerId, record: &LedgerMetadata, flags: Flags) -> Self {
        let (done_sender, done) = mpsc::unbounded_channel();
        let slot =
            |bookie: &BookieId| Slot { bookie: bookie.clone(), connection: pool.get(bookie), generation: 0 };
        Self {
            ledger,
            flags,
            digest: Digest::new(record.digest, &record.password),
            master_key: master_key(&record.password),
            slots: record.last_segment().1.iter().map(slot).collect(),
            pool,
            heads: BytesMut::new(),
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

    /// Puts other bookies into `changed` slots.
    pub(crate) fn replace(&mut self, changed: Slots, ensemble: &[BookieId]) {
        for slot in changed.iter() {
            let bookie = ensemble[slot].clone();
            let generation = self.slots[slot].generation + 1;
            self.slots[slot] = Slot { connection: self.pool.get(&bookie), bookie, generation };
        }
    }

    /// Queues an entry for the bookie in a slot. Never blocks.
    pub(crate) fn send(&mut self, slot: usize, entry: PendingEntry) {
        let head = self.head_of(&entry);
        let Slot { connection, generation, .. } = &self.slots[slot];
        let reply = AddReply::new(self.done_sender.clone(), slot, *generation, entry.id);
        connection.add(Add { ledger: self.ledger, entry: entry.id, head, payload: entry.payload, reply });
    }

    /// Resolves when outcomes have come; [`tell`](Self::tell) hands them on. Cancel-safe.
    pub(crate) async fn outcomes(&mut self) {
        self.done.recv_many(&mut self.received, OUTCOMES_MAX).await;
    }

    /// Hands the outcomes that have come to the machine, but for those of bookies that have been replaced.
    pub(crate) fn tell(&mut self, machine: &mut WriterMachine) {
        for done in self.received.drain(..) {
            let slot = &self.slots[done.slot];
            if slot.generation != done.generation {
                continue;
            }
            if done.outcome == AddOutcome::Failed {
                self.pool.note_failure(&slot.bookie);
            }
            machine.on_added(done.slot, done.entry, done.outcome);
        }
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
            self.heads.reserve(HEADS_BYTES);
        }
        v2::encode_add_header(&self.master_key, self.flags, sealed, entry.payload.len(), &mut self.heads);
        let head = self.heads.split().freeze();
        self.last_head = Some((entry.id, head.clone()));
        head
    }
}
