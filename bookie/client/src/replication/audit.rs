//! When the auditor looks through all ledgers, and for which bookies: a plain state machine over time.
//!
//! ```text
//!  unheard of ──named by a ledger, or once registered──▶ known ──not registered──▶ away since t ──t + delay──▶ lost
//!                                                          ▲                            │                       │
//!                                                          └────────registered──────────┴──────registered───────┘
//! ```
//! A bookie that is asked to hand over its copies counts as lost at once. BookKeeper waives the delay when several bookies
//! vanish together; this does not: a rack that loses its power for a minute must not set off a copy of all it holds.

use magnetar_proto::bookkeeper::BookieId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// When to look.
#[derive(Clone, Copy, Debug)]
pub struct AuditSettings {
    /// How long a bookie may be away before its copies count as lost.
    pub delay: Duration,
    /// Between two looks through all ledgers, whatever has happened: finds what nobody told.
    pub interval: Duration,
    /// After a look that failed, or that came to new marks; of the latter each pause is twice the one before.
    pub retry: Duration,
}

/// Look through all ledgers, and mark those that name one of these bookies. May be empty: then the look only tells which
/// bookies ledgers name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Bookies whose copies are lost, or are to be handed over.
    pub missing: BTreeSet<BookieId>,
    /// Those of them that no look has been about since they are: a mark from before says nothing of it.
    pub fresh: BTreeSet<BookieId>,
}

/// What a look through all ledgers has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Every bookie that some ledger names.
    pub named: BTreeSet<BookieId>,
    /// Some ledger was marked that was not, or for a bookie for which it was not.
    pub news: bool,
}

/// The auditor's knowledge of bookies.
#[derive(Clone, Debug)]
pub struct AuditMachine {
    settings: AuditSettings,
    registered: BTreeSet<BookieId>,
    draining: BTreeSet<BookieId>,
    /// Every known bookie that is not registered, and since when. Bounded by the bookies that ledgers name.
    away: BTreeMap<BookieId, Duration>,
    /// Those that a look was about, since they are missing.
    seen: BTreeSet<BookieId>,
    /// Those that a look was about which found nothing more: not looked for again before the interval is over.
    audited: BTreeSet<BookieId>,
    next_look: Duration,
    /// Looks in a row that came to new marks.
    newsworthy: u32,
    /// For those that were seen and are not audited there is no look before this.
    repeat_at: Duration,
    /// A failed look is not repeated before this.
    not_before: Duration,
}

impl AuditMachine {
    /// An auditor that has just been elected: its first look comes at once, and nothing is lost yet.
    pub fn new(now: Duration, settings: AuditSettings) -> Self {
        Self {
            settings,
            registered: BTreeSet::new(),
            draining: BTreeSet::new(),
            away: BTreeMap::new(),
            seen: BTreeSet::new(),
            audited: BTreeSet::new(),
            next_look: now,
            newsworthy: 0,
            repeat_at: now,
            not_before: now,
        }
    }

    /// Another delay from now on, also for those that are away already.
    pub fn on_delay(&mut self, delay: Duration) {
        self.settings.delay = delay;
    }

    /// The bookies that are registered now, writable or not.
    pub fn on_registered(&mut self, now: Duration, registered: BTreeSet<BookieId>) {
        for gone in self.registered.difference(&registered) {
            self.away.entry(gone.clone()).or_insert(now);
        }
        self.away.retain(|bookie, _| !registered.contains(bookie));
        // Who was lost, came back and is lost again needs another look.
        for known in [&mut self.seen, &mut self.audited] {
            known.retain(|bookie| !registered.contains(bookie) || self.draining.contains(bookie));
        }
        self.registered = registered;
    }

    /// The bookies that operators want emptied.
    pub fn on_draining(&mut self, draining: BTreeSet<BookieId>) {
        for bookie in self.draining.difference(&draining) {
            self.seen.remove(bookie);
            self.audited.remove(bookie);
        }
        self.draining = draining;
    }

