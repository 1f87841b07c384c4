//! The machines of the ledger protocol against a hostile world: one writer, two recoverers, four bookies, and messages
//! that are delayed, reordered and lost while bookies come and go. Seeded: a failure names its seed.
//!
//! What must hold, whatever happens: the closed ledger ends at or after the last entry that its writer saw acknowledged;
//! each of its entries has the writer's content on an ack quorum of the bookies that the metadata names; and both
//! recoverers see the same end.

use bytes::Bytes;
use magnetar_common::random::{Random, SeededRandom};
use magnetar_ledger::protocol::quorum::{Quorum, Slots};
use magnetar_ledger::protocol::recovery::{Answer, FenceMachine, FoundEntry, Probe, ProbeMachine, Progress};
use magnetar_ledger::protocol::writer::{Action, AddOutcome, PendingEntry, WriterMachine};
use magnetar_proto::ids::EntryId;
use std::collections::BTreeMap;
use std::sync::Arc;

const SEEDS: u64 = 20_000;
const BOOKIES: usize = 4;
const APPENDS: u64 = 30;
/// Random steps with faults; afterwards the world heals and everything must come to an end.
const HOSTILE_STEPS: usize = 400;
const HEALED_STEPS: usize = 20_000;

#[derive(Default)]
struct Bookie {
    entries: BTreeMap<EntryId, FoundEntry>,
    fenced: bool,
    down: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Open,
    InRecovery,
    Closed(Option<EntryId>),
}

struct Metadata {
    segments: BTreeMap<EntryId, Vec<usize>>,
    state: State,
}

/// On its way to somebody; taken in random order.
enum Message {
    Add { slot: usize, generation: u64, bookie: usize, entry: PendingEntry },
    Added { slot: usize, generation: u64, id: EntryId, outcome: AddOutcome },
    ChangeEnsemble { first_entry: EntryId, failed: Slots },
    Fence { recoverer: usize, attempt: u64, slot: usize, bookie: usize },
    Fenced { recoverer: usize, attempt: u64, slot: usize, answer: Answer },
    Probe { recoverer: usize, attempt: u64, bookie: usize, entry: EntryId },
    Probed { recoverer: usize, attempt: u64, entry: EntryId, answer: Answer },
    Copy { recoverer: usize, attempt: u64, slot: usize, generation: u64, bookie: usize, entry: PendingEntry },
    Copied { recoverer: usize, attempt: u64, slot: usize, generation: u64, id: EntryId, outcome: AddOutcome },
    Start { recoverer: usize },
}

enum Phase {
    Idle,
    Fencing(FenceMachine),
    Probing(ProbeMachine, EntryId),
    Copying,
    Done(Option<EntryId>),
}

struct Recoverer {
    phase: Phase,
    /// Answers to earlier attempts are ignored.
    attempt: u64,
    /// The last segment as recorded, which is asked.
    asked: Vec<usize>,
    /// Writes what was found to an ensemble of its own, recorded only when the ledger is closed.
    machine: WriterMachine,
    ensemble: Vec<usize>,
    generations: Vec<u64>,
    segments: BTreeMap<EntryId, Vec<usize>>,
}

impl Recoverer {
    fn new(quorum: Quorum) -> Self {
        Self {
            phase: Phase::Idle,
            attempt: 0,
            asked: Vec::new(),
            machine: WriterMachine::new(quorum),
            ensemble: Vec::new(),
            generations: vec![0; quorum.ensemble()],
            segments: BTreeMap::new(),
        }
    }
}

struct World {
    random: Arc<dyn Random>,
    quorum: Quorum,
    bookies: Vec<Bookie>,
    metadata: Metadata,
    writer: WriterMachine,
    generations: Vec<u64>,
    ensemble: Vec<usize>,
    recoverers: Vec<Recoverer>,
    messages: Vec<Message>,
    hostile: bool,
    /// How many ensembles the recovery that closed the ledger recorded.
    recovered_segments: usize,
}

fn payload(id: EntryId) -> Bytes {
    Bytes::from(format!("entry {id}"))
}

