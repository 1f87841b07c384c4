//! What a replay found missing although it had been durable.

use std::fmt;

/// Records that had been durable, hence may have been acknowledged, and cannot be read any more. What they said is not
/// known: an entry of any ledger, a fence, a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// The segment in which, or before which, they stood.
    pub(crate) segment: u64,
    /// Byte in that segment's file at which the unreadable stretch begins.
    pub(crate) offset: u64,
    /// First missing sequence.
    pub(crate) first: u64,
    /// The sequence after the last missing one; equal to `first` when it is not known how many are missing.
    pub(crate) end: u64,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { segment, offset, first, end } = self;
        write!(f, "journal segment {segment:016x}, byte {offset}: ")?;
        match end.saturating_sub(*first) {
            0 => write!(f, "an unknown number of records")?,
            records => write!(f, "{records} records")?,
        }
        write!(f, " from sequence {first} on were durable and cannot be read")
    }
}
