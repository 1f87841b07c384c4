//! What can happen next in a state, and what it leads to.

use super::Model;
use super::state::{Change, Message, Part, Recovery, Running, State, What, bookies_of, ids, payload, quorum};
use crate::sim::defect::Defect;
use magnetar_ledger::protocol::quorum::{Quorum, Slots};
use magnetar_ledger::protocol::record;
use magnetar_ledger::protocol::recoverer::{self, RecoveryMachine};
use magnetar_ledger::protocol::recovery::Answer;
use magnetar_ledger::protocol::writer::{self, AddOutcome, PendingEntry};
use magnetar_proto::bookkeeper::metadata_format::LedgerState;
use magnetar_proto::ids::EntryId;
use std::collections::BTreeMap;

/// The writer, among those who ask.
const WRITER: u8 = 0;

/// Entries that a recovery probes at once. More change nothing but the number of states: they are judged in order.
const WINDOW: u64 = 1;

/// Something that can happen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Append,
    /// The record is to say which ensemble the writer has.
    Record,
    /// A recovery begins an attempt.
    Begin(usize),
    Close(usize),
    Deliver(usize),
    GiveUp(usize),
}

impl State {
    /// Takes a step, one of those that are [possible](Self::possible).
    pub(super) fn take(&mut self, model: &Model, step: Step) {
        match step {
            Step::Append => {
                let writer = self.writer.change();
                let _ = writer.machine.append(payload(EntryId(writer.appended)));
                writer.appended += 1;
                self.act(model);
            }
            Step::Record => self.record_change(model),
            Step::Begin(index) => self.begin(model, index),
            Step::Close(index) => self.close(index),
            Step::Deliver(index) => {
                let message = self.messages.swap_remove(index);
                self.deliver(model, message);
            }
            Step::GiveUp(index) => {
                self.losses_left -= 1;
                let asker = self.messages[index].asker.take();
                let Message { slot, what, .. } = self.messages[index];
                match what {
                    What::Add { id, .. } => self.added(model, asker, slot, id, AddOutcome::Failed),
                    What::Ask { entry, .. } => {
                        let unknown = match model.defect {
                            Some(Defect::ErrorTakenForAbsence) => Answer::Absent,
                            _ => Answer::Unknown,
                        };
                        self.answered(model, asker, slot, entry, unknown);
                    }
                }
            }
        }
        self.forget_what_means_nothing();
        self.record.settle();
        self.writer.settle();
        self.recoveries.iter_mut().for_each(Part::settle);
    }

    /// What a step does, for people.
    pub(super) fn tell(&self, step: Step) -> String {
        match step {
            Step::Deliver(index) | Step::GiveUp(index) => format!("{step:?}: {:?}", self.messages[index]),
            Step::Record => format!("{step:?}: {:?}", self.writer.change.as_ref().map(|c| &c.ensemble)),
            Step::Close(index) => format!("{step:?} at {:?}", self.recoveries[index].closing),
            Step::Append | Step::Begin(_) => format!("{step:?}"),
        }
    }

    /// What can happen in this state.
    pub(super) fn possible(&self, model: &Model) -> Vec<Step> {
        let mut steps = Vec::new();
        let confirmed = self.writer.machine.last_add_confirmed().map_or(0, |last| last.0 + 1);
        let most = model.entries.min(confirmed + model.pipeline);
        if self.writer.machine.failure().is_none() && self.writer.appended < most {
            steps.push(Step::Append);
        }
        if self.writer.change.is_some() {
            steps.push(Step::Record);
        }
        for (index, recovery) in self.recoveries.iter().enumerate() {
            if recovery.closing.is_some() {
                steps.push(Step::Close(index));
            } else if !recovery.done && recovery.running.is_none() && recovery.attempts_left > 0 {
                steps.push(Step::Begin(index));
            }
        }
        for (index, message) in self.messages.iter().enumerate() {
            steps.push(Step::Deliver(index));
            if self.losses_left > 0 && message.asker.is_some() {
                steps.push(Step::GiveUp(index));
            }
        }
        steps
    }

    fn deliver(&mut self, model: &Model, message: Message) {
        let Message { bookie, asker, slot, what } = message;
        let bookie = &mut self.bookies[usize::from(bookie)];
        match what {
            What::Add { id, last_add_confirmed, recovery, .. } => {
                if bookie.fenced && !recovery {
                    return self.added(model, asker, slot, id, AddOutcome::Fenced);
                }
                bookie.store(id, last_add_confirmed);
                self.added(model, asker, slot, id, AddOutcome::Stored);
            }
            What::Ask { entry, fencing } => {
                bookie.fenced |= fencing;
                let found = match entry {
                    Some(entry) => bookie.entry(entry),
                    None => bookie.newest(),
                };
                let answer = found.map_or(Answer::Absent, Answer::Entry);
                self.answered(model, asker, slot, entry, answer);
            }
        }
    }