    /// What to do now, if anything; its end must be told by [`on_audited`](Self::on_audited).
    pub fn poll(&mut self, now: Duration) -> Option<Audit> {
        if now < self.not_before {
            return None;
        }
        let missing = self.missing(now);
        let is_due = now >= self.next_look
            || missing.iter().any(|bookie| self.due(bookie).is_some_and(|at| now >= at));
        let fresh = missing.difference(&self.seen).cloned().collect();
        is_due.then_some(Audit { missing, fresh })
    }

    /// When to poll again, unless something happens before.
    pub fn next_wake(&self) -> Duration {
        let away = self
            .away
            .iter()
            .filter_map(|(bookie, since)| Some(self.due(bookie)?.max(*since + self.settings.delay)));
        let draining = self.draining.iter().filter_map(|bookie| self.due(bookie));
        away.chain(draining).fold(self.next_look, Duration::min).max(self.not_before)
    }

    /// From when on a missing bookie calls for a look; `None`: it has had its looks.
    fn due(&self, bookie: &BookieId) -> Option<Duration> {
        let waits = if self.seen.contains(bookie) { self.repeat_at } else { Duration::ZERO };
        (!self.audited.contains(bookie)).then_some(waits)
    }

    /// A look has ended. `found`: what it came to, or `None` when it failed. One that came to new marks is repeated after a
    /// pause: ledgers that it had passed may have come to name the same bookies meanwhile, by writers and workers that did
    /// not know yet.
    pub fn on_audited(&mut self, now: Duration, audit: &Audit, found: Option<Found>) {
        let Some(Found { named, news }) = found else {
            self.not_before = now + self.settings.retry;
            return;
        };
        self.next_look = now + self.settings.interval;
        self.seen.extend(audit.missing.iter().cloned());
        if !audit.fresh.is_empty() {
            self.newsworthy = 0;
        }
        if news {
            // A bookie that is to be emptied may be given new ledgers all the time.
            let pause = self.settings.retry.saturating_mul(1 << self.newsworthy.min(16));
            self.newsworthy += 1;
            self.repeat_at = now + pause.min(self.settings.interval);
        } else {
            self.newsworthy = 0;
            self.audited.extend(audit.missing.iter().cloned());
        }
        for bookie in named.difference(&self.registered) {
            self.away.entry(bookie.clone()).or_insert(now);
        }
        // Whom no ledger names any more has nothing to lose.
        self.away.retain(|bookie, _| named.contains(bookie));
        for known in [&mut self.seen, &mut self.audited] {
            known.retain(|bookie| self.away.contains_key(bookie) || self.draining.contains(bookie));
        }
    }

    /// How many known bookies are not registered.
    pub fn away(&self) -> usize {
        self.away.len()
    }

