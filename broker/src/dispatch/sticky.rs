//! Key_Shared STICKY: every consumer brings its hash ranges.

use std::collections::BTreeMap;
use std::fmt;

use super::ConsumerId;

/// Size of the hash range which clients compute their ranges on: 0…65 535.
pub const STICKY_RANGE: u32 = 65_536;

/// Why ranges were refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RangeConflict {
    Empty,
    OutOfBounds { start: u32, end: u32 },
    Overlap { start: u32, end: u32 },
}

impl fmt::Display for RangeConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RangeConflict::Empty => write!(f, "a sticky consumer must name its hash ranges"),
            RangeConflict::OutOfBounds { start, end } => {
                write!(f, "hash range [{start}, {end}] is outside 0..{STICKY_RANGE} or reversed")
            }
            RangeConflict::Overlap { start, end } => {
                write!(f, "hash range [{start}, {end}] overlaps another consumer's")
            }
        }
    }
}

/// Disjoint inclusive ranges, by their start.
#[derive(Debug, Default)]
pub(crate) struct Sticky {
    ranges: BTreeMap<u32, (u32, ConsumerId)>,
}

impl Sticky {
    /// All ranges or none.
    pub(crate) fn add(&mut self, id: ConsumerId, ranges: &[(u32, u32)]) -> Result<(), RangeConflict> {
        if ranges.is_empty() {
            return Err(RangeConflict::Empty);
        }
        for (n, &(start, end)) in ranges.iter().enumerate() {
            if start > end || end >= STICKY_RANGE {
                return Err(RangeConflict::OutOfBounds { start, end });
            }
            let below = self.ranges.range(..=end).next_back();
            let own = ranges[..n].iter().any(|&(s, e)| s <= end && start <= e);
            if own || below.is_some_and(|(_, &(their_end, _))| their_end >= start) {
                return Err(RangeConflict::Overlap { start, end });
            }
        }
        self.ranges.extend(ranges.iter().map(|&(start, end)| (start, (end, id))));
        Ok(())
    }

    pub(crate) fn remove(&mut self, id: ConsumerId) {
        self.ranges.retain(|_, (_, owner)| *owner != id);
    }

    pub(crate) fn owner(&self, slot: u32) -> Option<ConsumerId> {
        let (_, &(end, id)) = self.ranges.range(..=slot).next_back()?;
        (slot <= end).then_some(id)
    }
}
