//! Chance behind a trait, so that a seed repeats a run.

use rand::rngs::{StdRng, SysRng};
use rand::{Rng, SeedableRng, TryRng};
use std::sync::{Arc, Mutex, PoisonError};

/// A random source shared by all parts of a role.
pub type SharedRandom = Arc<dyn Random>;

/// A source of uniformly distributed bits.
pub trait Random: Send + Sync + 'static {
    /// The next 64 bits.
    fn next_u64(&self) -> u64;
}

impl dyn Random {
    /// A number below `bound`, nearly uniform; 0 when `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        let product = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or(0)
    }

    /// `length` lower-case letters and digits.
    pub fn alphanumeric(&self, length: usize) -> String {
        const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        (0..length).map(|_| char::from(ALPHABET[usize::try_from(self.below(36)).unwrap_or(0)])).collect()
    }

    /// Puts `items` into a random order.
    pub fn shuffle<T>(&self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = usize::try_from(self.below(last as u64 + 1)).unwrap_or(0);
            items.swap(last, other);
        }
    }
}

/// The operating system's source.
#[derive(Debug, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn next_u64(&self) -> u64 {
        SysRng.try_next_u64().expect("the kernel's random source does not fail once the machine is up")
    }
}

/// A seeded source: the same seed gives the same bits in the same order.
#[derive(Debug)]
pub struct SeededRandom(Mutex<StdRng>);

impl SeededRandom {
    /// A source that starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }
}

impl Random for SeededRandom {
    fn next_u64(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }
}
