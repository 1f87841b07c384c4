//! Where a bookie stands: a rack, perhaps of a region.

use std::fmt;
use std::sync::Arc;

/// A place in the topology, written `/rack` or `/region/rack`. Bookies of one place are expected to fail together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The whole path: racks of two regions may have the same name.
    rack: Arc<str>,
    region_len: usize,
}

impl Location {
    /// Where bookies stand of which nobody has said anything: all of them in one rack, as upstream has it.
    pub fn unknown() -> Self {
        Self::parse("/default-rack")
    }

    /// Reads `/region/rack`, `/rack` or `rack`. Deeper paths are one rack of the region that they begin with.
    pub fn parse(text: &str) -> Self {
        let path = text.trim().trim_matches('/');
        if path.is_empty() {
            return Self::unknown();
        }
        Self { rack: format!("/{path}").into(), region_len: path.find('/').map_or(0, |at| at + 1) }
    }

    /// The rack, with its region.
    pub fn rack(&self) -> &str {
        &self.rack
    }

    /// The region, empty where none is named.
    pub fn region(&self) -> &str {
        &self.rack[..self.region_len]
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.rack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_rack_with_or_without_a_region() {
        for (text, region, rack) in [
            ("/r1", "", "/r1"),
            ("r1", "", "/r1"),
            ("/eu/r1", "/eu", "/eu/r1"),
            ("/eu/hall/r1/", "/eu", "/eu/hall/r1"),
            ("", "", "/default-rack"),
            ("/", "", "/default-rack"),
        ] {
            let location = Location::parse(text);
            assert_eq!((location.region(), location.rack()), (region, rack), "{text}");
        }
    }
}
