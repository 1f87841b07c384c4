//! Identifiers that both protocols share: a ledger, an entry in it, and the pair, which is a position.
//!
//! On the wire they are signed 64-bit values of which the negative ones are sentinels ("none", "latest"). Here a negative
//! value cannot be expressed: the codecs turn sentinels into `None`.

use std::fmt;

/// A ledger: an append-only sequence of entries with one writer. Below 2^63.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerId(pub u64);

/// The index of an entry in its ledger, from 0 and without gaps. Below 2^63.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub u64);

/// An entry's address. The order is that of the log only among ledgers whose ids ascend, as those of one managed ledger do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The ledger that holds the entry.
    pub ledger_id: LedgerId,
    /// The entry in that ledger.
    pub entry_id: EntryId,
}

impl LedgerId {
    /// The signed form used on the wire.
    pub const fn to_wire(self) -> i64 {
        self.0 as i64
    }

    /// `None` for a negative value.
    pub const fn from_wire(value: i64) -> Option<Self> {
        if value < 0 { None } else { Some(Self(value as u64)) }
    }
}

impl EntryId {
    /// The first entry of any ledger.
    pub const ZERO: Self = Self(0);

    /// The wire's way to say 'no entry': the last add confirmed of a ledger without entries, or a read of the newest one.
    pub const NONE_ON_WIRE: i64 = -1;

    /// The signed form used on the wire.
    pub const fn to_wire(self) -> i64 {
        self.0 as i64
    }

    /// `None` for a negative value.
    pub const fn from_wire(value: i64) -> Option<Self> {
        if value < 0 { None } else { Some(Self(value as u64)) }
    }

    /// The wire form of an entry that may be absent: -1 for `None`.
    pub fn option_to_wire(entry: Option<Self>) -> i64 {
        entry.map_or(Self::NONE_ON_WIRE, Self::to_wire)
    }

    /// The entry after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The entry before this one; `None` before the first.
    pub const fn prev(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }
}

impl Position {
    /// The position of `entry_id` in `ledger_id`.
    pub const fn new(ledger_id: LedgerId, entry_id: EntryId) -> Self {
        Self { ledger_id, entry_id }
    }
}

impl fmt::Display for LedgerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `ledger:entry`.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.ledger_id, self.entry_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_wire_values_are_no_ids() {
        assert_eq!(LedgerId::from_wire(-1), None);
        assert_eq!(EntryId::from_wire(i64::MIN), None);
        assert_eq!(EntryId::from_wire(i64::MAX), Some(EntryId(i64::MAX as u64)));
        assert_eq!(EntryId::option_to_wire(None), -1);
    }

    #[test]
    fn positions_order_by_ledger_then_entry() {
        let at = |ledger, entry| Position::new(LedgerId(ledger), EntryId(entry));
        assert!(at(1, 9) < at(2, 0) && at(2, 0) < at(2, 1));
        assert_eq!(at(7, 3).to_string(), "7:3");
    }

    #[test]
    fn the_first_entry_has_no_predecessor() {
        assert_eq!(EntryId::ZERO.prev(), None);
        assert_eq!(EntryId::ZERO.next().prev(), Some(EntryId::ZERO));
    }
}
