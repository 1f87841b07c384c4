//! A place between two entries: the form of mark-delete and terminated positions.

use magnetar_proto::ids::{EntryId, LedgerId, Position};
use std::fmt;

/// Everything up to and including this place is done with; what follows is not.
///
/// `entry: None` is the place before the ledger's first entry (-1 on the wire and on disk). The order is that of the log,
/// but two marks may name the same place: the end of one ledger is the beginning of the next. Compare by counting
/// entries where that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarkDelete {
    /// The ledger.
    pub ledger_id: LedgerId,
    /// The last entry that is done with, if any of this ledger is.
    pub entry: Option<EntryId>,
}

impl MarkDelete {
    /// The place before the first entry of a ledger.
    pub const fn before(ledger_id: LedgerId) -> Self {
        Self { ledger_id, entry: None }
    }

    /// The place just after an entry.
    pub const fn after(position: Position) -> Self {
        Self { ledger_id: position.ledger_id, entry: Some(position.entry_id) }
    }

    /// The entry just before this place; `None` before the first one of a ledger.
    pub fn position(self) -> Option<Position> {
        self.entry.map(|entry| Position::new(self.ledger_id, entry))
    }

    /// The position that directly follows in the same ledger, whether it exists or not.
    pub fn next_position(self) -> Position {
        Position::new(self.ledger_id, self.entry.map_or(EntryId::ZERO, EntryId::next))
    }

    /// Whether the position is at or before this mark.
    pub fn covers(self, position: Position) -> bool {
        Self::after(position) <= self
    }

    /// The wire form: ledger and entry, -1 for none.
    pub fn to_wire(self) -> (i64, i64) {
        (self.ledger_id.to_wire(), EntryId::option_to_wire(self.entry))
    }

    /// From the wire form; `None` when the ledger is negative.
    pub fn from_wire(ledger: i64, entry: i64) -> Option<Self> {
        Some(Self { ledger_id: LedgerId::from_wire(ledger)?, entry: EntryId::from_wire(entry) })
    }
}

impl From<Position> for MarkDelete {
    fn from(position: Position) -> Self {
        Self::after(position)
    }
}

impl fmt::Display for MarkDelete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.ledger_id, EntryId::option_to_wire(self.entry))
    }
}
