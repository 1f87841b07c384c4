//! Neighbouring entries of the tail cache as the MESSAGE frames that consumers get, encoded once for all subscriptions.
//!
//! Where one consumer at a time receives everything in order, subscriptions send the same bytes to each of their consumers:
//! only the consumer's number differs, and most connections begin to count at the same one. So a run is made for the first
//! subscription that comes to its entries, and given to all the others. What it costs to have one subscription more is a
//! look at the run and the copy that the kernel makes.

use std::collections::VecDeque;
use std::sync::Arc;

use magnetar_proto::ids::{EntryId, Position};
use magnetar_proto::pulsar::api;

use super::consumer::message_id;
use super::tail_cache::{Entry, TailBudget, TailCache};
use crate::protocol::frames::{Frames, HEADER_BYTES, Part};

/// Bytes of a run on the wire, unless its last entry is larger than what is left: one write, more or less.
pub(crate) const RUN_BYTES: usize = 128 * 1024;

/// Bytes that a topic keeps in runs for subscriptions which are behind others. What is further behind has its own made.
const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Different addressees for which runs are kept. Others have their own made.
const ADDRESSEES_MAX: usize = 8;

/// What makes the frames of one consumer differ from another's, where none of their entries was sent before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Addressee {
    pub consumer_id: u64,
    pub epoch: Option<u64>,
}

/// What a subscription is ready to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub from: Position,
    pub to: Addressee,
    /// Messages, of which the last entry may bring more.
    pub permits: u64,
    pub partition: Option<i32>,
    /// An entry published before that, in ms since 1970, is too old to be sent unseen.
    pub expired_before_ms: u64,
}

/// Entries of one ledger without a gap, of which none is a marker. Never empty.
#[derive(Debug)]
pub(crate) struct Run {
    first: Position,
    frames: Arc<Frames>,
    /// Up to and with each entry.
    sums: Vec<Sum>,
    /// When the oldest of them was published, in ms since 1970, by its producer's clock.
    pub oldest_ms: u64,
}

/// Messages, and bytes as they are stored.
#[derive(Clone, Copy, Default, Debug)]
struct Sum {
    messages: u64,
    bytes: usize,
}

/// Neighbours of a run that go out together.
pub(crate) struct Piece {
    pub part: Part,
    pub entries: u64,
    pub messages: u64,
    /// As they are stored.
    pub bytes: usize,
    pub last: Position,
}

impl Run {
    /// From the wanted entry on, up to the one that brings the messages to `messages_max`; `None` if it is not in the cache, too
    /// old, or a marker.
    fn make(wanted: &Wanted, messages_max: u64, cache: &TailCache) -> Option<Run> {
        let Wanted { from: first, to, partition, expired_before_ms, .. } = *wanted;
        let (mut room, mut messages) = (RUN_BYTES, 0);
        let entries = cache.run_from(first).take_while(|Entry { summary, bytes, .. }| {
            let is_plain = summary.marker_type.is_none() && summary.publish_time >= expired_before_ms;
            let fits = room > 0 && messages < messages_max;
            room = room.saturating_sub(HEADER_BYTES + bytes.len());
            messages += u64::from(summary.num_messages);
            is_plain && fits
        });
        let entries: Vec<&Entry> = entries.collect();
        let mut frames = Frames::with_room(entries.iter().map(|entry| entry.bytes.len()));
        let (mut sum, mut sums) = (Sum::default(), Vec::with_capacity(entries.len()));
        for entry in &entries {
            let command = api::CommandMessage {
                consumer_id: to.consumer_id,
                message_id: message_id(entry.position, partition),
                redelivery_count: Some(0),
                ack_set: Vec::new(),
                consumer_epoch: to.epoch,
            };
            frames.push(command.into(), &entry.bytes);
            sum.messages += u64::from(entry.summary.num_messages);
            sum.bytes += entry.bytes.len();
            sums.push(sum);
        }
        let oldest_ms = entries.iter().map(|entry| entry.summary.publish_time).min()?;
        Some(Run { first, frames: Arc::new(frames), sums, oldest_ms })
    }

    fn last(&self) -> Position {
        self.at(self.sums.len() - 1)
    }

