//! Batches of which some messages are acknowledged and some are not.

use crate::managed_ledger::MarkDelete;
use magnetar_proto::ids::{EntryId, LedgerId, Position};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the bit sets may take in a record, in bytes: over a million batches of 64 messages. Beyond it an
/// acknowledgement is refused, never forgotten.
const MAX_BYTES: usize = 64 << 20;

/// What a partial acknowledgement of a batch did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Narrowed {
    /// No message was newly acknowledged.
    Unchanged,
    /// So many messages were, and some remain.
    Some(u32),
    /// No message remains.
    All,
    /// There is no room to remember it: nothing was acknowledged.
    Refused,
}

/// The messages of a batch that are not acknowledged; most batches have 64 at most.
#[derive(Clone, Debug, PartialEq)]
enum BitSet {
    Word(u64),
    Words(Box<[u64]>),
}

impl BitSet {
    fn new(words: &[u64]) -> Self {
        match words {
            [word] => Self::Word(*word),
            words => Self::Words(words.into()),
        }
    }

    fn words(&self) -> &[u64] {
        match self {
            Self::Word(word) => std::slice::from_ref(word),
            Self::Words(words) => words,
        }
    }

    /// At most this much of a record: tags, lengths and position, and each word as a varint of up to 10 bytes.
    fn bytes(&self) -> usize {
        32 + 11 * self.words().len()
    }
}

/// Bit sets by entry: a set bit is a message that is still unacknowledged. None is empty, and none ends in a zero word.
/// Cloning is cheap: a clone shares the sets of each ledger until one of the two changes there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Batches {
    ledgers: BTreeMap<LedgerId, Arc<BTreeMap<EntryId, BitSet>>>,
    /// Sum of [`BitSet::bytes`].
    bytes: usize,
}

impl Batches {
    pub(super) fn get(&self, position: Position) -> Option<&[u64]> {
        Some(self.ledgers.get(&position.ledger_id)?.get(&position.entry_id)?.words())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ledgers.is_empty()
    }

    /// The highest position of them.
    pub(super) fn last(&self) -> Option<Position> {
        let (ledger_id, sets) = self.ledgers.last_key_value()?;
        Some(Position::new(*ledger_id, *sets.last_key_value()?.0))
    }

    /// Lowest position first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Position, &[u64])> {
        self.ledgers.iter().flat_map(|(ledger_id, sets)| {
            sets.iter().map(|(entry_id, set)| (Position::new(*ledger_id, *entry_id), set.words()))
        })
    }

    /// Keeps only the messages in `remaining` unacknowledged. `size` is the number of messages, of which all were
    /// unacknowledged if nothing is known of the batch. When all are done, the batch is forgotten here.
    pub(super) fn narrow(&mut self, position: Position, remaining: &[u64], size: u32) -> Narrowed {
        let known = self.get(position);
        let before = known.map_or(size, count);
        let mut narrowed: Vec<u64> = match known {
            Some(set) => set.iter().zip(remaining).map(|(mine, theirs)| mine & theirs).collect(),
            None => remaining.iter().zip(full_words(size)).map(|(theirs, mine)| mine & theirs).collect(),
        };
        trim(&mut narrowed);
        let after = count(&narrowed);
        if after == 0 {
            self.remove(position);
            return Narrowed::All;
        }
        if after >= before {
            return Narrowed::Unchanged;
        }
        let set = BitSet::new(&narrowed);
        if known.is_none() && self.bytes + set.bytes() > MAX_BYTES {
            return Narrowed::Refused;
        }
        self.put(position, set);
        Narrowed::Some(before - after)
    }

    /// As read from a snapshot. What was durable is kept, whatever room it takes.
    pub(super) fn restore(&mut self, position: Position, mut set: Vec<u64>) {
        trim(&mut set);
        if !set.is_empty() {
            self.put(position, BitSet::new(&set));
        }
    }

    pub(super) fn remove(&mut self, position: Position) {
        let Some(sets) = self.ledgers.get_mut(&position.ledger_id) else { return };
        if !sets.contains_key(&position.entry_id) {
            return;
        }
        let sets = Arc::make_mut(sets);
        self.bytes -= sets.remove(&position.entry_id).map_or(0, |set| set.bytes());
        if sets.is_empty() {
            self.ledgers.remove(&position.ledger_id);
        }
    }

    /// Forgets everything at or before the mark.
    pub(super) fn remove_through(&mut self, mark: MarkDelete) {
        while let Some((ledger_id, sets)) = self.ledgers.first_key_value() {
            let Some(entry_id) = sets.keys().next() else { break };
            let lowest = Position::new(*ledger_id, *entry_id);
            if !mark.covers(lowest) {
                break;
            }
            if *ledger_id < mark.ledger_id {
                self.bytes -= sets.values().map(BitSet::bytes).sum::<usize>();
                self.ledgers.pop_first();
            } else {
                self.remove(lowest);
            }
        }
    }

    fn put(&mut self, position: Position, set: BitSet) {
        self.bytes += set.bytes();
        let sets = Arc::make_mut(self.ledgers.entry(position.ledger_id).or_default());
        self.bytes -= sets.insert(position.entry_id, set).map_or(0, |old| old.bytes());
    }
}

