//! A whole recovery, from the first fence to the end of the ledger: what to ask, what to write again, when to stop.
//!
//! ```text
//!   Fencing ──every write set covered──▶ Copying ──first absent entry, all before it durable──▶ Ended
//!      └──────── stuck ────────▶ Ended ◀── front entry of unknown fate; its copy out of reach ──┘
//! ```
//! Entries are probed a window at a time but judged strictly in order: what lies behind the first absent one is of no
//! interest, errors included. It must never end a ledger before an entry that may have been acknowledged.

use super::quorum::{Quorum, Slots};
use super::recovery::{Answer, FenceMachine, Probe, ProbeMachine, Progress};
use super::writer::{self, PendingEntry, WriterFailure, WriterMachine};
use magnetar_proto::ids::EntryId;
use std::collections::VecDeque;

/// What the shell must do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Ask, with a fence, the bookie in this slot of the last ensemble that was recorded when the recovery began.
    Ask {
        /// The slot.
        slot: usize,
        /// `None`: the newest entry that the bookie has.
        entry: Option<EntryId>,
    },
    /// Send a found entry to the bookie in this slot of the recovery's own ensemble, past the fence. That ensemble begins
    /// as the recorded one.
    Send {
        /// The slot.
        slot: usize,
        /// Which entry.
        entry: PendingEntry,
    },
    /// Put other bookies into these slots of the recovery's own ensemble from `first_entry` on, and report it. They are
    /// recorded only when the ledger is closed: other recoveries must find the ensemble that the writer used.
    Replace {
        /// Where the segment starts.
        first_entry: EntryId,
        /// The slots to be filled anew.
        failed: Slots,
        /// Without it an entry cannot be made durable.
        required: bool,
    },
}

/// The end that was found. Every entry up to it is durable on Qa bookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Recovered {
    /// `None`: the ledger is empty.
    pub last_entry: Option<EntryId>,
    /// Payload bytes up to there; `None` when no entry had to be written again, so that none has told it.
    pub length: Option<u64>,
}

