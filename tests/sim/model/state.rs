//! A state of the model, and what must hold in it.

use super::digest::{Lanes, Views, digest_of_word};
use super::{ASKERS_MAX, BOOKIES_MAX, ENTRIES_MAX, Model};
use crate::sim::defect::Defect;
use bytes::Bytes;
use magnetar_ledger::protocol::quorum::{Quorum, Slots};
use magnetar_ledger::protocol::recoverer::RecoveryMachine;
use magnetar_ledger::protocol::recovery::FoundEntry;
use magnetar_ledger::protocol::writer::WriterMachine;
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::bookkeeper::entry::DigestType;
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::ids::EntryId;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// Names of the bookies, and the payloads of the entries.
pub(super) const NAMES: [&str; BOOKIES_MAX] = ["a", "b", "c", "d", "e", "f"];

/// See the module. Cloning it copies next to nothing: a step changes one of the parts.
#[derive(Clone)]
pub(super) struct State {
    pub(super) bookies: [Bookie; BOOKIES_MAX],
    pub(super) record: Part<LedgerMetadata>,
    pub(super) writer: Part<Writer>,
    pub(super) recoveries: Vec<Part<Recovery>>,
    pub(super) losses_left: u8,
    /// In no order.
    pub(super) messages: Vec<Message>,
}

/// A part of states, shared by those that have the same.
#[derive(Clone)]
pub(super) struct Part<T> {
    value: Arc<T>,
    /// `None`: it has changed since.
    views: Option<Views>,
}

impl<T: Clone + Hash> Part<T> {
    pub(super) fn new(value: T) -> Self {
        Self { views: Some(Views::of(&value)), value: Arc::new(value) }
    }

    /// To be changed.
    pub(super) fn change(&mut self) -> &mut T {
        self.views = None;
        Arc::make_mut(&mut self.value)
    }

    /// Looks at it again after a change.
    pub(super) fn settle(&mut self) {
        if self.views.is_none() {
            self.views = Some(Views::of(&*self.value));
        }
    }

    fn views(&self) -> &Views {
        self.views.as_ref().expect("a step settles what it changes")
    }
}

impl<T> Deref for Part<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// What a bookie keeps.
#[derive(Clone, Copy, Default)]
pub(super) struct Bookie {
    /// By entry, the last add confirmed that its body tells; all else follows from the id.
    entries: [Option<Option<EntryId>>; ENTRIES_MAX],
    pub(super) fenced: bool,
}

impl Bookie {
    pub(super) fn entry(&self, id: EntryId) -> Option<FoundEntry> {
        let last_add_confirmed = self.told_by(id)?;
        Some(FoundEntry { id, last_add_confirmed, length: id.0 + 1, payload: payload(id) })
    }

    pub(super) fn newest(&self) -> Option<FoundEntry> {
        let newest = self.entries.iter().rposition(|entry| entry.is_some())?;
        self.entry(EntryId(newest as u64))
    }

    /// The last add confirmed that its copy of an entry tells; `None`: it has none.
    pub(super) fn told_by(&self, id: EntryId) -> Option<Option<EntryId>> {
        self.entries[id.0 as usize]
    }

    pub(super) fn store(&mut self, id: EntryId, last_add_confirmed: Option<EntryId>) {
        self.entries[id.0 as usize] = Some(last_add_confirmed);
    }

