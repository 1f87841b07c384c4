//! Opens a sealed entry log and reads its runs. How entries are read from it: see `extent`.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use magnetar_common::storage::{File, Storage};

use super::format::{FOOTER_BYTES, Footer, FormatError, HEADER_BYTES, Run, SLOT_BYTES, VERSION, decode_runs};
use super::salvage::{Salvaged, salvage};
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
    /// In place of slots and runs that cannot be read.
    rebuilt: Option<Salvaged>,
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
        let log = Log {
            id,
            bytes,
            entries: footer.entries,
            storage,
            path,
            file,
            footer,
            slots_at,
            runs_at: footer.runs_at,
            rebuilt: None,
        };
        let runs = log.runs()?;
        log.file.expect_random_reads();
        Ok((log, runs))
    }

    /// Opens a log whose own index is damaged, by one rebuilt from its entries and kept in memory: 8 bytes an entry and
    /// 40 a run. False when entries that it once held may be missing. Blocks, for as long as the whole log takes to
    /// be read.
    pub(crate) fn rebuild(
        storage: &Arc<dyn Storage>,
        path: &Path,
        id: u64,
        instance: InstanceId,
    ) -> Result<(Log, Vec<Run>, bool), OpenError> {
        let salvaged = salvage(storage, path, id, instance)?;
        for range in &salvaged.unreadable {
            tracing::error!(log = id, ?range, "no entry can be read from these bytes of an entry log");
        }
        for (range, error) in &salvaged.failed {
            tracing::error!(log = id, ?range, %error, "the disk cannot read these bytes of an entry log");
        }
        let file = storage.open(path)?;
        let (bytes, entries) = (file.len()?, salvaged.slots.len() as u64 - 1);
        let fits = |n: u64| u32::try_from(n).is_ok();
        if !fits(id) || !fits(entries) || !fits(bytes) {
            return Err(FormatError::Damaged.into());
        }
        let runs_at = salvaged.slots.len() as u64 * SLOT_BYTES as u64;
        let runs = salvaged.runs.clone();
        let footer = Footer {
            version: VERSION,
            instance,
            log: id,
            runs_at,
            runs: runs.len() as u64,
            entries,
            runs_crc: 0,
        };
        let complete = salvaged.complete;
        let rebuilt = Some(salvaged);
        let (storage, path) = (storage.clone(), path.to_owned());
        let log = Log { id, bytes, entries, storage, path, file, footer, slots_at: 0, runs_at, rebuilt };
        Ok((log, runs, complete))
    }

    /// Reads the runs again: ascending by (ledger, first entry). Blocks.
    pub(crate) fn runs(&self) -> Result<Vec<Run>, OpenError> {
        if let Some(rebuilt) = &self.rebuilt {
            return Ok(rebuilt.runs.clone());
        }
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

    /// Length of what the entries take: records, slots and rows of the index. The rest is fixed.
    pub(crate) fn content_bytes(&self) -> u64 {
        self.bytes.saturating_sub((HEADER_BYTES + SLOT_BYTES + FOOTER_BYTES) as u64)
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
        self.read_slots(&mut offset, self.slot_at(slot))?;
        Ok(u64::from_be_bytes(offset))
    }

    /// Entries lie before the slots, or, where nothing else is known, before the end of the file.
    pub(super) fn entries_end(&self) -> u64 {
        if self.rebuilt.is_some() { self.bytes } else { self.slots_at }
    }

    /// Tells that slots in these bytes of the file will be read soon.
    pub(super) fn expect_slots(&self, bytes: Range<u64>) {
        // Rebuilt ones are in memory.
        if self.rebuilt.is_none() {
            self.file.expect_read(bytes);
        }
    }

    /// Fills `slots` with whole slots from the one at `slot_at` on.
    pub(super) fn read_slots(&self, slots: &mut [u8], slot_at: u64) -> io::Result<()> {
        let Some(rebuilt) = &self.rebuilt else { return self.file.read_exact_at(slots, slot_at) };
        let from = usize::try_from(slot_at).unwrap_or(usize::MAX) / SLOT_BYTES;
        let count = slots.len() / SLOT_BYTES;
        let found =
            rebuilt.slots.get(from..from.saturating_add(count)).ok_or(io::ErrorKind::UnexpectedEof)?;
        for (slot, offset) in slots.chunks_exact_mut(SLOT_BYTES).zip(found) {
            slot.copy_from_slice(&offset.to_be_bytes());
        }
        Ok(())
    }
}
