//! Recovery of a ledger whose writer is gone: fence it, find its end, and make every entry up to there durable again.
//!
//! Fencing travels with every read here, not only with the first: a bookie that was missed by the first round must not
//! be able to complete an older writer's entry after its absence has been counted. "Unknown" (no answer, unreadable,
//! corrupt) is never taken for "absent".

use super::quorum::{Quorum, Slots};
use bytes::Bytes;
use magnetar_proto::ids::EntryId;

/// What a bookie said to a fencing read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// An entry whose digest is right.
    Entry(FoundEntry),
    /// The bookie proves that it has no such entry, or no such ledger.
    Absent,
    /// Anything else.
    Unknown,
}

/// An entry as a bookie gave it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FoundEntry {
    /// Its id.
    pub id: EntryId,
    /// The writer's last add confirmed when it was sent.
    pub last_add_confirmed: Option<EntryId>,
    /// Payload bytes of the ledger up to and including it.
    pub length: u64,
    /// What it carries.
    pub payload: Bytes,
}

/// The first phase: fence every bookie of the last segment and learn the highest last add confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FenceMachine {
    quorum: Quorum,
    answered: Slots,
    valid: Slots,
    start: Option<EntryId>,
}

/// Where a phase stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Progress<T> {
    /// Not enough answers.
    Waiting,
    /// The result.
    Done(T),
    /// Every bookie has answered, and it is not enough: try again later.
    Stuck,
}

impl FenceMachine {
    /// `last_segment_start` is the first entry of the last segment: entries before it were confirmed when it was made.
    pub fn new(quorum: Quorum, last_segment_start: EntryId) -> Self {
        Self { quorum, answered: Slots::NONE, valid: Slots::NONE, start: last_segment_start.prev() }
    }

    /// A bookie answered the fencing read of its newest entry.
    pub fn on_answer(&mut self, slot: usize, answer: Answer) {
        self.answered.insert(slot);
        match answer {
            Answer::Entry(entry) => {
                self.valid.insert(slot);
                self.start = self.start.max(entry.last_add_confirmed);
            }
            Answer::Absent => self.valid.insert(slot),
            Answer::Unknown => {}
        }
    }

    /// The last entry known to be confirmed, once no write set has Qa unfenced bookies left.
    pub fn progress(&self) -> Progress<Option<EntryId>> {
        if self.quorum.is_covered(self.valid) {
            Progress::Done(self.start)
        } else if self.answered.len() == self.quorum.ensemble() {
            Progress::Stuck
        } else {
            Progress::Waiting
        }
    }
}

/// The second phase, for one entry: does it exist?
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProbeMachine {
    quorum: Quorum,
    entry: EntryId,
    answered: usize,
    absent: usize,
    found: Option<FoundEntry>,
}

/// What is known of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    /// It exists, with this content: it must become durable on Qa bookies again.
    Exists(FoundEntry),
    /// No Qa bookies can ever have held it: the ledger ends before it.
    Absent,
}

impl ProbeMachine {
    /// For an entry after the last confirmed one.
    pub fn new(quorum: Quorum, entry: EntryId) -> Self {
        Self { quorum, entry, answered: 0, absent: 0, found: None }
    }

    /// A bookie of the write set answered. Each must be reported once.
    pub fn on_answer(&mut self, answer: Answer) {
        self.answered += 1;
        match answer {
            Answer::Entry(entry) => {
                assert_eq!(entry.id, self.entry, "the shell checks which entry a body is of");
                self.found = Some(entry);
            }
            Answer::Absent => self.absent += 1,
            Answer::Unknown => {}
        }
    }

    /// A found copy decides at once: whether it was acknowledged does not matter, making it durable is always right.
    pub fn progress(&self) -> Progress<Probe> {
        if let Some(found) = &self.found {
            Progress::Done(Probe::Exists(found.clone()))
        } else if self.quorum.proves_absence(self.absent) {
            Progress::Done(Probe::Absent)
        } else if self.answered == self.quorum.write() {
            Progress::Stuck
        } else {
            Progress::Waiting
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quorum() -> Quorum {
        Quorum::new(3, 3, 2).expect("valid")
    }

    fn entry(id: u64, last_add_confirmed: Option<u64>) -> Answer {
        Answer::Entry(FoundEntry {
            id: EntryId(id),
            last_add_confirmed: last_add_confirmed.map(EntryId),
            length: id + 1,
            payload: Bytes::from_static(b"x"),
        })
    }

    #[test]
    fn fencing_takes_the_highest_confirmed_entry_and_waits_for_coverage() {
        let mut fence = FenceMachine::new(quorum(), EntryId::ZERO);
        fence.on_answer(0, entry(7, Some(4)));
        assert_eq!(fence.progress(), Progress::Waiting);
        fence.on_answer(1, Answer::Absent);
        assert_eq!(fence.progress(), Progress::Done(Some(EntryId(4))));
    }

    #[test]
    fn fencing_without_coverage_is_stuck_not_done() {
        let mut fence = FenceMachine::new(quorum(), EntryId::ZERO);
        fence.on_answer(0, entry(7, Some(4)));
        fence.on_answer(1, Answer::Unknown);
        fence.on_answer(2, Answer::Unknown);
        assert_eq!(fence.progress(), Progress::Stuck);
    }

    #[test]
    fn an_empty_last_segment_does_not_restart_recovery_below_it() {
        // BookKeeper #2615: with the last add confirmed unknown, recovery went back to entry 0.
        let mut fence = FenceMachine::new(quorum(), EntryId(10));
        fence.on_answer(0, Answer::Absent);
        fence.on_answer(1, Answer::Absent);
        assert_eq!(fence.progress(), Progress::Done(Some(EntryId(9))));
    }

    #[test]
    fn an_entry_is_absent_only_when_no_ack_quorum_can_have_held_it() {
        let mut probe = ProbeMachine::new(quorum(), EntryId(3));
        probe.on_answer(Answer::Absent);
        assert_eq!(probe.progress(), Progress::Waiting);
        probe.on_answer(Answer::Unknown);
        assert_eq!(probe.progress(), Progress::Waiting);
        probe.on_answer(Answer::Absent);
        assert_eq!(probe.progress(), Progress::Done(Probe::Absent));
    }

    #[test]
    fn unreadable_copies_are_unknown_and_stop_recovery_rather_than_cut_the_ledger() {
        // BookKeeper #2908: a corrupt log reported as "no entry" truncated the ledger.
        let mut probe = ProbeMachine::new(quorum(), EntryId(3));
        probe.on_answer(Answer::Absent);
        probe.on_answer(Answer::Unknown);
        probe.on_answer(Answer::Unknown);
        assert_eq!(probe.progress(), Progress::Stuck);
    }

    #[test]
    fn one_copy_is_enough_to_exist() {
        let mut probe = ProbeMachine::new(quorum(), EntryId(3));
        probe.on_answer(Answer::Absent);
        probe.on_answer(entry(3, Some(1)));
        assert!(matches!(probe.progress(), Progress::Done(Probe::Exists(_))));
    }
}