    /// Equal for equal bookies only.
    fn word(&self) -> u64 {
        let code = |entry: &Option<Option<EntryId>>| match entry {
            None => 0,
            Some(told) => 1 + told.map_or(0, |last| last.0 + 1),
        };
        self.entries.iter().fold(self.fenced.into(), |word, entry| word << 8 | code(entry))
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

impl Recovery {
    /// Nothing comes of it any more.
    pub(super) fn is_over(&self) -> bool {
        self.done && self.attempts_left == 0 && self.running.is_none() && self.closing.is_none()
    }
}

#[derive(Clone, Hash)]
pub(super) struct Running {
    pub(super) machine: RecoveryMachine,
    pub(super) asked: Vec<u8>,
    pub(super) slots: Vec<(u8, u8)>,
    pub(super) segments: BTreeMap<EntryId, Vec<u8>>,
}

/// A request under way to a bookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) bookie: u8,
    /// Who still waits for the answer: 0 is the writer.
    pub(super) asker: Option<u8>,
    pub(super) slot: u8,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// All that is not said here follows from the id.
    Add {
        generation: u8,
        id: EntryId,
        last_add_confirmed: Option<EntryId>,
        recovery: bool,
    },
    Ask {
        entry: Option<EntryId>,
        fencing: bool,
    },
}

impl Message {
    /// Equal for equal messages of one asker to one bookie only.
    fn word(&self) -> u64 {
        let code = |id: Option<EntryId>| id.map_or(0, |id| id.0 + 1);
        let fields = match self.what {
            What::Add { generation, id, last_add_confirmed, recovery } => {
                [1, generation.into(), id.0, code(last_add_confirmed), recovery.into()]
            }
            What::Ask { entry, fencing } => [2, 0, code(entry), 0, fencing.into()],
        };
        fields.into_iter().fold(self.slot.into(), |word, field| word << 8 | field)
    }
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
            bookies: [Bookie::default(); BOOKIES_MAX],
            record: Part::new(record),
            writer: Part::new(writer),
            recoveries: vec![Part::new(recovery); model.recoveries],
            losses_left: model.losses,
            messages: Vec::new(),
        }
    }

    /// The same for states that differ only in the names of recoveries, and for those that differ only in the names of
    /// bookies if these are [interchangeable](Model::bookies_are_interchangeable).
    pub(super) fn digest(&self, model: &Model) -> u128 {
        let mut messages = [[0_u128; 1 + ASKERS_MAX]; BOOKIES_MAX];
        for message in &self.messages {
            let asker = message.asker.map_or(0, |asker| usize::from(asker) + 1);
            let slot = if model.bookies_are_interchangeable() { 0 } else { message.slot };
            let sum = &mut messages[usize::from(message.bookie)][asker];
            *sum = sum.wrapping_add(digest_of_word(Message { slot, ..*message }.word()));
        }
        let count = self.recoveries.len();
        let orders = (0..count).map(|first| (0..count).map(move |number| (first + number) % count));
        let digests = orders.map(|order| self.digest_in_order(model, &messages, order));
        digests.min().unwrap_or_else(|| self.digest_in_order(model, &messages, 0..0))
    }

    /// The recoveries in this order.
    fn digest_in_order(
        &self,
        model: &Model,
        messages: &[[u128; 1 + ASKERS_MAX]; BOOKIES_MAX],
        order: impl Iterator<Item = usize> + Clone,
    ) -> u128 {
        let writer = self.writer.views();
        let recoveries = order.map(|number| (number, self.recoveries[number].views()));
        let mut bookies = [0; BOOKIES_MAX];
        // Beside a bookie the slot of the same number: where it is not the bookie's, no two of them change places.
        for (number, digest) in bookies.iter_mut().enumerate().take(model.bookies) {
            let mut lanes = Lanes::new();
            lanes.write_u64(self.bookies[number].word());
            lanes.write_u64(writer.bits[number]);
            lanes.add(messages[number][0]);
            lanes.add(messages[number][1]);
            for (recovery, views) in recoveries.clone() {
                lanes.write_u64(views.bits[number]);
                lanes.add(messages[number][2 + recovery]);
            }
            *digest = lanes.digest();
        }
        if model.bookies_are_interchangeable() {
            bookies[..model.bookies].sort_unstable();
        }
        let mut lanes = Lanes::new();
        bookies[..model.bookies].iter().for_each(|digest| lanes.add(*digest));
        lanes.add(self.record.views().rest);
        lanes.add(writer.rest);
        recoveries.for_each(|(_, views)| lanes.add(views.rest));
        lanes.write_u8(self.losses_left);
        lanes.digest()
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
            let holds = |slot: &usize| self.bookies[usize::from(ensemble[*slot])].told_by(entry).is_some();
            let copies = quorum.write_set(entry).filter(holds).count();
            if !quorum.is_acknowledged(copies) {
                return Some(format!("entry {entry} has {copies} copies where the record says"));
            }
        }
        None
    }
}