    fn added(&mut self, model: &Model, asker: Option<u8>, slot: u8, id: EntryId, outcome: AddOutcome) {
        match asker {
            None => {}
            Some(WRITER) => {
                self.writer.change().machine.on_added(usize::from(slot), id, outcome);
                self.act(model);
            }
            Some(number) => {
                if let Some(running) = &mut self.recoveries[usize::from(number) - 1].change().running {
                    running.machine.tell_writer(|writer| writer.on_added(usize::from(slot), id, outcome));
                }
                self.act_recovery(model, usize::from(number) - 1);
            }
        }
    }

    fn answered(
        &mut self,
        model: &Model,
        asker: Option<u8>,
        slot: u8,
        entry: Option<EntryId>,
        answer: Answer,
    ) {
        let Some(number) = asker else { return };
        let index = usize::from(number) - 1;
        if let Some(running) = &mut self.recoveries[index].change().running {
            running.machine.on_answer(usize::from(slot), entry, answer);
        }
        self.act_recovery(model, index);
    }

    fn act(&mut self, model: &Model) {
        while let Some(action) = self.writer.change().machine.poll_action() {
            match action {
                writer::Action::Send { slot, entry } => {
                    let (bookie, generation) = self.writer.slots[slot];
                    self.messages.push(add(bookie, WRITER, slot, generation, &entry, false));
                }
                writer::Action::ChangeEnsemble { first_entry, failed, .. } => {
                    let before: Vec<u8> = self.writer.slots.iter().map(|(bookie, _)| *bookie).collect();
                    let (ensemble, slots) = replace(model, &before, failed);
                    if slots.is_empty() {
                        self.writer.change().machine.on_no_replacement();
                        continue;
                    }
                    self.writer.change().change = Some(Change { first_entry, before, ensemble, slots });
                    if model.defect == Some(Defect::AckBeforeChangeRecorded) {
                        self.take_over_change();
                    }
                }
            }
        }
    }

    fn take_over_change(&mut self) {
        let writer = self.writer.change();
        let Some(change) = &writer.change else { return };
        let fresh = |slot: &usize| writer.slots[*slot].0 != change.ensemble[*slot];
        let fresh: Vec<usize> = change.slots.iter().filter(fresh).collect();
        for slot in fresh {
            writer.slots[slot] = (change.ensemble[slot], writer.slots[slot].1 + 1);
        }
        writer.machine.on_ensemble_changed(change.slots);
    }

    fn record_change(&mut self, model: &Model) {
        let change = self.writer.change.clone().expect("there is a change");
        let (before, ensemble) = (ids(&change.before), ids(&change.ensemble));
        match record::change_ensemble(&self.record, change.first_entry, &before, &ensemble) {
            Ok(changed) => {
                if let Some(record) = changed {
                    self.record = Part::new(record);
                }
                if model.defect != Some(Defect::AckBeforeChangeRecorded) {
                    self.take_over_change();
                }
            }
            Err(_) => self.writer.change().machine.on_taken_over(),
        }
        self.writer.change().change = None;
        self.act(model);
    }

    fn begin(&mut self, model: &Model, index: usize) {
        if let Some(record) = record::begin_recovery(&self.record) {
            self.record = Part::new(record);
        }
        let recovery = self.recoveries[index].change();
        recovery.attempts_left -= 1;
        if matches!(self.record.state, LedgerState::Closed { .. }) {
            recovery.done = true;
            return;
        }
        let (ensemble_size, write, _) = model.sizes;
        let quorum = match model.defect {
            Some(Defect::EndWithoutCoverage) => Quorum::new(ensemble_size, write, write).expect("valid"),
            _ => quorum(model),
        };
        let (start, ensemble) = self.record.last_segment();
        let asked = bookies_of(ensemble);
        recovery.running = Some(Running {
            machine: RecoveryMachine::new(quorum, start, WINDOW),
            slots: asked.iter().map(|bookie| (*bookie, 0)).collect(),
            asked,
            segments: BTreeMap::new(),
        });
        self.act_recovery(model, index);
    }