impl World {
    fn new(seed: u64) -> Self {
        let random: Arc<dyn Random> = Arc::new(SeededRandom::new(seed));
        let sizes = [(3, 3, 2), (3, 2, 2), (3, 3, 3), (2, 2, 2), (3, 2, 1)];
        let (ensemble, write, ack) = sizes[usize::try_from(random.below(5)).unwrap_or(0)];
        let quorum = Quorum::new(ensemble, write, ack).expect("valid");
        let first: Vec<usize> = (0..quorum.ensemble()).collect();
        Self {
            random,
            quorum,
            bookies: (0..BOOKIES).map(|_| Bookie::default()).collect(),
            metadata: Metadata {
                segments: BTreeMap::from([(EntryId::ZERO, first.clone())]),
                state: State::Open,
            },
            writer: WriterMachine::new(quorum),
            generations: vec![0; first.len()],
            ensemble: first,
            recoverers: vec![Recoverer::new(quorum), Recoverer::new(quorum)],
            messages: Vec::new(),
            hostile: true,
            recovered_segments: 0,
        }
    }

    fn chance(&self, percent: u64) -> bool {
        self.hostile && self.random.below(100) < percent
    }

    fn run(&mut self) {
        for step in 0..HOSTILE_STEPS {
            if self.writer.last_add_pushed().is_none_or(|last| last.0 + 1 < APPENDS) && self.chance(30) {
                let id = self.writer.last_add_pushed().map_or(EntryId::ZERO, EntryId::next);
                let _ = self.writer.append(payload(id));
            }
            if self.chance(3) {
                let bookie = usize::try_from(self.random.below(BOOKIES as u64)).unwrap_or(0);
                self.bookies[bookie].down = !self.bookies[bookie].down;
                self.writer.on_bookies_changed();
            }
            if step > HOSTILE_STEPS / 4 && self.chance(1) {
                self.start(0);
            }
            self.act();
            self.deliver();
        }
        self.hostile = false;
        self.bookies.iter_mut().for_each(|bookie| bookie.down = false);
        for recoverer in 0..self.recoverers.len() {
            self.start(recoverer);
        }
        for _ in 0..HEALED_STEPS {
            self.act();
            if self.messages.is_empty() {
                break;
            }
            self.deliver();
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.writer.poll_action() {
            self.messages.push(match action {
                Action::Send { slot, entry } => Message::Add {
                    slot,
                    generation: self.generations[slot],
                    bookie: self.ensemble[slot],
                    entry,
                },
                Action::ChangeEnsemble { first_entry, failed, .. } => {
                    Message::ChangeEnsemble { first_entry, failed }
                }
            });
        }
    }

    fn deliver(&mut self) {
        if self.messages.is_empty() {
            return;
        }
        let index = usize::try_from(self.random.below(self.messages.len() as u64)).unwrap_or(0);
        match self.messages.swap_remove(index) {
            Message::Add { slot, generation, bookie, entry } => {
                let id = entry.id;
                let outcome = self.add(bookie, entry, false);
                self.messages.push(Message::Added { slot, generation, id, outcome });
            }
            Message::Added { slot, generation, id, outcome } => {
                if self.generations[slot] == generation {
                    self.writer.on_added(slot, id, outcome);
                }
            }
            Message::ChangeEnsemble { first_entry, failed } => self.change_ensemble(first_entry, failed),
            Message::Start { recoverer } => self.start(recoverer),
            Message::Fence { recoverer, attempt, slot, bookie } => {
                let answer = self.fencing_read(bookie, None);
                self.messages.push(Message::Fenced { recoverer, attempt, slot, answer });
            }
            Message::Probe { recoverer, attempt, bookie, entry } => {
                let answer = self.fencing_read(bookie, Some(entry));
                self.messages.push(Message::Probed { recoverer, attempt, entry, answer });
            }
            Message::Copy { recoverer, attempt, slot, generation, bookie, entry } => {
                let id = entry.id;
                let outcome = self.add(bookie, entry, true);
                self.messages.push(Message::Copied { recoverer, attempt, slot, generation, id, outcome });
            }
            Message::Fenced { recoverer, attempt, slot, answer } => {
                self.on_fenced(recoverer, attempt, slot, answer)
            }
            Message::Probed { recoverer, attempt, entry, answer } => {
                self.on_probed(recoverer, attempt, entry, answer)
            }
            Message::Copied { recoverer: index, attempt, slot, generation, id, outcome } => {
                let recoverer = &mut self.recoverers[index];
                if recoverer.attempt == attempt && recoverer.generations[slot] == generation {
                    recoverer.machine.on_added(slot, id, outcome);
                    self.copy(index);
                }
            }
        }
    }

    /// A lost request was not carried out; a lost answer was. The asker cannot tell.
    fn add(&mut self, bookie: usize, entry: PendingEntry, recovery: bool) -> AddOutcome {
        let lost_request = self.chance(5);
        let lost_answer = self.chance(5);
        let bookie = &mut self.bookies[bookie];
        if bookie.down || lost_request {
            return AddOutcome::Failed;
        }
        if bookie.fenced && !recovery {
            return if lost_answer { AddOutcome::Failed } else { AddOutcome::Fenced };
        }
        let PendingEntry { id, payload, length, last_add_confirmed } = entry;
        bookie.entries.insert(id, FoundEntry { id, payload, length, last_add_confirmed });
        if lost_answer { AddOutcome::Failed } else { AddOutcome::Stored }
    }

    fn fencing_read(&mut self, bookie: usize, entry: Option<EntryId>) -> Answer {
        let lost_request = self.chance(5);
        let lost_answer = self.chance(5);
        let bookie = &mut self.bookies[bookie];
        if bookie.down || lost_request {
            return Answer::Unknown;
        }
        bookie.fenced = true;
        let found = match entry {
            Some(id) => bookie.entries.get(&id),
            None => bookie.entries.values().next_back(),
        };
        match found {
            _ if lost_answer => Answer::Unknown,
            Some(entry) => Answer::Entry(entry.clone()),
            None => Answer::Absent,
        }
    }

    fn change_ensemble(&mut self, first_entry: EntryId, failed: Slots) {
        if self.metadata.state != State::Open {
            return self.writer.on_taken_over();
        }
        let (ensemble, changed) = self.replace(&self.ensemble, failed);
        if changed.is_empty() {
            return self.writer.on_no_replacement();
        }
        changed.iter().for_each(|slot| self.generations[slot] += 1);
        self.ensemble = ensemble;
        self.metadata.segments.insert(first_entry, self.ensemble.clone());
        self.writer.on_ensemble_changed(changed);
    }

    fn replace(&self, before: &[usize], failed: Slots) -> (Vec<usize>, Slots) {
        let spare = |bookie: &usize| !before.contains(bookie) && !self.bookies[*bookie].down;
        let mut spare: Vec<usize> = (0..BOOKIES).filter(spare).collect();
        self.random.shuffle(&mut spare);
        let (mut ensemble, mut changed) = (before.to_vec(), Slots::NONE);
        for (slot, bookie) in failed.iter().zip(spare) {
            ensemble[slot] = bookie;
            changed.insert(slot);
        }
        (ensemble, changed)
    }

    fn start(&mut self, index: usize) {
        if matches!(self.recoverers[index].phase, Phase::Done(_)) {
            return;
        }
        if let State::Closed(last) = self.metadata.state {
            self.recoverers[index].phase = Phase::Done(last);
            return;
        }
        self.metadata.state = State::InRecovery;
        let (start, ensemble) = self.metadata.segments.last_key_value().expect("a segment");
        let recoverer = &mut self.recoverers[index];
        recoverer.attempt += 1;
        recoverer.asked = ensemble.clone();
        recoverer.ensemble = ensemble.clone();
        recoverer.segments.clear();
        recoverer.phase = Phase::Fencing(FenceMachine::new(self.quorum, *start));
        for (slot, bookie) in recoverer.asked.iter().enumerate() {
            let fence =
                Message::Fence { recoverer: index, attempt: recoverer.attempt, slot, bookie: *bookie };
            self.messages.push(fence);
        }
    }

    fn on_fenced(&mut self, index: usize, attempt: u64, slot: usize, answer: Answer) {
        let recoverer = &mut self.recoverers[index];
        let Phase::Fencing(machine) = &mut recoverer.phase else { return };
        if recoverer.attempt != attempt {
            return;
        }
        machine.on_answer(slot, answer);
        match machine.progress() {
            Progress::Waiting => {}
            Progress::Done(start) => {
                recoverer.machine = WriterMachine::resume(self.quorum, start, 0);
                self.probe_next(index);
            }
            Progress::Stuck => self.again(index),
        }
    }

    fn probe_next(&mut self, index: usize) {
        let recoverer = &mut self.recoverers[index];
        let entry = recoverer.machine.last_add_confirmed().map_or(EntryId::ZERO, EntryId::next);
        recoverer.phase = Phase::Probing(ProbeMachine::new(self.quorum, entry), entry);
        for slot in self.quorum.write_set(entry) {
            let bookie = recoverer.asked[slot];
            self.messages.push(Message::Probe {
                recoverer: index,
                attempt: recoverer.attempt,
                bookie,
                entry,
            });
        }
    }

    fn on_probed(&mut self, index: usize, attempt: u64, id: EntryId, answer: Answer) {
        let recoverer = &mut self.recoverers[index];
        let Phase::Probing(machine, entry) = &mut recoverer.phase else { return };
        if recoverer.attempt != attempt || *entry != id {
            return;
        }
        machine.on_answer(answer);
        match machine.progress() {
            Progress::Waiting => {}
            Progress::Stuck => self.again(index),
            Progress::Done(Probe::Absent) => self.close(index),
            Progress::Done(Probe::Exists(found)) => {
                let written = recoverer.machine.append_at(found.payload, found.length);
                assert_eq!(written, Ok(id), "entries are recovered in order");
                recoverer.phase = Phase::Copying;
                self.copy(index);
            }
        }
    }

    /// Carries out what the recoverer's machine wants, and goes on when all is written.
    fn copy(&mut self, index: usize) {
        while let Some(action) = self.recoverers[index].machine.poll_action() {
            match action {
                Action::Send { slot, entry } => {
                    let recoverer = &self.recoverers[index];
                    let (attempt, generation) = (recoverer.attempt, recoverer.generations[slot]);
                    let bookie = recoverer.ensemble[slot];
                    let copy = Message::Copy { recoverer: index, attempt, slot, generation, bookie, entry };
                    self.messages.push(copy);
                }
                Action::ChangeEnsemble { first_entry, failed, .. } => {
                    let (ensemble, changed) = self.replace(&self.recoverers[index].ensemble, failed);
                    let recoverer = &mut self.recoverers[index];
                    if changed.is_empty() {
                        recoverer.machine.on_no_replacement();
                        continue;
                    }
                    changed.iter().for_each(|slot| recoverer.generations[slot] += 1);
                    recoverer.segments.insert(first_entry, ensemble.clone());
                    recoverer.ensemble = ensemble;
                    recoverer.machine.on_ensemble_changed(changed);
                }
            }
        }
        let recoverer = &self.recoverers[index];
        if !matches!(recoverer.phase, Phase::Copying) {
            return;
        }
        if recoverer.machine.failure().is_some() {
            self.again(index);
        } else if recoverer.machine.last_add_confirmed() == recoverer.machine.last_add_pushed() {
            self.probe_next(index);
        }
    }

    fn again(&mut self, index: usize) {
        self.recoverers[index].phase = Phase::Idle;
        self.messages.push(Message::Start { recoverer: index });
    }

    fn close(&mut self, index: usize) {
        if self.metadata.state == State::InRecovery {
            let recoverer = &self.recoverers[index];
            self.metadata.state = State::Closed(recoverer.machine.last_add_confirmed());
            self.metadata.segments.extend(recoverer.segments.clone());
            self.recovered_segments += recoverer.segments.len();
        }
        let State::Closed(last) = self.metadata.state else { panic!("closed or in recovery") };
        self.recoverers[index].phase = Phase::Done(last);
    }

    fn check(&self, seed: u64) {
        let State::Closed(last) = self.metadata.state else { panic!("seed {seed}: never closed") };
        assert!(self.writer.last_add_confirmed() <= last, "seed {seed}: acknowledged entries were cut off");
        for recoverer in &self.recoverers {
            assert!(matches!(recoverer.phase, Phase::Done(end) if end == last), "seed {seed}: another end");
        }
        for id in (0..last.map_or(0, |last| last.0 + 1)).map(EntryId) {
            let (_, ensemble) = self.metadata.segments.range(..=id).next_back().expect("a segment");
            let holds = |slot: &usize| {
                self.bookies[ensemble[*slot]]
                    .entries
                    .get(&id)
                    .is_some_and(|entry| entry.payload == payload(id))
            };
            let copies = self.quorum.write_set(id).filter(holds).count();
            assert!(self.quorum.is_acknowledged(copies), "seed {seed}: entry {id} has {copies} copies");
        }
    }
}

#[test]
fn no_acknowledged_entry_is_lost_under_any_of_many_schedules() {
    let (mut confirmed, mut changes, mut recovered) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        world.run();
        world.check(seed);
        confirmed += world.writer.last_add_confirmed().map_or(0, |last| last.0 + 1);
        changes += world.metadata.segments.len() - 1;
        recovered += world.recovered_segments;
    }
    println!(
        "{SEEDS} schedules: {confirmed} entries acknowledged and kept, {changes} segments added, {recovered} by recovery"
    );
    assert!(confirmed > SEEDS && changes > 100 && recovered > 100, "the schedules did next to nothing");
}
