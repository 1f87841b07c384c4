//! Slices of memory to write one after the other with vectored writes.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// None of the chunks is empty.
pub(super) struct Chunks(VecDeque<Bytes>);

impl Chunks {
    pub(super) fn new(mut chunks: VecDeque<Bytes>) -> Self {
        chunks.retain(|chunk| !chunk.is_empty());
        Chunks(chunks)
    }
}

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn has_remaining(&self) -> bool {
        !self.0.is_empty()
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map_or(&[], |chunk| chunk)
    }

    fn advance(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let first = self.0.front_mut().expect("advance stays within what remains");
            if bytes < first.len() {
                return first.advance(bytes);
            }
            bytes -= first.len();
            self.0.pop_front();
        }
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slot, chunk) in into.iter_mut().zip(&self.0) {
            *slot = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_read_as_one_and_advance_across_their_ends() {
        let parts = ["ab", "", "cde", "f"].map(|part| Bytes::from_static(part.as_bytes()));
        let mut chunks = Chunks::new(parts.into());
        let mut slices = [IoSlice::new(&[]); 2];
        assert_eq!(chunks.chunks_vectored(&mut slices), 2);
        assert_eq!((&*slices[0], &*slices[1]), (&b"ab"[..], &b"cde"[..]));
        chunks.advance(3);
        assert_eq!((chunks.remaining(), chunks.chunk()), (3, &b"de"[..]));
        chunks.advance(3);
        assert!(!chunks.has_remaining());
    }
}
