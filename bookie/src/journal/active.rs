//! The segment being written: where the next batch goes, and what has to be done to the file before.
//!
//! Overwriting blocks that were written before makes a durable write about twice as fast as one that changes the file's
//! length or extents. Recycled segments have such blocks; a new file gets them a stretch at a time, filled with zeros
//! just before they are needed.

use std::io;
use std::sync::Arc;

use magnetar_common::storage::{ALIGNMENT, AlignedBuffer, File};

/// Zeros written ahead of small batches: holds up the journal for less than a millisecond each time, and saves one
/// commit of metadata for each batch that goes there.
const FILL_BYTES: u64 = 1 << 20;

/// A batch of at least this size is written to blocks that are merely reserved: one commit more is little beside its
/// bytes, which would otherwise be written twice.
const LARGE_BATCH_BYTES: u64 = 128 << 10;

/// Space is reserved in steps for large batches, so that a young journal is small on disk.
const ALLOCATE_STEP_BYTES: u64 = 8 << 20;

pub(super) struct Active {
    pub(super) segment: u64,
    file: Arc<dyn File>,
    first_record: u64,
    /// Where the next batch goes. `first_record <= position`.
    position: u64,
    /// Blocks before this were written before.
    written: u64,
    /// Blocks before this are reserved. `written <= allocated`.
    allocated: u64,
    zeros: AlignedBuffer,
}

impl Active {
    /// A segment whose header is durable and whose first batch goes to `first_record`.
    pub(super) fn new(segment: u64, file: Arc<dyn File>, first_record: u64) -> io::Result<Self> {
        let length = file.len()?;
        let written = file.first_hole(first_record)?.clamp(first_record, length.max(first_record));
        Ok(Active {
            segment,
            file,
            first_record,
            position: first_record,
            written,
            allocated: length,
            zeros: AlignedBuffer::default(),
        })
    }

    /// Whether a batch of `bytes` belongs into the next segment. One that is larger than a segment gets its own.
    pub(super) fn is_full(&self, bytes: u64, segment_bytes: u64) -> bool {
        self.position > self.first_record && self.position + bytes > segment_bytes
    }

    /// Whether it is time to think of the next segment.
    pub(super) fn is_half_full(&self, segment_bytes: u64) -> bool {
        self.position > segment_bytes / 2
    }

    /// Whether a batch of `bytes` is written to blocks that are merely reserved.
    pub(super) fn is_large(bytes: u64) -> bool {
        bytes >= LARGE_BATCH_BYTES
    }

    /// Makes the file ready for a batch of `bytes` and returns it with the batch's place.
    pub(super) fn advance(&mut self, bytes: u64, segment_bytes: u64) -> io::Result<(Arc<dyn File>, u64)> {
        let offset = self.position;
        let end = offset + bytes;
        if end > self.written {
            if !Self::is_large(bytes) {
                self.fill(end, segment_bytes)?;
            } else if end > self.allocated {
                self.allocated = end.max((self.allocated + ALLOCATE_STEP_BYTES).min(segment_bytes));
                self.file.allocate(self.allocated)?;
            }
            self.written = self.written.max(end);
        }
        self.position = end;
        Ok((self.file.clone(), offset))
    }

    /// Writes zeros from the position on, to `end` at least, durably.
    fn fill(&mut self, end: u64, segment_bytes: u64) -> io::Result<()> {
        let wanted = (self.position + FILL_BYTES).min(segment_bytes).max(end) - self.position;
        let length = wanted.next_multiple_of(ALIGNMENT as u64) as usize;
        grow_zeros(&mut self.zeros, length);
        self.file.write_all_at(&self.zeros[..length], self.position)?;
        self.file.sync_data()?;
        self.written = self.position + length as u64;
        self.allocated = self.allocated.max(self.written);
        Ok(())
    }
}

/// Makes at least `length` zeros of a buffer of zeros.
pub(super) fn grow_zeros(zeros: &mut AlignedBuffer, length: usize) {
    if zeros.len() < length {
        zeros.reserve(length);
        while zeros.len() < length {
            zeros.extend_from_slice(&[0; ALIGNMENT]);
        }
    }
}

#[cfg(test)]
mod tests {
    use magnetar_common::storage::{RealStorage, Storage};

    use super::*;

    const BLOCK: u64 = ALIGNMENT as u64;
    const SEGMENT: u64 = 4 << 20;

    /// Blocks behind a large batch that are only reserved were once taken for written, and each small batch that went
    /// there paid for a commit of the file system.
    #[test]
    fn of_a_recycled_segment_only_what_was_never_written_is_filled() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealStorage.create(&dir.path().join("segment")).unwrap();
        let mut active = Active::new(1, file.clone(), BLOCK).unwrap();
        let large = LARGE_BATCH_BYTES + BLOCK;
        let (_, offset) = active.advance(large, SEGMENT).unwrap();
        file.write_all_at(&vec![7; (BLOCK + large) as usize], 0).unwrap();
        file.sync_data().unwrap();
        assert_eq!((offset, active.allocated), (BLOCK, SEGMENT));

        let recycled = || Active::new(2, file.clone(), BLOCK).unwrap();
        assert_eq!(recycled().written, BLOCK + large, "the rest is reserved");
        let mut active = recycled();
        while active.position < SEGMENT {
            active.advance(BLOCK, SEGMENT).unwrap();
        }
        assert_eq!(recycled().written, SEGMENT);
    }
}
