//! What holds of every decision, whatever the brokers report.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::decide::{Action, Balancer, Limits, View};
use super::load::bundle_load;
use crate::namespace::BundleStats;

const ROUND: Duration = Duration::from_secs(10);

fn stats(messages: f64) -> BundleStats {
    BundleStats { msg_rate_in: messages, topics: 1, ..BundleStats::default() }
}

fn view(brokers: &[&[f64]]) -> View {
    let mut number = 0;
    let mut bundles = |loads: &&[f64]| {
        let bundle = |load: &f64| {
            number += 1;
            (format!("t/n/{number}"), stats(*load))
        };
        loads.iter().map(bundle).collect::<BTreeMap<_, _>>()
    };
    let brokers = brokers.iter().enumerate();
    View { brokers: brokers.map(|(index, loads)| (format!("b{index}"), bundles(loads))).collect() }
}

fn sum(view: &View, broker: &str) -> f64 {
    view.brokers[broker].values().map(bundle_load).sum()
}

/// What the brokers report after they have obeyed.
fn obey(view: &mut View, action: &Action) {
    match action {
        Action::Move { bundle, from, to } => {
            let stats = view.brokers.get_mut(from).and_then(|bundles| bundles.remove(bundle));
            let stats = stats.expect("a bundle moves away from the broker that has it");
            view.brokers.get_mut(to).expect("a broker that exists").insert(bundle.clone(), stats);
        }
        Action::Split { bundle, owner } => {
            let bundles = view.brokers.get_mut(owner).expect("a broker that exists");
            let whole = bundles.remove(bundle).expect("the owner has the bundle");
            let half = BundleStats {
                msg_rate_in: whole.msg_rate_in / 2.0,
                topics: whole.topics / 2,
                producer_count: whole.producer_count / 2,
                ..whole
            };
            bundles.insert(format!("{bundle}a"), half.clone());
            bundles.insert(format!("{bundle}b"), half);
        }
    }
}

fn views() -> impl Strategy<Value = View> {
    let bundle = (0.0..200_000.0_f64, 0..3_000_u64, 0..9_000_u64);
    let broker = prop::collection::vec(bundle, 0..12);
    prop::collection::vec(broker, 1..6).prop_map(|brokers| {
        let mut view = view(&vec![[].as_slice(); brokers.len()]);
        for (index, bundles) in brokers.into_iter().enumerate() {
            let into = view.brokers.get_mut(&format!("b{index}")).expect("made above");
            for (number, (rate, topics, producers)) in bundles.into_iter().enumerate() {
                let stats = BundleStats {
                    msg_rate_in: rate,
                    topics,
                    producer_count: producers,
                    ..BundleStats::default()
                };
                into.insert(format!("t/n/{index}-{number}"), stats);
            }
        }
        view
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn under_a_steady_load_moves_help_are_capped_and_come_to_an_end(mut view in views()) {
        let limits = Limits::default();
        let mut balancer = Balancer::new(limits);
        let mut now = Duration::ZERO;
        let mut acted: Vec<Duration> = Vec::new();
        let mut moved: BTreeMap<String, Duration> = BTreeMap::new();
        let mut quiet = 0;
        for _ in 0..2_000 {
            let actions = balancer.decide(now, &view, |_, _| true);
            quiet = if actions.is_empty() { quiet + 1 } else { 0 };
            for action in &actions {
                acted.push(now);
                if let Action::Move { bundle, from, to } = action {
                    let (busy, idle) = (sum(&view, from), sum(&view, to));
                    let load = bundle_load(&view.brokers[from][bundle]);
                    prop_assert!(from != to && (busy - load).max(idle + load) < busy, "{action:?} makes nothing better");
                    let before = moved.insert(bundle.clone(), now);
                    prop_assert!(before.is_none_or(|at| now - at >= limits.rest), "{bundle} moved again too soon");
                }
                obey(&mut view, action);
            }
            let last_minute = acted.iter().filter(|at| now - **at < Duration::from_secs(60)).count();
            prop_assert!(last_minute <= limits.actions_per_minute, "{last_minute} actions in a minute");
            // Longer than any bundle rests.
            if quiet > 20 {
                break;
            }
            now += ROUND;
        }
        prop_assert!(quiet > 20, "never at rest");
    }

    #[test]
    fn a_bundle_only_goes_where_it_may(view in views(), allowed in 0..6_usize) {
        let mut balancer = Balancer::new(Limits { busy_rounds: 0, ..Limits::default() });
        let allowed = format!("b{allowed}");
        for action in balancer.decide(Duration::ZERO, &view, |_, broker| broker == allowed) {
            if let Action::Move { to, .. } = action {
                prop_assert_eq!(&to, &allowed);
            }
        }
    }
}

fn rounds(balancer: &mut Balancer, view: &View, from: u32, count: u32) -> Vec<Action> {
    (from..from + count).flat_map(|round| balancer.decide(ROUND * round, view, |_, _| true)).collect()
}

#[test]
fn a_broker_that_joins_gets_its_share() {
    let mut view = view(&[&[9_000.0, 9_000.0, 9_000.0, 9_000.0], &[]]);
    let mut balancer = Balancer::default();
    assert_eq!(rounds(&mut balancer, &view, 0, 2), [], "it may be a spike");
    let actions = rounds(&mut balancer, &view, 2, 1);
    assert_eq!(actions.len(), 2, "{actions:?}");
    actions.iter().for_each(|action| obey(&mut view, action));
    assert_eq!(sum(&view, "b0"), sum(&view, "b1"));
    assert_eq!(rounds(&mut balancer, &view, 3, 100), []);
}

#[test]
fn a_load_that_swings_moves_nothing() {
    let mut balancer = Balancer::default();
    let (left, right) = (view(&[&[9_000.0, 9_000.0], &[1_000.0]]), view(&[&[1_000.0, 1_000.0], &[9_000.0]]));
    for round in (0..100).step_by(4) {
        assert_eq!(rounds(&mut balancer, &left, round, 2), []);
        assert_eq!(rounds(&mut balancer, &right, round + 2, 2), []);
    }
}

#[test]
fn one_hot_bundle_of_several_topics_is_split_and_then_shared() {
    let mut view = view(&[&[100_000.0], &[]]);
    for bundle in view.brokers.get_mut("b0").expect("made above").values_mut() {
        bundle.topics = 50;
    }
    let mut balancer = Balancer::default();
    let first = rounds(&mut balancer, &view, 0, 1);
    assert_eq!(first, [Action::Split { bundle: "t/n/1".into(), owner: "b0".into() }]);
    obey(&mut view, &first[0]);
    let later = rounds(&mut balancer, &view, 1, 5);
    assert!(later.iter().any(|action| matches!(action, Action::Move { to, .. } if to == "b1")), "{later:?}");
}
