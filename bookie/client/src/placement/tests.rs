//! The choice of bookies against everything that must hold of it.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn candidate(number: usize, rack: &str) -> Candidate {
    let id = BookieId::new(&format!("b{number}")).expect("an id");
    Candidate { id, location: Location::parse(rack), tier: 0, trusted: true, weight: None }
}

/// A bookie a rack named, `b0` first.
fn candidates(racks: &str) -> Vec<Candidate> {
    racks.split(' ').enumerate().map(|(number, rack)| candidate(number, rack)).collect()
}

fn rule(min_racks_per_write_quorum: usize, enforce: bool) -> RackRule {
    RackRule { min_racks_per_write_quorum, enforce }
}

fn new_ensemble(
    size: usize,
    write_quorum: usize,
    candidates: &[Candidate],
    rule: RackRule,
    seed: u64,
) -> Result<Vec<usize>, PlacementError> {
    let chosen = place(&vec![Slot::Wanted; size], write_quorum, candidates, rule, Trust::First, seed)?;
    Ok(chosen.into_iter().map(|(_, id)| id.as_str()[1..].parse().expect("a number")).collect())
}

fn racks_of_write_sets(chosen: &[usize], candidates: &[Candidate], write_quorum: usize) -> Vec<usize> {
    let set = |first: usize| -> BTreeSet<&str> {
        let slots = (first..first + write_quorum).map(|slot| slot % chosen.len());
        slots.map(|slot| candidates[chosen[slot]].location.rack()).collect()
    };
    (0..chosen.len()).map(|first| set(first).len()).collect()
}

#[test]
fn copies_lie_in_as_many_racks_as_the_rule_asks_for() {
    let candidates = candidates("a a a a b b c");
    for seed in 0..200 {
        let chosen = new_ensemble(3, 3, &candidates, rule(3, true), seed).expect("an ensemble");
        assert_eq!(racks_of_write_sets(&chosen, &candidates, 3), [3, 3, 3]);
        let striped = new_ensemble(5, 2, &candidates, rule(2, true), seed).expect("an ensemble");
        assert_eq!(racks_of_write_sets(&striped, &candidates, 2), [2; 5], "{striped:?}");
    }
}

#[test]
fn too_few_racks_are_an_error_only_where_racks_are_enforced() {
    let candidates = candidates("a a a");
    let enforced = new_ensemble(3, 3, &candidates, rule(2, true), 1);
    assert_eq!(enforced, Err(PlacementError::TooFewRacks { needed: 2, found: 1 }));
    assert_eq!(new_ensemble(3, 3, &candidates, rule(2, false), 1).expect("an ensemble").len(), 3);
    let too_few = new_ensemble(4, 3, &candidates, rule(2, false), 1);
    assert_eq!(too_few, Err(PlacementError::TooFewBookies { needed: 4, found: 3 }));
}

#[test]
fn regions_are_spread_over_before_racks() {
    let candidates = candidates("/eu/a /eu/b /eu/c /us/a /us/b");
    for seed in 0..100 {
        let chosen = new_ensemble(3, 3, &candidates, rule(3, false), seed).expect("an ensemble");
        let regions: BTreeSet<_> = chosen.iter().map(|at| candidates[*at].location.region()).collect();
        assert_eq!(regions.len(), 2, "{chosen:?}");
    }
}

#[test]
fn a_small_rack_is_not_in_every_ensemble_once_the_rule_holds() {
    let candidates = candidates("a b b b b b c c c c c");
    let with_a = (0..400).filter(|seed| {
        let chosen = new_ensemble(3, 3, &candidates, rule(2, true), *seed).expect("an ensemble");
        chosen.contains(&0)
    });
    let with_a = with_a.count();
    assert!((60..200).contains(&with_a), "{with_a} of 400");
}

#[test]
fn a_replacement_goes_by_the_racks_of_those_who_stay() {
    let candidates = candidates("a a a b");
    let at = |rack| Slot::Kept(Location::parse(rack));
    for seed in 0..50 {
        let slots = [at("a"), Slot::Wanted, at("a")];
        let chosen = place(&slots, 3, &candidates, rule(2, true), Trust::Only, seed).expect("a bookie");
        assert_eq!(chosen, [(1, candidates[3].id.clone())]);
    }
    let slots = [at("c"), Slot::Wanted, at("c")];
    let nobody = place(&slots, 3, &candidates, rule(3, true), Trust::Only, 1);
    assert_eq!(nobody, Err(PlacementError::TooFewRacks { needed: 3, found: 2 }));
}

