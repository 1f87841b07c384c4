//! Batches of which some messages are acknowledged and some are not.

use crate::managed_ledger::MarkDelete;
use magnetar_proto::ids::Position;
use std::collections::BTreeMap;

/// Words of bit sets a cursor remembers (1 MiB): more is only possible when a consumer acknowledges single messages of
/// more than 100 000 batches and finishes none. What does not fit stays unacknowledged and is delivered again.
const MAX_WORDS: usize = 128 * 1024;

/// What a partial acknowledgement of a batch did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Narrowed {
    /// No message was newly acknowledged.
    Unchanged,
    /// So many messages were, and some remain.
    Some(u32),
    /// No message remains.
    All,
}

/// Bit sets by entry: a set bit is a message that is still unacknowledged. None is empty, and none ends in a zero word.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Batches {
    sets: BTreeMap<Position, Vec<u64>>,
    words: usize,
}

impl Batches {
    pub(super) fn get(&self, position: Position) -> Option<&[u64]> {
        self.sets.get(&position).map(Vec::as_slice)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Position, &[u64])> {
        self.sets.iter().map(|(position, set)| (*position, set.as_slice()))
    }

    /// Keeps only the messages in `remaining` unacknowledged. `size` is the number of messages, of which all were
    /// unacknowledged if nothing is known of the batch. When all are done, the batch is forgotten here.
    pub(super) fn narrow(&mut self, position: Position, remaining: &[u64], size: u32) -> Narrowed {
        let known = self.sets.get(&position);
        let before = known.map_or(size, |set| count(set));
        let mut narrowed: Vec<u64> = match known {
            Some(set) => set.iter().zip(remaining).map(|(mine, theirs)| mine & theirs).collect(),
            None => remaining.iter().zip(full_words(size)).map(|(theirs, mine)| mine & theirs).collect(),
        };
        trim(&mut narrowed);
        let after = count(&narrowed);
        if after == 0 {
            self.remove(position);
            Narrowed::All
        } else if after >= before || self.words + narrowed.len() > MAX_WORDS && known.is_none() {
            Narrowed::Unchanged
        } else {
            self.put(position, narrowed);
            Narrowed::Some(before - after)
        }
    }

    /// As read from a snapshot.
    pub(super) fn restore(&mut self, position: Position, mut set: Vec<u64>) {
        trim(&mut set);
        if !set.is_empty() && self.words + set.len() <= MAX_WORDS {
            self.put(position, set);
        }
    }

    pub(super) fn remove(&mut self, position: Position) {
        self.words -= self.sets.remove(&position).map_or(0, |set| set.len());
    }

    /// Forgets everything at or before the mark.
    pub(super) fn remove_through(&mut self, mark: MarkDelete) {
        while let Some(lowest) = self.sets.first_entry() {
            if !mark.covers(*lowest.key()) {
                break;
            }
            self.words -= lowest.remove().len();
        }
    }

    fn put(&mut self, position: Position, set: Vec<u64>) {
        self.words += set.len();
        self.words -= self.sets.insert(position, set).map_or(0, |old| old.len());
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
    use magnetar_proto::ids::{EntryId, LedgerId};

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
    fn a_batch_too_many_is_not_remembered() {
        let mut batches = Batches::default();
        batches.restore(AT, vec![1; MAX_WORDS]);
        let other = Position::new(LedgerId(2), EntryId(0));
        assert_eq!(batches.narrow(other, &[1], 2), Narrowed::Unchanged);
        assert_eq!(batches.get(other), None);
    }
}
