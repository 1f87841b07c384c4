//! Which bundles move from busy brokers to idle ones, and which are split: the leader's decision, a step at a time.
//!
//! Reports and time in, actions out. A bundle on the move stops for a moment, so a decision must be worth it: a broker must be
//! busy for several rounds, a move must make the busier of the two brokers clearly less busy, a bundle that has just moved
//! rests, and there is a cap on actions a minute.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use super::load::bundle_load;
use crate::namespace::{BrokerRecord, BundleStats};

/// When the leader acts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// A broker is busy above this multiple of the mean load …
    pub busy_ratio: f64,
    /// … if it is also above the mean by this much load: ten unused bundles are not worth a move.
    pub busy_excess: f64,
    /// For this many rounds in a row.
    pub busy_rounds: u32,
    /// A move must bring the busier broker of the two down by this share of its excess over the other.
    pub gain_min: f64,
    /// Moves and splits in any minute.
    pub actions_per_minute: usize,
    /// A bundle that has moved, or come out of a split, rests this long.
    pub rest: Duration,
    /// A bundle is split above this load …
    pub split_load: f64,
    /// … or this many topics in memory …
    pub split_topics: u64,
    /// … or this many producers and consumers.
    pub split_sessions: u64,
    /// A broker with this many bundles splits none.
    pub bundles_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            busy_ratio: 1.25,
            busy_excess: 2.0,
            busy_rounds: 3,
            gain_min: 0.1,
            actions_per_minute: 10,
            rest: Duration::from_secs(120),
            split_load: 60.0,
            split_topics: 1_000,
            split_sessions: 5_000,
            bundles_max: 512,
        }
    }
}

/// What is to be done, by the bundle's owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Move { bundle: String, from: String, to: String },
    Split { bundle: String, owner: String },
}

/// The bundles of every broker by name, with their load.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    pub brokers: BTreeMap<String, BTreeMap<String, BundleStats>>,
}

impl View {
    /// What the brokers reported last.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a BrokerRecord>) -> Self {
        let bundles = |record: &BrokerRecord| {
            let stats = |name: &String| record.last_stats.get(name).cloned().unwrap_or_default();
            record.bundles.iter().map(|name| (name.clone(), stats(name))).collect()
        };
        let brokers = records.into_iter().map(|record| (record.broker_id.clone(), bundles(record)));
        View { brokers: brokers.collect() }
    }
}

/// Remembers what it decided lately.
#[derive(Debug, Default)]
pub struct Balancer {
    limits: Limits,
    /// When actions were decided on, in the last minute.
    actions: VecDeque<Duration>,
    /// Bundles at rest.
    resting: HashMap<String, Duration>,
    /// Rounds in a row in which a broker was busy.
    busy: BTreeMap<String, u32>,
}

const MINUTE: Duration = Duration::from_secs(60);

impl Balancer {
    pub fn new(limits: Limits) -> Self {
        Balancer { limits, ..Balancer::default() }
    }

    /// One round. `may` tells whether a bundle may be served by a broker.
    pub fn decide(&mut self, now: Duration, view: &View, may: impl Fn(&str, &str) -> bool) -> Vec<Action> {
        self.actions.retain(|at| now.saturating_sub(*at) < MINUTE);
        self.resting.retain(|_, at| now.saturating_sub(*at) < self.limits.rest);
        let mut actions = self.splits(now, view);
        let mut loads = Loads::of(view);
        let mean = loads.mean();
        let line = (mean * self.limits.busy_ratio).max(mean + self.limits.busy_excess);
        self.note_busy(&loads, line);
        while self.has_room() {
            let Some(action) = self.best_move(&loads, view, line, mean, &may) else { break };
            if let Action::Move { bundle, from, to } = &action {
                loads.shift(view, bundle, from, to);
                self.acted(now, bundle);
            }
            actions.push(action);
        }
        actions
    }

    fn has_room(&self) -> bool {
        self.actions.len() < self.limits.actions_per_minute
    }

    fn acted(&mut self, now: Duration, bundle: &str) {
        self.actions.push_back(now);
        self.resting.insert(bundle.to_owned(), now);
    }

