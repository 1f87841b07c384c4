//! Reading from the replicas of an entry: which one first, when a second is asked although the first may still answer, and
//! when to give up.
//!
//! A second replica is asked after the latency that nearly all reads stay below, and only while such reads are few: when
//! every bookie is slow, asking twice would double a load that is too high already.

use super::quorum::Quorum;
use magnetar_proto::ids::{EntryId, LedgerId};
use std::time::Duration;

/// Reads whose latency is remembered: when so many have come, all counts are halved.
const MEMORY: u32 = 2_048;
/// Buckets of latencies, four an octave from 32 microseconds: the last one begins at about 34 s.
const BUCKETS: usize = 80;
const FIRST_BUCKET_US: f64 = 32.0;
/// Before so many reads nothing is known of what is usual.
const READS_MIN: u32 = 64;
/// What a read adds to the allowance for second reads, in parts of one: at most one read in twenty is asked twice.
const SHARE: u32 = 20;
/// Second reads that may follow each other at once.
const BURST: u32 = 10;
/// Never sooner: the scheduler's hiccups are no slow bookie.
const WAIT_MIN: Duration = Duration::from_millis(2);
/// Never later, as long as nothing is known too.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// The share of reads that must be quicker than the wait, in percent.
const PERCENTILE: u64 = 95;

/// When a second replica is worth asking: learns from all reads of a client.
#[derive(Debug)]
pub struct Speculation {
    buckets: [u32; BUCKETS],
    reads: u32,
    /// In units of 1 / [`SHARE`] of a read.
    allowance: u32,
}

impl Default for Speculation {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], reads: 0, allowance: 0 }
    }
}

impl Speculation {
    /// A read begins.
    pub fn on_read(&mut self) {
        self.allowance = (self.allowance + 1).min(BURST * SHARE);
    }

    /// A replica answered after so long.
    pub fn on_answer(&mut self, latency: Duration) {
        self.buckets[bucket(latency)] += 1;
        self.reads += 1;
        if self.reads >= MEMORY {
            self.buckets.iter_mut().for_each(|count| *count /= 2);
            self.reads = self.buckets.iter().sum();
        }
    }

    /// After so long without an answer, a second replica may be asked.
    pub fn wait(&self) -> Duration {
        if self.reads < READS_MIN {
            return WAIT_MAX;
        }
        let wanted = u64::from(self.reads) * PERCENTILE / 100;
        let mut seen = 0;
        let reached = |count: &u32| {
            seen += u64::from(*count);
            seen > wanted
        };
        let slow = self.buckets.iter().position(reached).unwrap_or(BUCKETS - 1);
        upper_bound(slow).clamp(WAIT_MIN, WAIT_MAX)
    }

    /// Leave for one more second read, if there is.
    fn take(&mut self) -> bool {
        let enough = self.allowance >= SHARE;
        if enough {
            self.allowance -= SHARE;
        }
        enough
    }
}

