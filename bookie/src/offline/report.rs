//! What a verification says: one finding for each place that is not as it was written.

use std::path::PathBuf;

use serde::Serialize;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// As a crash or an unfinished start leaves it: nothing that was acknowledged is gone.
    Note,
    /// Bytes are not what was written.
    Damage,
    /// It could not be looked at.
    CannotTell,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The identity stamp of a directory.
    Identity,
    Checkpoint,
    /// The checkpoint bears the mark that acknowledged journal records are missing.
    Incomplete,
    SegmentHeader,
    /// A journal segment whose header never became durable, and so none of its records.
    NeverBegun,
    /// A journal segment that must be there is not.
    MissingSegment,
    /// One or more unreadable journal records.
    JournalRecord,
    /// A whole journal record that this program does not understand.
    UnknownRecord,
    /// The journal ends in a batch that was never durable.
    TornTail,
    /// An entry log that the checkpoint names does not exist.
    MissingLog,
    /// An entry log that no checkpoint names: the next start removes it.
    Leftover,
    LogHeader,
    /// Runs or footer of an entry log.
    LogIndex,
    /// A log without index that does not end as one does: it may have been cut.
    LogEnd,
    /// An entry log whose length is not the one the checkpoint says.
    LogSize,
    /// The place of an entry in its log.
    Slot,
    Entry,
    /// Bytes between entries whose ids are not known.
    Stretch,
    /// A file of another bookie, or of a newer version.
    Foreign,
    Io,
}

/// One place that is not as it was written.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub weight: Weight,
    pub what: What,
    pub file: PathBuf,
    /// First byte of the place in the file.
    pub offset: Option<u64>,
    /// Length of the place.
    pub bytes: Option<u64>,
    /// The entry that cannot be read from this place.
    pub ledger: Option<u64>,
    pub entry: Option<u64>,
    /// The ids are known from a checked place. Otherwise they are what the damaged bytes say.
    pub ids_certain: bool,
    /// First and last sequence of the journal records that are missing.
    pub sequences: Option<(u64, u64)>,
    /// Nothing that the bookie needs is lost with it.
    pub harmless: bool,
    pub detail: String,
}

impl Finding {
    pub(super) fn new(
        weight: Weight,
        what: What,
        file: impl Into<PathBuf>,
        detail: impl Into<String>,
    ) -> Self {
        Finding {
            weight,
            what,
            file: file.into(),
            offset: None,
            bytes: None,
            ledger: None,
            entry: None,
            ids_certain: false,
            sequences: None,
            harmless: weight == Weight::Note,
            detail: detail.into(),
        }
    }

    pub(super) fn damage(what: What, file: impl Into<PathBuf>, detail: impl Into<String>) -> Self {
        Self::new(Weight::Damage, what, file, detail)
    }

    pub(super) fn at(mut self, offset: u64, bytes: u64) -> Self {
        (self.offset, self.bytes) = (Some(offset), Some(bytes));
        self
    }

    pub(super) fn of(mut self, ledger: u64, entry: u64, certain: bool) -> Self {
        (self.ledger, self.entry, self.ids_certain) = (Some(ledger), Some(entry), certain);
        self
    }

    pub(super) fn harmless(mut self, harmless: bool) -> Self {
        self.harmless = harmless;
        self
    }
}

/// What a verification went through, and how many findings it had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    pub segments: u64,
    pub records: u64,
    pub logs: u64,
    pub entries: u64,
    pub bytes: u64,
    pub notes: u64,
    pub damages: u64,
    pub cannot_tell: u64,
}

impl Verified {
    pub(super) fn count(&mut self, finding: &Finding) {
        match finding.weight {
            Weight::Note => self.notes += 1,
            Weight::Damage => self.damages += 1,
            Weight::CannotTell => self.cannot_tell += 1,
        }
    }

    /// Everything could be read and is as it was written.
    pub fn clean(&self) -> bool {
        self.damages == 0 && self.cannot_tell == 0
    }
}