    fn at(&self, index: usize) -> Position {
        let entry_id = EntryId(self.first.entry_id.0 + index as u64);
        Position { entry_id, ..self.first }
    }

    fn index(&self, position: Position) -> Option<usize> {
        let index = position.entry_id.0.checked_sub(self.first.entry_id.0)? as usize;
        (position.ledger_id == self.first.ledger_id && index < self.sums.len()).then_some(index)
    }

    /// Entries from `first` on, which is one of the run, up to the one with which the permits are used up.
    pub(crate) fn piece(&self, first: Position, permits: u64) -> Option<Piece> {
        let start = self.index(first)?;
        let before = start.checked_sub(1).map_or(Sum::default(), |last| self.sums[last]);
        let within = self.sums[start..].partition_point(|sum| sum.messages - before.messages < permits);
        let last = (start + within).min(self.sums.len() - 1);
        Some(Piece {
            part: Part::new(&self.frames, start..last + 1),
            entries: (last + 1 - start) as u64,
            messages: self.sums[last].messages - before.messages,
            bytes: self.sums[last].bytes - before.bytes,
            last: self.at(last),
        })
    }
}

/// The newest runs, for as long as some subscription has not come to them. Bounded by bytes, their own and those of all
/// topics together.
#[derive(Debug)]
pub(crate) struct Runs {
    /// For each addressee in order of position, without overlap.
    kept: Vec<(Addressee, VecDeque<Arc<Run>>)>,
    bytes: usize,
    /// Includes `bytes`.
    budget: Arc<TailBudget>,
}

impl Drop for Runs {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

impl Runs {
    pub(crate) fn new(budget: Arc<TailBudget>) -> Runs {
        Runs { kept: Vec::new(), bytes: 0, budget }
    }

    /// A run in which the wanted entry is; `None` if that is not in the cache, too old, or a marker.
    ///
    /// A run that nobody else will come to has no more entries than are sent from it: what is queued at a connection is
    /// all that it takes of memory, and its making costs no more than sending it.
    pub(crate) fn at(&mut self, wanted: &Wanted, cache: &TailCache) -> Option<Arc<Run>> {
        let known = self.kept.iter().position(|(addressee, _)| *addressee == wanted.to);
        if let Some(run) = known.and_then(|known| find(&self.kept[known].1, wanted.from)) {
            return Some(Arc::clone(run));
        }
        let is_next = match known {
            Some(known) => self.kept[known].1.back().is_none_or(|last| last.last() < wanted.from),
            None => self.kept.len() < ADDRESSEES_MAX,
        };
        if !is_next || self.budget.is_exceeded() {
            return Run::make(wanted, wanted.permits, cache).map(Arc::new);
        }
        let run = Arc::new(Run::make(wanted, u64::MAX, cache)?);
        match known {
            Some(known) => self.kept[known].1.push_back(Arc::clone(&run)),
            None => self.kept.push((wanted.to, VecDeque::from([Arc::clone(&run)]))),
        }
        self.bytes += run.frames.len();
        self.budget.take(run.frames.len());
        Some(run)
    }

    /// Lets go of what ends before `position`, where the last of the subscriptions is, or (`None`) of everything; and of the
    /// oldest while there is too much.
    pub(crate) fn release(&mut self, position: Option<Position>) {
        let passed = |run: &Run| position.is_none_or(|position| run.last() < position);
        let mut freed = 0;
        for (_, runs) in &mut self.kept {
            while runs.front().is_some_and(|run| passed(run)) {
                freed += pop(runs);
            }
        }
        self.give_back(freed);
        while !self.kept.is_empty() && (self.bytes > KEPT_BYTES_MAX || self.budget.is_exceeded()) {
            let freed = self.kept.iter_mut().map(|(_, runs)| pop(runs)).sum();
            self.give_back(freed);
        }
    }

    fn give_back(&mut self, bytes: usize) {
        self.kept.retain(|(_, runs)| !runs.is_empty());
        self.bytes -= bytes;
        self.budget.give_back(bytes);
    }
}

fn find(runs: &VecDeque<Arc<Run>>, position: Position) -> Option<&Arc<Run>> {
    let after = runs.partition_point(|run| run.first <= position);
    runs.get(after.checked_sub(1)?).filter(|run| run.index(position).is_some())
}

fn pop(runs: &mut VecDeque<Arc<Run>>) -> usize {
    runs.pop_front().map_or(0, |run| run.frames.len())
}

#[cfg(test)]
mod tests {
    use magnetar_proto::ids::LedgerId;
    use magnetar_proto::pulsar::api::MessageMetadata;
    use magnetar_proto::pulsar::frame::Decoder;
    use magnetar_proto::pulsar::{Command, entry, message};

