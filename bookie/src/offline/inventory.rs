//! What an inspection tells: plain values, for a table or as JSON.

use std::path::PathBuf;

use serde::Serialize;

/// Everything in a bookie's directories, without reading any entry.
#[derive(Clone, Debug, Serialize)]
pub struct Inventory {
    /// A bookie runs on these directories: the rest may be changing while it is read.
    pub in_use: Option<PathBuf>,
    pub instance: String,
    pub identities: Vec<IdentityState>,
    pub checkpoint: CheckpointState,
    pub segments: Vec<SegmentState>,
    pub logs: Vec<LogState>,
}

/// The stamp of one directory.
#[derive(Clone, Debug, Serialize)]
pub struct IdentityState {
    pub file: PathBuf,
    pub bookie: Option<String>,
    pub instance: Option<String>,
    /// Why it cannot be used.
    pub problem: Option<String>,
}

/// What the checkpoint says.
#[derive(Clone, Debug, Serialize)]
pub struct CheckpointState {
    pub file: PathBuf,
    /// Why there are no figures: it is absent, or cannot be read.
    pub problem: Option<String>,
    /// Every journal record up to this one is in the logs and ledgers below.
    pub sequence: u64,
    /// The lowest journal segment needed.
    pub floor: u64,
    pub next_log: u64,
    /// Grows from checkpoint to checkpoint; the figures are those of the newest copy.
    pub number: u64,
    /// Acknowledged journal records were found missing: the bookie is read-only until the loss is accepted.
    pub incomplete: bool,
    pub logs: u64,
    pub ledgers: u64,
    pub ledgers_fenced: u64,
    /// Remembered only to refuse adds.
    pub ledgers_deleted: u64,
}

/// What a file of the journal directory is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SegmentUse {
    /// A replay reads it.
    Live,
    /// The checkpoint covers all of it.
    Stale,
    /// Waiting to be overwritten.
    Free,
    /// No record of it ever became durable.
    NeverBegun,
    Foreign,
    Newer,
    /// The checkpoint needs it, and it is not there.
    Missing,
    /// It cannot be read.
    Failed,
}

/// Whole journal records by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Records {
    pub entries: u64,
    pub master_keys: u64,
    pub fences: u64,
    pub explicit_lacs: u64,
}

/// One file of the journal.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentState {
    pub file: PathBuf,
    pub segment: u64,
    pub used: SegmentUse,
    /// Size of the file.
    pub bytes: u64,
    /// Bytes of its whole records.
    pub record_bytes: u64,
    pub first_sequence: Option<u64>,
    pub last_sequence: Option<u64>,
    pub records: Records,
    /// Records that are in no log yet.
    pub records_to_replay: u64,
    /// Stretches that hold no whole record although they should.
    pub damaged: u64,
    /// It ends in a batch that was never durable.
    pub torn_tail: bool,
}

/// One entry log.
#[derive(Clone, Debug, Serialize)]
pub struct LogState {
    pub file: PathBuf,
    pub log: u64,
    /// Which of the ledger directories.
    pub dir: u32,
    pub bytes: u64,
    pub entries: u64,
    pub runs: u64,
    pub ledgers: u64,
    /// Ledgers of it that the checkpoint knows: the others were deleted.
    pub ledgers_live: u64,
    /// The checkpoint names it; else the next start removes it.
    pub named: bool,
    /// Why it cannot be opened.
    pub problem: Option<String>,
}

/// Consecutive entries of one ledger in one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RunState {
    pub log: u64,
    pub ledger: u64,
    pub first_entry: u64,
    pub last_entry: u64,
    /// Where the run's slots stand in the log.
    pub slots_at: u64,
}

/// What the files say of one ledger.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LedgerState {
    pub ledger: u64,
    /// The checkpoint or the journal has a fact about it.
    pub known: bool,
    pub fenced: bool,
    pub master_key: bool,
    pub last_add_confirmed: Option<u64>,
    pub explicit_lac: bool,
    /// Unix time in milliseconds; it was fenced, has no entries, and is remembered only to refuse adds.
    pub deleted_ms: Option<u64>,
    /// Entries, each counted once, in logs and journal.
    pub entries: u64,
    pub last_entry: Option<u64>,
    /// Oldest log first.
    pub runs: Vec<RunState>,
    /// Entries that are only in the journal, ascending.
    pub in_journal: Vec<u64>,
    /// Logs and journal stretches that could not be read: the ledger may have more in them.
    pub unreadable: Vec<String>,
}

/// What one file says of itself.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum FileState {
    Identity(IdentityState),
    Checkpoint(CheckpointState),
    Segment(SegmentState),
    Log { log: LogState, runs: Vec<RunState> },
}
