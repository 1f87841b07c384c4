//! 128 bits that stand for a value: fast, the same in every run, and not meant to withstand an adversary.

use std::hash::{Hash, Hasher};

/// Odd constants with bits all over.
const LANES: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93];

/// See the module.
struct Lanes([u64; 2]);

/// The digest of a value.
pub(super) fn digest_of(value: &impl Hash) -> u128 {
    let mut lanes = Lanes([1, 2]);
    value.hash(&mut lanes);
    let [high, low] = lanes.0.map(|lane| fold(lane, LANES[0]));
    u128::from(high) << 64 | u128::from(low)
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
        for (lane, constant) in self.0.iter_mut().zip(LANES) {
            *lane = fold(*lane ^ word, constant).wrapping_add(word.rotate_left(32));
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
        self.0[0] ^ self.0[1]
    }
}
