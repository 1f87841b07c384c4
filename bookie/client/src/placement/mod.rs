//! Which bookies a new ledger, a failed slot or a lost copy gets.
//!
//! The choice itself is a pure function, [`place`]; this gathers what it goes by: the registered bookies, their racks and
//! groups, which of them failed lately, and their free space. It must never know why a bookie is wanted.

mod isolation;
mod location;
mod select;
mod space;
mod topology;
mod weights;

#[cfg(test)]
mod tests;

pub use self::isolation::Isolation;
pub use self::location::Location;
pub use self::select::{Candidate, PlacementError, RackRule, Slot, Trust, place};
pub(crate) use self::space::Space;
pub(crate) use self::topology::TopologyWatch;

use crate::client::{Client, LedgerOptions};
use crate::protocol::quorum::Slots;
use bytes::Bytes;
use magnetar_common::bookies::ServiceInfo;
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::bookkeeper::metadata_format::LedgerMetadata;
use std::collections::BTreeMap;

/// How copies are placed.
#[derive(Clone, Debug)]
pub struct PlacementPolicy {
    /// Racks that the copies of an entry lie in, where there are so many. Default 2, BookKeeper's
    /// `minNumRacksPerWriteQuorum`. More survive the loss of more racks, and fill small racks sooner.
    pub min_racks_per_write_quorum: usize,
    /// Whether no ledger is better than one in fewer racks. Default false: racks are spread over as far as they go.
    pub enforce_min_racks: bool,
    /// Whether bookies with more free space are chosen more often. Default true; costs each writable bookie a question a
    /// minute while ledgers are being created.
    pub weigh_free_space: bool,
}

impl Default for PlacementPolicy {
    fn default() -> Self {
        Self { min_racks_per_write_quorum: 2, enforce_min_racks: false, weigh_free_space: true }
    }
}

impl PlacementPolicy {
    fn rule(&self) -> RackRule {
        RackRule {
            min_racks_per_write_quorum: self.min_racks_per_write_quorum,
            enforce: self.enforce_min_racks,
        }
    }
}

/// What of a ledger decides where its copies may lie. It never changes.
#[derive(Clone, Debug)]
pub(crate) struct Needs {
    write_quorum: usize,
    isolation: Isolation,
}

impl Needs {
    pub(crate) fn of_options(options: &LedgerOptions) -> Self {
        Self::new(options.write_quorum, &options.custom)
    }

    pub(crate) fn of_record(record: &LedgerMetadata) -> Self {
        Self::new(record.write_quorum, &record.custom)
    }

    fn new(write_quorum: u32, custom: &BTreeMap<String, Bytes>) -> Self {
        let write_quorum = usize::try_from(write_quorum).unwrap_or(usize::MAX);
        Self { write_quorum, isolation: Isolation::of(custom) }
    }
}

/// An ensemble of `size` writable bookies for a new ledger, none of them `unfit`.
pub(crate) fn ensemble(
    client: &Client,
    needs: &Needs,
    size: usize,
    unfit: &[BookieId],
) -> Result<Vec<BookieId>, PlacementError> {
    let slots = vec![Slot::Wanted; size];
    let chosen = choose(client, needs, &slots, unfit, Trust::First)?;
    Ok(chosen.into_iter().map(|(_, bookie)| bookie).collect())
}

/// The ensemble with other bookies in as many of the `failed` slots as there are candidates, and which slots these are.
pub(crate) fn replace(
    client: &Client,
    needs: &Needs,
    before: &[BookieId],
    failed: Slots,
    trust: Trust,
) -> (Vec<BookieId>, Slots) {
    let (mut ensemble, mut changed) = (before.to_vec(), Slots::NONE);
    let mut wanted: Vec<usize> = failed.iter().collect();
    while !wanted.is_empty() {
        let slots = slots_of(client, before, |slot| wanted.contains(&slot));
        match choose(client, needs, &slots, before, trust) {
            Ok(chosen) => {
                for (slot, bookie) in chosen {
                    tracing::warn!(slot, failed = %before[slot], replacement = %bookie, "replacing a bookie of a ledger");
                    ensemble[slot] = bookie;
                    changed.insert(slot);
                }
                break;
            }
            // Better one of two than none.
            Err(_) => drop(wanted.pop()),
        }
    }
    (ensemble, changed)
}

/// A bookie to hold, from now on, what the one in `slot` of an ensemble should hold. None of the ensemble, nor of `unfit`.
pub(crate) fn replacement(
    client: &Client,
    needs: &Needs,
    ensemble: &[BookieId],
    slot: usize,
    unfit: &[BookieId],
) -> Result<BookieId, PlacementError> {
    let slots = slots_of(client, ensemble, |at| at == slot);
    let excluded = [ensemble, unfit].concat();
    let chosen = choose(client, needs, &slots, &excluded, Trust::First)?;
    let none = PlacementError::TooFewBookies { needed: 1, found: 0 };
    chosen.into_iter().next().map(|(_, bookie)| bookie).ok_or(none)
}

fn slots_of(client: &Client, ensemble: &[BookieId], is_wanted: impl Fn(usize) -> bool) -> Vec<Slot> {
    let slot = |(slot, bookie): (usize, &BookieId)| match is_wanted(slot) {
        true => Slot::Wanted,
        false => Slot::Kept(location(client, bookie, None)),
    };
    ensemble.iter().enumerate().map(slot).collect()
}

/// What operators have recorded, else what the bookie says of itself.
fn location(client: &Client, bookie: &BookieId, info: Option<&ServiceInfo>) -> Location {
    if let Some(location) = client.topology().now().location(bookie) {
        return location;
    }
    let bookies = client.directory().now();
    let info = info.or_else(|| bookies.info(bookie));
    let announced = info.and_then(|info| info.rack.as_deref()).map(Location::parse);
    announced.unwrap_or_else(Location::unknown)
}

fn choose(
    client: &Client,
    needs: &Needs,
    slots: &[Slot],
    excluded: &[BookieId],
    trust: Trust,
) -> Result<Vec<(usize, BookieId)>, PlacementError> {
    let (bookies, topology, policy) =
        (client.directory().now(), client.topology().now(), client.placement_policy());
    let fit = bookies.writable().filter(|(id, _)| !excluded.contains(id));
    let candidate = |(id, info): (&BookieId, &ServiceInfo)| {
        Some(Candidate {
            id: id.clone(),
            location: location(client, id, Some(info)),
            tier: needs.isolation.tier(&topology, id)?,
            trusted: !client.pool().is_distrusted(id),
            weight: client.space().free_bytes(id).filter(|_| policy.weigh_free_space),
        })
    };
    let candidates: Vec<Candidate> = fit.filter_map(candidate).collect();
    // Where there is no choice, weights do not matter.
    if policy.weigh_free_space && candidates.len() > slots.len() {
        client.space().refresh(client.pool().context());
    }
    let seed = client.env().random.next_u64();
    place(slots, needs.write_quorum, &candidates, policy.rule(), trust, seed)
}