    fn act_recovery(&mut self, model: &Model, index: usize) {
        let asker = index as u8 + 1;
        let recovery = self.recoveries[index].change();
        let Recovery { running: Some(running), closing, .. } = recovery else { return };
        while let Some(action) = running.machine.poll_action() {
            match action {
                recoverer::Action::Ask { slot, entry } => {
                    let unfenced = model.defect == Some(Defect::RecoveryReadsUnfenced) && entry.is_some();
                    let what = What::Ask { entry, fencing: !unfenced };
                    let bookie = running.asked[slot];
                    self.messages.push(Message { bookie, asker: Some(asker), slot: slot as u8, what });
                }
                recoverer::Action::Send { slot, mut entry } => {
                    if model.defect == Some(Defect::RecoveredTakenForConfirmed) {
                        entry.last_add_confirmed = entry.id.prev();
                    }
                    let (bookie, generation) = running.slots[slot];
                    self.messages.push(add(bookie, asker, slot, generation, &entry, true));
                }
                recoverer::Action::Replace { first_entry, failed, .. } => {
                    let before: Vec<u8> = running.slots.iter().map(|(bookie, _)| *bookie).collect();
                    let (ensemble, changed) = replace(model, &before, failed);
                    for slot in changed.iter() {
                        running.slots[slot] = (ensemble[slot], running.slots[slot].1 + 1);
                    }
                    if changed.is_empty() {
                        running.machine.tell_writer(|writer| writer.on_no_replacement());
                    } else {
                        running.segments.insert(first_entry, ensemble);
                        running.machine.tell_writer(|writer| writer.on_ensemble_changed(changed));
                    }
                }
            }
        }
        match running.machine.outcome() {
            None => {}
            Some(Ok(recovered)) => {
                let (last_entry, length) = (recovered.last_entry, recovered.length.unwrap_or(0));
                *closing = Some(LedgerState::Closed { last_entry, length });
            }
            Some(Err(_)) => recovery.running = None,
        }
    }

    fn close(&mut self, index: usize) {
        let recovery = self.recoveries[index].change();
        let closed = recovery.closing.take().expect("the end was found");
        let running = recovery.running.take().expect("by an attempt");
        recovery.done = true;
        let segments = running.segments.iter().map(|(first, ensemble)| (*first, ids(ensemble))).collect();
        let wanted = record::close_recovered(&self.record, closed, &segments);
        if let Some(record) = wanted.expect("nobody opens a ledger again") {
            self.record = Part::new(record);
        }
    }

    /// Nobody waits for answers to those who have ended, or from bookies that were replaced; and what nobody waits for and
    /// what changes nothing might as well not be under way. So states that differ in nothing else are one.
    fn forget_what_means_nothing(&mut self) {
        if matches!(self.record.state, LedgerState::Closed { .. }) {
            // Recoveries take the end as they find it, and what they have under way can only fence and add copies.
            for recovery in self.recoveries.iter_mut().filter(|recovery| !recovery.is_over()) {
                *recovery.change() = Recovery { attempts_left: 0, running: None, closing: None, done: true };
            }
            self.messages.retain(|message| message.asker == Some(WRITER));
        }
        let (writer, recoveries) = (&*self.writer, &self.recoveries);
        let waits = |asker: u8, slot: usize, what: &What| match (asker, what) {
            (WRITER, What::Add { generation, .. }) => {
                writer.machine.failure().is_none() && writer.slots[slot].1 == *generation
            }
            (number, what) => {
                let recovery = &recoveries[usize::from(number) - 1];
                recovery.closing.is_none()
                    && recovery.running.as_ref().is_some_and(|running| match what {
                        What::Add { generation, .. } => running.slots[slot].1 == *generation,
                        What::Ask { entry, .. } => running.machine.awaits(*entry),
                    })
            }
        };
        for message in &mut self.messages {
            let slot = usize::from(message.slot);
            message.asker = message.asker.filter(|asker| waits(*asker, slot, &message.what));
        }
        let bookies = &self.bookies;
        self.messages.retain(|message| {
            let bookie = &bookies[usize::from(message.bookie)];
            message.asker.is_some()
                || match message.what {
                    What::Add { id, last_add_confirmed, recovery, .. } => {
                        bookie.told_by(id) != Some(last_add_confirmed) && (recovery || !bookie.fenced)
                    }
                    What::Ask { fencing, .. } => fencing && !bookie.fenced,
                }
        });
        // Where nobody waits, what else the request says changes nothing.
        for message in self.messages.iter_mut().filter(|message| message.asker.is_none()) {
            message.slot = 0;
            match &mut message.what {
                What::Add { generation, .. } => *generation = 0,
                What::Ask { entry, .. } => *entry = None,
            }
        }
    }
}

/// The request to keep an entry. Its bytes are the model's to make up again: they must be those that the writer gave it.
fn add(bookie: u8, asker: u8, slot: usize, generation: u8, entry: &PendingEntry, recovery: bool) -> Message {
    let PendingEntry { id, payload: bytes, length, last_add_confirmed } = entry;
    assert!(*bytes == payload(*id) && *length == id.0 + 1, "another entry than was appended");
    let what = What::Add { generation, id: *id, last_add_confirmed: *last_add_confirmed, recovery };
    Message { bookie, asker: Some(asker), slot: slot as u8, what }
}

/// The ensemble with the first bookies that are not in it in the failed slots.
fn replace(model: &Model, before: &[u8], failed: Slots) -> (Vec<u8>, Slots) {
    let spare = (0..model.bookies as u8).filter(|bookie| !before.contains(bookie));
    let (mut ensemble, mut changed) = (before.to_vec(), Slots::NONE);
    for (slot, bookie) in failed.iter().zip(spare) {
        ensemble[slot] = bookie;
        changed.insert(slot);
    }
    (ensemble, changed)
}
