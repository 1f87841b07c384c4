//! Chance in proportion to free space.

/// An emptier bookie is chosen at most so many times as often as the median one: a new one must not take every write.
const WEIGHT_MULTIPLE_MAX: f64 = 3.0;

/// Weights for drawing: unknown ones and those far above are brought to the others' measure; none is 0.
pub(super) fn capped(weights: impl Iterator<Item = Option<u64>>) -> Vec<f64> {
    let weights: Vec<_> = weights.collect();
    let mut known: Vec<u64> = weights.iter().flatten().copied().collect();
    known.sort_unstable();
    let median = known.get(known.len() / 2).map_or(1.0, |median| (*median as f64).max(1.0));
    let weight = |weight: Option<u64>| weight.map_or(median, |weight| weight as f64);
    weights
        .into_iter()
        .map(|known| weight(known).clamp(median / 1000.0, median * WEIGHT_MULTIPLE_MAX))
        .collect()
}

/// Random numbers from a seed (SplitMix64).
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A key: whoever is sorted by such keys, smallest first, has been drawn without replacement in proportion to the
    /// weights (Efraimidis and Spirakis).
    pub(super) fn draw(&mut self, weight: f64) -> f64 {
        let unit = ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        -unit.ln() / weight
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_weight_is_the_median_and_a_giant_is_capped() {
        assert_eq!(capped([Some(10), None, Some(10), Some(1000)].into_iter()), [10.0, 10.0, 10.0, 30.0]);
        assert_eq!(capped([None, None].into_iter()), [1.0, 1.0]);
        assert!(capped([Some(0), Some(0)].into_iter()).iter().all(|weight| *weight > 0.0));
    }

    #[test]
    fn who_has_three_times_the_space_is_drawn_first_three_times_as_often() {
        let mut chance = Chance::new(7);
        let first = (0..40_000).filter(|_| chance.draw(3.0) < chance.draw(1.0)).count();
        assert!((29_000..31_000).contains(&first), "{first}");
    }
}
