//! The replicated ledger under simulation, and its core under every schedule. See `magnetar_tests::sim`.

use magnetar_common::random::{OsRandom, Random};
use magnetar_tests::sim::{Campaign, Defect, Explored, Model, explore, run};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Seeds of every test run, and as many that nobody has seen before.
const FIXED_SEEDS: u64 = 250;
const FRESH_SEEDS: u64 = 150;

/// What a planted defect may cost to be found.
const SEEDS_TO_CATCH: u64 = 1000;

const THREADS: usize = 2;

fn assert_clean(campaign: &Campaign) {
    println!("{}", campaign.summary());
    assert!(campaign.violations.is_empty(), "\n{}", campaign.report());
}

#[test]
fn nothing_acknowledged_is_lost_whatever_fails() {
    let campaign = Campaign::run(0..FIXED_SEEDS, THREADS, || false);
    assert_clean(&campaign);
    let tally = campaign.tally;
    assert!(tally.acknowledged > FIXED_SEEDS && tally.segments > 100 && tally.crashes > FIXED_SEEDS);
    assert!(tally.second_reads > 0 && tally.recovered_segments > 0, "what readers and recoveries decide");
}

#[test]
fn nothing_acknowledged_is_lost_under_seeds_never_seen_before() {
    let from = OsRandom.next_u64() >> 1;
    assert_clean(&Campaign::run(from..from + FRESH_SEEDS, THREADS, || false));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..20 {
        assert_eq!(run(seed, None), run(seed, None), "seed {seed}");
    }
    let traces: BTreeSet<u64> = (0..20).map(|seed| run(seed, None).trace).collect();
    assert_eq!(traces.len(), 20);
}

#[test]
fn every_planted_defect_is_caught() {
    let next = AtomicUsize::new(0);
    let missed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(defect) = Defect::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match Campaign::first_catch(0..SEEDS_TO_CATCH, *defect) {
                        Some((seed, violation)) => {
                            println!("{defect:?}: seed {seed}: {violation}");
                            let sound = run(seed, None).violation;
                            assert_eq!(sound, None, "seed {seed} fails without {defect:?} too");
                        }
                        None => missed.lock().expect("nobody panics").push(*defect),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().expect("nobody panics");
    assert!(missed.is_empty(), "not caught within {SEEDS_TO_CATCH} seeds: {missed:?}");
}

/// All copies on all three bookies, and a writer that goes on with two.
const THREE_COPIES: Model = Model {
    sizes: (3, 3, 2),
    bookies: 3,
    entries: 3,
    pipeline: 1,
    recoveries: 1,
    attempts: 1,
    losses: 1,
    defect: None,
};

/// Two copies and a spare bookie, so that ensembles change.
const TWO_COPIES: Model = Model { sizes: (2, 2, 2), ..THREE_COPIES };

const STATES_MAX: usize = 2_000_000;

fn visit_all(model: Model) -> Explored {
    let explored = explore(&model, STATES_MAX, THREADS);
    println!("{model:?}: {} states, {} steps", explored.states, explored.steps);
    explored
}

#[test]
fn no_schedule_of_the_model_loses_an_entry() {
    let two_recoveries = |model| Model { entries: 1, recoveries: 2, ..model };
    let pipelined = |model| Model { entries: 2, pipeline: 2, ..model };
    for model in [
        THREE_COPIES,
        pipelined(THREE_COPIES),
        two_recoveries(THREE_COPIES),
        TWO_COPIES,
        pipelined(TWO_COPIES),
        two_recoveries(TWO_COPIES),
    ] {
        let explored = visit_all(model);
        assert_eq!(explored.violation, None, "{model:?}");
        assert!(explored.exhausted, "{model:?} has more states than are allowed for");
    }
}

#[test]
fn the_model_finds_the_defects_that_only_a_model_checker_found_in_bookkeeper() {
    for (model, defect) in [
        (THREE_COPIES, Defect::RecoveryReadsUnfenced),
        (THREE_COPIES, Defect::ErrorTakenForAbsence),
        (THREE_COPIES, Defect::EndWithoutCoverage),
        (THREE_COPIES, Defect::AckBelowQuorum),
        (TWO_COPIES, Defect::AckBeforeChangeRecorded),
    ] {
        let explored = visit_all(Model { entries: 1, defect: Some(defect), ..model });
        let (violation, steps) = explored.violation.expect("the defect is caught");
        println!("{defect:?}: {violation}, after {} steps", steps.len());
    }
}
