//! The state of a cursor: which entries are acknowledged.

use super::batches::{Batches, Narrowed};
use super::ranges::{AckedRange, AckedSet};
use super::snapshot::Snapshot;
use crate::managed_ledger::{LedgerList, MarkDelete};
use magnetar_proto::ids::{EntryId, Position};

/// What an acknowledgement of single messages of a batch did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckOutcome {
    /// Nothing new.
    Nothing,
    /// Some messages of the batch are newly acknowledged, and some remain.
    Partly {
        /// How many are new.
        newly: u32,
    },
    /// The whole entry is newly acknowledged.
    Entry,
    /// As many partly acknowledged batches as can be kept are there already: nothing was acknowledged, and must not be
    /// confirmed. Acknowledging whole entries is always possible.
    Refused,
}

/// Everything up to the mark-delete position is acknowledged, nothing directly after it is, and what is acknowledged
/// further on is kept one by one. The mark-delete position never passes the last confirmed entry and never moves back.
///
/// Whoever acknowledges passes the ledgers as they are then: what does not exist cannot be acknowledged.
#[derive(Clone, Debug, PartialEq)]
pub struct Cursor {
    mark: MarkDelete,
    acked: AckedSet,
    batches: Batches,
    properties: Vec<(String, i64)>,
    /// Messages before all ledgers may be to come, from a compacted ledger: a mark there does not follow what is
    /// acknowledged in the ledgers. Not kept: nobody has looked yet.
    waits_before_all: bool,
}

impl Cursor {
    /// A cursor with everything up to `mark` acknowledged.
    pub fn new(mark: MarkDelete) -> Self {
        Self {
            mark,
            acked: AckedSet::default(),
            batches: Batches::default(),
            properties: Vec::new(),
            waits_before_all: false,
        }
    }

    /// The cursor as it was when the snapshot was taken, fitted to the ledgers as they are now.
    pub fn restore(snapshot: &Snapshot, ledgers: &LedgerList) -> Self {
        let Snapshot { mark, acked, batches, properties } = snapshot.clone();
        let mut cursor = Self { mark, acked, batches, properties, waits_before_all: true };
        let done: Vec<Position> =
            snapshot.batches.iter().map(|(at, _)| at).filter(|at| snapshot.acked.contains(*at)).collect();
        done.into_iter().for_each(|position| cursor.batches.remove(position));
        cursor.fit(ledgers);
        cursor.waits_before_all = cursor.is_held(ledgers);
        cursor
    }

    /// Everything up to here is acknowledged.
    pub fn mark_delete(&self) -> MarkDelete {
        self.mark
    }

    /// Whether the whole entry is acknowledged.
    pub fn is_acked(&self, position: Position) -> bool {
        self.mark.covers(position) || self.acked.contains(position)
    }

    /// Whether nothing at `position` or after it is acknowledged, not even a message of a batch.
    pub fn is_untouched_from(&self, position: Position) -> bool {
        let before = |last: Option<Position>| last.is_none_or(|last| last < position);
        !self.mark.covers(position) && before(self.acked.last()) && before(self.batches.last())
    }

    /// For a partly acknowledged batch: its bit set, in which a set bit is a message that is not acknowledged.
    pub fn ack_set_of(&self, position: Position) -> Option<Vec<u64>> {
        self.batches.get(position).map(<[u64]>::to_vec)
    }

    /// Entries acknowledged above the mark-delete position.
    pub fn individually_acked(&self) -> u64 {
        self.acked.len()
    }

    /// They as ranges, in order: the first `most` of them, and how many there are.
    pub fn ranges(&self, most: usize) -> (Vec<AckedRange>, u64) {
        (self.acked.iter().take(most).collect(), self.acked.runs())
    }

    /// Numbers that came with the mark-delete position.
    pub fn properties(&self) -> &[(String, i64)] {
        &self.properties
    }

    /// Sets them.
    pub fn set_properties(&mut self, properties: Vec<(String, i64)>) {
        self.properties = properties;
    }

    /// Tells whether messages may come from before all ledgers, where the mark-delete position is kept then until it is
    /// moved by a cumulative acknowledgement.
    pub fn wait_before_all(&mut self, waits: bool, ledgers: &LedgerList) {
        self.waits_before_all = waits;
        self.advance(self.mark, ledgers);
    }

    /// Acknowledges an entry. False if it was acknowledged, or does not exist.
    pub fn ack(&mut self, position: Position, ledgers: &LedgerList) -> bool {
        if self.is_acked(position) || !exists(position, ledgers) {
            return false;
        }
        self.batches.remove(position);
        if !self.is_held(ledgers) && ledgers.next_after(self.mark) == position {
            self.advance(position.into(), ledgers);
            true
        } else {
            self.acked.insert(position)
        }
    }

