//! Which bookies an entry goes to, and when enough of them have answered.

use magnetar_proto::ids::EntryId;
use std::hash::{Hash, Hasher};

/// Ensemble (E), write quorum (Qw) and ack quorum (Qa), with E >= Qw >= Qa >= 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quorum {
    ensemble: usize,
    write: usize,
    ack: usize,
}

/// The largest ensemble: slots are kept in the bits of a word.
pub const ENSEMBLE_MAX: usize = 64;

/// The quorums are not 64 >= E >= Qw >= Qa >= 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("quorums must be 64 >= ensemble >= write quorum >= ack quorum >= 1")]
pub struct InvalidQuorum;

/// A set of slots of the ensemble.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slots(u64);

/// As 128 bits, which nothing else in a machine is hashed as: so a hasher can tell slots from ids, and see that two machines
/// differ only in the order of their slots.
impl Hash for Slots {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u128(self.0.into());
    }
}

impl Slots {
    /// No slot.
    pub const NONE: Self = Self(0);

    /// Adds a slot.
    pub fn insert(&mut self, slot: usize) {
        self.0 |= 1 << slot;
    }

    /// Takes a slot out.
    pub fn remove(&mut self, slot: usize) {
        self.0 &= !(1 << slot);
    }

    /// Whether the slot is in.
    pub fn contains(self, slot: usize) -> bool {
        self.0 & (1 << slot) != 0
    }

    /// The slots in either set.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The slots that are not in the other set.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// How many slots are in.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether none is in.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The slots, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let slot = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            (slot < u64::BITS).then_some(slot as usize)
        })
    }
}

impl Quorum {
    /// Checks the sizes.
    pub fn new(ensemble: u32, write: u32, ack: u32) -> Result<Self, InvalidQuorum> {
        let size = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let (ensemble, write, ack) = (size(ensemble), size(write), size(ack));
        let valid = ENSEMBLE_MAX >= ensemble && ensemble >= write && write >= ack && ack >= 1;
        if valid { Ok(Self { ensemble, write, ack }) } else { Err(InvalidQuorum) }
    }

    /// E.
    pub fn ensemble(self) -> usize {
        self.ensemble
    }

    /// Qw.
    pub fn write(self) -> usize {
        self.write
    }

    /// Qa.
    pub fn ack(self) -> usize {
        self.ack
    }

    /// The slots that keep an entry, in writing order: entry i starts at slot i mod E.
    pub fn write_set(self, entry: EntryId) -> impl Iterator<Item = usize> {
        let first = usize::try_from(entry.0 % self.ensemble as u64).unwrap_or(0);
        (0..self.write).map(move |offset| (first + offset) % self.ensemble)
    }

    /// Whether the slot keeps the entry.
    pub fn keeps(self, entry: EntryId, slot: usize) -> bool {
        self.write_set(entry).any(|other| other == slot)
    }

    /// Whether so many acks make an entry durable.
    pub fn is_acknowledged(self, acks: usize) -> bool {
        acks >= self.ack
    }

    /// Whether an entry of which so many copies failed can no longer reach Qa.
    pub fn is_out_of_reach(self, failures: usize) -> bool {
        failures > self.write - self.ack
    }

    /// Whether so many bookies of a write set that deny an entry prove that no Qa of them can ever have held it.
    pub fn proves_absence(self, denials: usize) -> bool {
        denials > self.write - self.ack
    }

    /// Whether fencing so many slots leaves no write set with Qa unfenced bookies: then no older writer can get another
    /// entry acknowledged.
    pub fn is_covered(self, answered: Slots) -> bool {
        (0..self.ensemble).all(|first| {
            let set = (0..self.write).map(|offset| (first + offset) % self.ensemble);
            set.filter(|slot| !answered.contains(*slot)).count() < self.ack
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quorum(ensemble: u32, write: u32, ack: u32) -> Quorum {
        Quorum::new(ensemble, write, ack).expect("valid")
    }

    fn slots(of: &[usize]) -> Slots {
        let mut slots = Slots::NONE;
        of.iter().for_each(|slot| slots.insert(*slot));
        slots
    }

    #[test]
    fn sizes_must_descend() {
        for (ensemble, write, ack) in [(3, 4, 2), (3, 2, 3), (3, 3, 0), (65, 3, 2)] {
            assert_eq!(Quorum::new(ensemble, write, ack), Err(InvalidQuorum));
        }
    }

    #[test]
    fn entries_stripe_over_the_ensemble() {
        let quorum = quorum(5, 3, 2);
        assert_eq!(quorum.write_set(EntryId(0)).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(quorum.write_set(EntryId(4)).collect::<Vec<_>>(), [4, 0, 1]);
        assert!(quorum.keeps(EntryId(4), 1) && !quorum.keeps(EntryId(4), 2));
    }

    #[test]
    fn coverage_leaves_no_ack_quorum_unfenced_in_any_write_set() {
        for (sizes, answered, covered) in [
            ((3, 3, 2), &[0, 1][..], true),
            ((3, 3, 2), &[0], false),
            ((3, 3, 3), &[0], true),
            ((3, 3, 1), &[0, 1], false),
            ((3, 3, 1), &[0, 1, 2], true),
            ((5, 3, 2), &[0, 1, 2], false),
            ((5, 3, 2), &[0, 1, 3, 4], true),
            ((5, 3, 2), &[0, 2, 4], false),
            ((4, 2, 2), &[0, 2], true),
        ] {
            let quorum = quorum(sizes.0, sizes.1, sizes.2);
            assert_eq!(quorum.is_covered(slots(answered)), covered, "{sizes:?} {answered:?}");
        }
    }

    #[test]
    fn one_denial_proves_nothing_unless_every_copy_is_needed() {
        assert!(!quorum(3, 3, 2).proves_absence(1));
        assert!(quorum(3, 3, 2).proves_absence(2));
        assert!(quorum(3, 3, 3).proves_absence(1));
        assert!(!quorum(3, 3, 1).proves_absence(2));
    }
}
