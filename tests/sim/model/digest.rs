//! 128 bits that stand for a value: fast, the same in every run, and not meant to withstand an adversary.
//!
//! [`Slots`](magnetar_ledger::protocol::quorum::Slots) are the only values that hash 128 bits, and by that are told apart
//! from everything else in a machine: what it knows of a slot is kept beside what it knows of none, so that slots can
//! change places. See [`Views`].

use super::BOOKIES_MAX;
use std::hash::{Hash, Hasher};

/// Odd constants with bits all over.
const LANES: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93];

/// A machine, as hashing sees it. Equal machines have equal views, and renaming the slots of a machine does nothing to its
/// views but to put `bits` into the new order: a machine has nothing of a slot but sets that it is in or not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Views {
    /// All but the sets of slots. It tells how many sets there are and what each is.
    pub(super) rest: u128,
    /// By slot, which of the sets it is in: a bit a set, in the order of hashing.
    pub(super) bits: [u64; BOOKIES_MAX],
}

impl Views {
    pub(super) fn of(value: &impl Hash) -> Self {
        let mut hasher = Lanes::new();
        value.hash(&mut hasher);
        assert!(hasher.sets <= u64::BITS, "more sets of slots than there are bits");
        Self { rest: hasher.digest(), bits: hasher.bits }
    }
}

/// Takes in what a digest is made of.
pub(super) struct Lanes {
    lanes: [u64; 2],
    bits: [u64; BOOKIES_MAX],
    sets: u32,
}

impl Lanes {
    pub(super) fn new() -> Self {
        Self { lanes: [1, 2], bits: [0; BOOKIES_MAX], sets: 0 }
    }

    pub(super) fn add(&mut self, digest: u128) {
        self.write_u64(digest as u64);
        self.write_u64((digest >> 64) as u64);
    }

    pub(super) fn digest(&self) -> u128 {
        let [high, low] = self.lanes.map(|lane| fold(lane, LANES[0]));
        u128::from(high) << 64 | u128::from(low)
    }
}

/// The digest of a single word.
pub(super) fn digest_of_word(word: u64) -> u128 {
    let mut lanes = Lanes::new();
    lanes.write_u64(word);
    lanes.digest()
}

fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    (product >> 64) as u64 ^ product as u64
}

impl Hasher for Lanes {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        for (lane, constant) in self.lanes.iter_mut().zip(LANES) {
            *lane = fold(*lane ^ word, constant).wrapping_add(word.rotate_left(32));
        }
    }

    /// A set of slots.
    fn write_u128(&mut self, set: u128) {
        self.sets += 1;
        for (slot, bits) in self.bits.iter_mut().enumerate() {
            *bits = *bits << 1 | (set >> slot & 1) as u64;
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(word.into());
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        self.lanes[0] ^ self.lanes[1]
    }
}
