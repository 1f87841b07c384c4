//! The writer of an open ledger: ids, acknowledgements in order, ensemble changes.
//!
//! ```text
//! last add confirmed <= last add pushed;   pending = (last add confirmed, last add pushed], and what is retained
//!
//!   Open ──bookie fails, replacement wanted──▶ Changing ──metadata changed──▶ Open
//!     │                                           │
//!     └──fenced, or Qa out of reach──▶ Failed ◀───┘ (somebody else closed or recovers the ledger)
//! ```
//! An entry may only be confirmed if the metadata that a new reader would see finds it. While the ensemble changes a reader
//! may see the old one or the new one. So an entry completes then if Qa bookies have it that are in both: a failed bookie
//! stops nobody while the others suffice. Such entries are retained until the change has ended: they belong to the new
//! segment, whose new bookies must get them too.

use super::quorum::{Quorum, Slots};
use bytes::Bytes;
use magnetar_proto::ids::EntryId;
use std::collections::VecDeque;

/// How one add ended at one bookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddOutcome {
    /// Durable there.
    Stored,
    /// The ledger is fenced there.
    Fenced,
    /// The bookie has another master key for the ledger.
    Unauthorized,
    /// No answer, or an error of that bookie: whether it is stored is unknown.
    Failed,
}

/// What the shell must do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Send the entry to the bookie in `slot`.
    Send {
        /// The slot of the current ensemble.
        slot: usize,
        /// Which entry.
        entry: PendingEntry,
    },
    /// Record another ensemble from `first_entry` on, with other bookies in these slots, and report it.
    ChangeEnsemble {
        /// Where the new segment starts: one after the last add confirmed.
        first_entry: EntryId,
        /// The slots to be filled anew.
        failed: Slots,
        /// Without it an entry cannot be acknowledged: even a bookie that failed lately is worth a try.
        required: bool,
    },
}

/// An entry on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PendingEntry {
    /// Its id.
    pub id: EntryId,
    /// What it carries.
    pub payload: Bytes,
    /// Payload bytes of the ledger up to and including it.
    pub length: u64,
    /// The last add confirmed when it was sent first.
    pub last_add_confirmed: Option<EntryId>,
}

