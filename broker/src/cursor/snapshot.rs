//! A cursor's state at one moment, as far as it is kept.

use super::batches::Batches;
use super::ranges::AckedSet;
use crate::managed_ledger::MarkDelete;

/// What of a cursor is made durable. Cheap to take from a cursor, however much it has acknowledged: the sets are shared
/// until the cursor changes them.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Everything up to here is acknowledged.
    pub mark: MarkDelete,
    /// What else is. All of it: an acknowledgement that is left out could not be confirmed.
    pub(super) acked: AckedSet,
    /// Bit sets of partly acknowledged batches. A set bit is unacknowledged.
    pub(super) batches: Batches,
    /// Numbers that came with the mark-delete position.
    pub properties: Vec<(String, i64)>,
}