    fn note_busy(&mut self, loads: &Loads, line: f64) {
        self.busy.retain(|broker, _| loads.0.contains_key(broker));
        for (broker, load) in &loads.0 {
            let rounds = self.busy.entry(broker.clone()).or_default();
            *rounds = if *load > line { rounds.saturating_add(1) } else { 0 };
        }
    }

    /// The busiest broker that has been busy for long enough gives the bundle with which the least busy one gains most.
    fn best_move(
        &self,
        loads: &Loads,
        view: &View,
        line: f64,
        mean: f64,
        may: &impl Fn(&str, &str) -> bool,
    ) -> Option<Action> {
        let is_due = |broker: &&String| {
            self.busy.get(*broker).is_some_and(|rounds| *rounds >= self.limits.busy_rounds)
        };
        let mut from: Vec<&String> =
            loads.0.keys().filter(is_due).filter(|broker| loads.0[*broker] > line).collect();
        from.sort_by(|a, b| loads.0[*b].total_cmp(&loads.0[*a]));
        let mut to: Vec<&String> = loads.0.keys().filter(|broker| loads.0[*broker] < mean).collect();
        to.sort_by(|a, b| loads.0[*a].total_cmp(&loads.0[*b]));
        for from in from {
            for to in &to {
                let (busy, idle) = (loads.0[from], loads.0[*to]);
                // The best bundle is the one that makes them equal.
                let worth = |load: f64| (load).min(busy - idle - load) / (busy - idle);
                let best = view.brokers[from]
                    .iter()
                    .filter(|(bundle, _)| !self.resting.contains_key(*bundle) && may(bundle, to))
                    .filter(|(bundle, _)| !loads.gone(from, bundle))
                    .map(|(bundle, stats)| (worth(bundle_load(stats)), bundle))
                    .filter(|(worth, _)| *worth >= self.limits.gain_min)
                    .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)));
                if let Some((_, bundle)) = best {
                    return Some(Action::Move {
                        bundle: bundle.clone(),
                        from: from.clone(),
                        to: (*to).clone(),
                    });
                }
            }
        }
        None
    }

    /// One a round: what comes of it shows in the next reports.
    fn splits(&mut self, now: Duration, view: &View) -> Vec<Action> {
        let limits = self.limits;
        let too_big = |stats: &BundleStats| {
            // A single topic cannot be split.
            stats.topics >= 2
                && (bundle_load(stats) > limits.split_load
                    || stats.topics > limits.split_topics
                    || stats.producer_count + stats.consumer_count > limits.split_sessions)
        };
        let candidates = view.brokers.iter().filter(|(_, bundles)| bundles.len() < limits.bundles_max);
        let biggest = candidates
            .flat_map(|(owner, bundles)| bundles.iter().map(move |(bundle, stats)| (owner, bundle, stats)))
            .filter(|(_, bundle, stats)| too_big(stats) && !self.resting.contains_key(*bundle))
            .max_by(|a, b| bundle_load(a.2).total_cmp(&bundle_load(b.2)));
        let Some((owner, bundle, _)) = biggest.filter(|_| self.has_room()) else { return Vec::new() };
        let action = Action::Split { bundle: bundle.clone(), owner: owner.clone() };
        self.acted(now, &bundle.clone());
        vec![action]
    }
}

/// Load by broker, as it will be after the moves decided on.
struct Loads(BTreeMap<String, f64>, Vec<(String, String)>);

impl Loads {
    fn of(view: &View) -> Self {
        let sum = |bundles: &BTreeMap<String, BundleStats>| bundles.values().map(bundle_load).sum();
        Loads(view.brokers.iter().map(|(id, bundles)| (id.clone(), sum(bundles))).collect(), Vec::new())
    }

    fn mean(&self) -> f64 {
        self.0.values().sum::<f64>() / self.0.len().max(1) as f64
    }

    fn gone(&self, from: &str, bundle: &str) -> bool {
        self.1.iter().any(|(broker, moved)| broker == from && moved == bundle)
    }

    fn shift(&mut self, view: &View, bundle: &str, from: &str, to: &str) {
        let load = bundle_load(&view.brokers[from][bundle]);
        for (broker, change) in [(from, -load), (to, load)] {
            if let Some(sum) = self.0.get_mut(broker) {
                *sum += change;
            }
        }
        self.1.push((from.to_owned(), bundle.to_owned()));
    }
}
