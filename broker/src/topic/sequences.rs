//! Which messages of each producer are in the log already: the decision part of deduplication, without IO.
//!
//! A producer numbers its messages upwards and sends again what was not receipted. What was appended once is not
//! appended again; its repeated SEND is receipted when the first one is durable. If the first one is lost with its
//! ledger's owner, so is this table, and the next owner rebuilds it from what the log really holds.

use bytes::Bytes;
use hashbrown::HashMap;
use magnetar_proto::pulsar::message::Summary;

use super::request::Name;

/// Producers that are remembered (`brokerDeduplicationMaxNumberOfProducers`). The one silent for longest is forgotten
/// first: when it comes back, messages that it sends again are stored again.
const PRODUCERS_MAX: usize = 10_000;

/// A producer silent for so long is forgotten (`brokerDeduplicationProducerInactivityTimeoutMinutes`).
const FORGET_AFTER_MS: u64 = 6 * 60 * 60 * 1_000;

/// Invariant: `stored <= pushed`.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sequence {
    /// Highest number appended.
    pushed: Option<u64>,
    /// Highest number that is durable.
    stored: Option<u64>,
    /// The chunked message that is being sent, and its last chunk appended.
    chunks: Option<(Bytes, i32)>,
    active_ms: u64,
}

/// What a SEND's numbers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbered {
    /// The highest number of the entry. `None`: a chunk that is not its message's last one.
    pub completes: Option<u64>,
}

/// The numbers of all producers of a topic.
#[derive(Debug, Default)]
pub(crate) struct Sequences {
    producers: HashMap<Name, Sequence>,
}

impl Sequences {
    /// Judges an entry about to be appended; `highest` is the highest sequence id in it. False: it is in the log already,
    /// or on its way there.
    pub(crate) fn is_new(&self, producer: &str, highest: u64, entry: &Summary) -> bool {
        let Some(sequence) = self.producers.get(producer) else { return true };
        let chunk = entry.chunk.as_ref().zip(sequence.chunks.as_ref());
        let repeated = chunk.is_some_and(|(chunk, (uuid, id))| *uuid == chunk.uuid && chunk.id <= *id);
        !repeated && sequence.pushed.is_none_or(|pushed| highest > pushed)
    }

    /// A new entry was appended.
    pub(crate) fn push(&mut self, producer: &Name, highest: u64, entry: &Summary, now_ms: u64) -> Numbered {
        let sequence = self.producers.entry(producer.clone()).or_default();
        sequence.active_ms = now_ms;
        if let Some(chunk) = entry.chunk.as_ref().filter(|chunk| chunk.id + 1 < chunk.total) {
            sequence.chunks = Some((chunk.uuid.clone(), chunk.id));
            return Numbered { completes: None };
        }
        sequence.chunks = None;
        sequence.pushed = sequence.pushed.max(Some(highest));
        Numbered { completes: Some(highest) }
    }

    /// An entry is durable.
    pub(crate) fn confirm(&mut self, producer: &Name, numbered: Numbered) {
        let Some(highest) = numbered.completes else { return };
        let sequence = self.producers.entry(producer.clone()).or_default();
        sequence.stored = sequence.stored.max(Some(highest));
        assert!(sequence.stored <= sequence.pushed, "a number was confirmed that was never appended");
    }

    /// As read from the log, or from a snapshot.
    pub(crate) fn restore(&mut self, producer: Name, highest: u64, now_ms: u64) {
        let sequence = self.producers.entry(producer).or_default();
        sequence.stored = sequence.stored.max(Some(highest));
        sequence.pushed = sequence.pushed.max(sequence.stored);
        sequence.active_ms = now_ms;
    }

    /// An entry found in the log. The last chunk of a message counts for all.
    pub(crate) fn replay(&mut self, entry: &Summary, now_ms: u64) {
        if entry.marker_type.is_some() {
            return;
        }
        let producer = Name::from(String::from_utf8_lossy(&entry.producer_name).as_ref());
        match &entry.chunk {
            Some(chunk) if chunk.id + 1 < chunk.total => {
                let sequence = self.producers.entry(producer).or_default();
                sequence.chunks = Some((chunk.uuid.clone(), chunk.id));
                sequence.active_ms = now_ms;
            }
            _ => {
                // A batch whose highest number is not told has at least this one: its numbers ascend.
                let least = entry.sequence_id.saturating_add(u64::from(entry.num_messages.saturating_sub(1)));
                self.restore(producer, entry.highest_sequence_id.unwrap_or(0).max(least), now_ms);
            }
        }
    }

    /// The highest number that is durable, for a producer that connects.
    pub(crate) fn stored(&self, producer: &str) -> Option<u64> {
        self.producers.get(producer)?.stored
    }

    /// Highest durable number of each producer, sorted by name.
    pub(crate) fn snapshot(&self) -> Vec<(String, i64)> {
        let stored = self.producers.iter().filter_map(|(name, sequence)| Some((name, sequence.stored?)));
        let mut all: Vec<_> = stored.map(|(name, stored)| (name.to_string(), stored as i64)).collect();
        all.sort();
        all
    }

