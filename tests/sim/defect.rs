//! Defects that a correct system does not have, planted to see whether the simulation would notice.
//!
//! They live here and nowhere else: each changes what the simulation hands to a machine or a bookie, or what it does with
//! the answer, so that the whole behaves as if the code had the defect. Production code has no switch for them.

/// A planted defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Defect {
    /// The writer counts an entry as acknowledged with one copy too few.
    AckBelowQuorum,
    /// The writer goes on with other bookies before the metadata store has recorded them.
    AckBeforeChangeRecorded,
    /// The writer takes an ensemble change of unknown outcome for one that was not made.
    UnknownTakenForFailure,
    /// The writer counts what a bookie answered that is no longer in the slot.
    ReplacedBookiesCount,
    /// The writer starts again behind its last add confirmed and gives ids out twice.
    EntryIdReused,
    /// The writer tells bookies that an entry is confirmed when it sends it.
    LacAheadOfAcked,
    /// Writer and recovery close the ledger whatever its record says by then.
    CloseWithoutCompare,
    /// A recovery takes a bookie that does not answer for one that does not have the entry.
    ErrorTakenForAbsence,
    /// A recovery believes the first bookie that denies an entry, and fences too few.
    EndWithoutCoverage,
    /// A recovery fences only with its first question (BookKeeper #2614). Four messages must be late at once for it to
    /// matter: every schedule of the model is tried for that, seeds rarely meet one.
    RecoveryReadsUnfenced,
    /// A recovery does not make what it finds durable again.
    TailNotCopied,
    /// A recovery tells bookies that what it has written itself is confirmed.
    RecoveredTakenForConfirmed,
    /// The bookie does not sync its journal.
    SyncSkipped,
    /// The bookie answers an add before its journal is synced.
    AckBeforeSync,
    /// The bookie ignores the fence flag on reads of an entry.
    FenceIgnoredOnReads,
    /// The bookie takes a writer's adds on a fenced ledger.
    FenceIgnoredOnAdds,
    /// The bookie answers a fencing read before the fence is durable.
    FenceAnsweredEarly,
    /// The bookie calls absent what it cannot read (BookKeeper #2908).
    DamageTakenForAbsence,
    /// A bookie that lost its disks serves again under its old address and denies what it had.
    WipedBookieServes,
}

impl Defect {
    /// Every defect that seeds find, which is all but [`Self::RecoveryReadsUnfenced`].
    pub const ALL: [Self; 18] = [
        Self::AckBelowQuorum,
        Self::AckBeforeChangeRecorded,
        Self::UnknownTakenForFailure,
        Self::ReplacedBookiesCount,
        Self::EntryIdReused,
        Self::LacAheadOfAcked,
        Self::CloseWithoutCompare,
        Self::ErrorTakenForAbsence,
        Self::EndWithoutCoverage,
        Self::TailNotCopied,
        Self::RecoveredTakenForConfirmed,
        Self::SyncSkipped,
        Self::AckBeforeSync,
        Self::FenceIgnoredOnReads,
        Self::FenceIgnoredOnAdds,
        Self::FenceAnsweredEarly,
        Self::DamageTakenForAbsence,
        Self::WipedBookieServes,
    ];
}
