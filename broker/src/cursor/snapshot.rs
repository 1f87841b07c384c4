//! A cursor's state at one moment, as far as it is kept.

use super::ranges::AckedRange;
use crate::managed_ledger::MarkDelete;
use magnetar_proto::ids::Position;

/// Ranges kept in a snapshot: upstream's default for unacknowledged ranges. About 200 KB. The acknowledgements beyond are
/// forgotten by a crash, and their messages delivered again.
pub(super) const MAX_RANGES: usize = 10_000;
/// Words of bit sets kept in a snapshot: at most 1.3 MB encoded, so that a snapshot with everything fits one entry.
pub(super) const MAX_BATCH_WORDS: usize = 100_000;

/// What of a cursor is made durable.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Everything up to here is acknowledged.
    pub mark: MarkDelete,
    /// What else is, lowest first, up to a limit.
    pub ranges: Vec<AckedRange>,
    /// Bit sets of partly acknowledged batches, lowest first, up to a limit. A set bit is unacknowledged.
    pub batches: Vec<(Position, Vec<u64>)>,
    /// Numbers that came with the mark-delete position.
    pub properties: Vec<(String, i64)>,
}
