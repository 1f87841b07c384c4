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
    /// `count` ranges of equal size; `count` is clamped to 1..=65536.
    pub fn even(count: u32) -> Self {
        let count = u64::from(count.clamp(1, BUNDLES_MAX));
        let bound = |index: u64| u32::try_from((index << 32) / count).unwrap_or(u32::MAX);
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

    #[test]
    fn every_hash_falls_into_one_range() {
        for count in [1, 2, 3, 4, 7, 100] {
            let bundles = Bundles::even(count);
            assert_eq!(bundles.count(), usize::try_from(count).unwrap_or(0));
            for hash in [0, 1, 0x3fff_ffff, 0x4000_0000, 0xffff_fffe, u32::MAX] {
                let range = bundles.find(hash);
                let (low, high) = range.split_once('_').expect("a range");
                let parse = |text: &str| u32::from_str_radix(&text[2..], 16).expect("hex");
                assert!(parse(low) <= hash && (hash < parse(high) || hash == u32::MAX), "{hash} in {range}");
            }
        }
    }
}