/// The words of a set with the lowest `size` bits set.
fn full_words(size: u32) -> impl Iterator<Item = u64> {
    let rest = size % 64;
    std::iter::repeat_n(u64::MAX, (size / 64) as usize).chain((rest > 0).then(|| (1 << rest) - 1))
}

fn count(set: &[u64]) -> u32 {
    set.iter().map(|word| word.count_ones()).sum()
}

fn trim(set: &mut Vec<u64>) {
    while set.last() == Some(&0) {
        set.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Position = Position::new(LedgerId(1), EntryId(1));

    #[test]
    fn a_batch_is_done_when_every_message_was_acknowledged_in_any_order() {
        let mut batches = Batches::default();
        assert_eq!(batches.narrow(AT, &[0b1011], 4), Narrowed::Some(1));
        assert_eq!(batches.narrow(AT, &[0b1111], 4), Narrowed::Unchanged);
        assert_eq!(batches.narrow(AT, &[0b1110], 4), Narrowed::Some(1));
        assert_eq!(batches.get(AT), Some(&[0b1010][..]));
        assert_eq!(batches.narrow(AT, &[0b0101], 4), Narrowed::All);
        assert_eq!(batches, Batches::default());
    }

    #[test]
    fn missing_words_mean_acknowledged_and_bits_beyond_the_batch_mean_nothing() {
        let mut batches = Batches::default();
        assert_eq!(batches.narrow(AT, &[u64::MAX], 70), Narrowed::Some(6));
        assert_eq!(batches.narrow(AT, &[], 70), Narrowed::All);
        assert_eq!(batches.narrow(AT, &[u64::MAX, u64::MAX], 3), Narrowed::Unchanged);
    }

    #[test]
    fn a_batch_too_many_is_refused_and_those_that_are_known_go_on() {
        let mut batches = Batches::default();
        batches.restore(AT, vec![3; MAX_BYTES / 11]);
        let other = Position::new(LedgerId(2), EntryId(0));
        assert_eq!(batches.narrow(other, &[1], 2), Narrowed::Refused);
        assert_eq!(batches.get(other), None);
        assert_eq!(batches.narrow(other, &[], 2), Narrowed::All);
        let known = vec![1; MAX_BYTES / 11];
        assert!(matches!(batches.narrow(AT, &known, u32::MAX), Narrowed::Some(_)));
    }

    #[test]
    fn what_the_mark_passes_is_forgotten_and_a_clone_is_not_touched() {
        let mut batches = Batches::default();
        let at = |ledger, entry| Position::new(LedgerId(ledger), EntryId(entry));
        for position in [at(1, 0), at(1, 7), at(2, 3), at(2, 4), at(5, 0)] {
            batches.restore(position, vec![1]);
        }
        let before = batches.clone();
        batches.remove_through(at(2, 3).into());
        assert_eq!(batches.iter().map(|(position, _)| position).collect::<Vec<_>>(), [at(2, 4), at(5, 0)]);
        assert_eq!(before.iter().count(), 5);
        batches.remove_through(at(9, 0).into());
        assert_eq!(batches, Batches::default());
    }
}
