//! Chooses bookies for the slots of an ensemble: candidates, rules and a seed in, bookies out. The same input gives the
//! same answer.
//!
//! What is asked for, in falling importance: isolation groups; bookies that have not failed lately; racks; regions; free
//! space. It must never put one bookie into two slots, and never less than the enforced racks into a write set.

use super::location::Location;
use super::weights::{Chance, capped};
use magnetar_proto::bookkeeper::BookieId;
use std::collections::{BTreeMap, BTreeSet};

/// Which candidates will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Only bookies that have not failed lately: for what can wait.
    Only,
    /// Those first, then the others: for what cannot.
    First,
}

/// A bookie that could take a slot.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its name; each candidate another one.
    pub id: BookieId,
    /// Where it stands.
    pub location: Location,
    /// How readily it is used: all of a lower tier are tried alone before one of a higher tier is.
    pub tier: u8,
    /// It has not failed lately.
    pub trusted: bool,
    /// Chances are proportional to it: free bytes. `None`: not known, taken for the median.
    pub weight: Option<u64>,
}

/// A slot of the ensemble.
#[derive(Clone, Debug)]
pub enum Slot {
    /// Its bookie stays; it is none of the candidates.
    Kept(Location),
    /// It needs a bookie.
    Wanted,
}

/// How copies must be spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RackRule {
    /// Racks that the bookies of every write set stand in, at least; a write quorum below it needs as many as it has.
    pub min_racks_per_write_quorum: usize,
    /// Whether it is better to have no ensemble than one with fewer.
    pub enforce: bool,
}

/// There is no such ensemble.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// Too few candidates.
    #[error("{needed} more bookies are needed and {found} may be chosen; start more bookies")]
    TooFewBookies {
        /// Slots to fill.
        needed: usize,
        /// Candidates that may be used.
        found: usize,
    },
    /// Enough candidates, in too few racks.
    #[error(
        "every write quorum must span {needed} racks and the bookies that may be chosen stand in {found}; start bookies \
         in other racks, or do not enforce it"
    )]
    TooFewRacks {
        /// Racks a write set must span.
        needed: usize,
        /// Racks of the candidates.
        found: usize,
    },
}

/// Steps of one search: far more than any ensemble needs that can be had, and done in a few milliseconds.
const STEPS_MAX: usize = 20_000;

/// A bookie for every wanted slot. Deterministic in its arguments.
pub fn place(
    slots: &[Slot],
    write_quorum: usize,
    candidates: &[Candidate],
    rule: RackRule,
    trust: Trust,
    seed: u64,
) -> Result<Vec<(usize, BookieId)>, PlacementError> {
    let needed = slots.iter().filter(|slot| matches!(slot, Slot::Wanted)).count();
    let most = rule.min_racks_per_write_quorum.min(write_quorum).max(1);
    let least = if rule.enforce { most } else { 1 };
    let mut largest: Vec<&Candidate> = Vec::new();
    let tiers: BTreeSet<u8> = candidates.iter().map(|candidate| candidate.tier).collect();
    for tier in tiers {
        for all in [false, true] {
            let may = |candidate: &&Candidate| candidate.tier <= tier && (all || candidate.trusted);
            if all && trust == Trust::Only {
                continue;
            }
            let pool: Vec<&Candidate> = candidates.iter().filter(may).collect();
            if pool.len() > largest.len() {
                largest.clone_from(&pool);
            }
            if pool.len() < needed {
                continue;
            }
            let found = (least..=most)
                .rev()
                .find_map(|racks| Search::new(slots, write_quorum, &pool, racks, seed).run());
            if let Some(found) = found {
                return Ok(found);
            }
        }
    }
    if largest.len() < needed {
        return Err(PlacementError::TooFewBookies { needed, found: largest.len() });
    }
    let racks: BTreeSet<&str> = largest.iter().map(|candidate| candidate.location.rack()).collect();
    Err(PlacementError::TooFewRacks { needed: most, found: racks.len() })
}

/// Fills the wanted slots one after the other, and goes back where that leads nowhere.
struct Search<'a> {
    /// What stands in each slot, as far as it is known.
    places: Vec<Option<&'a Location>>,
    wanted: Vec<usize>,
    write_quorum: usize,
    /// Racks that every write set with a wanted slot must span.
    racks: usize,
    /// By rack, its candidates in the order of a weighted draw: its number in the draw, and who. Taken from the end.
    left: BTreeMap<&'a str, Vec<(usize, &'a Candidate)>>,
    steps: usize,
}