/// Why nothing can be said about the end now. The ledger stays in recovery, and another attempt may find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecoveryFailure {
    /// Too few bookies answered to be sure that the writer is fenced.
    NotFenced,
    /// Too few bookies answered to know whether this entry exists.
    Unknown(EntryId),
    /// A found entry could not be made durable.
    NotCopied(WriterFailure),
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecoveryMachine {
    quorum: Quorum,
    /// Entries probed or being written again at once; at least 1.
    window: u64,
    phase: Phase,
    actions: VecDeque<Action>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Fencing(FenceMachine),
    Copying(Copying),
    Ended(Result<Recovered, RecoveryFailure>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Copying {
    writer: WriterMachine,
    /// Of the entries after the last one written, in order. Once the end is found, of none.
    probes: VecDeque<ProbeMachine>,
    ended: bool,
    /// As the last found entry told it.
    length: Option<u64>,
}

impl RecoveryMachine {
    /// `last_segment_start` is the first entry of the last recorded segment.
    pub fn new(quorum: Quorum, last_segment_start: EntryId, window: u64) -> Self {
        let phase = Phase::Fencing(FenceMachine::new(quorum, last_segment_start));
        let actions = (0..quorum.ensemble()).map(|slot| Action::Ask { slot, entry: None }).collect();
        Self { quorum, window: window.max(1), phase, actions }
    }

    /// A bookie answered a question, or failed to. Each question's fate must be reported once.
    pub fn on_answer(&mut self, slot: usize, entry: Option<EntryId>, answer: Answer) {
        match (&mut self.phase, entry) {
            (Phase::Fencing(fence), None) => {
                fence.on_answer(slot, answer);
                match fence.progress() {
                    Progress::Waiting => {}
                    Progress::Done(start) => {
                        let writer = WriterMachine::resume(self.quorum, start, 0);
                        let (probes, ended, length) = (VecDeque::new(), false, None);
                        self.phase = Phase::Copying(Copying { writer, probes, ended, length });
                    }
                    Progress::Stuck => self.end(Err(RecoveryFailure::NotFenced)),
                }
            }
            (Phase::Copying(copying), Some(entry)) => copying.on_answer(entry, answer),
            // Late answers to the first question, and those to probes behind the end.
            _ => {}
        }
        self.go_on();
    }

    /// Whether an answer about the entry, or the newest one, can still change anything.
    pub fn awaits(&self, entry: Option<EntryId>) -> bool {
        match (&self.phase, entry) {
            (Phase::Fencing(_), entry) => entry.is_none(),
            (Phase::Copying(copying), Some(entry)) => copying.index_of(entry).is_some(),
            (Phase::Copying(_), None) | (Phase::Ended(_), _) => false,
        }
    }

    /// What became of copies that were sent, reported to the machine that keeps count of them (see
    /// [`WriterMachine::on_added`]); and of bookies that were to be replaced.
    pub fn tell_writer(&mut self, tell: impl FnOnce(&mut WriterMachine)) {
        if let Phase::Copying(copying) = &mut self.phase {
            tell(&mut copying.writer);
        }
        self.go_on();
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<Result<Recovered, RecoveryFailure>> {
        match &self.phase {
            Phase::Ended(outcome) => Some(*outcome),
            Phase::Fencing(_) | Phase::Copying(_) => None,
        }
    }

    /// Whether every write set is fenced.
    pub fn is_fenced(&self) -> bool {
        !matches!(self.phase, Phase::Fencing(_) | Phase::Ended(Err(RecoveryFailure::NotFenced)))
    }

    fn end(&mut self, outcome: Result<Recovered, RecoveryFailure>) {
        self.phase = Phase::Ended(outcome);
        self.actions.clear();
    }

    fn go_on(&mut self) {
        let Phase::Copying(copying) = &mut self.phase else { return };
        if let Err(failure) = copying.write_found() {
            return self.end(Err(failure));
        }
        if let Some(recovered) = copying.recovered() {
            return self.end(Ok(recovered));
        }
        copying.probe_on(self.quorum, self.window, &mut self.actions);
        while let Some(action) = copying.writer.poll_action() {
            self.actions.push_back(match action {
                writer::Action::Send { slot, entry } => Action::Send { slot, entry },
                writer::Action::ChangeEnsemble { first_entry, failed, required } => {
                    Action::Replace { first_entry, failed, required }
                }
            });
        }
    }
}

impl Copying {
    /// The entry that the first probe is about.
    fn front(&self) -> EntryId {
        self.writer.last_add_pushed().map_or(EntryId::ZERO, EntryId::next)
    }

    /// The place among the probes of the one about the entry, if there is one.
    fn index_of(&self, entry: EntryId) -> Option<usize> {
        let index = usize::try_from(entry.0.checked_sub(self.front().0)?).ok()?;
        (index < self.probes.len()).then_some(index)
    }

    fn on_answer(&mut self, entry: EntryId, answer: Answer) {
        if let Some(index) = self.index_of(entry) {
            self.probes[index].on_answer(answer);
        }
    }

    /// Writes what is known to exist again, in order.
    fn write_found(&mut self) -> Result<(), RecoveryFailure> {
        while let Some(probe) = self.probes.front() {
            match probe.progress() {
                Progress::Waiting => break,
                Progress::Stuck => return Err(RecoveryFailure::Unknown(self.front())),
                Progress::Done(Probe::Absent) => {
                    self.ended = true;
                    self.probes.clear();
                }
                Progress::Done(Probe::Exists(found)) => {
                    self.probes.pop_front();
                    self.length = Some(found.length);
                    let written = self.writer.append_at(found.payload, found.length);
                    assert!(written.is_err() || written == Ok(found.id), "entries are recovered in order");
                }
            }
        }
        self.writer.failure().map_or(Ok(()), |failure| Err(RecoveryFailure::NotCopied(failure)))
    }

    /// The end, once everything before it is durable.
    fn recovered(&self) -> Option<Recovered> {
        let last_entry = self.writer.last_add_confirmed();
        let done = self.ended && last_entry == self.writer.last_add_pushed();
        done.then_some(Recovered { last_entry, length: self.length })
    }

    /// Asks for the entries of the window that have not been asked for.
    fn probe_on(&mut self, quorum: Quorum, window: u64, actions: &mut VecDeque<Action>) {
        if self.ended {
            return;
        }
        let confirmed = self.writer.last_add_confirmed().map_or(0, |confirmed| confirmed.0 + 1);
        let from = self.front().0 + self.probes.len() as u64;
        for entry in (from..confirmed + window).map(EntryId) {
            self.probes.push_back(ProbeMachine::new(quorum, entry));
            let asks = quorum.write_set(entry).map(|slot| Action::Ask { slot, entry: Some(entry) });
            actions.extend(asks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::recovery::FoundEntry;
    use super::super::writer::AddOutcome;
    use super::*;
    use bytes::Bytes;

    const WINDOW: u64 = 4;

    fn entry(id: u64, last_add_confirmed: Option<u64>) -> Answer {
        Answer::Entry(FoundEntry {
            id: EntryId(id),
            last_add_confirmed: last_add_confirmed.map(EntryId),
            length: id + 1,
            payload: Bytes::from_static(b"x"),
        })
    }

    fn actions(machine: &mut RecoveryMachine) -> Vec<Action> {
        std::iter::from_fn(|| machine.poll_action()).collect()
    }

    /// Fenced, with entry 4 confirmed.
    fn fenced() -> RecoveryMachine {
        let mut machine = RecoveryMachine::new(Quorum::new(3, 3, 2).expect("valid"), EntryId::ZERO, WINDOW);
        assert_eq!(actions(&mut machine).len(), 3);
        machine.on_answer(0, None, entry(6, Some(4)));
        assert!(!machine.is_fenced());
        machine.on_answer(1, None, Answer::Absent);
        assert!(machine.is_fenced());
        machine
    }

    fn absent(machine: &mut RecoveryMachine, id: u64) {
        for slot in 0..2 {
            machine.on_answer(slot, Some(EntryId(id)), Answer::Absent);
        }
    }

    fn sent(machine: &mut RecoveryMachine) -> Vec<u64> {
        let sent = |action| match action {
            Action::Send { entry, .. } => Some(entry.id.0),
            _ => None,
        };
        actions(machine).into_iter().filter_map(sent).collect()
    }

    #[test]
    fn a_window_of_entries_is_probed_behind_the_last_confirmed_one() {
        let mut machine = fenced();
        let asked: Vec<_> = actions(&mut machine);
        assert_eq!(asked.len(), WINDOW as usize * 3);
        assert!(asked.contains(&Action::Ask { slot: 2, entry: Some(EntryId(8)) }));
        absent(&mut machine, 5);
        let end = Recovered { last_entry: Some(EntryId(4)), length: None };
        assert_eq!(machine.outcome(), Some(Ok(end)));
    }

    #[test]
    fn what_lies_behind_the_first_absent_entry_is_of_no_interest() {
        let mut machine = fenced();
        for slot in 0..3 {
            machine.on_answer(slot, Some(EntryId(7)), Answer::Unknown);
        }
        machine.on_answer(0, Some(EntryId(6)), entry(6, Some(4)));
        assert_eq!((machine.outcome(), sent(&mut machine)), (None, vec![]));
        absent(&mut machine, 5);
        assert_eq!(machine.outcome(), Some(Ok(Recovered { last_entry: Some(EntryId(4)), length: None })));
    }

    #[test]
    fn the_ledger_ends_only_when_what_was_found_is_durable_again() {
        let mut machine = fenced();
        absent(&mut machine, 6);
        machine.on_answer(2, Some(EntryId(5)), entry(5, Some(4)));
        assert_eq!(sent(&mut machine), [5, 5, 5]);
        machine.tell_writer(|writer| writer.on_added(0, EntryId(5), AddOutcome::Stored));
        assert_eq!(machine.outcome(), None);
        machine.tell_writer(|writer| writer.on_added(1, EntryId(5), AddOutcome::Stored));
        let end = Recovered { last_entry: Some(EntryId(5)), length: Some(6) };
        assert_eq!(machine.outcome(), Some(Ok(end)));
    }

    #[test]
    fn an_entry_of_unknown_fate_ends_the_attempt_and_not_the_ledger() {
        let mut machine = fenced();
        machine.on_answer(0, Some(EntryId(5)), Answer::Absent);
        machine.on_answer(1, Some(EntryId(5)), Answer::Unknown);
        machine.on_answer(2, Some(EntryId(5)), Answer::Unknown);
        assert_eq!(machine.outcome(), Some(Err(RecoveryFailure::Unknown(EntryId(5)))));
    }

    #[test]
    fn an_answer_is_awaited_as_long_as_it_can_change_anything() {
        let mut machine = fenced();
        let awaits = |machine: &RecoveryMachine, id| machine.awaits(Some(EntryId(id)));
        assert!(!machine.awaits(None) && !awaits(&machine, 4) && awaits(&machine, 5) && awaits(&machine, 8));
        assert!(!awaits(&machine, 9), "it was not asked for");
        machine.on_answer(0, Some(EntryId(5)), entry(5, Some(4)));
        assert!(!awaits(&machine, 5) && awaits(&machine, 6));
        absent(&mut machine, 6);
        assert!(!awaits(&machine, 7));
    }

    #[test]
    fn the_window_moves_on_with_what_is_durable() {
        let mut machine = fenced();
        actions(&mut machine);
        machine.on_answer(0, Some(EntryId(5)), entry(5, Some(4)));
        assert_eq!(actions(&mut machine).len(), 3, "only the copies are sent");
        for slot in 0..2 {
            machine.tell_writer(|writer| writer.on_added(slot, EntryId(5), AddOutcome::Stored));
        }
        let next = Action::Ask { slot: 0, entry: Some(EntryId(9)) };
        assert!(actions(&mut machine).contains(&next));
    }
}