/// Why the writer can go on no more. Everything not confirmed is of unknown fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriterFailure {
    /// A newer owner has fenced, recovered or closed the ledger.
    Fenced,
    /// The master key is not the ledger's.
    Unauthorized,
    /// Too many copies of an entry failed, and there is no bookie to replace them.
    OutOfReach,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pending {
    entry: PendingEntry,
    acked: Slots,
    failed: Slots,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Open,
    Changing {
        failed: Slots,
        required: bool,
        /// Bookies came or went since it was asked for: what was found before is no last word.
        news: bool,
    },
    Failed(WriterFailure),
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WriterMachine {
    quorum: Quorum,
    state: State,
    next: EntryId,
    confirmed: Option<EntryId>,
    /// What a recovery tells bookies as the last add confirmed: that of the writer, where it began. What it confirms itself
    /// may lie on an ensemble that nobody else knows of before it closes the ledger; a recovery after it, should it fail,
    /// must not take those entries for durable.
    recovered_from: Option<Option<EntryId>>,
    /// Payload bytes up to the last add confirmed, and up to the last add pushed.
    confirmed_length: u64,
    length: u64,
    /// What is not confirmed, behind what is retained.
    pending: VecDeque<Pending>,
    /// So many at the front are confirmed, and wait for the ensemble change to end.
    retained: usize,
    /// Payload bytes up to the first pending entry.
    settled_length: u64,
    actions: VecDeque<Action>,
    /// Slots whose bookie failed and that wait for the running change to end, or for a replacement to exist.
    suspects: Slots,
    /// No replacement existed when last asked: the writer goes on without until told otherwise.
    no_replacement: bool,
    /// Whether a pending entry has lost too many copies to be acknowledged by its bookies as they are.
    out_of_reach: bool,
}

impl WriterMachine {
    /// The writer of a new, empty ledger.
    pub fn new(quorum: Quorum) -> Self {
        Self { recovered_from: None, ..Self::resume(quorum, None, 0) }
    }

    /// A writer that goes on after `confirmed`, where the ledger has `length` bytes: that of a recovery.
    pub fn resume(quorum: Quorum, confirmed: Option<EntryId>, length: u64) -> Self {
        Self {
            quorum,
            state: State::Open,
            next: confirmed.map_or(EntryId::ZERO, EntryId::next),
            confirmed,
            recovered_from: Some(confirmed),
            confirmed_length: length,
            length,
            pending: VecDeque::new(),
            retained: 0,
            settled_length: length,
            actions: VecDeque::new(),
            suspects: Slots::NONE,
            no_replacement: false,
            out_of_reach: false,
        }
    }

    /// The quorums of the ledger.
    pub fn quorum(&self) -> Quorum {
        self.quorum
    }

    /// Takes an entry and gives its id, unless the writer has failed.
    pub fn append(&mut self, payload: Bytes) -> Result<EntryId, WriterFailure> {
        let length = self.length + payload.len() as u64;
        self.append_at(payload, length)
    }

    /// As [`append`](Self::append), with the ledger's length up to and including the entry as its first writer told it.
    pub fn append_at(&mut self, payload: Bytes, length: u64) -> Result<EntryId, WriterFailure> {
        if let State::Failed(failure) = self.state {
            return Err(failure);
        }
        let id = self.next;
        self.next = id.next();
        self.length = length;
        let last_add_confirmed = self.recovered_from.unwrap_or(self.confirmed);
        let entry = PendingEntry { id, payload, length, last_add_confirmed };
        for slot in self.quorum.write_set(id) {
            self.actions.push_back(Action::Send { slot, entry: entry.clone() });
        }
        self.pending.push_back(Pending { entry, acked: Slots::NONE, failed: Slots::NONE });
        Ok(id)
    }

    /// A bookie answered, or failed to. The shell must not report answers of a bookie that is no longer in the slot.
    pub fn on_added(&mut self, slot: usize, id: EntryId, outcome: AddOutcome) {
        if matches!(self.state, State::Failed(_)) {
            return;
        }
        match outcome {
            AddOutcome::Fenced => return self.fail(WriterFailure::Fenced),
            AddOutcome::Unauthorized => return self.fail(WriterFailure::Unauthorized),
            AddOutcome::Stored | AddOutcome::Failed => {}
        }
        if outcome == AddOutcome::Stored {
            // The bookie works again: no reason to replace it any more.
            self.suspects.remove(slot);
        } else {
            self.suspects.insert(slot);
        }
        // Of a confirmed entry only the news about the bookie matters.
        let unconfirmed = self.index_of(id).filter(|index| *index >= self.retained);
        if let Some(pending) = unconfirmed.and_then(|index| self.pending.get_mut(index)) {
            if outcome == AddOutcome::Stored {
                pending.acked.insert(slot);
                pending.failed.remove(slot);
                return self.complete();
            }
            if !pending.acked.contains(slot) {
                pending.failed.insert(slot);
                self.out_of_reach |= self.quorum.is_out_of_reach(pending.failed.len());
            }
        }
        self.consider_change();
    }

    /// The metadata names other bookies in `changed` now; entries not confirmed go to them again.
    pub fn on_ensemble_changed(&mut self, changed: Slots) {
        let State::Changing { failed, news, .. } = self.state else { return };
        assert_eq!(failed.union(changed), failed, "entries were confirmed by the slots that were to stay");
        self.state = State::Open;
        for slot in changed.iter() {
            self.suspects.remove(slot);
        }
        for pending in &mut self.pending {
            for slot in changed.iter().filter(|slot| self.quorum.keeps(pending.entry.id, *slot)) {
                // What the old bookie stored does not count: a reader will ask the new one.
                pending.acked.remove(slot);
                pending.failed.remove(slot);
                self.actions.push_back(Action::Send { slot, entry: pending.entry.clone() });
            }
        }
        self.let_go();
        self.out_of_reach = self.first_out_of_reach().is_some();
        self.no_replacement = !news && failed.iter().any(|slot| !changed.contains(slot));
        self.complete();
        self.consider_change();
    }

    /// There is no bookie to replace any of the failed ones.
    pub fn on_no_replacement(&mut self) {
        if let State::Changing { required, news, .. } = self.state {
            if required && !news {
                return self.fail(WriterFailure::OutOfReach);
            }
            self.state = State::Open;
            self.let_go();
            self.no_replacement = !news;
            self.complete();
            self.consider_change();
        }
    }

    /// Bookies have come or gone: a replacement may exist now.
    pub fn on_bookies_changed(&mut self) {
        self.no_replacement = false;
        if let State::Changing { news, .. } = &mut self.state {
            *news = true;
        }
        self.consider_change();
    }

    /// The bookie in `slot` answers, but far later than its peers: replace it if there is another one.
    pub fn on_slow(&mut self, slot: usize) {
        if self.failure().is_none() {
            self.suspects.insert(slot);
            self.consider_change();
        }
    }

    /// The ledger's metadata says that it is no longer ours.
    pub fn on_taken_over(&mut self) {
        self.fail(WriterFailure::Fenced);
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Every entry up to this one is acknowledged. Never goes back.
    pub fn last_add_confirmed(&self) -> Option<EntryId> {
        self.confirmed
    }

    /// The last entry taken.
    pub fn last_add_pushed(&self) -> Option<EntryId> {
        self.next.prev()
    }

    /// Payload bytes of the confirmed entries.
    pub fn confirmed_length(&self) -> u64 {
        self.confirmed_length
    }

    /// Payload bytes of all entries taken.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Payload bytes that are kept: taken, and not confirmed or retained.
    pub fn in_flight_bytes(&self) -> u64 {
        self.length - self.settled_length
    }

    /// How many entries are kept.
    pub fn in_flight_entries(&self) -> usize {
        self.pending.len()
    }

    /// Why the writer ended, if it has.
    pub fn failure(&self) -> Option<WriterFailure> {
        match self.state {
            State::Failed(failure) => Some(failure),
            State::Open | State::Changing { .. } => None,
        }
    }

    fn index_of(&self, id: EntryId) -> Option<usize> {
        let first = self.pending.front()?.entry.id;
        let index = usize::try_from(id.0.checked_sub(first.0)?).ok()?;
        (index < self.pending.len()).then_some(index)
    }

    /// Confirms from the front, strictly in order.
    fn complete(&mut self) {
        let leaving = match self.state {
            State::Open => Slots::NONE,
            State::Changing { failed, .. } => failed,
            State::Failed(_) => return,
        };
        while let Some(first) = self.pending.get(self.retained) {
            if !self.quorum.is_acknowledged(first.acked.without(leaving).len()) {
                break;
            }
            let id = first.entry.id;
            assert!(
                self.confirmed.is_none_or(|confirmed| confirmed.next() == id),
                "entries are confirmed in order"
            );
            self.confirmed = Some(id);
            self.confirmed_length = first.entry.length;
            self.retained += 1;
            if self.state == State::Open {
                self.let_go();
            }
        }
    }

    /// Nothing needs what was retained any more.
    fn let_go(&mut self) {
        for gone in self.pending.drain(..std::mem::take(&mut self.retained)) {
            self.settled_length = gone.entry.length;
        }
    }

    fn first_out_of_reach(&self) -> Option<Slots> {
        let mut failed = self.pending.iter().skip(self.retained).map(|pending| pending.failed);
        failed.find(|failed| self.quorum.is_out_of_reach(failed.len()))
    }

    fn consider_change(&mut self) {
        if self.state != State::Open {
            return;
        }
        let stuck = if self.out_of_reach { self.first_out_of_reach() } else { None };
        let required = stuck.is_some();
        self.out_of_reach = required;
        let failed = self.suspects.union(stuck.unwrap_or_default());
        if failed.is_empty() || (self.no_replacement && !required) {
            return;
        }
        let first_entry = self.confirmed.map_or(EntryId::ZERO, EntryId::next);
        self.state = State::Changing { failed, required, news: false };
        self.actions.push_back(Action::ChangeEnsemble { first_entry, failed, required });
    }

    fn fail(&mut self, failure: WriterFailure) {
        if !matches!(self.state, State::Failed(_)) {
            self.state = State::Failed(failure);
            self.actions.clear();
            self.pending.clear();
            self.retained = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> WriterMachine {
        WriterMachine::new(Quorum::new(3, 3, 2).expect("valid"))
    }

    fn append(machine: &mut WriterMachine) -> EntryId {
        machine.append(Bytes::from_static(b"x")).expect("open")
    }

    fn sends(machine: &mut WriterMachine) -> Vec<(usize, u64)> {
        let mut sends = Vec::new();
        while let Some(action) = machine.poll_action() {
            if let Action::Send { slot, entry } = action {
                sends.push((slot, entry.id.0));
            }
        }
        sends
    }

    #[test]
    fn entries_are_confirmed_in_order_whatever_the_order_of_the_answers() {
        let mut machine = machine();
        let (first, second) = (append(&mut machine), append(&mut machine));
        for slot in 0..2 {
            machine.on_added(slot, second, AddOutcome::Stored);
        }
        assert_eq!(machine.last_add_confirmed(), None);
        machine.on_added(2, first, AddOutcome::Stored);
        assert_eq!(machine.last_add_confirmed(), None);
        machine.on_added(0, first, AddOutcome::Stored);
        assert_eq!(machine.last_add_confirmed(), Some(second));
        assert_eq!((machine.confirmed_length(), machine.in_flight_bytes()), (2, 0));
    }

    #[test]
    fn the_same_bookie_twice_is_one_acknowledgement() {
        let mut machine = machine();
        let id = append(&mut machine);
        machine.on_added(0, id, AddOutcome::Stored);
        machine.on_added(0, id, AddOutcome::Stored);
        assert_eq!(machine.last_add_confirmed(), None);
    }

    #[test]
    fn with_no_replacement_two_of_three_bookies_go_on_and_one_does_not() {
        let mut machine = machine();
        let id = append(&mut machine);
        machine.on_added(0, id, AddOutcome::Failed);
        assert!(matches!(
            std::iter::from_fn(|| machine.poll_action()).last(),
            Some(Action::ChangeEnsemble { first_entry: EntryId(0), .. })
        ));
        for slot in 1..3 {
            machine.on_added(slot, id, AddOutcome::Stored);
        }
        machine.on_no_replacement();
        assert_eq!(machine.last_add_confirmed(), Some(id));
        let id = append(&mut machine);
        machine.on_added(0, id, AddOutcome::Failed);
        machine.on_added(1, id, AddOutcome::Failed);
        assert!(matches!(
            std::iter::from_fn(|| machine.poll_action()).last(),
            Some(Action::ChangeEnsemble { required: true, .. })
        ));
        machine.on_no_replacement();
        assert_eq!(machine.failure(), Some(WriterFailure::OutOfReach));
        assert_eq!(machine.append(Bytes::new()), Err(WriterFailure::OutOfReach));
    }

    /// The slot stayed empty, or the ledger ended, until bookies came or went again.
    #[test]
    fn a_bookie_that_comes_while_a_replacement_is_looked_for_is_asked_for_next() {
        let asked = |machine: &mut WriterMachine| {
            let last = std::iter::from_fn(|| machine.poll_action()).last();
            matches!(last, Some(Action::ChangeEnsemble { .. }))
        };
        for failures in 1..=2 {
            let mut machine = machine();
            let id = append(&mut machine);
            for slot in 0..failures {
                machine.on_added(slot, id, AddOutcome::Failed);
            }
            assert!(asked(&mut machine));
            machine.on_bookies_changed();
            assert!(!asked(&mut machine), "one change at a time");
            machine.on_no_replacement();
            assert_eq!(machine.failure(), None);
            assert!(asked(&mut machine));
        }
    }

    #[test]
    fn two_bookies_that_stay_go_on_while_the_third_is_replaced_and_its_heir_gets_what_they_confirmed() {
        let mut machine = machine();
        let first = append(&mut machine);
        machine.on_added(2, first, AddOutcome::Failed);
        sends(&mut machine);
        let second = append(&mut machine);
        sends(&mut machine);
        for id in [first, second] {
            machine.on_added(0, id, AddOutcome::Stored);
            machine.on_added(1, id, AddOutcome::Stored);
        }
        assert_eq!(machine.last_add_confirmed(), Some(second));
        assert_eq!(machine.in_flight_bytes(), 2, "the new segment has them, and so must its new bookie");
        let mut changed = Slots::NONE;
        changed.insert(2);
        machine.on_ensemble_changed(changed);
        assert_eq!(sends(&mut machine), [(2, 0), (2, 1)]);
        assert_eq!((machine.in_flight_bytes(), machine.in_flight_entries()), (0, 0));
    }

    #[test]
    fn what_a_bookie_stored_that_is_to_be_replaced_confirms_nothing() {
        let mut machine = machine();
        let (first, second) = (append(&mut machine), append(&mut machine));
        machine.on_added(2, first, AddOutcome::Stored);
        machine.on_added(2, second, AddOutcome::Failed);
        machine.on_added(0, first, AddOutcome::Stored);
        // One of the two that have it may be no bookie of the entry any more.
        assert_eq!(machine.last_add_confirmed(), None);
        machine.on_no_replacement();
        assert_eq!(machine.last_add_confirmed(), Some(first));
    }

    #[test]
    fn a_replaced_bookies_acknowledgements_do_not_count_and_its_entries_are_sent_again() {
        let mut machine = machine();
        let id = append(&mut machine);
        machine.on_added(0, id, AddOutcome::Stored);
        machine.on_slow(0);
        sends(&mut machine);
        let mut changed = Slots::NONE;
        changed.insert(0);
        machine.on_ensemble_changed(changed);
        assert_eq!(sends(&mut machine), [(0, 0)]);
        machine.on_added(2, id, AddOutcome::Stored);
        assert_eq!(machine.last_add_confirmed(), None, "slot 0 has another bookie now");
        machine.on_added(0, id, AddOutcome::Stored);
        assert_eq!(machine.last_add_confirmed(), Some(id));
    }

    #[test]
    fn a_copy_that_fails_after_its_entry_was_confirmed_still_has_its_bookie_replaced() {
        let mut machine = machine();
        let id = append(&mut machine);
        for slot in 0..2 {
            machine.on_added(slot, id, AddOutcome::Stored);
        }
        sends(&mut machine);
        machine.on_added(2, id, AddOutcome::Failed);
        let action = machine.poll_action();
        assert!(
            matches!(action, Some(Action::ChangeEnsemble { first_entry: EntryId(1), failed, .. }) if failed.contains(2))
        );
    }

    #[test]
    fn a_slow_bookie_is_replaced_though_it_answers_and_kept_when_there_is_no_other() {
        let mut machine = machine();
        let id = append(&mut machine);
        sends(&mut machine);
        machine.on_slow(2);
        let Some(Action::ChangeEnsemble { failed, required: false, .. }) = machine.poll_action() else {
            panic!("a change")
        };
        assert_eq!(failed.iter().collect::<Vec<_>>(), [2]);
        machine.on_no_replacement();
        assert_eq!(machine.poll_action(), None);
        for slot in 0..2 {
            machine.on_added(slot, id, AddOutcome::Stored);
        }
        assert_eq!(machine.last_add_confirmed(), Some(id));
    }

    #[test]
    fn a_recovery_never_calls_confirmed_what_only_it_has_confirmed() {
        let mut machine = WriterMachine::resume(machine().quorum(), Some(EntryId(4)), 5);
        let first = append(&mut machine);
        for slot in 0..3 {
            machine.on_added(slot, first, AddOutcome::Stored);
        }
        assert_eq!(machine.last_add_confirmed(), Some(EntryId(5)));
        append(&mut machine);
        let last = std::iter::from_fn(|| machine.poll_action()).last();
        let Some(Action::Send { entry, .. }) = last else { panic!("{last:?}") };
        assert_eq!((entry.id, entry.last_add_confirmed), (EntryId(6), Some(EntryId(4))));
    }

    #[test]
    fn an_entry_that_went_out_of_reach_while_the_ensemble_changed_is_not_forgotten() {
        let mut machine = machine();
        let (first, second) = (append(&mut machine), append(&mut machine));
        machine.on_added(0, first, AddOutcome::Failed);
        machine.on_added(1, first, AddOutcome::Failed);
        // Both bookies work again, but nobody will send them the first entry once more.
        machine.on_added(0, second, AddOutcome::Stored);
        machine.on_added(1, second, AddOutcome::Stored);
        sends(&mut machine);
        machine.on_no_replacement();
        let Some(Action::ChangeEnsemble { failed, required: true, .. }) = machine.poll_action() else {
            panic!("a change")
        };
        machine.on_ensemble_changed(failed);
        assert_eq!(sends(&mut machine), [(0, 0), (1, 0), (0, 1), (1, 1)]);
    }

    #[test]
    fn a_fenced_answer_ends_the_writer_and_nothing_more_is_confirmed() {
        let mut machine = machine();
        let id = append(&mut machine);
        machine.on_added(0, id, AddOutcome::Fenced);
        machine.on_added(1, id, AddOutcome::Stored);
        machine.on_added(2, id, AddOutcome::Stored);
        assert_eq!((machine.failure(), machine.last_add_confirmed()), (Some(WriterFailure::Fenced), None));
    }
}
