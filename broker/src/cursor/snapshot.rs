//! A cursor's state at one moment, as far as it is kept.

use super::ranges::AckedRange;
use crate::managed_ledger::MarkDelete;
use magnetar_proto::ids::Position;

/// What of a cursor is made durable.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Everything up to here is acknowledged.
    pub mark: MarkDelete,
    /// What else is, lowest first. All of it: an acknowledgement that is left out could not be confirmed.
    pub ranges: Vec<AckedRange>,
    /// Bit sets of partly acknowledged batches, lowest first. A set bit is unacknowledged.
    pub batches: Vec<(Position, Vec<u64>)>,
    /// Numbers that came with the mark-delete position.
    pub properties: Vec<(String, i64)>,
}
