//! Which bookies are slow: found by comparing their latency with their peers', set aside, and taken back after probes.
//!
//! ```text
//!   Watched ──far slower than its peers, window after window──▶ Quarantined ──probes in a row as quick as peers──▶ Watched
//! ```
//! Slowness is only ever relative: when all bookies are slow, the load or the disks' sharing is the cause, and moving
//! entries about would make it worse. So a verdict needs peers, only a part of the bookies can be set aside at once, and
//! both verdicts and the replacements that follow from them have a pace.

use std::collections::BTreeMap;
use std::time::Duration;

/// When a bookie counts as slow, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowConfig {
    /// Latencies below this are never slow: some milliseconds more or less are no reason to move a ledger. Default 100 ms.
    pub floor: Duration,
    /// How many times the latency of its peers a slow bookie has. Default 5.
    pub factor: u32,
    /// Windows in a row that a bookie must be slow in. Default 4: at four windows a second, one second.
    pub windows: u32,
    /// Between one verdict and the next. Default 5 s.
    pub verdict_pause: Duration,
    /// Between one ledger's replacement of a slow bookie and the next ledger's: each writes to the metadata store. Default
    /// 20 ms.
    pub replacement_pause: Duration,
    /// Between the probes of a bookie that is set aside. Default 1 s.
    pub probe_pause: Duration,
    /// Probes in a row that must be quick. Doubles each time that the same bookie is set aside again, up to 16 times as
    /// many. Default 3.
    pub probes: u32,
}

impl Default for SlowConfig {
    fn default() -> Self {
        Self {
            floor: Duration::from_millis(100),
            factor: 5,
            windows: 4,
            verdict_pause: Duration::from_secs(5),
            replacement_pause: Duration::from_millis(20),
            probe_pause: Duration::from_secs(1),
            probes: 3,
        }
    }
}

/// Peers whose latency a verdict needs: with fewer, it could be they that are quick.
const PEERS_MIN: usize = 2;
/// One in so many bookies may be set aside at once, but always one.
const QUARANTINED_SHARE: usize = 3;
/// The most that [`SlowConfig::probes`] is multiplied by.
const RELAPSES_MAX: u32 = 4;
/// After so long without a verdict a bookie's earlier ones are forgotten.
const RELAPSE_MEMORY: Duration = Duration::from_secs(600);

/// What is to be done, or has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<K> {
    /// This bookie is set aside: ledgers may replace it, and new ones should not choose it.
    Quarantined {
        /// Which.
        bookie: K,
        /// What its adds take.
        latency: Duration,
        /// What those of its peers take.
        peers: Duration,
    },
    /// Time an add at this bookie, and report it with [`SlowBookies::on_probe`].
    Probe(K),
    /// This bookie is as quick as its peers again.
    Readmitted(K),
}

#[derive(Debug)]
enum State {
    Watched { strikes: u32 },
    Quarantined { good: u32, probe_at: Duration, probing: bool },
}

#[derive(Debug)]
struct Bookie {
    state: State,
    relapses: u32,
    judged_at: Duration,
}

/// See the module. `K` names a bookie.
#[derive(Debug)]
pub struct SlowBookies<K> {
    config: SlowConfig,
    /// Only those that have been slow lately.
    bookies: BTreeMap<K, Bookie>,
    verdicts: Vec<Verdict<K>>,
    next_verdict: Duration,
    next_replacement: Duration,
    /// What the adds of a bookie that is not slow took at last.
    usual: Duration,
}

impl<K: Ord + Clone> SlowBookies<K> {
    /// Nobody is slow.
    pub fn new(config: SlowConfig) -> Self {
        Self {
            config,
            bookies: BTreeMap::new(),
            verdicts: Vec::new(),
            next_verdict: Duration::ZERO,
            next_replacement: Duration::ZERO,
            usual: Duration::ZERO,
        }
    }

