//! Memory that a direct write may be made from.
//!
//! Safe code: a little more is allocated than asked for, and the bytes begin where the alignment is met. It must never
//! hand out memory that moves while it is being written.

use std::ops::{Deref, DerefMut};

/// What a direct write needs of its offset, its length and its memory: the largest logical block of disks in use.
pub const ALIGNMENT: usize = 4096;

const _: () = assert!(ALIGNMENT.is_power_of_two());

/// `length` rounded up to [`ALIGNMENT`].
pub const fn align_up(length: u64) -> u64 {
    length.next_multiple_of(ALIGNMENT as u64)
}

/// Bytes whose first one lies at a multiple of [`ALIGNMENT`]. They stay where they are until the buffer grows beyond its
/// capacity, also when the buffer itself is moved.
#[derive(Debug, Default)]
pub struct AlignedBuffer {
    /// Never resized, so never moved: growing makes a new one.
    memory: Vec<u8>,
    /// Where the aligned part begins.
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    /// An empty buffer for `capacity` bytes, rounded up to [`ALIGNMENT`].
    pub fn with_capacity(capacity: usize) -> Self {
        let memory = vec![0; capacity.next_multiple_of(ALIGNMENT) + ALIGNMENT];
        let start = memory.as_ptr().addr().wrapping_neg() % ALIGNMENT;
        AlignedBuffer { memory, start, len: 0 }
    }

    /// Bytes that fit without growing; a multiple of [`ALIGNMENT`].
    pub fn capacity(&self) -> usize {
        self.memory.len().saturating_sub(ALIGNMENT)
    }

    /// Appends `bytes`, growing when they do not fit.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        let at = self.start + self.len;
        self.memory[at..at + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Makes room for `additional` bytes more.
    pub fn reserve(&mut self, additional: usize) {
        let needed = self.len + additional;
        if needed > self.capacity() {
            let mut grown = AlignedBuffer::with_capacity(needed.max(2 * self.capacity()));
            grown.memory[grown.start..grown.start + self.len].copy_from_slice(self);
            grown.len = self.len;
            *self = grown;
        }
    }

    /// Appends zeros up to the next multiple of [`ALIGNMENT`].
    pub fn pad(&mut self) {
        let padded = self.len.next_multiple_of(ALIGNMENT);
        // The capacity is a multiple too, so that this never grows.
        self.memory[self.start + self.len..self.start + padded].fill(0);
        self.len = padded;
    }

    /// Forgets the bytes, keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Makes the buffer `len` bytes long, to be read into: what is in them is left over from before.
    pub fn resize_stale(&mut self, len: usize) {
        self.reserve(len.saturating_sub(self.len));
        self.len = len;
    }

    /// Forgets all but the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_aligned_and_kept_while_the_buffer_grows() {
        let mut buffer = AlignedBuffer::default();
        let mut expected = Vec::new();
        for n in 1..200u8 {
            let piece = vec![n; usize::from(n) * 7];
            buffer.extend_from_slice(&piece);
            expected.extend_from_slice(&piece);
            assert_eq!(buffer.as_ptr().addr() % ALIGNMENT, 0);
        }
        assert_eq!(&buffer[..], &expected[..]);
    }

    #[test]
    fn a_buffer_to_be_read_into_has_the_length_asked_for_and_stays_aligned() {
        let mut buffer = AlignedBuffer::default();
        for len in [10, ALIGNMENT, 3 * ALIGNMENT, 5] {
            buffer.resize_stale(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr().addr() % ALIGNMENT, 0);
        }
    }

    #[test]
    fn padding_overwrites_what_was_there_with_zeros() {
        let mut buffer = AlignedBuffer::with_capacity(10);
        assert_eq!(buffer.capacity(), ALIGNMENT);
        buffer.extend_from_slice(&[9; ALIGNMENT]);
        buffer.clear();
        buffer.pad();
        assert!(buffer.is_empty());
        buffer.extend_from_slice(b"abc");
        buffer.pad();
        assert_eq!(buffer.len(), ALIGNMENT);
        assert_eq!(&buffer[..3], b"abc");
        assert!(buffer[3..].iter().all(|byte| *byte == 0));
    }
}