    use super::*;
    use crate::topic::reads::after;

    const TO: Addressee = Addressee { consumer_id: 3, epoch: Some(5) };

    fn at(n: u64) -> Position {
        Position { ledger_id: LedgerId(1), entry_id: EntryId(n) }
    }

    /// Batches of two messages, published at their number; `marker` is none.
    fn cache(sizes: &[usize], marker: Option<usize>) -> TailCache {
        let mut cache = TailCache::new(usize::MAX, budget());
        for (n, size) in sizes.iter().enumerate() {
            let metadata = MessageMetadata {
                num_messages_in_batch: Some(2),
                publish_time: n as u64,
                marker_type: (marker == Some(n)).then_some(10),
                ..Default::default()
            };
            let bytes = entry::build(&metadata, &vec![n as u8; *size]);
            let summary = Arc::new(message::summarize_entry(&bytes).unwrap());
            cache.push(Entry { position: at(n as u64), bytes, summary });
        }
        cache
    }

    fn budget() -> Arc<TailBudget> {
        Arc::new(TailBudget::new(usize::MAX))
    }

    fn wanted(from: u64, to: Addressee) -> Wanted {
        Wanted { from: at(from), to, permits: u64::MAX, partition: Some(7), expired_before_ms: 0 }
    }

    fn run(first: u64, cache: &TailCache) -> Option<Run> {
        Run::make(&wanted(first, TO), u64::MAX, cache)
    }

    #[test]
    fn the_frames_of_a_piece_are_what_the_entries_are_one_by_one() {
        let cache = cache(&[10, 3_000, 20, 30], None);
        let piece = run(0, &cache).and_then(|run| run.piece(at(1), 100)).unwrap();
        assert_eq!((piece.entries, piece.messages, piece.last), (3, 6, at(3)));
        let (mut bytes, mut decoder) = (piece.part.to_bytes(), Decoder::new(10_000));
        for n in 1..4 {
            let frame = decoder.decode(&mut bytes).unwrap().unwrap();
            let expected = api::CommandMessage {
                consumer_id: 3,
                message_id: message_id(at(n), Some(7)),
                redelivery_count: Some(0),
                consumer_epoch: Some(5),
                ..Default::default()
            };
            assert_eq!(frame.command, Command::Message(expected));
            assert_eq!(frame.payload.as_ref(), cache.get(at(n)).map(|entry| &entry.bytes));
        }
        assert!(bytes.is_empty());
        let stored = (1..4).map(|n| cache.get(at(n)).unwrap().bytes.len());
        assert_eq!(piece.bytes, stored.sum::<usize>());
    }

    #[test]
    fn a_piece_ends_with_the_entry_that_uses_the_permits_up() {
        let cache = cache(&[1; 5], None);
        let run = run(0, &cache).unwrap();
        let last = |first, permits| run.piece(at(first), permits).map(|piece| piece.last);
        for (first, permits, expected) in [(0, 1, 0), (0, 2, 0), (0, 3, 1), (0, 10, 4), (2, 4, 3), (4, 1, 4)]
        {
            assert_eq!(last(first, permits), Some(at(expected)), "{permits} from {first}");
        }
        assert_eq!(last(5, 1), None);
    }

    #[test]
    fn a_run_stops_at_a_marker_and_when_it_is_large_enough() {
        let with_marker = cache(&[1; 5], Some(2));
        assert_eq!(run(0, &with_marker).map(|run| run.last()), Some(at(1)));
        assert!(run(2, &with_marker).is_none());
        assert_eq!(run(3, &with_marker).map(|run| (run.last(), run.oldest_ms)), Some((at(4), 3)));
        let large = cache(&[RUN_BYTES / 2; 5], None);
        assert_eq!(run(0, &large).map(|run| run.last()), Some(at(1)));
        let huge = cache(&[2 * RUN_BYTES; 5], None);
        assert_eq!(run(4, &huge).map(|run| run.last()), Some(at(4)));
    }

