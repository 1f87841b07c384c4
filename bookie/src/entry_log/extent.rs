//! Reads entries that lie one after the other in a log: first where they are, then all of them at once.
//!
//! Extents of [`DIRECT_BYTES_MIN`] and more are read past the page cache, smaller ones through it without its read-ahead.
//! Measured with fio 3.33 on a 2-core virtual machine (Linux 6.18, ext4 on virtio), cold, busy disk, 2 GiB:
//!
//! | sequential, 1 MiB | MB/s | CPU-s per GB |
//! |---|---|---|
//! | pread, `O_DIRECT`, 1 / 4 under way | 340–370 / 560–690 | 0.14 / 0.11 |
//! | pread, page cache, with / without its read-ahead | 66–80 / 113–119 | 1.9–2.4 / 1.0–1.4 |
//! | mmap | 24–74 | 2.1–2.3 |
//!
//! So memory maps are not used: a page fault holds up its thread, and a disk error would end the process with SIGBUS
//! instead of being answered. Single cold entries cost the same either way (a 4 KiB read: p50 95–116 µs), but the page
//! cache keeps the hot ones for nothing.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use magnetar_common::storage::{ALIGNMENT, align_up};

use super::format::{SLOT_BYTES, decode_entry};
use super::reader::{Log, Unreadable};
use crate::cache::Buffers;

/// Slots read at once at most; with the byte limit of a read this bounds what one read may ask of the disk.
const SLOTS_MAX: u64 = 4096;

/// Who reads on finds slots in the page cache: two to three times this many bytes are asked for ahead, whenever a reader
/// has come so far again. Without them each extent would wait behind those that are being read, before the next could
/// begin.
const SLOTS_AHEAD_BYTES: u64 = 32 << 10;

/// From here on a read goes past the page cache: below, one system call more costs more than it saves.
const DIRECT_BYTES_MIN: u64 = 64 << 10;

/// Where consecutive entries lie.
pub(crate) struct Extent {
    start: u64,
    /// Of each entry's record, ascending; not empty.
    ends: Vec<u64>,
}

impl Extent {
    pub(crate) fn count(&self) -> u64 {
        self.ends.len() as u64
    }

    /// What [`Log::load`] takes of memory.
    pub(crate) fn memory(&self) -> usize {
        let (start, end) = self.aligned();
        Buffers::capacity((end - start) as usize) + self.ends.len() * size_of::<Bytes>()
    }

    fn end(&self) -> u64 {
        *self.ends.last().expect("an extent has at least one entry")
    }

    fn aligned(&self) -> (u64, u64) {
        (self.start - self.start % ALIGNMENT as u64, align_up(self.end()))
    }
}

impl Log {
    /// Finds the entry whose slot stands at `slot_at` and up to `count - 1` entries right after it in the same run, as
    /// long as all records together stay within `max_bytes` (the first is always there). Reads no entry. Blocks.
    pub(crate) fn extent(&self, slot_at: u64, count: u64, max_bytes: usize) -> Result<Extent, Unreadable> {
        let damaged = |offset| Unreadable::Damaged { offset };
        let wanted = count.clamp(1, SLOTS_MAX) as usize;
        let mut slots = vec![0; (wanted + 1) * SLOT_BYTES];
        if slot_at + slots.len() as u64 > self.runs_at {
            return Err(damaged(slot_at));
        }
        self.read_slots(&mut slots, slot_at)?;
        let entries_end = self.entries_end();
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
        if wanted > 1 {
            let next = slot_at + (ends.len() * SLOT_BYTES) as u64;
            if let Some(slots) = slots_ahead(slot_at..next, self.runs_at) {
                self.expect_slots(slots);
            }
        }
        Ok(Extent { start, ends })
    }

    /// Reads the entries of an extent, which may lie in memory of `buffers`. Stops before an unreadable one; an error is
    /// about the first entry. Blocks.
    pub(crate) fn load(&self, extent: &Extent, buffers: &Arc<Buffers>) -> Result<Vec<Bytes>, Unreadable> {
        let (mut records, mut offset) = (self.bytes_of(extent, buffers)?, extent.start);
        let mut bodies = Vec::with_capacity(extent.ends.len());
        for end in &extent.ends {
            let record = records.split_to((end - offset) as usize);
            match decode_entry(self.id, offset, &record) {
                Ok(body) => bodies.push(body),
                Err(_) if !bodies.is_empty() => break,
                Err(_) => return Err(Unreadable::Damaged { offset }),
            }
            offset = *end;
        }
        Ok(bodies)
    }

    /// Both steps in one.
    pub(crate) fn read(&self, slot_at: u64, count: u64, max_bytes: usize) -> Result<Vec<Bytes>, Unreadable> {
        self.load(&self.extent(slot_at, count, max_bytes)?, &Arc::default())
    }

    fn bytes_of(&self, extent: &Extent, buffers: &Arc<Buffers>) -> std::io::Result<Bytes> {
        let (start, end) = extent.aligned();
        if extent.end() - extent.start >= DIRECT_BYTES_MIN && end <= self.bytes {
            // A log that was unlinked meanwhile is still read through its open file.
            if let Ok(file) = self.storage.open_direct(&self.path) {
                let mut buffer = buffers.take((end - start) as usize);
                file.read_exact_at(buffer.bytes_mut(), start)?;
                let within = (extent.start - start) as usize..(extent.end() - start) as usize;
                return Ok(Bytes::from_owner(buffer).slice(within));
            }
        }
        let mut bytes = vec![0; (extent.end() - extent.start) as usize];
        self.file.read_exact_at(&mut bytes, extent.start)?;
        Ok(bytes.into())
    }
}

/// What to ask for ahead after slots at `read` were of use, once in every so many bytes. Half of it was asked for the last
/// time, if there was one, and costs nothing again.
fn slots_ahead(read: Range<u64>, end: u64) -> Option<Range<u64>> {
    let step = read.end / SLOTS_AHEAD_BYTES;
    let ahead = ((step + 1) * SLOTS_AHEAD_BYTES).min(end)..((step + 3) * SLOTS_AHEAD_BYTES).min(end);
    (read.start / SLOTS_AHEAD_BYTES < step && !ahead.is_empty()).then_some(ahead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_asked_for_now_and_then_and_before_a_reader_comes_there() {
        const END: u64 = 10 * SLOTS_AHEAD_BYTES + 77;
        for step in [8, 1000 * 8, SLOTS_AHEAD_BYTES] {
            let (mut read, mut asked) = (5000, Vec::new());
            while read + step < END {
                let whole = read..(read + SLOTS_AHEAD_BYTES).min(END);
                // The first ones are expected by nobody.
                let first = asked.first().map_or(END, |slots: &Range<u64>| slots.start);
                let expected = |at: u64| at < first || asked.iter().any(|slots| slots.contains(&at));
                assert!(expected(whole.start) && expected(whole.end - 1), "{whole:?} of {asked:?}");
                asked.extend(slots_ahead(read..read + step, END));
                read += step;
            }
            assert!(asked.len() <= 11, "{asked:?}");
            assert_eq!(asked.last().map(|slots| slots.end), Some(END));
        }
    }
}
