//! A recovery of a ledger, as `magnetar_ledger::Client::recover` is, by somebody who tries until it is done.

use super::reading::{Failed, Reading};
use super::{Actor, Wire, outcome_of};
use crate::sim::defect::Defect;
use crate::sim::messages::{ActorId, HostId, Reply, StoreOp, StoreReply, Tag, Versioned};
use crate::sim::outside::Outside;
use crate::sim::queue::{MS, Time};
use magnetar_ledger::protocol::quorum::{Quorum, Slots};
use magnetar_ledger::protocol::record;
use magnetar_ledger::protocol::recoverer::{Action, Recovered, RecoveryMachine};
use magnetar_ledger::protocol::recovery::Answer;
use magnetar_ledger::protocol::writer::{AddOutcome, PendingEntry};
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::bookkeeper::v2::Flags;
use magnetar_proto::ids::{EntryId, LedgerId};
use std::collections::BTreeMap;

/// Attempts that a recovery may need once nothing goes wrong any more: one that began before, and one that fails because
/// bookies are still starting.
const HEALED_ATTEMPTS_MAX: u64 = 40;

/// See the module.
pub(in crate::sim) struct Recoverer {
    me: ActorId,
    wire: Wire,
    quorum: Quorum,
    begins_at: Time,
    phase: Phase,
    /// The record as it was read or written last.
    current: Option<Versioned>,
    /// What is being written to the store.
    wanted: Option<LedgerMetadata>,
    /// Also counts attempts.
    epoch: u64,
    healed_at_epoch: Option<u64>,
    last_failure: String,
}

enum Phase {
    Idle,
    /// Until the record says that the ledger is in recovery, or closed.
    Claiming,
    Running(Box<Running>),
    /// The length at the end is told by the last entry.
    Measuring {
        running: Box<Running>,
        read: Reading,
    },
    Closing {
        running: Box<Running>,
        closed: LedgerState,
    },
    Done,
}

struct Running {
    machine: RecoveryMachine,
    /// The last ensemble as recorded.
    asked: Vec<HostId>,
    /// The recovery's own.
    ensemble: Vec<HostId>,
    generations: Vec<u64>,
    segments: BTreeMap<EntryId, Vec<HostId>>,
}

impl Recoverer {
    pub(in crate::sim) fn new(me: ActorId, ledger: LedgerId, quorum: Quorum, begins_at: Time) -> Self {
        Self {
            me,
            wire: Wire::new(ledger),
            quorum,
            begins_at,
            phase: Phase::Idle,
            current: None,
            wanted: None,
            epoch: 0,
            healed_at_epoch: None,
            last_failure: String::new(),
        }
    }

    fn begin(&mut self, outside: &mut Outside) {
        self.epoch += 1;
        if self.healed_at_epoch.is_some_and(|at| self.epoch > at + HEALED_ATTEMPTS_MAX) {
            let (ledger, failure) = (self.wire.ledger, &self.last_failure);
            return outside.checker.violated(format!("recovery of ledger {ledger} does not end: {failure}"));
        }
        self.phase = Phase::Claiming;
        outside.ask_store(self.me, self.epoch, StoreOp::Get(self.wire.ledger));
    }

    fn fail(&mut self, outside: &mut Outside, why: String) {
        self.last_failure = why;
        self.phase = Phase::Idle;
        self.epoch += 1;
        let pause = outside.between(MS, 20 * MS);
        outside.timer(self.me, self.epoch, pause);
    }

    /// Goes on with the record as it is now.
    fn decide(&mut self, outside: &mut Outside) {
        let current = self.current.as_ref().expect("the record was read");
        let wanted = match &self.phase {
            Phase::Claiming => Ok(record::begin_recovery(&current.record)),
            Phase::Closing { running, closed } => {
                let segments = running.segments.iter();
                let segments = segments.map(|(first, hosts)| (*first, outside.ids(hosts))).collect();
                record::close_recovered(&current.record, *closed, &segments)
            }
            _ => return,
        };
        match wanted {
            Ok(Some(wanted)) => {
                let blind =
                    matches!(self.phase, Phase::Closing { .. }) && outside.has(Defect::CloseWithoutCompare);
                let expected = (!blind).then_some(current.version);
                let put = StoreOp::Put(self.wire.ledger, Box::new(wanted.clone()), expected);
                self.wanted = Some(wanted);
                outside.ask_store(self.me, self.epoch, put);
            }
            Ok(None) => self.recorded(outside),
            Err(error) => outside.checker.violated(format!("ledger {}: {error}", self.wire.ledger)),
        }
    }

