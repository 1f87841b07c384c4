//! Writes one entry log, whole: an entry log that has its name is sealed, durable and never changes.
//!
//! Logs go past the page cache, in whole chunks; the last one is padded and the padding cut off before the sync. Written
//! through the page cache they pile up dirty pages, and the journal's syncs wait while those go to the disk. What
//! `entry_log::measure` shows of durable 4 KiB writes to a journal beside logs written without a pause (two cores that
//! others used too, at real-time priority; ext4 on a virtio disk), in µs:
//!
//! | logs | MB/s | p50 | p99 | p99.9 | max |
//! |---|---|---|---|---|---|
//! | none | 0 | 183 | 656 | 4287 | 19935 |
//! | buffered | 507 | 194 | 3764 | 34062 | 46742 |
//! | direct, 256 KiB | 485 | 371 | 1519 | 17957 | 28454 |
//! | direct, 64 KiB | 307 | 306 | 662 | 20825 | 36802 |
//!
//! The median grows by the time of one chunk, which is what the journal may have to wait for. Smaller chunks cost a third
//! of the bandwidth and gain less than that.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use magnetar_common::storage::{ALIGNMENT, AlignedBuffer, File, Storage};
use magnetar_proto::checksum::crc32c;
use magnetar_proto::ids::{EntryId, LedgerId};

use super::format::{
    ENTRY_HEADER_BYTES, Footer, Run, SLOT_BYTES, VERSION, encode_header, encode_runs, entry_header,
    file_name, temporary_name,
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
    let mut writer = Writer::create(storage, &dir.join(temporary_name(log)), instance, log)?;
    for (ledger, entry, body) in entries {
        writer.add(ledger, entry, &body)?;
    }
    writer.seal(storage, dir)
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
    let mut writer = Writer::create(storage, path, instance, log)?;
    for (ledger, entry, body) in entries {
        writer.add(ledger, entry, &body)?;
    }
    writer.finish()
}

/// A log that is being written, a part at a time. Dropped before it is finished, it leaves its file.
pub(crate) struct Writer {
    instance: InstanceId,
    log: u64,
    out: Output,
    slots: Vec<u64>,
    /// Their `slots_at` is an index until the log is sealed: the slots' place is known only after the last entry.
    runs: Vec<Run>,
}

impl Writer {
    /// Begins log number `log` in the file `path`, in place of one that is there. Blocks.
    pub(crate) fn create(
        storage: &Arc<dyn Storage>,
        path: &Path,
        instance: InstanceId,
        log: u64,
    ) -> io::Result<Writer> {
        let file = create_direct_afresh(&**storage, path)?;
        let mut out = Output { file, flushed: 0, chunk: AlignedBuffer::with_capacity(CHUNK_BYTES) };
        out.put(&encode_header(instance, log))?;
        Ok(Writer { instance, log, out, slots: Vec::new(), runs: Vec::new() })
    }

    /// Adds an entry, which must follow all those before it in (ledger, entry) order. Blocks.
    pub(crate) fn add(&mut self, ledger: LedgerId, entry: EntryId, body: &Bytes) -> io::Result<()> {
        let offset = self.out.position();
        let bytes = (ENTRY_HEADER_BYTES + body.len()) as u64;
        match self.runs.last_mut() {
            Some(run) if run.ledger == ledger && run.first.0 + run.count == entry.0 => {
                run.count += 1;
                run.bytes += bytes;
            }
            last => {
                assert!(
                    last.is_none_or(|run| (run.ledger, run.last()) < (ledger, entry)),
                    "entries come sorted"
                );
                let slots_at = self.slots.len() as u64;
                self.runs.push(Run { ledger, first: entry, count: 1, slots_at, bytes });
            }
        }
        self.slots.push(offset);
        self.out.put(&entry_header(self.log, offset, body))?;
        self.out.put(body)
    }

    /// Completes the log, which was begun in `dir` under its [temporary name](temporary_name), and returns its size in
    /// bytes. It is durable under its own name when this returns. Blocks.
    pub(crate) fn seal(self, storage: &Arc<dyn Storage>, dir: &Path) -> io::Result<u64> {
        let log = self.log;
        let bytes = self.finish()?;
        storage.rename(&dir.join(temporary_name(log)), &dir.join(file_name(log)))?;
        storage.sync_dir(dir)?;
        Ok(bytes)
    }

    /// Completes the log and returns its size in bytes; its content is durable when this returns. Blocks.
    fn finish(self) -> io::Result<u64> {
        let Writer { instance, log, mut out, mut slots, mut runs } = self;
        let entries = slots.len() as u64;
        let slots_at = out.position();
        slots.push(slots_at);
        for slot in slots {
            out.put(&slot.to_be_bytes())?;
        }
        for run in &mut runs {
            run.slots_at = slots_at + run.slots_at * SLOT_BYTES as u64;
        }
        let section = encode_runs(&runs);
        let (runs_at, runs_crc) = (out.position(), crc32c(&section));
        out.put(&section)?;
        let footer =
            Footer { version: VERSION, instance, log, runs_at, runs: runs.len() as u64, entries, runs_crc };
        out.put(&footer.encode())?;
        let bytes = out.position();
        out.finish()?;
        Ok(bytes)
    }
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

    use super::super::format::{FOOTER_BYTES, HEADER_BYTES, RUN_BYTES};
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