    fn missing(&self, now: Duration) -> BTreeSet<BookieId> {
        let lost = self.away.iter().filter(|(_, since)| now >= **since + self.settings.delay);
        lost.map(|(bookie, _)| bookie.clone()).chain(self.draining.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_secs(300);
    const INTERVAL: Duration = Duration::from_secs(3600);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn ids(names: &str) -> BTreeSet<BookieId> {
        names.split_whitespace().map(|name| BookieId::new(name).expect("an id")).collect()
    }

    fn found(names: &str) -> Option<Found> {
        Some(Found { named: ids(names), news: false })
    }

    /// An auditor at time 0 that has seen these bookies, all named by ledgers.
    fn settled(names: &str) -> AuditMachine {
        let settings = AuditSettings { delay: DELAY, interval: INTERVAL, retry: at(5) };
        let mut machine = AuditMachine::new(at(0), settings);
        machine.on_registered(at(0), ids(names));
        let census = machine.poll(at(0)).expect("the first look");
        assert_eq!(census.missing, ids(""));
        machine.on_audited(at(0), &census, found(names));
        assert_eq!(machine.poll(at(0)), None);
        machine
    }

    #[test]
    fn a_bookie_is_lost_once_it_has_been_away_for_the_delay() {
        let mut machine = settled("a b c");
        machine.on_registered(at(10), ids("a c"));
        assert_eq!((machine.poll(at(309)), machine.next_wake()), (None, at(310)));
        let audit = machine.poll(at(310)).expect("lost");
        assert_eq!(audit.missing, ids("b"));
        machine.on_audited(at(311), &audit, found("a b c"));
        assert_eq!((machine.poll(at(400)), machine.next_wake()), (None, at(311) + INTERVAL));
        let again = machine.poll(at(311) + INTERVAL).expect("the regular look");
        assert_eq!(again.missing, ids("b"), "ledgers that named it since are found too");
    }

    #[test]
    fn a_bookie_that_comes_back_in_time_is_not_lost() {
        let mut machine = settled("a b");
        machine.on_registered(at(10), ids("a"));
        machine.on_registered(at(200), ids("a b"));
        assert_eq!(machine.poll(at(400)), None);
        machine.on_registered(at(500), ids("a"));
        assert_eq!(machine.poll(at(799)), None, "the time away before does not count");
        assert!(machine.poll(at(800)).is_some());
    }

    #[test]
    fn one_that_was_never_seen_is_lost_when_ledgers_name_it() {
        let mut machine = settled("a b");
        machine.on_registered(at(1), ids("a b c"));
        let census = machine.poll(INTERVAL).expect("the regular look");
        machine.on_audited(INTERVAL, &census, found("a b x"));
        assert_eq!(machine.next_wake(), INTERVAL + DELAY);
        assert_eq!(machine.poll(INTERVAL + DELAY).expect("lost").missing, ids("x"));
    }

    #[test]
    fn one_that_no_ledger_names_is_forgotten() {
        let mut machine = settled("a b");
        machine.on_registered(at(10), ids("a"));
        let audit = machine.poll(at(310)).expect("lost");
        machine.on_audited(at(310), &audit, found("a"));
        assert_eq!(machine.poll(at(310) + INTERVAL).expect("the regular look").missing, ids(""));
    }

    #[test]
    fn a_failed_look_is_repeated_and_marks_nobody_as_looked_for() {
        let mut machine = settled("a b");
        machine.on_registered(at(10), ids("a"));
        let audit = machine.poll(at(310)).expect("lost");
        machine.on_audited(at(311), &audit, None);
        assert_eq!((machine.poll(at(312)), machine.next_wake()), (None, at(316)));
        assert_eq!(machine.poll(at(316)), Some(audit));
    }

    #[test]
    fn a_look_that_marked_ledgers_is_repeated_until_one_finds_no_more() {
        let mut machine = settled("a b");
        machine.on_registered(at(10), ids("a"));
        let audit = machine.poll(at(310)).expect("lost");
        machine.on_audited(at(311), &audit, Some(Found { named: ids("a b"), news: true }));
        assert_eq!((machine.poll(at(312)), machine.next_wake()), (None, at(316)));
        assert_eq!((&audit.missing, &audit.fresh), (&ids("b"), &ids("b")));
        let again = machine.poll(at(316)).expect("once more");
        assert_eq!((&again.missing, &again.fresh), (&ids("b"), &ids("")));
        machine.on_audited(at(317), &again, Some(Found { named: ids("a b"), news: true }));
        assert_eq!(machine.next_wake(), at(327), "each pause is twice the one before");
        let mut other = machine.clone();
        other.on_draining(ids("a"));
        assert_eq!(other.next_wake(), at(0), "another one does not wait for that");
        assert_eq!(other.poll(at(318)).expect("at once").fresh, ids("a"));
        let again = machine.poll(at(327)).expect("once more");
        machine.on_audited(at(328), &again, found("a b"));
        assert_eq!((machine.poll(at(400)), machine.next_wake()), (None, at(328) + INTERVAL));
    }

    #[test]
    fn a_bookie_to_be_emptied_is_looked_for_at_once_although_it_is_there() {
        let mut machine = settled("a b");
        machine.on_draining(ids("b"));
        assert_eq!(machine.next_wake(), at(0));
        let audit = machine.poll(at(1)).expect("at once");
        assert_eq!(audit.missing, ids("b"));
        machine.on_audited(at(1), &audit, found("a b"));
        machine.on_registered(at(2), ids("a b"));
        assert_eq!(machine.poll(at(3)), None);
        machine.on_draining(ids(""));
        machine.on_draining(ids("b"));
        assert!(machine.poll(at(4)).is_some(), "asked for anew");
    }
}
