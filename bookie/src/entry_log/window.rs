//! A file seen through a window that moves: sequential reads in large pieces, any stretch of it visible when asked for.
//! It survives sectors that the disk cannot read: they appear as zeros, and are remembered. It must never be used where
//! an I/O error has to end things: the engine's own reads.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use magnetar_common::storage::File;

/// Read size: large enough for full device bandwidth.
const CHUNK_BYTES: usize = 1 << 20;

/// The unit in which bytes are given up when the disk cannot read them.
const PIECE_BYTES: u64 = 4096;

pub(crate) struct Window {
    file: Arc<dyn File>,
    file_bytes: u64,
    /// Offset in the file of the first byte of `chunk`.
    at: u64,
    chunk: Bytes,
    failed: Vec<(Range<u64>, io::Error)>,
}

impl Window {
    pub(crate) fn new(file: Arc<dyn File>) -> io::Result<Self> {
        let file_bytes = file.len()?;
        Ok(Window { file, file_bytes, at: 0, chunk: Bytes::new(), failed: Vec::new() })
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Stretches that the disk could not read so far, in the order they were met.
    pub(crate) fn take_failed(&mut self) -> Vec<(Range<u64>, io::Error)> {
        std::mem::take(&mut self.failed)
    }

    /// The `len` bytes at `offset`; `None` when the file ends before. An error means that the file shrank meanwhile.
    pub(crate) fn view(&mut self, offset: u64, len: usize) -> io::Result<Option<Bytes>> {
        Ok(self.locate(offset, len)?.map(|at| self.chunk.slice(at..at + len)))
    }

    /// Like [`Window::view`], for a look at a few bytes.
    pub(crate) fn peek(&mut self, offset: u64, len: usize) -> io::Result<Option<&[u8]>> {
        Ok(self.locate(offset, len)?.map(|at| &self.chunk[at..at + len]))
    }

    /// Makes a stretch visible; gives its place in the chunk.
    fn locate(&mut self, offset: u64, len: usize) -> io::Result<Option<usize>> {
        match offset.checked_add(len as u64) {
            Some(end) if end <= self.file_bytes => {}
            _ => return Ok(None),
        }
        let chunk_end = self.at + self.chunk.len() as u64;
        if offset < self.at || offset + len as u64 > chunk_end {
            self.fill(offset, len)?;
        }
        Ok(Some((offset - self.at) as usize))
    }

    fn fill(&mut self, offset: u64, len: usize) -> io::Result<()> {
        let size = (len.max(CHUNK_BYTES) as u64).min(self.file_bytes - offset) as usize;
        let mut chunk = BytesMut::zeroed(size);
        let kept = offset.checked_sub(self.at).and_then(|skip| self.chunk.get(skip as usize..));
        let kept = kept.unwrap_or_default();
        let kept = &kept[..kept.len().min(size)];
        chunk[..kept.len()].copy_from_slice(kept);
        let known = kept.len();
        self.read(&mut chunk[known..], offset + known as u64)?;
        self.at = offset;
        self.chunk = chunk.freeze();
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self.file.read_exact_at(buffer, offset) {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {}
            done => return done,
        }
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let size = ((PIECE_BYTES - at % PIECE_BYTES) as usize).min(buffer.len() - done);
            let piece = &mut buffer[done..done + size];
            match self.file.read_exact_at(piece, at) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(error),
                Err(error) => {
                    piece.fill(0);
                    self.give_up(at..at + size as u64, error);
                }
                Ok(()) => {}
            }
            done += size;
        }
        Ok(())
    }

    fn give_up(&mut self, range: Range<u64>, error: io::Error) {
        match self.failed.last_mut() {
            Some((last, _)) if last.end == range.start => last.end = range.end,
            Some((last, _)) if last.contains(&range.start) => {}
            _ => self.failed.push((range, error)),
        }
    }
}