    /// What adds took in the window that ends now, at each bookie that had any; and the bookies that are registered.
    pub fn on_window(&mut self, now: Duration, samples: &[(K, Duration)], registered: &[K]) {
        // Who is gone is no bookie to be probed; should it come back, it starts anew.
        self.bookies
            .retain(|bookie, _| registered.contains(bookie) || samples.iter().any(|(k, _)| k == bookie));
        let compared: Vec<&(K, Duration)> =
            samples.iter().filter(|(bookie, _)| !self.is_quarantined(bookie)).collect();
        if let Some(usual) = lower_median(compared.iter().map(|(_, latency)| *latency)) {
            self.usual = usual;
        }
        for (bookie, latency) in &compared {
            let peers = compared.iter().filter(|(peer, _)| peer != bookie).map(|(_, latency)| *latency);
            let peers: Vec<Duration> = peers.collect();
            let slow = match lower_median(peers.iter().copied()) {
                Some(usual) if peers.len() >= PEERS_MIN && *latency > self.threshold(usual) => Some(usual),
                _ => None,
            };
            match slow {
                Some(usual) => self.strike(now, bookie, *latency, usual, registered.len()),
                None => self.clear(now, bookie),
            }
        }
        // A bookie that is not used cannot be slow in a row.
        for (bookie, known) in &mut self.bookies {
            if let State::Watched { strikes } = &mut known.state
                && !compared.iter().any(|(k, _)| k == bookie)
            {
                *strikes = 0;
            }
        }
    }

    /// What is to be done now.
    pub fn poll(&mut self, now: Duration) -> Option<Verdict<K>> {
        if !self.verdicts.is_empty() {
            return Some(self.verdicts.remove(0));
        }
        self.bookies.iter_mut().find_map(|(bookie, known)| match &mut known.state {
            State::Quarantined { probe_at, probing, .. } if !*probing && *probe_at <= now => {
                *probing = true;
                Some(Verdict::Probe(bookie.clone()))
            }
            _ => None,
        })
    }

    /// A probe ended: with what it took, or with `None` when it failed.
    pub fn on_probe(&mut self, now: Duration, bookie: &K, latency: Option<Duration>) {
        let quick = latency.is_some_and(|latency| latency <= self.threshold(self.usual) / 2);
        let config = self.config;
        let Some(known) = self.bookies.get_mut(bookie) else { return };
        let needed = config.probes << known.relapses.min(RELAPSES_MAX);
        let State::Quarantined { good, probe_at, probing } = &mut known.state else { return };
        *probing = false;
        *probe_at = now + config.probe_pause;
        *good = if quick { *good + 1 } else { 0 };
        if *good >= needed {
            known.state = State::Watched { strikes: 0 };
            known.judged_at = now;
            known.relapses += 1;
            self.verdicts.push(Verdict::Readmitted(bookie.clone()));
        }
    }

    /// Whether this bookie is set aside.
    pub fn is_quarantined(&self, bookie: &K) -> bool {
        self.bookies.get(bookie).is_some_and(|known| matches!(known.state, State::Quarantined { .. }))
    }

    /// Whether any is.
    pub fn any_quarantined(&self) -> bool {
        self.bookies.values().any(|known| matches!(known.state, State::Quarantined { .. }))
    }

    /// Leave for one ledger to replace a slow bookie; false when it must wait for its turn.
    pub fn may_replace(&mut self, now: Duration) -> bool {
        let may = now >= self.next_replacement;
        if may {
            self.next_replacement = now + self.config.replacement_pause;
        }
        may
    }

    fn threshold(&self, usual: Duration) -> Duration {
        self.config.floor.max(usual * self.config.factor)
    }

    fn strike(&mut self, now: Duration, bookie: &K, latency: Duration, peers: Duration, registered: usize) {
        let quarantined =
            self.bookies.values().filter(|known| matches!(known.state, State::Quarantined { .. })).count();
        let room = quarantined < (registered / QUARANTINED_SHARE).max(1);
        let config = self.config;
        let fresh = || Bookie { state: State::Watched { strikes: 0 }, relapses: 0, judged_at: now };
        let known = self.bookies.entry(bookie.clone()).or_insert_with(fresh);
        let State::Watched { strikes } = &mut known.state else { return };
        *strikes = strikes.saturating_add(1);
        if *strikes < config.windows || !room || now < self.next_verdict {
            return;
        }
        known.state = State::Quarantined { good: 0, probe_at: now + config.probe_pause, probing: false };
        known.judged_at = now;
        self.next_verdict = now + config.verdict_pause;
        self.verdicts.push(Verdict::Quarantined { bookie: bookie.clone(), latency, peers });
    }

    fn clear(&mut self, now: Duration, bookie: &K) {
        if let Some(known) = self.bookies.get_mut(bookie) {
            known.state = State::Watched { strikes: 0 };
            if known.relapses == 0 || now > known.judged_at + RELAPSE_MEMORY {
                self.bookies.remove(bookie);
            }
        }
    }
}

/// The middle one; of two, the quicker.
fn lower_median(latencies: impl Iterator<Item = Duration>) -> Option<Duration> {
    let mut sorted: Vec<Duration> = latencies.collect();
    sorted.sort_unstable();
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests;