impl<'a> Search<'a> {
    fn new(slots: &'a [Slot], write_quorum: usize, pool: &[&'a Candidate], racks: usize, seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let weights = capped(pool.iter().map(|candidate| candidate.weight));
        let mut drawn: Vec<_> =
            pool.iter().zip(weights).map(|(candidate, weight)| (chance.draw(weight), *candidate)).collect();
        drawn.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.id.cmp(&b.1.id)));
        let mut left: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for (number, (_, candidate)) in drawn.into_iter().enumerate().rev() {
            left.entry(candidate.location.rack()).or_default().push((number, candidate));
        }
        let place = |slot: &'a Slot| match slot {
            Slot::Kept(location) => Some(location),
            Slot::Wanted => None,
        };
        let places: Vec<_> = slots.iter().map(place).collect();
        let wanted = (0..places.len()).filter(|slot| places[*slot].is_none()).collect();
        Self { places, wanted, write_quorum, racks, left, steps: 0 }
    }

    fn run(mut self) -> Option<Vec<(usize, BookieId)>> {
        let mut chosen = Vec::new();
        self.fill(0, &mut chosen).then(|| {
            let id = |(slot, candidate): (usize, &Candidate)| (slot, candidate.id.clone());
            chosen.into_iter().map(id).collect()
        })
    }

    fn fill(&mut self, at: usize, chosen: &mut Vec<(usize, &'a Candidate)>) -> bool {
        let Some(slot) = self.wanted.get(at).copied() else { return true };
        for rack in self.preferred(slot) {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return false;
            }
            let Some((number, candidate)) = self.left.get_mut(rack).and_then(Vec::pop) else { continue };
            self.places[slot] = Some(&candidate.location);
            chosen.push((slot, candidate));
            if self.may_still_hold(slot) && self.fill(at + 1, chosen) {
                return true;
            }
            chosen.pop();
            self.places[slot] = None;
            self.left.entry(rack).or_default().push((number, candidate));
        }
        false
    }

    /// The racks that have somebody left: first those of regions that are rarest among the slots that share a write set with
    /// this one, then, as long as there are too few racks among these, the rarest racks; among equals the rack of whoever was
    /// drawn first. Racks beyond the rule are not asked for: a small rack would get a copy of everything.
    fn preferred(&self, slot: usize) -> Vec<&'a str> {
        let near: Vec<&Location> =
            self.neighbours(slot).filter_map(|neighbour| self.places[neighbour]).collect();
        let spans: BTreeSet<&str> = near.iter().map(|location| location.rack()).collect();
        let mut racks: Vec<_> = self
            .left
            .iter()
            .filter_map(|(rack, candidates)| {
                let (number, candidate) = candidates.last()?;
                let region = candidate.location.region();
                let regions = near.iter().filter(|other| other.region() == region).count();
                let same = match spans.len() < self.racks {
                    true => near.iter().filter(|other| other.rack() == *rack).count(),
                    false => 0,
                };
                Some((regions, same, *number, *rack))
            })
            .collect();
        racks.sort_unstable();
        racks.into_iter().map(|(.., rack)| rack).collect()
    }

    /// The other slots that keep an entry together with this one.
    fn neighbours(&self, slot: usize) -> impl Iterator<Item = usize> {
        let (size, reach) = (self.places.len(), self.write_quorum);
        (0..size).filter(move |other| {
            let ahead = (other + size - slot) % size;
            *other != slot && (ahead < reach || size - ahead < reach)
        })
    }

    /// Whether every write set with this slot spans enough racks, or can when its empty slots are filled.
    fn may_still_hold(&self, slot: usize) -> bool {
        let size = self.places.len();
        (0..self.write_quorum).all(|back| {
            let first = (slot + size - back) % size;
            let set = (0..self.write_quorum).map(|offset| self.places[(first + offset) % size]);
            let (mut racks, mut empty) = (BTreeSet::new(), 0);
            for place in set {
                match place {
                    Some(location) => drop(racks.insert(location.rack())),
                    None => empty += 1,
                }
            }
            racks.len() + empty >= self.racks
        })
    }
}