    /// The record says what was wanted, or that the ledger is closed.
    fn recorded(&mut self, outside: &mut Outside) {
        let record = &self.current.as_ref().expect("the record was read").record;
        if let LedgerState::Closed { last_entry, .. } = record.state {
            self.phase = Phase::Done;
            return outside.checker.on_recovered(self.wire.ledger, last_entry);
        }
        let (start, ensemble) = record.last_segment();
        let asked = outside.hosts_of(ensemble);
        outside.trouble_recovery(self.me, self.wire.ledger, &asked);
        let mut quorum = self.quorum;
        if outside.has(Defect::EndWithoutCoverage) {
            let size = |size: usize| u32::try_from(size).expect("ensembles are small");
            let (ensemble, write) = (size(quorum.ensemble()), size(quorum.write()));
            quorum = Quorum::new(ensemble, write, write).expect("still valid");
        }
        let running = Running {
            machine: RecoveryMachine::new(quorum, start, outside.plan.window),
            ensemble: asked.clone(),
            generations: vec![0; asked.len()],
            asked,
            segments: BTreeMap::new(),
        };
        self.phase = Phase::Running(Box::new(running));
        self.act(outside);
    }

    fn act(&mut self, outside: &mut Outside) {
        let Phase::Running(running) = &mut self.phase else { return };
        while let Some(action) = running.machine.poll_action() {
            match action {
                Action::Ask { slot, entry } => {
                    let unfenced = entry.is_some() && outside.has(Defect::RecoveryReadsUnfenced);
                    let flags = if unfenced { Flags::NONE } else { Flags::RECOVERY_READ };
                    let request = self.wire.read(entry, flags);
                    let tag = Tag::Ask { slot, entry };
                    outside.ask_bookie(self.me, self.epoch, running.asked[slot], tag, request);
                }
                Action::Send { slot, entry } => {
                    running.send(outside, self.me, self.epoch, &self.wire, slot, entry);
                }
                Action::Replace { first_entry, failed, .. } => running.replace(outside, first_entry, failed),
            }
        }
        if running.machine.is_fenced() {
            outside.checker.on_fenced(self.wire.ledger, outside.now);
        }
        match running.machine.outcome() {
            None => {}
            Some(Err(failure)) => self.fail(outside, format!("{failure:?}")),
            Some(Ok(recovered)) => self.found(outside, recovered),
        }
    }

    fn found(&mut self, outside: &mut Outside, recovered: Recovered) {
        let Phase::Running(running) = std::mem::replace(&mut self.phase, Phase::Idle) else { return };
        match recovered {
            Recovered { last_entry: Some(last), length: None } => {
                let record = &self.current.as_ref().expect("the record was read").record;
                let read = Reading::new(outside, &self.wire, self.quorum, record, last);
                self.phase = Phase::Measuring { running, read };
                self.measure(outside);
            }
            Recovered { last_entry, length } => {
                let closed = LedgerState::Closed { last_entry, length: length.unwrap_or(0) };
                self.phase = Phase::Closing { running, closed };
                self.decide(outside);
            }
        }
    }

    /// Goes on reading the last entry.
    fn measure(&mut self, outside: &mut Outside) {
        let Phase::Measuring { read, .. } = &mut self.phase else { return };
        match read.go_on(outside, self.me, self.epoch, &self.wire) {
            None => {}
            Some(Failed::Denied) => self.fail(outside, "every replica denies the last entry".into()),
            Some(Failed::Unreadable) => self.fail(outside, "the last entry cannot be read".into()),
        }
    }

