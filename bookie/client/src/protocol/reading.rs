//! Reading one entry of a settled part of a ledger: which replica next, and when to give up.

use super::quorum::Quorum;
use magnetar_proto::ids::EntryId;

/// What a replica said to a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// It proves that it has no such entry.
    Absent,
    /// Anything else but the entry: no answer, an error, a wrong digest.
    Unreadable,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask the bookie in this slot.
    Ask(usize),
    /// Every replica proves absence.
    NoSuchEntry,
    /// No replica gave it, and at least one might have it.
    Unreadable,
}

/// The replicas of an entry in the order of asking.
#[derive(Clone, Debug)]
pub struct ReadMachine {
    slots: Vec<usize>,
    asked: usize,
    unreadable: bool,
}

impl ReadMachine {
    /// `first` rotates the order, so that readers of different ledgers start at different bookies while one ledger's
    /// reads stay at one bookie and profit from its read-ahead.
    pub fn new(quorum: Quorum, entry: EntryId, first: u64) -> Self {
        let mut slots: Vec<usize> = quorum.write_set(entry).collect();
        if quorum.ensemble() == quorum.write() {
            slots.sort_unstable();
        }
        let by = usize::try_from(first % slots.len() as u64).unwrap_or(0);
        slots.rotate_left(by);
        Self { slots, asked: 0, unreadable: false }
    }

    /// The replica asked last did not give the entry.
    pub fn on_miss(&mut self, miss: Miss) {
        self.unreadable |= miss == Miss::Unreadable;
    }

    /// The next replica, or the end.
    pub fn poll_next(&mut self) -> Next {
        match self.slots.get(self.asked) {
            Some(slot) => {
                self.asked += 1;
                Next::Ask(*slot)
            }
            None if self.unreadable => Next::Unreadable,
            None => Next::NoSuchEntry,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_replica_is_asked_before_an_entry_is_called_absent() {
        let quorum = Quorum::new(3, 3, 2).expect("valid");
        let mut read = ReadMachine::new(quorum, EntryId(1), 1);
        for slot in [1, 2, 0] {
            assert_eq!(read.poll_next(), Next::Ask(slot));
            read.on_miss(Miss::Absent);
        }
        assert_eq!(read.poll_next(), Next::NoSuchEntry);
    }

    #[test]
    fn one_unreadable_replica_makes_it_unreadable_not_absent() {
        let quorum = Quorum::new(3, 2, 2).expect("valid");
        let mut read = ReadMachine::new(quorum, EntryId(2), 0);
        assert_eq!(read.poll_next(), Next::Ask(2));
        read.on_miss(Miss::Unreadable);
        assert_eq!(read.poll_next(), Next::Ask(0));
        read.on_miss(Miss::Absent);
        assert_eq!(read.poll_next(), Next::Unreadable);
    }
}
