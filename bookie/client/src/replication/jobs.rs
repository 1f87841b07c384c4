//! What one worker remembers of marked ledgers: when each may be tried again, and why it could not be repaired.
//!
//! A ledger that cannot be repaired waits longer from time to time and never holds up another one.

use magnetar_proto::ids::LedgerId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The first pause after a failure; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// The ledgers that are waiting. Bounded by the marks, as long as [`retain`](Self::retain) is called.
#[derive(Debug, Default)]
pub struct Jobs {
    waiting: BTreeMap<LedgerId, Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    not_before: Duration,
    failures: u32,
    /// Its last segment needs a recovery, and until then its writer may still move on by itself.
    grace_until: Option<Duration>,
    reason: String,
}

impl Jobs {
    /// Whether the ledger may be tried now.
    pub fn is_due(&self, now: Duration, ledger: LedgerId) -> bool {
        self.waiting.get(&ledger).is_none_or(|waiting| now >= waiting.not_before)
    }

    /// Ledgers whose grace is over come first: until they are recovered their last entries have too few copies and nobody
    /// may make more.
    pub fn sort(&self, ledgers: &mut [LedgerId]) {
        let is_abandoned =
            |ledger: &LedgerId| self.waiting.get(ledger).is_some_and(|waiting| waiting.grace_until.is_some());
        ledgers.sort_by_key(|ledger| !is_abandoned(ledger));
    }

    /// When the next ledger that waits may be tried.
    pub fn next_due(&self) -> Option<Duration> {
        self.waiting.values().map(|waiting| waiting.not_before).min()
    }

    /// A writer may still be at work on the ledger: it gets `grace` from the first such call on to move to other bookies by
    /// itself. Whether that time is over; if not, the ledger waits for it.
    pub fn may_recover(&mut self, now: Duration, ledger: LedgerId, grace: Duration) -> bool {
        let waiting = self.waiting.entry(ledger).or_default();
        let over = *waiting.grace_until.get_or_insert(now + grace);
        if now < over {
            waiting.not_before = over;
            waiting.reason = "it is open; its writer has some time to go to other bookies by itself".into();
        }
        now >= over
    }

    /// The writer has moved to other bookies by itself, or the ledger was recovered.
    pub fn settled(&mut self, ledger: LedgerId) {
        if let Some(waiting) = self.waiting.get_mut(&ledger) {
            waiting.grace_until = None;
        }
    }

    /// It could not be repaired. Gives the pause before the next try.
    pub fn failed(&mut self, now: Duration, ledger: LedgerId, reason: String) -> Duration {
        let waiting = self.waiting.entry(ledger).or_default();
        let pause = PAUSE_MIN.saturating_mul(1 << waiting.failures.min(16)).min(PAUSE_MAX);
        waiting.failures += 1;
        waiting.not_before = now + pause;
        waiting.reason = reason;
        pause
    }

    /// Somebody else is at work on it: look again after `pause`.
    pub fn busy(&mut self, now: Duration, ledger: LedgerId, pause: Duration) {
        self.waiting.entry(ledger).or_default().not_before = now + pause;
    }

    /// It is repaired.
    pub fn done(&mut self, ledger: LedgerId) {
        self.waiting.remove(&ledger);
    }

    /// Bookies came or went: what failed may work now. The time that writers have is not cut short.
    pub fn on_bookies_changed(&mut self, now: Duration) {
        for waiting in self.waiting.values_mut() {
            let due = waiting.grace_until.map_or(now, |over| over.max(now));
            waiting.not_before = waiting.not_before.min(due);
        }
    }

    /// Forgets ledgers that are not marked any more.
    pub fn retain(&mut self, marked: &BTreeSet<LedgerId>) {
        self.waiting.retain(|ledger, _| marked.contains(ledger));
    }

    /// Ledgers that could not be repaired, and why.
    pub fn reasons(&self) -> impl Iterator<Item = (LedgerId, &str)> {
        let told = self.waiting.iter().filter(|(_, waiting)| !waiting.reason.is_empty());
        told.map(|(ledger, waiting)| (*ledger, waiting.reason.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEDGER: LedgerId = LedgerId(7);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_ledger_that_fails_waits_longer_each_time_up_to_five_minutes() {
        let mut jobs = Jobs::default();
        assert!(jobs.is_due(at(0), LEDGER));
        let pauses: Vec<u64> =
            (0..11).map(|_| jobs.failed(at(10), LEDGER, "no bookie".into()).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert!(!jobs.is_due(at(309), LEDGER) && jobs.is_due(at(310), LEDGER));
        assert!(jobs.is_due(at(10), LedgerId(8)), "it holds up nobody else");
        assert_eq!(jobs.reasons().collect::<Vec<_>>(), [(LEDGER, "no bookie")]);
        jobs.on_bookies_changed(at(20));
        assert!(jobs.is_due(at(20), LEDGER));
        jobs.done(LEDGER);
        assert_eq!((jobs.next_due(), jobs.failed(at(0), LEDGER, String::new())), (None, at(1)));
    }

    #[test]
    fn an_open_ledger_is_recovered_only_after_its_grace_and_then_first() {
        let mut jobs = Jobs::default();
        assert!(!jobs.may_recover(at(100), LEDGER, at(30)));
        jobs.on_bookies_changed(at(101));
        assert!(!jobs.is_due(at(129), LEDGER) && jobs.is_due(at(130), LEDGER));
        assert!(!jobs.may_recover(at(120), LEDGER, at(30)), "asking again does not start it anew");
        let mut ledgers = [LedgerId(1), LedgerId(2), LEDGER];
        jobs.sort(&mut ledgers);
        assert_eq!(ledgers, [LEDGER, LedgerId(1), LedgerId(2)]);
        assert!(jobs.may_recover(at(130), LEDGER, at(30)));
        // It could not be recovered, for want of bookies: when one comes there is nothing to wait for.
        jobs.failed(at(130), LEDGER, "too few bookies".into());
        assert!(!jobs.is_due(at(130), LEDGER));
        jobs.on_bookies_changed(at(130));
        assert!(jobs.is_due(at(130), LEDGER));
    }

    #[test]
    fn a_writer_that_moved_on_gets_the_whole_grace_the_next_time() {
        let mut jobs = Jobs::default();
        assert!(!jobs.may_recover(at(0), LEDGER, at(30)));
        jobs.settled(LEDGER);
        assert!(!jobs.may_recover(at(40), LEDGER, at(30)));
    }

    #[test]
    fn what_is_not_marked_any_more_is_forgotten() {
        let mut jobs = Jobs::default();
        jobs.failed(at(0), LEDGER, "x".into());
        jobs.failed(at(0), LedgerId(8), "y".into());
        jobs.retain(&BTreeSet::from([LedgerId(8)]));
        assert_eq!(jobs.reasons().map(|(ledger, _)| ledger).collect::<Vec<_>>(), [LedgerId(8)]);
    }
}