    fn on_measured(&mut self, outside: &mut Outside, slot: usize, entry: EntryId, answer: Answer) {
        let Phase::Measuring { read, .. } = &mut self.phase else { return };
        let Some(found) = read.on_answer(outside, slot, entry, answer) else {
            return self.measure(outside);
        };
        let Phase::Measuring { running, .. } = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return;
        };
        let closed = LedgerState::Closed { last_entry: Some(entry), length: found.length };
        self.phase = Phase::Closing { running, closed };
        self.decide(outside);
    }

    fn on_store(&mut self, outside: &mut Outside, tag: Tag, reply: Option<StoreReply>) {
        match (tag, reply) {
            (_, Some(StoreReply::Record(current))) => {
                self.current = Some(*current);
                self.decide(outside);
            }
            (_, Some(StoreReply::Written(version))) => {
                let record = self.wanted.take().expect("it was written because it was wanted");
                self.current = Some(Versioned { record, version });
                self.recorded(outside);
            }
            (Tag::Get, None) => self.fail(outside, "no metadata".into()),
            // Whether it was written only the record can tell.
            (_, Some(StoreReply::Conflict) | None) => {
                outside.ask_store(self.me, self.epoch, StoreOp::Get(self.wire.ledger));
            }
        }
    }
}

impl Running {
    fn send(
        &mut self,
        outside: &mut Outside,
        me: ActorId,
        epoch: u64,
        wire: &Wire,
        slot: usize,
        mut entry: PendingEntry,
    ) {
        if outside.has(Defect::TailNotCopied) {
            let id = entry.id;
            return self.machine.tell_writer(|writer| writer.on_added(slot, id, AddOutcome::Stored));
        }
        if outside.has(Defect::RecoveredTakenForConfirmed) {
            entry.last_add_confirmed = entry.id.prev();
        }
        let tag = Tag::Add { slot, generation: self.generations[slot], entry: entry.id };
        outside.ask_bookie(me, epoch, self.ensemble[slot], tag, wire.add(&entry, Flags::RECOVERY_WRITE));
    }

    fn replace(&mut self, outside: &mut Outside, first_entry: EntryId, failed: Slots) {
        let (ensemble, changed) = outside.replace(&self.ensemble, failed);
        if changed.is_empty() {
            return self.machine.tell_writer(|writer| writer.on_no_replacement());
        }
        changed.iter().for_each(|slot| self.generations[slot] += 1);
        self.segments.insert(first_entry, ensemble.clone());
        self.ensemble = ensemble;
        self.machine.tell_writer(|writer| writer.on_ensemble_changed(changed));
    }
}

impl Actor for Recoverer {
    fn start(&mut self, outside: &mut Outside) {
        outside.timer(self.me, self.epoch, self.begins_at);
    }

    fn on_reply(&mut self, outside: &mut Outside, tag: Tag, reply: Reply) {
        match (tag, reply) {
            (tag @ (Tag::Get | Tag::Put), Reply::Store(reply)) => self.on_store(outside, tag, reply),
            (Tag::Ask { slot, entry }, reply) => {
                let silent = matches!(reply, Reply::Bookie(None));
                let mut answer = self.wire.answer(entry, reply);
                if silent && outside.has(Defect::ErrorTakenForAbsence) {
                    answer = Answer::Absent;
                }
                match (&mut self.phase, entry) {
                    (Phase::Running(running), _) => {
                        running.machine.on_answer(slot, entry, answer);
                        self.act(outside);
                    }
                    (Phase::Measuring { .. }, Some(entry)) => {
                        self.on_measured(outside, slot, entry, answer);
                    }
                    _ => {}
                }
            }
            (Tag::Add { slot, generation, entry }, reply) => {
                let Phase::Running(running) = &mut self.phase else { return };
                if running.generations[slot] == generation {
                    let outcome = outcome_of(&reply);
                    running.machine.tell_writer(|writer| writer.on_added(slot, entry, outcome));
                    self.act(outside);
                }
            }
            _ => {}
        }
    }

    fn on_timer(&mut self, outside: &mut Outside) {
        match self.phase {
            Phase::Idle => self.begin(outside),
            Phase::Measuring { .. } => self.measure(outside),
            Phase::Claiming | Phase::Running(_) | Phase::Closing { .. } | Phase::Done => {}
        }
    }

    fn die(&mut self, outside: &mut Outside) {
        if !matches!(self.phase, Phase::Done) && self.epoch > 0 {
            self.fail(outside, "the process died".into());
        }
    }

    fn on_healed(&mut self, outside: &mut Outside) {
        self.healed_at_epoch = Some(self.epoch);
        if matches!(self.phase, Phase::Idle) {
            self.fail(outside, "not begun".into());
        }
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    /// An attempt that fails counts twice.
    fn attempts(&self) -> u64 {
        self.epoch.div_ceil(2)
    }

    fn describe(&self) -> String {
        format!("recovery of ledger {} ({})", self.wire.ledger, self.last_failure)
    }
}