    /// Forgets producers that are not connected and were silent for long, and the longest silent ones beyond the limit.
    pub(crate) fn forget_silent(&mut self, now_ms: u64, is_connected: impl Fn(&Name) -> bool) {
        let settled = |sequence: &Sequence| sequence.pushed == sequence.stored;
        self.producers.retain(|name, sequence| {
            now_ms.saturating_sub(sequence.active_ms) < FORGET_AFTER_MS
                || !settled(sequence)
                || is_connected(name)
        });
        let Some(excess) = self.producers.len().checked_sub(PRODUCERS_MAX).filter(|excess| *excess > 0)
        else {
            return;
        };
        let silent =
            self.producers.iter().filter(|(name, sequence)| settled(sequence) && !is_connected(name));
        let mut silent: Vec<_> = silent.map(|(name, sequence)| (sequence.active_ms, name.clone())).collect();
        silent.sort();
        for (_, name) in silent.into_iter().take(excess) {
            self.producers.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use magnetar_proto::pulsar::message::Chunk;

    fn name() -> Name {
        Name::from("p")
    }

    fn plain(sequence_id: u64) -> Summary {
        Summary { producer_name: "p".into(), sequence_id, num_messages: 1, ..Summary::default() }
    }

    fn chunk(sequence_id: u64, id: i32, total: i32) -> Summary {
        let chunk = Chunk { uuid: format!("u{sequence_id}").into(), id, total };
        Summary { chunk: Some(chunk), ..plain(sequence_id) }
    }

    /// As the topic does it. `None`: a duplicate.
    fn push(sequences: &mut Sequences, entry: &Summary) -> Option<Numbered> {
        let new = sequences.is_new("p", entry.sequence_id, entry);
        new.then(|| sequences.push(&name(), entry.sequence_id, entry, 0))
    }

    fn pushed(sequences: &mut Sequences, highest: u64) -> bool {
        push(sequences, &plain(highest)).is_some()
    }

    #[test]
    fn a_number_is_appended_once_also_before_it_is_durable() {
        let mut sequences = Sequences::default();
        assert!(pushed(&mut sequences, 0) && pushed(&mut sequences, 1));
        assert!(!pushed(&mut sequences, 0) && !pushed(&mut sequences, 1));
        assert_eq!((sequences.stored("p"), sequences.snapshot()), (None, vec![]));
        sequences.confirm(&name(), Numbered { completes: Some(0) });
        assert_eq!((sequences.stored("p"), sequences.snapshot()), (Some(0), vec![("p".into(), 0)]));
        assert!(pushed(&mut sequences, 7), "numbers may leave gaps");
        assert!(!pushed(&mut sequences, 5));
    }

    #[test]
    fn what_was_appended_and_lost_is_taken_again_by_the_next_owner() {
        let mut old = Sequences::default();
        (0..3).for_each(|n| assert!(pushed(&mut old, n)));
        old.confirm(&name(), Numbered { completes: Some(0) });
        let mut new = Sequences::default();
        for (producer, highest) in old.snapshot() {
            new.restore(producer.as_str().into(), highest as u64, 0);
        }
        new.replay(&plain(1), 0);
        assert!(!pushed(&mut new, 0) && !pushed(&mut new, 1) && pushed(&mut new, 2));
    }

    #[test]
    fn chunks_share_a_number_and_only_the_last_one_uses_it_up() {
        let mut sequences = Sequences::default();
        let mut push = |entry: &Summary| push(&mut sequences, entry);
        let part = Some(Numbered { completes: None });
        assert_eq!((push(&chunk(4, 0, 3)), push(&chunk(4, 1, 3))), (part, part));
        assert_eq!((push(&chunk(4, 0, 3)), push(&chunk(4, 1, 3))), (None, None));
        assert_eq!(push(&chunk(4, 2, 3)), Some(Numbered { completes: Some(4) }));
        assert_eq!((push(&chunk(4, 2, 3)), push(&chunk(4, 0, 3))), (None, None));
    }

    #[test]
    fn half_a_chunked_message_in_the_log_is_completed_and_not_begun_again() {
        let mut sequences = Sequences::default();
        sequences.replay(&chunk(4, 0, 3), 0);
        assert_eq!(push(&mut sequences, &chunk(4, 0, 3)), None);
        assert!(push(&mut sequences, &chunk(4, 1, 3)).is_some());
    }

    #[test]
    fn a_batch_in_the_log_counts_by_its_highest_number() {
        let mut sequences = Sequences::default();
        let told = Summary { num_messages: 3, highest_sequence_id: Some(30), ..plain(10) };
        sequences.replay(&told, 0);
        assert_eq!(sequences.stored("p"), Some(30));
        sequences.replay(&Summary { num_messages: 5, ..plain(40) }, 0);
        assert_eq!(sequences.stored("p"), Some(44));
    }

    #[test]
    fn silent_producers_are_forgotten_but_not_those_that_are_connected() {
        let mut sequences = Sequences::default();
        for n in 0..PRODUCERS_MAX as u64 + 3 {
            sequences.restore(format!("p{n}").as_str().into(), 1, n);
        }
        sequences.forget_silent(20_000, |name| **name == *"p0");
        assert_eq!(sequences.producers.len(), PRODUCERS_MAX);
        assert!(sequences.stored("p0").is_some() && sequences.stored("p3").is_none());
        sequences.forget_silent(FORGET_AFTER_MS + 20_000, |name| **name == *"p0");
        assert_eq!(sequences.producers.len(), 1);
    }
}
