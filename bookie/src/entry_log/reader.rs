//! Opens a sealed entry log and reads its runs. How entries are read from it: see `extent`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use magnetar_common::storage::{File, Storage};

use super::format::{FOOTER_BYTES, Footer, FormatError, HEADER_BYTES, Run, SLOT_BYTES, decode_runs};
use crate::identity::InstanceId;

/// A sealed log, open for reading. The file stays readable while anyone holds this, also after an unlink.
pub(crate) struct Log {
    pub(crate) id: u64,
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) path: PathBuf,
    /// Reads go through the page cache.
    pub(super) file: Arc<dyn File>,
    footer: Footer,
    /// Where the first slot stands, which is the end of the entries.
    slots_at: u64,
    /// End of the part that holds slots.
    pub(super) runs_at: u64,
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Format(#[from] FormatError),
    #[error("it was written by another bookie, or is another log under this name")]
    Foreign,
}

/// An entry that the index knows cannot be read: never the same as absent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("cannot read entry log: {0}")]
    Io(#[from] io::Error),
    #[error("entry log is damaged at byte {offset}")]
    Damaged { offset: u64 },
}

impl OpenError {
    /// What the operating system said, when that is the cause.
    pub(crate) fn io(&self) -> Option<&io::Error> {
        match self {
            OpenError::Io(error) => Some(error),
            OpenError::Format(_) | OpenError::Foreign => None,
        }
    }
}

impl Log {
    /// Opens log number `id` and reads its runs, ascending by (ledger, first entry). Blocks.
    pub(crate) fn open(
        storage: &Arc<dyn Storage>,
        path: &Path,
        id: u64,
        instance: InstanceId,
    ) -> Result<(Log, Vec<Run>), OpenError> {
        let file = storage.open(path)?;
        let bytes = file.len()?;
        // The index keeps log ids in 32 bits: a log a second for 136 years.
        if bytes < (HEADER_BYTES + FOOTER_BYTES) as u64 || u32::try_from(id).is_err() {
            return Err(FormatError::Damaged.into());
        }
        let footer_at = bytes - FOOTER_BYTES as u64;
        let mut footer = [0; FOOTER_BYTES];
        file.read_exact_at(&mut footer, footer_at)?;
        let footer = Footer::decode(&footer)?;
        if footer.instance != instance || footer.log != id {
            return Err(OpenError::Foreign);
        }
        let slots_at =
            footer.slots_at().filter(|_| footer.runs_at <= footer_at).ok_or(FormatError::Damaged)?;
        let (storage, path) = (storage.clone(), path.to_owned());
        let (entries, runs_at) = (footer.entries, footer.runs_at);
        let log = Log { id, bytes, entries, storage, path, file, footer, slots_at, runs_at };
        let runs = log.runs()?;
        log.file.expect_random_reads();
        Ok((log, runs))
    }

    /// Reads the runs again: ascending by (ledger, first entry). Blocks.
    pub(crate) fn runs(&self) -> Result<Vec<Run>, OpenError> {
        let mut section = vec![0; (self.bytes - FOOTER_BYTES as u64 - self.runs_at) as usize];
        self.file.read_exact_at(&mut section, self.runs_at)?;
        let mut runs = decode_runs(&self.footer, &section)?;
        if !self.footer.has_run_bytes() {
            self.measure_runs(&mut runs)?;
        }
        Ok(runs)
    }

    /// Takes the runs' bytes from the slots: what version 1 did not record. A rotten slot makes them wrong, which
    /// costs at most a compaction too early or too late: nothing is read by them.
    fn measure_runs(&self, runs: &mut [Run]) -> io::Result<()> {
        let mut start = HEADER_BYTES as u64;
        for run in runs {
            let end = self.offset(self.slot_of(run.slots_at) + run.count as u32)?;
            let end = end.clamp(start, self.slots_at.min(start + u64::from(u32::MAX)));
            run.bytes = end - start;
            start = end;
        }
        Ok(())
    }

    /// The slot that stands at `slot_at`, counted from the first; both as the checked runs have it.
    pub(crate) fn slot_of(&self, slot_at: u64) -> u32 {
        let slot = slot_at.checked_sub(self.slots_at).map(|bytes| bytes / SLOT_BYTES as u64);
        slot.and_then(|slot| u32::try_from(slot).ok()).expect("checked when the log was opened")
    }

    /// Where a slot stands in the file.
    pub(crate) fn slot_at(&self, slot: u32) -> u64 {
        self.slots_at + u64::from(slot) * SLOT_BYTES as u64
    }

    /// What a slot says, unchecked: the start of its entry's record; of the slot after the last, the end of the
    /// entries. Blocks.
    pub(crate) fn offset(&self, slot: u32) -> io::Result<u64> {
        let mut offset = [0; SLOT_BYTES];
        self.file.read_exact_at(&mut offset, self.slot_at(slot))?;
        Ok(u64::from_be_bytes(offset))
    }
}
