//! Reads one segment file front to back, in chunks, without trusting a length it has not checked.
//!
//! Every read begins at a block and takes whole ones, or all up to the file's end, so that the file may be one that is read
//! past the page cache: what was written past it is not in there, and to take it through costs ten times the processor time.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use magnetar_common::storage::{ALIGNMENT, AlignedBuffer, File, align_up};

use super::record::{self, BODY_BYTES_MAX, Header, Place, Record, Unreadable};
use super::segment::HEADER_BYTES;

/// Batches written past the page cache are padded with zeros to a multiple of this.
pub(super) const BLOCK_BYTES: usize = 4096;

/// Entries found by replay stay slices of the chunk they were read in, so chunks are small against the write cache.
const CHUNK_BYTES: usize = 1 << 20;

pub(crate) struct Reader {
    file: Arc<dyn File>,
    file_bytes: u64,
    /// Offset in the file of the first byte of `window`.
    offset: u64,
    /// Ends where a block or the file does, unless it is empty.
    window: Bytes,
}

impl Reader {
    /// Starts at the first record.
    pub(crate) fn new(file: Arc<dyn File>) -> io::Result<Self> {
        let file_bytes = file.len()?;
        Ok(Reader { file, file_bytes, offset: HEADER_BYTES as u64, window: Bytes::new() })
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Makes `want` bytes visible, or as many as the file has.
    fn fill(&mut self, want: usize) -> io::Result<()> {
        if self.window.len() >= want {
            return Ok(());
        }
        let left = self.file_bytes.saturating_sub(self.offset);
        let size = (want.max(CHUNK_BYTES) as u64).min(left) as usize;
        if size <= self.window.len() {
            return Ok(());
        }
        let kept = self.window.len();
        let next = self.offset + kept as u64;
        let start = next - next % ALIGNMENT as u64;
        let end = align_up(self.offset + size as u64).min(self.file_bytes);
        // What is kept lies right before the block that is read behind it.
        let read_at = kept.next_multiple_of(ALIGNMENT);
        let mut chunk = AlignedBuffer::default();
        chunk.resize_stale(read_at + (end - start) as usize);
        chunk[read_at - kept..read_at].copy_from_slice(&self.window);
        self.file.read_exact_at(&mut chunk[read_at..], start)?;
        self.window = Bytes::from_owner(chunk).slice(read_at - kept + (next - start) as usize..);
        Ok(())
    }

    /// The record at the current offset; `Ok(Err(_))` when the bytes there are none. Does not move.
    pub(crate) fn peek(&mut self) -> io::Result<Result<(Place, Record, usize), Unreadable>> {
        self.fill(record::HEADER_BYTES)?;
        let Some(header) = Header::peek(&self.window) else { return Ok(Err(Unreadable::Short)) };
        if header.len > BODY_BYTES_MAX {
            return Ok(Err(Unreadable::Checksum));
        }
        self.fill(record::HEADER_BYTES + header.len)?;
        Ok(record::decode(&self.window))
    }

    /// Up to `want` bytes at the current offset, unchecked; fewer where the file ends. Does not move.
    pub(crate) fn look(&mut self, want: usize) -> io::Result<Bytes> {
        self.fill(want)?;
        Ok(self.window.slice(..want.min(self.window.len())))
    }

    /// Moves to any offset.
    pub(crate) fn seek(&mut self, offset: u64) {
        self.offset = offset;
        self.window = Bytes::new();
    }

    /// Moves on by `bytes` that were peeked.
    pub(crate) fn skip(&mut self, bytes: usize) {
        self.window = self.window.slice(bytes..);
        self.offset += bytes as u64;
    }

    /// Skips zeros up to the next multiple of [`BLOCK_BYTES`], the padding after a batch; false, unmoved, when there is
    /// anything else, or none.
    pub(crate) fn skip_padding(&mut self) -> io::Result<bool> {
        let padding = (BLOCK_BYTES as u64 - self.offset % BLOCK_BYTES as u64) as usize % BLOCK_BYTES;
        self.fill(padding)?;
        let zeros = self.window.get(..padding).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0));
        if padding == 0 || !zeros {
            return Ok(false);
        }
        self.skip(padding);
        Ok(true)
    }

    /// Moves to the next byte after the current one where a record of `segment` could begin; false at the end.
    pub(crate) fn seek_candidate(&mut self, segment: u64) -> io::Result<bool> {
        let needle = segment.to_be_bytes();
        self.fill(record::HEADER_BYTES)?;
        if self.window.is_empty() {
            return Ok(false);
        }
        self.skip(1);
        loop {
            self.fill(record::HEADER_BYTES)?;
            if self.window.len() < record::HEADER_BYTES {
                return Ok(false);
            }
            // A record's segment id stands 8 bytes after its start.
            let searchable = &self.window[8..];
            if let Some(zeros) = zeros(searchable).checked_sub(8).filter(|zeros| *zeros > 0 && segment != 0) {
                // A segment may be reserved far beyond its last record.
                self.skip(zeros);
                continue;
            }
            match searchable.windows(8).position(|bytes| bytes == needle) {
                Some(at) if self.window.len() - at >= record::HEADER_BYTES => {
                    self.skip(at);
                    return Ok(true);
                }
                Some(at) => {
                    self.skip(at);
                }
                None => self.skip(searchable.len() - 7),
            }
            if self.offset + (record::HEADER_BYTES as u64) > self.file_bytes {
                return Ok(false);
            }
        }
    }
}

