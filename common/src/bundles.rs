//! Bundles: the hash ranges into which a namespace's topics fall, each served by one broker.
//!
//! Ranges are written `0x00000000_0x40000000`: lower bound inclusive, upper exclusive, except the last one, whose
//! upper bound 0xffffffff belongs to it.

use serde::{Deserialize, Serialize};

/// How many bundles a namespace gets unless it asks for others, as in Pulsar.
pub const DEFAULT_BUNDLES: u32 = 4;
/// More are refused: each bundle costs an ownership record.
pub const BUNDLES_MAX: u32 = 65_536;

/// The bundles of a namespace, in the JSON form that Pulsar keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Json", into = "Json")]
pub struct Bundles {
    /// Ascending; the first is 0, the last 0xffffffff; at least two.
    boundaries: Vec<u32>,
}

/// The boundaries are no bundles.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bundle boundaries must ascend from 0x00000000 to 0xffffffff")]
pub struct InvalidBundles;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Json {
    boundaries: Vec<String>,
    num_bundles: u32,
}

impl Default for Bundles {
    fn default() -> Self {
        Self::even(DEFAULT_BUNDLES)
    }
}

impl Bundles {
    /// `count` ranges of equal size, clamped to 1..=65536. What does not divide evenly falls to the last range, as in
    /// Pulsar: brokers of both kinds must cut at the same places.
    pub fn even(count: u32) -> Self {
        let count = u64::from(count.clamp(1, BUNDLES_MAX));
        let step = (1 << 32) / count;
        let bound = |index: u64| u32::try_from(index * step).unwrap_or(u32::MAX);
        let mut boundaries: Vec<u32> = (0..count).map(bound).collect();
        boundaries.push(u32::MAX);
        Self { boundaries }
    }

    /// How many ranges there are.
    pub fn count(&self) -> usize {
        self.boundaries.len() - 1
    }

    /// The range that a hash falls into, as text.
    pub fn find(&self, hash: u32) -> String {
        let upper = self.boundaries.partition_point(|bound| *bound <= hash).clamp(1, self.count());
        self.range(upper - 1)
    }

    /// Every range as text, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.count()).map(|index| self.range(index))
    }

    /// The boundaries as text.
    pub fn boundaries(&self) -> Vec<String> {
        self.boundaries.iter().map(|bound| format!("{bound:#010x}")).collect()
    }

    fn range(&self, index: usize) -> String {
        format!("{:#010x}_{:#010x}", self.boundaries[index], self.boundaries[index + 1])
    }
}

impl From<Bundles> for Json {
    fn from(bundles: Bundles) -> Self {
        Self {
            boundaries: bundles.boundaries(),
            num_bundles: u32::try_from(bundles.count()).unwrap_or(u32::MAX),
        }
    }
}

impl TryFrom<Json> for Bundles {
    type Error = InvalidBundles;

    fn try_from(json: Json) -> Result<Self, InvalidBundles> {
        let parse = |text: &String| {
            u32::from_str_radix(text.trim_start_matches("0x"), 16).map_err(|_| InvalidBundles)
        };
        let boundaries: Vec<u32> = json.boundaries.iter().map(parse).collect::<Result<_, _>>()?;
        let whole =
            boundaries.first() == Some(&0) && boundaries.last() == Some(&u32::MAX) && boundaries.len() >= 2;
        if whole && boundaries.is_sorted_by(|a, b| a < b) {
            Ok(Self { boundaries })
        } else {
            Err(InvalidBundles)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_hash_falls_into_exactly_one_of_adjacent_ranges(count in 1..=BUNDLES_MAX, hash: u32) {
            let bundles = Bundles::even(count);
            prop_assert_eq!(bundles.count(), count as usize);
            let found = bundles.find(hash);
            let (low, high) = bounds(&found);
            prop_assert!(low <= hash && (hash < high || (hash == u32::MAX && high == u32::MAX)), "{hash} in {found}");
            let ranges: Vec<_> = bundles.ranges().collect();
            prop_assert_eq!(ranges.iter().filter(|range| **range == found).count(), 1);
            prop_assert!(ranges.windows(2).all(|pair| bounds(&pair[0]).1 == bounds(&pair[1]).0));
        }

        #[test]
        fn stored_boundaries_are_bundles_or_an_error(boundaries in proptest::collection::vec(".{0,12}", 0..6)) {
            let num_bundles = 1;
            if let Ok(bundles) = Bundles::try_from(Json { boundaries, num_bundles }) {
                prop_assert_eq!(Bundles::try_from(Json::from(bundles.clone())), Ok(bundles));
            }
        }
    }

    fn bounds(range: &str) -> (u32, u32) {
        let (low, high) = range.split_once('_').expect("a range");
        let parse = |text: &str| u32::from_str_radix(&text[2..], 16).expect("hex");
        (parse(low), parse(high))
    }

    #[test]
    fn uneven_counts_are_cut_where_pulsar_cuts() {
        let ranges: Vec<_> = Bundles::even(7).ranges().collect();
        assert_eq!(
            (ranges[5].as_str(), ranges[6].as_str()),
            ("0xb6db6db4_0xdb6db6d8", "0xdb6db6d8_0xffffffff")
        );
    }

    #[test]
    fn stored_bundles_come_back_and_bad_ones_are_refused() {
        let json = |boundaries: &[&str]| Json {
            boundaries: boundaries.iter().map(|bound| (*bound).to_owned()).collect(),
            num_bundles: 1,
        };
        for count in [1, 4, 7, BUNDLES_MAX] {
            let bundles = Bundles::even(count);
            assert_eq!(Bundles::try_from(Json::from(bundles.clone())), Ok(bundles));
        }
        let bad: [&[&str]; 5] = [
            &[],
            &["0x00000000"],
            &["0x00000001", "0xffffffff"],
            &["0x00000000", "0x80000000", "0x80000000", "0xffffffff"],
            &["0x00000000", "0xfffffffe"],
        ];
        for boundaries in bad {
            assert_eq!(Bundles::try_from(json(boundaries)), Err(InvalidBundles), "{boundaries:?}");
        }
    }

    #[test]
    fn four_bundles_are_those_of_pulsar() {
        let ranges: Vec<_> = Bundles::default().ranges().collect();
        let expected = [
            "0x00000000_0x40000000",
            "0x40000000_0x80000000",
            "0x80000000_0xc0000000",
            "0xc0000000_0xffffffff",
        ];
        assert_eq!(ranges, expected);
    }
}
