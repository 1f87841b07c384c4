//! Writes one entry log, whole: an entry log that has its name is sealed, durable and never changes.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use magnetar_common::storage::{File, Storage};
use magnetar_proto::checksum::crc32c;
use magnetar_proto::ids::{EntryId, LedgerId};

use super::format::{
    Footer, Run, SLOT_BYTES, encode_header, encode_runs, entry_header, file_name, temporary_name,
};
use crate::files::create_afresh;
use crate::identity::InstanceId;

/// Write size: large enough for full device bandwidth, small enough not to hold up the journal's syncs for long.
const CHUNK_BYTES: usize = 256 << 10;

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
        file: create_afresh(&**storage, path)?,
        flushed: 0,
        chunk: BytesMut::with_capacity(CHUNK_BYTES),
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

struct Output {
    file: Arc<dyn File>,
    flushed: u64,
    chunk: BytesMut,
}

impl Output {
    fn position(&self) -> u64 {
        self.flushed + self.chunk.len() as u64
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.chunk.len() + bytes.len() > CHUNK_BYTES {
            self.flush()?;
        }
        if bytes.len() > CHUNK_BYTES {
            self.file.write_all_at(bytes, self.flushed)?;
            self.flushed += bytes.len() as u64;
        } else {
            self.chunk.put_slice(bytes);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.chunk, self.flushed)?;
        self.flushed += self.chunk.len() as u64;
        self.chunk.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync_data()
    }
}