fn bucket(latency: Duration) -> usize {
    let octaves = (latency.as_secs_f64() * 1e6 / FIRST_BUCKET_US).max(1.0).log2();
    ((octaves * 4.0) as usize).min(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> Duration {
    Duration::from_secs_f64(FIRST_BUCKET_US * ((bucket + 1) as f64 / 4.0).exp2() / 1e6)
}

/// The slots that keep an entry in the order of asking, as far as nothing is known of their bookies: the readers of one
/// ledger begin at one bookie and profit from its read-ahead, those of other ledgers at other ones.
pub fn slots_in_order(quorum: Quorum, entry: EntryId, ledger: LedgerId) -> Vec<usize> {
    let mut slots: Vec<usize> = quorum.write_set(entry).collect();
    if quorum.ensemble() == quorum.write() {
        slots.sort_unstable();
    }
    let by = usize::try_from(ledger.0 % slots.len() as u64).unwrap_or(0);
    slots.rotate_left(by);
    slots
}

/// What a replica said to a read that did not give the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// It proves that it has no such entry.
    Absent,
    /// Anything else: no answer, an error, a wrong digest.
    Unreadable,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask this slot. Poll again.
    Ask(usize),
    /// Wait for an answer, and poll again at this time if there is one.
    Wait(Option<Duration>),
    /// Every replica proves absence.
    NoSuchEntry,
    /// No replica gave it, and at least one might have it.
    Unreadable,
}

/// One read: its replicas in the order of asking.
#[derive(Debug)]
pub struct HedgedRead {
    /// Not asked yet; the next one last.
    left: Vec<usize>,
    /// Asked, without an answer.
    waiting: usize,
    second_at: Option<Duration>,
    unreadable: bool,
}

impl HedgedRead {
    /// Asks these slots in this order. It begins now.
    pub fn new(mut slots: Vec<usize>, now: Duration, speculation: &mut Speculation) -> Self {
        slots.reverse();
        speculation.on_read();
        Self { left: slots, waiting: 0, second_at: Some(now + speculation.wait()), unreadable: false }
    }

    /// A slot that was asked did not give the entry.
    pub fn on_miss(&mut self, miss: Miss) {
        self.waiting = self.waiting.saturating_sub(1);
        self.unreadable |= miss == Miss::Unreadable;
    }

    /// The next thing to do. To be polled at the start, after each miss, and at the time that [`Step::Wait`] names.
    pub fn poll(&mut self, now: Duration, speculation: &mut Speculation) -> Step {
        let second = self.waiting == 1 && self.second_at.is_some_and(|at| now >= at);
        if second {
            // One try: a refusal stands, or the same slow read would ask at every moment.
            self.second_at = None;
        }
        let ask = self.waiting == 0 || (second && !self.left.is_empty() && speculation.take());
        if let Some(slot) = self.left.pop_if(|_| ask) {
            self.waiting += 1;
            return Step::Ask(slot);
        }
        match (self.waiting, self.unreadable) {
            (0, true) => Step::Unreadable,
            (0, false) => Step::NoSuchEntry,
            (1, _) if !self.left.is_empty() => Step::Wait(self.second_at),
            _ => Step::Wait(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Knows that reads take 1 ms, and may ask twice.
    fn learned() -> Speculation {
        let mut speculation = Speculation::default();
        for _ in 0..1_000 {
            speculation.on_read();
            speculation.on_answer(MS);
        }
        speculation
    }

    #[test]
    fn readers_of_a_ledger_begin_at_one_bookie_where_all_have_every_entry() {
        let all = Quorum::new(3, 3, 2).expect("valid");
        let order = |entry, ledger| slots_in_order(all, EntryId(entry), LedgerId(ledger));
        assert_eq!((order(0, 7), order(1, 7)), (vec![1, 2, 0], vec![1, 2, 0]));
        assert_eq!(order(1, 9), [0, 1, 2]);
        let striped = Quorum::new(3, 2, 2).expect("valid");
        assert_eq!(slots_in_order(striped, EntryId(2), LedgerId(8)), [2, 0]);
    }

    #[test]
    fn every_replica_is_asked_before_an_entry_is_called_absent() {
        let mut speculation = Speculation::default();
        let mut read = HedgedRead::new(vec![1, 2, 0], MS, &mut speculation);
        for slot in [1, 2, 0] {
            assert_eq!(read.poll(MS, &mut speculation), Step::Ask(slot));
            assert!(matches!(read.poll(MS, &mut speculation), Step::Wait(_)));
            read.on_miss(Miss::Absent);
        }
        assert_eq!(read.poll(MS, &mut speculation), Step::NoSuchEntry);
    }

    #[test]
    fn one_unreadable_replica_makes_it_unreadable_not_absent() {
        let mut speculation = Speculation::default();
        let mut read = HedgedRead::new(vec![0, 1], MS, &mut speculation);
        read.poll(MS, &mut speculation);
        read.on_miss(Miss::Unreadable);
        read.poll(MS, &mut speculation);
        read.on_miss(Miss::Absent);
        assert_eq!(read.poll(MS, &mut speculation), Step::Unreadable);
    }

    #[test]
    fn a_second_replica_is_asked_once_the_first_is_slower_than_reads_are() {
        let mut speculation = learned();
        let wait = speculation.wait();
        assert!(wait >= WAIT_MIN && wait <= MS * 3, "{wait:?}");
        let mut read = HedgedRead::new(vec![0, 1, 2], MS, &mut speculation);
        assert_eq!(read.poll(MS, &mut speculation), Step::Ask(0));
        let at = MS + wait;
        assert_eq!(read.poll(MS, &mut speculation), Step::Wait(Some(at)));
        assert_eq!(read.poll(at, &mut speculation), Step::Ask(1));
        // Never a third, and the end only when both have answered.
        assert_eq!(read.poll(at * 100, &mut speculation), Step::Wait(None));
        read.on_miss(Miss::Absent);
        assert_eq!(read.poll(at * 100, &mut speculation), Step::Wait(None));
        read.on_miss(Miss::Absent);
        assert_eq!(read.poll(at * 100, &mut speculation), Step::Ask(2));
    }

    #[test]
    fn when_everything_is_slow_at_most_one_read_in_twenty_is_asked_twice() {
        let mut speculation = learned();
        let mut seconds = 0;
        for number in 1..=10_000 {
            let start = MS * 1_000 * number;
            let mut read = HedgedRead::new(vec![0, 1, 2], start, &mut speculation);
            assert_eq!(read.poll(start, &mut speculation), Step::Ask(0));
            let Step::Wait(Some(at)) = read.poll(start, &mut speculation) else { panic!("a second") };
            if read.poll(at, &mut speculation) == Step::Ask(1) {
                seconds += 1;
            }
        }
        assert!((100..=500 + BURST).contains(&seconds), "{seconds} of 10,000");
    }

    #[test]
    fn what_is_usual_follows_the_bookies() {
        let mut speculation = learned();
        for _ in 0..10_000 {
            speculation.on_answer(MS * 100);
        }
        let wait = speculation.wait();
        assert!(wait >= MS * 100 && wait <= MS * 130, "{wait:?}");
    }
}
