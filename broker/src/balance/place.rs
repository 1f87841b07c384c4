//! Who is to take a bundle that nobody has.

use std::collections::HashMap;
use std::time::Duration;

use super::load::{BUNDLE_LOAD, bundle_load};
use crate::namespace::BrokerRecord;

/// For this long an assignment counts although no report shows it: longer than a report takes.
const RECENT: Duration = Duration::from_secs(15);
/// Assignments remembered.
const RECENT_MAX: usize = 100_000;

/// A broker that could take a bundle.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub id: String,
    /// As it reported.
    pub load: f64,
}

impl From<&BrokerRecord> for Candidate {
    fn from(record: &BrokerRecord) -> Self {
        let loads = record.last_stats.values().map(bundle_load);
        let unused = record.bundles.len().saturating_sub(record.last_stats.len());
        let load = loads.sum::<f64>() + unused as f64 * BUNDLE_LOAD;
        Candidate { id: record.broker_id.clone(), load }
    }
}

/// Remembers what was assigned lately, because reports lag behind.
#[derive(Debug, Default)]
pub struct Placement {
    recent: HashMap<String, (String, Duration)>,
}

impl Placement {
    /// The least loaded broker. Asked again soon about the same bundle, the same one: two lookups at a time must not send
    /// clients to two brokers.
    pub fn pick(&mut self, now: Duration, bundle: &str, candidates: &[Candidate]) -> Option<String> {
        self.recent.retain(|_, (_, at)| now.saturating_sub(*at) < RECENT);
        if let Some((broker, _)) = self.recent.get(bundle)
            && candidates.iter().any(|candidate| candidate.id == *broker)
        {
            return Some(broker.clone());
        }
        let mut assigned: HashMap<&str, f64> = HashMap::new();
        for (broker, _) in self.recent.values() {
            *assigned.entry(broker).or_default() += BUNDLE_LOAD;
        }
        let load = |candidate: &Candidate| {
            candidate.load + assigned.get(candidate.id.as_str()).copied().unwrap_or_default()
        };
        let least =
            candidates.iter().min_by(|a, b| load(a).total_cmp(&load(b)).then_with(|| a.id.cmp(&b.id)))?;
        let least = least.id.clone();
        if self.recent.len() < RECENT_MAX {
            self.recent.insert(bundle.to_owned(), (least.clone(), now));
        }
        Some(least)
    }

    /// The broker that was picked did not take it.
    pub fn forget(&mut self, bundle: &str) {
        self.recent.remove(bundle);
    }

    /// The bundle is meant for this broker.
    pub fn intend(&mut self, now: Duration, bundle: &str, broker: &str) {
        self.recent.insert(bundle.to_owned(), (broker.to_owned(), now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brokers(loads: &[f64]) -> Vec<Candidate> {
        loads
            .iter()
            .enumerate()
            .map(|(index, load)| Candidate { id: format!("b{index}"), load: *load })
            .collect()
    }

    #[test]
    fn bundles_spread_before_any_report_shows_them() {
        let (mut placement, brokers) = (Placement::default(), brokers(&[0.0, 0.0, 0.0]));
        let mut counts: HashMap<String, usize> = HashMap::new();
        for bundle in 0..30 {
            let picked = placement.pick(Duration::ZERO, &bundle.to_string(), &brokers).expect("a broker");
            *counts.entry(picked).or_default() += 1;
        }
        assert!(counts.len() == 3 && counts.values().all(|count| *count == 10), "{counts:?}");
    }

    #[test]
    fn a_bundle_goes_to_one_broker_however_often_it_is_asked_for() {
        let mut placement = Placement::default();
        let first = placement.pick(Duration::ZERO, "x", &brokers(&[5.0, 1.0]));
        assert_eq!(first.as_deref(), Some("b1"));
        assert_eq!(placement.pick(Duration::from_secs(1), "x", &brokers(&[0.0, 9.0])), first);
        assert_eq!(placement.pick(Duration::from_secs(1), "x", &brokers(&[9.0])).as_deref(), Some("b0"));
        assert_eq!(placement.pick(Duration::from_secs(60), "x", &[]), None);
    }
}
