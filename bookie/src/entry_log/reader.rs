//! Reads a sealed entry log: its runs once, at start; its entries one by one or a stretch at a time.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use magnetar_common::storage::{File, Storage};

use super::format::{
    FOOTER_BYTES, Footer, FormatError, HEADER_BYTES, Run, SLOT_BYTES, VERSION, decode_entry, decode_runs,
};
use super::salvage::{Salvaged, salvage};
use crate::identity::InstanceId;

/// Slots read at once at most; with the byte limit of a read this bounds what one read may ask of the disk.
const SLOTS_MAX: u64 = 512;

/// A sealed log, open for reading. The file stays readable while anyone holds this, also after an unlink.
pub(crate) struct Log {
    pub(crate) id: u64,
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    file: Arc<dyn File>,
    footer: Footer,
    /// Where the first slot stands, which is the end of the entries.
    slots_at: u64,
    /// End of the part that holds slots.
    runs_at: u64,
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
        let log = Log {
            id,
            bytes,
            entries: footer.entries,
            file,
            footer,
            slots_at,
            runs_at: footer.runs_at,
            rebuilt: None,
        };
        let runs = log.runs()?;
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
        Ok((Log { id, bytes, entries, file, footer, slots_at: 0, runs_at, rebuilt }, runs, complete))
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

    /// Fills `slots` with whole slots from the one at `slot_at` on.
    fn read_slots(&self, slots: &mut [u8], slot_at: u64) -> io::Result<()> {
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

    /// Reads the entry whose slot stands at `slot_at` and up to `count - 1` entries right after it in the same run,
    /// as long as all records together stay within `max_bytes` (the first is always read). Stops before an unreadable
    /// one; an error is about the first entry. Blocks.
    pub(crate) fn read(&self, slot_at: u64, count: u64, max_bytes: usize) -> Result<Vec<Bytes>, Unreadable> {
        let damaged = |offset| Unreadable::Damaged { offset };
        let wanted = count.clamp(1, SLOTS_MAX) as usize;
        let mut slots = vec![0; (wanted + 1) * SLOT_BYTES];
        if slot_at + slots.len() as u64 > self.runs_at {
            return Err(damaged(slot_at));
        }
        self.read_slots(&mut slots, slot_at)?;
        // Entries lie before the slots, or, where nothing else is known, before the end of the file.
        let entries_end = if self.rebuilt.is_some() { self.bytes } else { self.slots_at };
        let mut slots = &slots[..];
        let start = slots.get_u64();
        let mut ends = Vec::with_capacity(wanted);
        let mut end = start;
        while slots.has_remaining() {
            let next = slots.get_u64();
            if next <= end || next > entries_end || (!ends.is_empty() && next - start > max_bytes as u64) {
                break;
            }
            end = next;
            ends.push(end);
        }
        if ends.is_empty() || end - start > u64::from(u32::MAX) {
            return Err(damaged(slot_at));
        }
        let mut extent = BytesMut::zeroed((end - start) as usize);
        self.file.read_exact_at(&mut extent, start)?;
        let extent = extent.freeze();
        let mut offset = start;
        let mut bodies = Vec::with_capacity(ends.len());
        for end in ends {
            let record = extent.slice((offset - start) as usize..(end - start) as usize);
            match decode_entry(self.id, offset, &record) {
                Ok(body) => bodies.push(body),
                Err(_) if !bodies.is_empty() => break,
                Err(_) => return Err(damaged(offset)),
            }
            offset = end;
        }
        Ok(bodies)
    }
}
