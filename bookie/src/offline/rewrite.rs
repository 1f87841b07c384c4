//! Writes an entry log anew from what is whole in a damaged one.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use magnetar_common::storage::Storage;
use magnetar_proto::ids::{EntryId, LedgerId};

use super::store::{LogFile, Store};
use crate::entry_log::format::temporary_name;
use crate::entry_log::{self, Log, OpenError, Scan, Stretch};

/// What a log written anew holds.
pub(super) struct New {
    /// Whole entries.
    pub(super) entries: u64,
    pub(super) written: Option<Written>,
}

/// A whole log under a temporary name; durable except for the name.
pub(super) struct Written {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

/// Counts the whole entries of `source`, and with `write` writes them into a new log, in which the entries `lost`
/// (ascending) cannot be read. Blocks.
pub(super) fn rewrite(
    store: &Store,
    storage: &Arc<dyn Storage>,
    source: &LogFile,
    lost: &[(u64, u64)],
    write: bool,
) -> io::Result<New> {
    let scan = Scan::open(&store.storage, &source.path, source.log, store.instance).map_err(into_io)?;
    let mut whole = Whole { scan, entries: 0, failed: None };
    if !write {
        let entries = whole.by_ref().count() as u64;
        return whole.failed.map_or(Ok(New { entries, written: None }), Err);
    }
    let dir = &store.dirs.ledger_dirs[source.dir as usize];
    let path = dir.join(temporary_name(source.log));
    let merged = Merged { whole: whole.by_ref().peekable(), lost: lost.iter().peekable() };
    let bytes = entry_log::write_file(storage, &path, store.instance, source.log, merged)?;
    let entries = whole.entries;
    if let Some(error) = whole.failed {
        return Err(error);
    }
    spoil(store, storage, source.log, &path, lost)?;
    let again = Scan::open(&store.storage, &path, source.log, store.instance).map_err(into_io)?;
    let found = Whole { scan: again, entries: 0, failed: None }.count() as u64;
    if found != entries {
        return Err(io::Error::other("the new log does not hold what was written to it"));
    }
    Ok(New { entries, written: Some(Written { path, bytes }) })
}

/// Makes the records of lost entries unreadable: their places are known, their bytes are not.
fn spoil(
    store: &Store,
    storage: &Arc<dyn Storage>,
    log: u64,
    path: &std::path::Path,
    lost: &[(u64, u64)],
) -> io::Result<()> {
    if lost.is_empty() {
        return Ok(());
    }
    let (_, runs) = Log::open(storage, path, log, store.instance).map_err(into_io)?;
    let file = storage.open(path)?;
    for (ledger, entry) in lost {
        let slot_at =
            runs.iter().filter(|run| run.ledger.0 == *ledger).find_map(|run| run.slot_of(EntryId(*entry)));
        let mut slot = [0; 8];
        file.read_exact_at(&mut slot, slot_at.expect("the new log names every lost entry"))?;
        let mut checksum = [0; 4];
        let offset = u64::from_be_bytes(slot);
        file.read_exact_at(&mut checksum, offset)?;
        file.write_all_at(&checksum.map(|byte| !byte), offset)?;
    }
    file.sync_data()
}

/// The whole entries of a log, in order; ends at the first error, which it keeps.
struct Whole {
    scan: Scan,
    entries: u64,
    failed: Option<io::Error>,
}

impl Iterator for Whole {
    type Item = (LedgerId, EntryId, Bytes);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.scan.next() {
                Ok(Some(Stretch::Entry(found))) => {
                    self.entries += 1;
                    return Some((found.ledger, found.entry, found.body));
                }
                Ok(Some(Stretch::Unreadable(_))) => {}
                Ok(None) => return None,
                Err(error) => {
                    self.failed = Some(error);
                    return None;
                }
            }
        }
    }
}

/// Whole entries and placeholders of lost ones, in order.
struct Merged<'a> {
    whole: std::iter::Peekable<&'a mut Whole>,
    lost: std::iter::Peekable<std::slice::Iter<'a, (u64, u64)>>,
}

impl Iterator for Merged<'_> {
    type Item = (LedgerId, EntryId, Bytes);

    fn next(&mut self) -> Option<Self::Item> {
        let next_whole = self.whole.peek().map(|(ledger, entry, _)| (ledger.0, entry.0));
        match self.lost.peek() {
            Some(lost) if next_whole.is_none_or(|whole| **lost < whole) => {
                let (ledger, entry) = *self.lost.next()?;
                let mut body = BytesMut::with_capacity(24);
                body.put_u64(ledger);
                body.put_u64(entry);
                body.put_i64(EntryId::NONE_ON_WIRE);
                Some((LedgerId(ledger), EntryId(entry), body.freeze()))
            }
            // Both at once: the entry is whole after all.
            Some(lost) if next_whole == Some(**lost) => {
                self.lost.next();
                self.whole.next()
            }
            _ => self.whole.next(),
        }
    }
}

fn into_io(error: OpenError) -> io::Error {
    match error {
        OpenError::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}