    /// Acknowledges those messages of a batch whose bit in `remaining` is clear or missing; `size` is how many messages
    /// it has.
    pub fn ack_batch(
        &mut self,
        position: Position,
        remaining: &[u64],
        size: u32,
        ledgers: &LedgerList,
    ) -> AckOutcome {
        if self.is_acked(position) || !exists(position, ledgers) {
            return AckOutcome::Nothing;
        }
        match self.batches.narrow(position, remaining, size) {
            Narrowed::Unchanged => AckOutcome::Nothing,
            Narrowed::Some(newly) => AckOutcome::Partly { newly },
            Narrowed::Refused => AckOutcome::Refused,
            Narrowed::All => {
                if self.ack(position, ledgers) {
                    AckOutcome::Entry
                } else {
                    AckOutcome::Nothing
                }
            }
        }
    }

    /// Acknowledges everything before `position`, and of the entry there all, or those messages that the given bit set
    /// of a batch (with the batch's size) leaves clear. Beyond the last confirmed entry it does nothing. Answers
    /// [`AckOutcome::Entry`] when anything before the entry was newly acknowledged.
    pub fn ack_cumulative(
        &mut self,
        position: Position,
        batch: Option<(&[u64], u32)>,
        ledgers: &LedgerList,
    ) -> AckOutcome {
        if self.mark.covers(position) || ledgers.last_confirmed().is_none_or(|last| position > last) {
            return AckOutcome::Nothing;
        }
        let mark = match batch {
            None if exists(position, ledgers) => position.into(),
            _ if ledgers.is_before_all(position.ledger_id) => {
                MarkDelete { ledger_id: position.ledger_id, entry: position.entry_id.prev() }
            }
            _ => ledgers.mark_before(ledgers.valid_from(position)),
        };
        let moved = mark > self.mark;
        if moved {
            self.advance(mark, ledgers);
        }
        let of_batch = batch.map(|(remaining, size)| self.ack_batch(position, remaining, size, ledgers));
        match of_batch {
            None | Some(AckOutcome::Nothing) if moved => AckOutcome::Entry,
            Some(outcome) => outcome,
            None => AckOutcome::Nothing,
        }
    }

    /// Acknowledges every entry from `first` up to, not including, `end`: compaction has taken them out.
    pub fn pass_over(&mut self, first: Position, end: Position, ledgers: &LedgerList) {
        let end = ledgers
            .last_confirmed()
            .map_or(first, |last| end.min(Position { entry_id: last.entry_id.next(), ..last }));
        for (ledger_id, info) in
            ledgers.iter().filter(|(id, _)| (first.ledger_id..=end.ledger_id).contains(id))
        {
            let from = if ledger_id == first.ledger_id { first.entry_id } else { EntryId::ZERO };
            let entries = info.entries().map_or(end.entry_id, EntryId);
            let past = if ledger_id == end.ledger_id { entries.min(end.entry_id) } else { entries };
            if let Some(last) = past.prev().filter(|last| from <= *last) {
                self.acked.insert_range(AckedRange { ledger_id, first: from, last });
            }
        }
        self.advance(self.mark, ledgers);
    }

    /// Fits the cursor to ledgers that have gone or come to an end: the mark-delete position moves over what does not
    /// exist any more.
    pub fn fit(&mut self, ledgers: &LedgerList) {
        let mark = ledgers.clamp(self.mark);
        self.advance(mark, ledgers);
    }

    /// What is to be made durable.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            mark: self.mark,
            acked: self.acked.clone(),
            batches: self.batches.clone(),
            properties: self.properties.clone(),
        }
    }

    fn is_held(&self, ledgers: &LedgerList) -> bool {
        self.waits_before_all && ledgers.is_before_all(self.mark.ledger_id)
    }

    /// Moves the mark, and on over whatever is acknowledged behind it, into the following ledgers too.
    fn advance(&mut self, mark: MarkDelete, ledgers: &LedgerList) {
        self.mark = mark;
        self.acked.remove_through(self.mark);
        while !self.is_held(ledgers)
            && let Some(end) = self.acked.run_end(ledgers.next_after(self.mark))
        {
            self.mark = end.into();
            self.acked.remove_through(self.mark);
        }
        self.batches.remove_through(self.mark);
        assert!(
            ledgers.is_empty()
                || ledgers.is_before_all(self.mark.ledger_id)
                || ledgers.count_after(self.mark) > 0
                || ledgers.clamp(self.mark) == ledgers.latest(),
            "the mark-delete position {} is beyond the last confirmed entry {:?}",
            self.mark,
            ledgers.last_confirmed(),
        );
    }
}

/// Whether there is a confirmed entry, or may be one in a compacted ledger.
fn exists(position: Position, ledgers: &LedgerList) -> bool {
    ledgers.is_before_all(position.ledger_id) || ledgers.holds(position)
}
