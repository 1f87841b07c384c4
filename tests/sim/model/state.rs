//! A state of the model, and what must hold in it.

use super::Model;
use super::digest::digest_of;
use crate::sim::defect::Defect;
use bytes::Bytes;
use magnetar_ledger::protocol::quorum::{Quorum, Slots};
use magnetar_ledger::protocol::recoverer::RecoveryMachine;
use magnetar_ledger::protocol::recovery::FoundEntry;
use magnetar_ledger::protocol::writer::{PendingEntry, WriterMachine};
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::bookkeeper::entry::DigestType;
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::ids::EntryId;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::rc::Rc;

/// Names of the bookies, and the payloads of the entries.
pub(super) const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// See the module.
#[derive(Clone, Hash)]
pub(super) struct State {
    pub(super) bookies: Vec<Bookie>,
    pub(super) record: Record,
    pub(super) writer: Writer,
    pub(super) recoveries: Vec<Recovery>,
    pub(super) losses_left: u8,
    /// In no order: hashed apart.
    pub(super) messages: Messages,
}

/// The record in the metadata store; changed seldom, so its digest is kept.
#[derive(Clone)]
pub(super) struct Record {
    now: Rc<LedgerMetadata>,
    digest: u128,
}

impl Record {
    pub(super) fn new(record: LedgerMetadata) -> Self {
        Self { digest: digest_of(&record), now: Rc::new(record) }
    }
}

impl Deref for Record {
    type Target = LedgerMetadata;

    fn deref(&self) -> &LedgerMetadata {
        &self.now
    }
}

impl Hash for Record {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.digest.hash(hasher);
    }
}

#[derive(Clone, Default)]
pub(super) struct Messages(pub(super) Vec<Message>);

/// The same whatever the order is.
impl Hash for Messages {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.iter().map(digest_of).fold(0_u128, u128::wrapping_add).hash(hasher);
    }
}

#[derive(Clone, Default, Hash)]
pub(super) struct Bookie {
    /// By entry, the last add confirmed that its body tells; all else follows from the id.
    pub(super) entries: BTreeMap<EntryId, Option<EntryId>>,
    pub(super) fenced: bool,
}

impl Bookie {
    pub(super) fn entry(&self, id: EntryId) -> Option<FoundEntry> {
        let last_add_confirmed = *self.entries.get(&id)?;
        Some(FoundEntry { id, last_add_confirmed, length: id.0 + 1, payload: payload(id) })
    }

    pub(super) fn newest(&self) -> Option<FoundEntry> {
        self.entry(*self.entries.last_key_value()?.0)
    }
}

#[derive(Clone, Hash)]
pub(super) struct Writer {
    pub(super) machine: WriterMachine,
    /// Bookie and generation by slot.
    pub(super) slots: Vec<(u8, u8)>,
    /// A change of the ensemble that the record does not say yet.
    pub(super) change: Option<Change>,
    pub(super) appended: u64,
}

#[derive(Clone, Hash)]
pub(super) struct Change {
    pub(super) first_entry: EntryId,
    pub(super) before: Vec<u8>,
    pub(super) ensemble: Vec<u8>,
    pub(super) slots: Slots,
}

#[derive(Clone, Hash)]
pub(super) struct Recovery {
    pub(super) attempts_left: u8,
    pub(super) running: Option<Running>,
    /// Where the attempt wants to close the ledger.
    pub(super) closing: Option<LedgerState>,
    pub(super) done: bool,
}

#[derive(Clone, Hash)]
pub(super) struct Running {
    pub(super) machine: RecoveryMachine,
    pub(super) asked: Vec<u8>,
    pub(super) slots: Vec<(u8, u8)>,
    pub(super) segments: BTreeMap<EntryId, Vec<u8>>,
}

/// A request under way to a bookie.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Message {
    pub(super) bookie: u8,
    /// Who still waits for the answer: 0 is the writer.
    pub(super) asker: Option<u8>,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    Add { slot: u8, generation: u8, entry: PendingEntry, recovery: bool },
    Ask { slot: u8, entry: Option<EntryId>, fencing: bool },
}

pub(super) fn quorum(model: &Model) -> Quorum {
    let (ensemble, write, ack) = model.sizes;
    Quorum::new(ensemble, write, ack).expect("the model's sizes are valid")
}

pub(super) fn payload(id: EntryId) -> Bytes {
    Bytes::from_static(NAMES[id.0 as usize].as_bytes())
}

pub(super) fn ids(ensemble: &[u8]) -> Vec<BookieId> {
    let id = |bookie: &u8| BookieId::new(NAMES[usize::from(*bookie)]).expect("a valid id");
    ensemble.iter().map(id).collect()
}

pub(super) fn bookies_of(ensemble: &[BookieId]) -> Vec<u8> {
    let bookie = |id: &BookieId| NAMES.iter().position(|name| *name == id.as_str());
    ensemble.iter().map(|id| bookie(id).expect("a known bookie") as u8).collect()
}

impl State {
    pub(super) fn new(model: &Model) -> Self {
        let (ensemble_size, write_quorum, ack_quorum) = model.sizes;
        let ensemble: Vec<u8> = (0..ensemble_size as u8).collect();
        let record = LedgerMetadata {
            ensemble_size,
            write_quorum,
            ack_quorum,
            state: LedgerState::Open,
            segments: BTreeMap::from([(EntryId::ZERO, ids(&ensemble))]),
            digest: DigestType::Crc32c,
            password: Bytes::new(),
            ctime_ms: None,
            custom: BTreeMap::new(),
            c_token: None,
        };
        let quorum = match model.defect {
            Some(Defect::AckBelowQuorum) => Quorum::new(ensemble_size, write_quorum, ack_quorum - 1),
            _ => Quorum::new(ensemble_size, write_quorum, ack_quorum),
        };
        let writer = Writer {
            machine: WriterMachine::new(quorum.expect("the model's sizes are valid")),
            slots: ensemble.iter().map(|bookie| (*bookie, 0)).collect(),
            change: None,
            appended: 0,
        };
        let recovery = Recovery { attempts_left: model.attempts, running: None, closing: None, done: false };
        Self {
            bookies: vec![Bookie::default(); model.bookies],
            record: Record::new(record),
            writer,
            recoveries: vec![recovery; model.recoveries],
            losses_left: model.losses,
            messages: Messages::default(),
        }
    }

    pub(super) fn digest(&self) -> u128 {
        digest_of(self)
    }

    /// What must hold and does not.
    pub(super) fn violation(&self, model: &Model) -> Option<String> {
        let confirmed = self.writer.machine.last_add_confirmed();
        let settled = match self.record.state {
            LedgerState::Closed { last_entry, .. } if confirmed > last_entry => {
                return Some(format!("closed at {last_entry:?} with {confirmed:?} acknowledged"));
            }
            LedgerState::Closed { last_entry, .. } => last_entry,
            LedgerState::Open | LedgerState::InRecovery => confirmed,
        };
        let quorum = quorum(model);
        for entry in (0..settled.map_or(0, |last| last.0 + 1)).map(EntryId) {
            // What a new reader would find.
            let ensemble = bookies_of(self.record.ensemble_of(entry));
            let holds =
                |slot: &usize| self.bookies[usize::from(ensemble[*slot])].entries.contains_key(&entry);
            let copies = quorum.write_set(entry).filter(holds).count();
            if !quorum.is_acknowledged(copies) {
                return Some(format!("entry {entry} has {copies} copies where the record says"));
            }
        }
        None
    }
}
