//! Entries of one subscription on their way to its dead-letter topic. A plain state machine.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use magnetar_common::topic_name::TopicName;
use magnetar_proto::ids::Position;

/// Entries under way at a time: enough to hide the latency of a ledger.
const ENTRIES_MAX: usize = 100;

/// Bytes of them; one entry more may be begun below it.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// After the first failure; doubled with each further one.
const PAUSE: Duration = Duration::from_secs(1);

const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What is to be stored, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) topic: TopicName,
    pub(super) entry: Bytes,
    /// What it belongs together with in its own topic, for its way back.
    pub(super) tag: Option<u32>,
}

struct Departure {
    letter: Letter,
    phase: Phase,
    /// Before the next try, should this one fail.
    pause: Duration,
}

enum Phase {
    Storing {
        /// It is to go back to the consumers if this fails.
        recalled: bool,
    },
    Failed {
        again_at: Duration,
    },
}

/// None of these entries is acknowledged, and none is known to the dispatcher.
pub(crate) struct Departing {
    /// Results of tries begun under another one are void.
    token: u64,
    entries: BTreeMap<Position, Departure>,
    bytes: usize,
    last_error: Option<String>,
}

impl Departing {
    /// `serial` is unique among all subscriptions this topic ever had since it was loaded.
    pub(crate) fn new(serial: u32) -> Self {
        Departing { token: u64::from(serial) << 32, entries: BTreeMap::new(), bytes: 0, last_error: None }
    }

    pub(super) fn token(&self) -> u64 {
        self.token
    }

    /// Forgets everything: the cursor was moved.
    pub(crate) fn clear(&mut self) {
        *self = Departing { token: self.token + 1, ..Departing::new(0) };
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Why the last try failed that did; `None` once one went well.
    pub(crate) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    pub(super) fn holds(&self, position: Position) -> bool {
        self.entries.contains_key(&position)
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= ENTRIES_MAX || self.bytes >= BYTES_MAX
    }

    /// The last try failed that came to an end.
    pub(super) fn is_failing(&self) -> bool {
        self.last_error.is_some()
    }

    /// The caller stores it.
    pub(super) fn begin(&mut self, position: Position, letter: Letter) {
        self.bytes += letter.entry.len();
        self.entries
            .insert(position, Departure { letter, phase: Phase::Storing { recalled: false }, pause: PAUSE });
    }

    /// It is durable there, or not wanted there any more.
    pub(super) fn stored(&mut self, position: Position) {
        self.last_error = None;
        self.remove(position);
    }

    /// True for the first failure since something went well.
    pub(super) fn failed(&mut self, position: Position, error: &str, now: Duration) -> bool {
        if let Some(departure) = self.entries.get_mut(&position) {
            departure.phase = Phase::Failed { again_at: now + departure.pause };
            departure.pause = (departure.pause * 2).min(PAUSE_MAX);
        }
        self.last_error.replace(error.to_owned()).is_none()
    }

    /// When the next one is to be tried again.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let again_at = |departure: &Departure| match departure.phase {
            Phase::Storing { .. } => None,
            Phase::Failed { again_at } => Some(again_at),
        };
        self.entries.values().filter_map(again_at).min()
    }

    /// Those to be tried again now; the caller stores them.
    pub(super) fn take_due(&mut self, now: Duration) -> Vec<(Position, Letter)> {
        let mut due = Vec::new();
        for (position, departure) in &mut self.entries {
            if matches!(departure.phase, Phase::Failed { again_at } if again_at <= now) {
                departure.phase = Phase::Storing { recalled: false };
                due.push((*position, departure.letter.clone()));
            }
        }
        due
    }

    /// Gives up those that are not being stored right now; the others once that fails.
    pub(super) fn recall(&mut self) -> Vec<(Position, Letter)> {
        let mut recalled = Vec::new();
        for (position, departure) in &mut self.entries {
            match &mut departure.phase {
                Phase::Failed { .. } => recalled.push(*position),
                Phase::Storing { recalled } => *recalled = true,
            }
        }
        let take = |position| self.remove(position).map(|letter| (position, letter));
        recalled.into_iter().filter_map(take).collect()
    }

    /// Gives up one that could not be stored, if it is recalled.
    pub(super) fn give_up(&mut self, position: Position) -> Option<Letter> {
        let departure = self.entries.get(&position)?;
        matches!(departure.phase, Phase::Storing { recalled: true }).then(|| self.remove(position)).flatten()
    }

    fn remove(&mut self, position: Position) -> Option<Letter> {
        let departure = self.entries.remove(&position)?;
        self.bytes -= departure.letter.entry.len();
        Some(departure.letter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use magnetar_proto::ids::{EntryId, LedgerId};

    fn at(entry: u64) -> Position {
        Position { ledger_id: LedgerId(1), entry_id: EntryId(entry) }
    }

    fn letter(bytes: usize) -> Letter {
        Letter { topic: "d".parse().expect("a name"), entry: vec![0; bytes].into(), tag: Some(7) }
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_fails_is_tried_again_after_ever_longer_pauses_and_is_held_meanwhile() {
        let mut departing = Departing::new(1);
        departing.begin(at(0), letter(3));
        assert_eq!((departing.deadline(), departing.take_due(s(100))), (None, Vec::new()));
        assert!(departing.failed(at(0), "no", s(100)));
        assert_eq!(departing.deadline(), Some(s(101)));
        assert_eq!(departing.take_due(s(101)), [(at(0), letter(3))]);
        assert!(!departing.failed(at(0), "no", s(101)), "an outage is told once");
        assert_eq!(departing.deadline(), Some(s(103)));
        assert!(departing.holds(at(0)));
        departing.stored(at(0));
        assert_eq!((departing.holds(at(0)), departing.bytes, departing.deadline()), (false, 0, None));
        departing.begin(at(1), letter(0));
        assert!(departing.failed(at(1), "no", s(200)));
    }

    #[test]
    fn memory_is_bounded_by_number_and_bytes() {
        let mut departing = Departing::new(1);
        departing.begin(at(0), letter(BYTES_MAX));
        assert!(departing.is_full());
        departing.stored(at(0));
        (0..ENTRIES_MAX as u64).for_each(|n| departing.begin(at(n), letter(0)));
        assert!(departing.is_full());
    }

    #[test]
    fn what_is_being_stored_is_recalled_when_that_fails_and_a_move_of_the_cursor_voids_all() {
        let mut departing = Departing::new(1);
        departing.begin(at(0), letter(1));
        departing.begin(at(1), letter(1));
        departing.failed(at(1), "no", s(0));
        assert_eq!(departing.give_up(at(0)), None, "nobody has recalled it");
        assert_eq!(departing.recall(), [(at(1), letter(1))]);
        assert!(departing.holds(at(0)));
        assert_eq!(departing.give_up(at(0)), Some(letter(1)));
        assert!(!departing.holds(at(0)));
        departing.begin(at(0), letter(1));
        let token = departing.token();
        departing.clear();
        assert!(!departing.holds(at(0)) && departing.token() != token);
    }
}
