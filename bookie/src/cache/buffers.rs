//! Memory that large reads go to, used over and over: fresh memory of that size would be mapped, zeroed and given back
//! by the kernel for every read.

use std::sync::{Arc, Mutex};

use magnetar_common::storage::{ALIGNMENT, AlignedBuffer};

/// Reads up to this size use memory of the pool; the alignment of both ends comes on top.
pub(crate) const POOLED_BYTES: usize = 1 << 20;

/// Capacity of the pool's buffers.
const POOLED_CAPACITY: usize = POOLED_BYTES + 2 * ALIGNMENT;

/// Reads from half of that on are worth a buffer of the pool.
const POOLED_BYTES_MIN: usize = POOLED_BYTES / 2;

/// Free buffers kept: as many as are typically under way at once.
const FREE_MAX: usize = 8;

/// See the module.
#[derive(Default)]
pub(crate) struct Buffers {
    free: Mutex<Vec<AlignedBuffer>>,
}

/// Aligned memory; goes back to the pool when dropped.
pub(crate) struct Buffer {
    bytes: AlignedBuffer,
    home: Option<Arc<Buffers>>,
}

impl Buffers {
    /// Memory of `len` bytes, with whatever is in it.
    pub(crate) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let pooled = Self::is_pooled(len);
        let free = if pooled { self.lock().pop() } else { None };
        let mut bytes = free.unwrap_or_else(|| AlignedBuffer::with_capacity(Self::capacity(len)));
        bytes.resize_stale(len);
        Buffer { bytes, home: pooled.then(|| self.clone()) }
    }

    /// What a buffer of `len` bytes takes of the process's memory.
    pub(crate) fn capacity(len: usize) -> usize {
        if Self::is_pooled(len) { POOLED_CAPACITY } else { len.next_multiple_of(ALIGNMENT) }
    }

    fn is_pooled(len: usize) -> bool {
        (POOLED_BYTES_MIN..=POOLED_CAPACITY).contains(&len)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<AlignedBuffer>> {
        self.free.lock().expect("nothing panics while holding the free buffers")
    }
}

impl Buffer {
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            let mut free = home.lock();
            if free.len() < FREE_MAX {
                free.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_buffer_is_used_again_and_a_small_one_given_back() {
        let buffers = Arc::new(Buffers::default());
        let first = buffers.take(POOLED_BYTES);
        let at = first.as_ref().as_ptr();
        drop(first);
        let again = buffers.take(POOLED_BYTES_MIN);
        assert_eq!((again.as_ref().as_ptr(), again.as_ref().len()), (at, POOLED_BYTES_MIN));
        drop(again);
        drop(buffers.take(10));
        assert_eq!(buffers.lock().len(), 1);
        let many: Vec<_> = (0..2 * FREE_MAX).map(|_| buffers.take(POOLED_BYTES)).collect();
        drop(many);
        assert_eq!(buffers.lock().len(), FREE_MAX);
    }
}