#[test]
fn bookies_that_failed_lately_are_taken_only_when_there_is_no_other_way() {
    let mut candidates = candidates("a b c d");
    candidates[0].trusted = false;
    let slots = vec![Slot::Wanted; 3];
    for seed in 0..50 {
        assert!(!new_ensemble(3, 3, &candidates, rule(2, false), seed).expect("an ensemble").contains(&0));
    }
    candidates[1].trusted = false;
    assert!(new_ensemble(3, 3, &candidates, rule(2, false), 1).is_ok());
    let only = place(&slots, 3, &candidates, rule(2, false), Trust::Only, 1);
    assert_eq!(only, Err(PlacementError::TooFewBookies { needed: 3, found: 2 }));
}

#[test]
fn a_higher_tier_is_touched_only_when_the_lower_ones_do_not_suffice() {
    let mut candidates = candidates("a b c d");
    candidates[3].tier = 1;
    for seed in 0..50 {
        assert!(!new_ensemble(3, 3, &candidates, rule(2, false), seed).expect("an ensemble").contains(&3));
        assert!(new_ensemble(4, 3, &candidates, rule(2, false), seed).expect("an ensemble").contains(&3));
    }
}

#[test]
fn emptier_bookies_get_more() {
    let mut candidates = candidates("a b c d e f");
    for (at, candidate) in candidates.iter_mut().enumerate() {
        candidate.weight = Some(if at == 0 { 300 } else { 100 });
    }
    let mut chosen = [0_u32; 6];
    for seed in 0..3000 {
        chosen[new_ensemble(1, 1, &candidates, rule(1, false), seed).expect("one")[0]] += 1;
    }
    // Three parts of eight.
    assert!((1000..1250).contains(&chosen[0]), "{chosen:?}");
}

/// Whether any assignment of the racks satisfies the rule, tried one by one.
fn exists(
    counts: &mut [usize],
    chosen: &mut Vec<usize>,
    size: usize,
    write_quorum: usize,
    racks: usize,
) -> bool {
    if chosen.len() == size {
        let spans = |first: usize| {
            let set: BTreeSet<_> = (first..first + write_quorum).map(|slot| chosen[slot % size]).collect();
            set.len() >= racks
        };
        return (0..size).all(spans);
    }
    (0..counts.len()).any(|rack| {
        if counts[rack] == 0 {
            return false;
        }
        counts[rack] -= 1;
        chosen.push(rack);
        let found = exists(counts, chosen, size, write_quorum, racks);
        chosen.pop();
        counts[rack] += 1;
        found
    })
}

proptest! {
    #[test]
    fn an_ensemble_is_found_exactly_when_there_is_one(
        racks in prop::collection::vec(0_usize..3, 1..8),
        size in 1_usize..6,
        write_quorum in 1_usize..6,
        min_racks in 1_usize..4,
        seed: u64,
    ) {
        let write_quorum = write_quorum.min(size);
        let all: Vec<Candidate> =
            racks.iter().enumerate().map(|(at, rack)| candidate(at, &format!("/r{rack}"))).collect();
        let mut counts = [0; 3];
        racks.iter().for_each(|rack| counts[*rack] += 1);
        let needed = min_racks.min(write_quorum);
        let possible =
            racks.len() >= size && exists(&mut counts, &mut Vec::new(), size, write_quorum, needed);
        match new_ensemble(size, write_quorum, &all, rule(min_racks, true), seed) {
            Ok(chosen) => {
                prop_assert!(possible);
                let distinct: BTreeSet<_> = chosen.iter().collect();
                prop_assert_eq!(distinct.len(), size);
                let spans = racks_of_write_sets(&chosen, &all, write_quorum);
                prop_assert!(spans.iter().all(|span| *span >= needed), "{:?}", spans);
            }
            Err(error) => prop_assert!(!possible, "{}", error),
        }
        // Where it is not enforced, only the number of bookies counts; and the same seed gives the same answer.
        let spread = new_ensemble(size, write_quorum, &all, rule(min_racks, false), seed);
        prop_assert_eq!(spread.is_ok(), racks.len() >= size);
        prop_assert_eq!(spread, new_ensemble(size, write_quorum, &all, rule(min_racks, false), seed));
    }
}
