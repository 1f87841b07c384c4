//! Writes one entry log, whole: an entry log that has its name is sealed, durable and never changes.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use magnetar_common::storage::{ALIGNMENT, AlignedBuffer, File, Storage};
use magnetar_proto::checksum::crc32c;
use magnetar_proto::ids::{EntryId, LedgerId};

use super::format::{
    Footer, Run, SLOT_BYTES, encode_header, encode_runs, entry_header, file_name, temporary_name,
};
use crate::files::create_direct_afresh;
use crate::identity::InstanceId;

/// Write size: large enough for full device bandwidth, small enough not to hold up the journal's syncs for long.
const CHUNK_BYTES: usize = 256 << 10;

const _: () = assert!(CHUNK_BYTES.is_multiple_of(ALIGNMENT));

/// Writes log number `log` into `dir` from entries in ascending (ledger, entry) order without duplicates, and returns
/// its size in bytes. The log is durable under its name when this returns. Blocks.
pub(crate) fn write(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    instance: InstanceId,
    log: u64,
    entries: impl Iterator<Item = (LedgerId, EntryId, Bytes)>,
) -> io::Result<u64> {
    let temporary = dir.join(temporary_name(log));
    let bytes = write_file(storage, &temporary, instance, log, entries)?;
    storage.rename(&temporary, &dir.join(file_name(log)))?;
    storage.sync_dir(dir)?;
    Ok(bytes)
}

/// Like [`write`], into any file, in place of one that is there; its content is durable when this returns, its name is
/// not.
pub(crate) fn write_file(
    storage: &Arc<dyn Storage>,
    path: &Path,
    instance: InstanceId,
    log: u64,
    entries: impl Iterator<Item = (LedgerId, EntryId, Bytes)>,
) -> io::Result<u64> {
    let mut out = Output {
        file: create_direct_afresh(&**storage, path)?,
        flushed: 0,
        chunk: AlignedBuffer::with_capacity(CHUNK_BYTES),
    };
    out.put(&encode_header(instance, log))?;

    let mut slots: Vec<u64> = Vec::new();
    let mut runs: Vec<Run> = Vec::new();
    for (ledger, entry, body) in entries {
        let offset = out.position();
        match runs.last_mut() {
            Some(run) if run.ledger == ledger && run.first.0 + run.count == entry.0 => run.count += 1,
            last => {
                assert!(
                    last.is_none_or(|run| (run.ledger, run.last()) < (ledger, entry)),
                    "entries come sorted"
                );
                // The slots' place is known only after the last entry: their index for now.
                runs.push(Run { ledger, first: entry, count: 1, slots_at: slots.len() as u64 });
            }
        }
        slots.push(offset);
        out.put(&entry_header(log, offset, &body))?;
        out.put(&body)?;
    }
    let entries = slots.len() as u64;
    slots.push(out.position());
    let slots_at = out.position();
    for slot in slots {
        out.put(&slot.to_be_bytes())?;
    }
    for run in &mut runs {
        run.slots_at = slots_at + run.slots_at * SLOT_BYTES as u64;
    }
    let section = encode_runs(&runs);
    let runs_at = out.position();
    out.put(&section)?;
    let footer =
        Footer { instance, log, runs_at, runs: runs.len() as u64, entries, runs_crc: crc32c(&section) };
    out.put(&footer.encode())?;
    let bytes = out.position();
    out.finish()?;
    Ok(bytes)
}

/// The file being written. Every write but the last is one whole chunk, so that offsets stay aligned.
struct Output {
    file: Arc<dyn File>,
    flushed: u64,
    chunk: AlignedBuffer,
}

impl Output {
    fn position(&self) -> u64 {
        self.flushed + self.chunk.len() as u64
    }

    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while self.chunk.len() + bytes.len() >= CHUNK_BYTES {
            let (fitting, rest) = bytes.split_at(CHUNK_BYTES - self.chunk.len());
            self.chunk.extend_from_slice(fitting);
            self.flush()?;
            bytes = rest;
        }
        self.chunk.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.chunk, self.flushed)?;
        self.flushed += self.chunk.len() as u64;
        self.chunk.clear();
        Ok(())
    }

    /// The rest is written padded, and the padding cut off again: only then is the length what the footer's place says.
    fn finish(mut self) -> io::Result<()> {
        let bytes = self.position();
        if !self.chunk.is_empty() {
            self.chunk.pad();
            self.flush()?;
            self.file.truncate(bytes)?;
        }
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use magnetar_common::storage::{MemoryStorage, Unsynced};

    use super::super::format::{ENTRY_HEADER_BYTES, FOOTER_BYTES, HEADER_BYTES, RUN_BYTES};
    use super::super::reader::Log;
    use super::*;
    use crate::testing::{body, instance};

    #[test]
    fn a_log_around_the_size_of_a_chunk_is_durable_to_its_last_byte_and_no_longer() {
        // One entry has one slot and the end.
        let around = HEADER_BYTES + ENTRY_HEADER_BYTES + 2 * SLOT_BYTES + RUN_BYTES + FOOTER_BYTES;
        for total in
            [CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, CHUNK_BYTES + ALIGNMENT, 5 * CHUNK_BYTES / 2]
        {
            let memory = MemoryStorage::new();
            memory.create_dir_all("/d".as_ref()).unwrap();
            let storage: Arc<dyn Storage> = Arc::new(memory.clone());
            let mut stored = body(1, 1).to_vec();
            stored.resize(total - around, 9);
            let entries = [(LedgerId(1), EntryId(1), Bytes::from(stored.clone()))];
            let bytes = write(&storage, "/d".as_ref(), instance(), 1, entries.into_iter()).unwrap();
            assert_eq!(bytes, total as u64);

            let left: Arc<dyn Storage> = Arc::new(memory.crash(Unsynced::Lost));
            let (log, runs) = Log::open(&left, &Path::new("/d").join(file_name(1)), 1, instance()).unwrap();
            assert_eq!(log.bytes, total as u64);
            let slot = runs[0].slot_of(EntryId(1)).unwrap();
            assert_eq!(log.read(slot, 1, 0).unwrap(), [stored]);
        }
    }
}
