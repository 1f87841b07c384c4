//! Consistent hashing of key hashes, and of topics, to consumers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{ConsumerId, key_hash};

/// Points of a consumer on the ring (`subscriptionKeySharedConsistentHashingReplicaPoints`): enough that shares
/// differ by some ten percent only.
pub(crate) const POINTS: u32 = 100;

/// Slots 1…65 535; 0 means 'not set' upstream.
const RANGE: u32 = 65_535;

/// Key_Shared AUTO_SPLIT. Deterministic in the set of names, whatever the order of joining.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    /// Claimants of a point sorted by (name, index); the first one owns it.
    points: BTreeMap<u32, Vec<Claim>>,
    members: Vec<Claim>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Claim {
    name: Arc<str>,
    /// Tells consumers of the same name apart, so that each gets points of its own.
    index: u32,
    id: ConsumerId,
}

impl Ring {
    /// The slot of a key hash.
    pub(crate) fn slot(hash: u32) -> u32 {
        hash % RANGE + 1
    }

    fn point(claim: &Claim, i: u32) -> u32 {
        let text = match claim.index {
            0 => format!("{}\0{i}", claim.name),
            n => format!("{}\0{n}\0{i}", claim.name),
        };
        Ring::slot(key_hash(text.as_bytes()))
    }

    pub(crate) fn add(&mut self, id: ConsumerId, name: &Arc<str>) {
        let index = (0..)
            .find(|n| !self.members.iter().any(|m| m.name == *name && m.index == *n))
            .expect("fewer members than numbers");
        let claim = Claim { name: name.clone(), index, id };
        for i in 0..POINTS {
            let claims = self.points.entry(Ring::point(&claim, i)).or_default();
            if let Err(at) = claims.binary_search(&claim) {
                claims.insert(at, claim.clone());
            }
        }
        self.members.push(claim);
    }

    pub(crate) fn remove(&mut self, id: ConsumerId) {
        self.members.retain(|m| m.id != id);
        self.points.retain(|_, claims| {
            claims.retain(|c| c.id != id);
            !claims.is_empty()
        });
    }

    /// The owner of a slot: the first point at or after it, wrapping around.
    pub(crate) fn owner(&self, slot: u32) -> Option<ConsumerId> {
        let next = self.points.range(slot..).next().or_else(|| self.points.first_key_value());
        next.and_then(|(_, claims)| claims.first()).map(|c| c.id)
    }
}

/// Failover on a topic without partitions: which of `names` is responsible for the topic. `None` when empty.
pub(crate) fn choose_by_topic(names: &[&str], topic: &str) -> Option<usize> {
    let mut points = BTreeMap::new();
    for (at, name) in names.iter().enumerate() {
        for i in 0..POINTS {
            points.entry(key_hash(format!("{name}{i}").as_bytes())).or_insert(at);
        }
    }
    let hash = key_hash(topic.as_bytes());
    points.range(hash..).next().or_else(|| points.first_key_value()).map(|(_, at)| *at)
}