    #[test]
    fn a_run_is_made_once_for_all_who_come_to_it_until_the_last_has_passed() {
        let (cache, budget) = (cache(&[1_000; 300], None), budget());
        let mut runs = Runs::new(Arc::clone(&budget));
        let first = runs.at(&wanted(0, TO), &cache).unwrap();
        let second = runs.at(&Wanted { from: after(first.last()), ..wanted(0, TO) }, &cache).unwrap();
        assert!(Arc::ptr_eq(&first, &runs.at(&wanted(5, TO), &cache).unwrap()));
        assert!(Arc::ptr_eq(
            &second,
            &runs.at(&Wanted { from: second.last(), ..wanted(0, TO) }, &cache).unwrap()
        ));
        let other = Addressee { consumer_id: 4, ..TO };
        assert!(!Arc::ptr_eq(&first, &runs.at(&wanted(5, other), &cache).unwrap()));

        runs.release(Some(first.last()));
        assert!(Arc::ptr_eq(&first, &runs.at(&wanted(5, TO), &cache).unwrap()));
        runs.release(Some(second.first));
        assert!(Arc::ptr_eq(
            &second,
            &runs.at(&Wanted { from: second.first, ..wanted(0, TO) }, &cache).unwrap()
        ));
        // What is made for one who is behind does not overlap with what is kept.
        let behind = runs.at(&wanted(5, TO), &cache).unwrap();
        assert!(!Arc::ptr_eq(&behind, &runs.at(&wanted(5, TO), &cache).unwrap()));
        runs.release(None);
        assert_eq!((runs.bytes, runs.kept.len()), (0, 0));
    }

    #[test]
    fn runs_keep_to_their_bounds_and_give_back_what_they_took() {
        let cache = cache(&[100_000; 100], None);
        let budget = budget();
        let mut runs = Runs::new(Arc::clone(&budget));
        for consumer_id in 0..2 * ADDRESSEES_MAX as u64 {
            for n in 0..100 {
                assert!(runs.at(&wanted(n, Addressee { consumer_id, epoch: None }), &cache).is_some());
            }
        }
        assert_eq!(runs.kept.len(), ADDRESSEES_MAX);
        runs.release(Some(at(0)));
        assert!((1..=KEPT_BYTES_MAX).contains(&runs.bytes));
        assert_eq!(budget.used(), runs.bytes);
        drop(runs);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_run_that_is_not_kept_has_no_more_entries_than_are_sent_from_it() {
        let cache = cache(&[100; 1_000], None);
        let mut runs = Runs::new(budget());
        let few = |from| Wanted { permits: 5, ..wanted(from, TO) };
        let kept = runs.at(&few(10), &cache).unwrap();
        assert!(kept.sums.len() > 100, "others will come to it");
        let behind = runs.at(&few(0), &cache).unwrap();
        assert_eq!((behind.last(), behind.piece(at(0), 5).map(|piece| piece.messages)), (at(2), Some(6)));

        let mut runs = Runs::new(Arc::new(TailBudget::new(0)));
        runs.budget.take(1);
        assert_eq!(runs.at(&few(10), &cache).map(|run| run.last()), Some(at(12)));
        assert!(runs.kept.is_empty(), "it would be let go at once");
        runs.budget.give_back(1);
    }

    #[test]
    fn a_run_ends_before_an_entry_that_is_too_old() {
        let times =
            [9, 8, 7, 3, 9].map(|publish_time| MessageMetadata { publish_time, ..Default::default() });
        let mut cache = TailCache::new(usize::MAX, budget());
        for (metadata, n) in times.iter().zip(0..) {
            let bytes = entry::build(metadata, b"payload");
            let summary = Arc::new(message::summarize_entry(&bytes).unwrap());
            cache.push(Entry { position: at(n), bytes, summary });
        }
        let make = |from| {
            let wanted = Wanted { expired_before_ms: 7, ..wanted(from, TO) };
            Run::make(&wanted, u64::MAX, &cache).map(|run| (run.last(), run.oldest_ms))
        };
        assert_eq!([make(0), make(3), make(4)], [Some((at(2), 7)), None, Some((at(4), 9))]);
    }
}