/// How many bytes of zeros it begins with, counted in eights.
fn zeros(bytes: &[u8]) -> usize {
    let words = bytes.chunks_exact(8);
    8 * words.take_while(|word| **word == [0; 8]).count()
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use magnetar_common::storage::{RealStorage, Storage};

    use super::*;

    fn entry(n: u64) -> Record {
        // Up to a third of a chunk.
        Record::Entry(vec![n as u8; 32 + (n * 7919 % (CHUNK_BYTES as u64 / 3)) as usize].into())
    }

    #[test]
    fn records_across_blocks_and_chunks_are_read_whole_past_the_page_cache_and_through_it() {
        let dir = tempfile::tempdir().unwrap();
        let (mut bytes, mut offsets) = (vec![0; HEADER_BYTES], Vec::new());
        for sequence in 0..60 {
            offsets.push(bytes.len() as u64);
            let place = Place { segment: 7, sequence, batch_offset: 0 };
            entry(sequence).encode(place, |part| bytes.put_slice(part));
        }
        assert!(bytes.len() > 4 * CHUNK_BYTES && !bytes.len().is_multiple_of(ALIGNMENT));
        for direct in [true, false] {
            let path = dir.path().join(format!("direct-{direct}"));
            bytes.resize(if direct { align_up(bytes.len() as u64) as usize } else { bytes.len() - 1 }, 0);
            std::fs::write(&path, &bytes).unwrap();
            let file = if direct { RealStorage.open_direct(&path) } else { RealStorage.open(&path) }.unwrap();
            // Not every file system can.
            let is_direct = file.is_direct();
            let mut reader = Reader::new(file.clone()).unwrap();
            for (sequence, offset) in offsets.iter().enumerate() {
                assert_eq!(reader.offset(), *offset);
                let (place, record, length) = reader.peek().unwrap().unwrap();
                assert_eq!((place.sequence, &record), (sequence as u64, &entry(sequence as u64)));
                reader.skip(length);
            }
            assert!(reader.peek().unwrap().is_err(), "the end");
            for (sequence, offset) in offsets.iter().enumerate().rev() {
                reader.seek(*offset);
                assert_eq!(reader.peek().unwrap().unwrap().1, entry(sequence as u64));
            }
            assert_eq!(file.is_direct(), is_direct, "no read was refused");
        }
    }
}
