//! Rebuilds the index of a log from its entries: for a log whose runs, slots or footer are damaged.
//! The start of a bookie with a damaged log and the offline tools use it. It must never leave out a stretch of the log
//! without naming it: an entry that is not found may have stood there.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use magnetar_common::storage::Storage;

use super::format::{Run, SLOT_BYTES};
use super::reader::OpenError;
use super::scan::{Scan, Stretch};
use crate::identity::InstanceId;

/// What the records of a log say about themselves.
#[derive(Debug)]
pub(crate) struct Salvaged {
    /// Ascending by (ledger, first entry). `slots_at` is where the first slot would stand if `slots`, written out,
    /// began at byte 0.
    pub(crate) runs: Vec<Run>,
    /// Where each whole record begins, and one more: the end of the last one. From one slot to the next there is the
    /// whole record, and behind it what is unreadable, if anything.
    pub(crate) slots: Vec<u64>,
    /// Stretches between the entries that hold no whole record, ascending.
    pub(crate) unreadable: Vec<Range<u64>>,
    /// Stretches that the disk itself could not read; they are within `unreadable`, or outside of the entries.
    pub(crate) failed: Vec<(Range<u64>, io::Error)>,
    /// Every entry that the log was written with is in `runs`: one that is not there is truly not in this log.
    pub(crate) complete: bool,
}

/// Reads log number `id` from front to back. Damage is no failure; a log of another bookie or a newer version is.
/// Memory: 8 bytes an entry and 32 a run. Blocks.
pub(crate) fn salvage(
    storage: &Arc<dyn Storage>,
    path: &Path,
    id: u64,
    instance: InstanceId,
) -> Result<Salvaged, OpenError> {
    let mut scan = Scan::open(storage, path, id, instance)?;
    let mut runs: Vec<Run> = Vec::new();
    let mut slots: Vec<u64> = Vec::new();
    let mut unreadable = Vec::new();
    let mut end = 0;
    while let Some(stretch) = scan.next()? {
        let found = match stretch {
            Stretch::Entry(found) => found,
            Stretch::Unreadable(range) => {
                unreadable.push(range);
                continue;
            }
        };
        match runs.last_mut() {
            Some(run) if run.ledger == found.ledger && run.last().0.checked_add(1) == Some(found.entry.0) => {
                run.count += 1;
                run.bytes += found.end() - found.offset;
            }
            _ => runs.push(Run {
                ledger: found.ledger,
                first: found.entry,
                count: 1,
                slots_at: (slots.len() * SLOT_BYTES) as u64,
                bytes: found.end() - found.offset,
            }),
        }
        slots.push(found.offset);
        end = found.end();
    }
    let counted = scan.footer().is_none_or(|footer| footer.entries == slots.len() as u64);
    let complete = scan.end_known() && unreadable.is_empty() && counted;
    slots.push(end);
    Ok(Salvaged { runs, slots, unreadable, failed: scan.take_failed(), complete })
}

#[cfg(test)]
mod tests;
