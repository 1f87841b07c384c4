//! Bundles: the hash ranges into which a namespace's topics fall, each served by one broker.
//!
//! Ranges are written `0x00000000_0x40000000`: lower bound inclusive, upper exclusive, except the last one, whose
//! upper bound 0xffffffff belongs to it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

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

/// One range of hashes: `low` belongs to it, `high` does not, unless it is 0xffffffff.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundleRange {
    low: u32,
    high: u32,
}

/// The text is no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no bundle: write it like 0x00000000_0x40000000")]
pub struct InvalidRange(String);

impl BundleRange {
    /// The first hash in it.
    pub fn low(self) -> u32 {
        self.low
    }

    /// Whether a hash falls into it.
    pub fn contains(self, hash: u32) -> bool {
        self.low <= hash && (hash < self.high || self.high == u32::MAX)
    }

    /// Where to cut it into halves; `None` when it is too narrow to be cut.
    pub fn midpoint(self) -> Option<u32> {
        let middle = self.low + (self.high - self.low) / 2;
        (middle > self.low).then_some(middle)
    }
}

impl fmt::Display for BundleRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#010x}_{:#010x}", self.low, self.high)
    }
}

impl FromStr for BundleRange {
    type Err = InvalidRange;

    /// Takes the canonical form only: a range is part of a key.
    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let bound = |text: &str| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok();
        let parsed = text.split_once('_').and_then(|(low, high)| Some((bound(low)?, bound(high)?)));
        match parsed {
            Some((low, high)) if low < high && Self { low, high }.to_string() == text => {
                Ok(Self { low, high })
            }
            _ => Err(InvalidRange(text.to_owned())),
        }
    }
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

    /// The range that a hash falls into.
    pub fn of_hash(&self, hash: u32) -> BundleRange {
        let upper = self.boundaries.partition_point(|bound| *bound <= hash).clamp(1, self.count());
        self.range(upper - 1)
    }

    /// The range that a hash falls into, as text.
    pub fn find(&self, hash: u32) -> String {
        self.of_hash(hash).to_string()
    }

    /// Every range, ascending.
    pub fn all(&self) -> impl Iterator<Item = BundleRange> + '_ {
        (0..self.count()).map(|index| self.range(index))
    }

    /// Every range as text, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = String> + '_ {
        self.all().map(|range| range.to_string())
    }

    /// Whether this is one of the ranges.
    pub fn has(&self, range: BundleRange) -> bool {
        self.of_hash(range.low) == range
    }

    /// With one range cut in two at `at`; `None` if `range` is none of them, `at` does not lie inside it, or there would be
    /// too many.
    pub fn split(&self, range: BundleRange, at: u32) -> Option<Self> {
        let inside = range.low < at && at < range.high;
        if !self.has(range) || !inside || self.count() >= BUNDLES_MAX as usize {
            return None;
        }
        let mut boundaries = self.boundaries.clone();
        boundaries.insert(boundaries.partition_point(|bound| *bound < at), at);
        Some(Self { boundaries })
    }

    /// The boundaries as text.
    pub fn boundaries(&self) -> Vec<String> {
        self.boundaries.iter().map(|bound| format!("{bound:#010x}")).collect()
    }

    fn range(&self, index: usize) -> BundleRange {
        BundleRange { low: self.boundaries[index], high: self.boundaries[index + 1] }
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
        fn a_split_cuts_one_range_and_leaves_the_others(count in 1..200_u32, hash: u32, at: u32) {
            let bundles = Bundles::even(count);
            let range = bundles.of_hash(hash);
            prop_assert_eq!(range.to_string().parse(), Ok(range));
            match bundles.split(range, at) {
                Some(split) => {
                    prop_assert_eq!(split.count(), bundles.count() + 1);
                    prop_assert_eq!(split.of_hash(at).low(), at);
                    prop_assert!(range.contains(at) && !split.has(range));
                    let kept = bundles.all().filter(|other| *other != range).all(|other| split.has(other));
                    prop_assert!(kept);
                }
                None => prop_assert!(at == range.low() || at == u32::MAX || !range.contains(at)),
            }
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
    fn only_the_canonical_text_is_a_range() {
        for text in ["", "0x00000000", "0x0_0x40000000", "0x40000000_0x00000000", "0x00000000_0x00000000"] {
            assert_eq!(text.parse::<BundleRange>(), Err(InvalidRange(text.into())));
        }
        let narrow: BundleRange = "0x00000001_0x00000002".parse().expect("a range");
        assert_eq!((narrow.midpoint(), narrow.contains(1), narrow.contains(2)), (None, true, false));
        let last: BundleRange = "0xc0000000_0xffffffff".parse().expect("a range");
        assert!(last.contains(u32::MAX));
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
