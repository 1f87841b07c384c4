//! Past the page cache through io_uring: several durable writes under way, reported in the order they were begun.
//!
//! The only file of this crate with unsafe code. The kernel reads a batch's memory until its completion has been seen:
//! until then [`Uring`] owns that memory, and leaks it rather than free it when it is dropped before.
#![allow(
    unsafe_code,
    reason = "a write handed to the kernel borrows its memory without the compiler's knowledge"
)]

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::{IoUring, opcode, types};
use magnetar_common::storage::AlignedBuffer;

use super::{Batch, Device};

/// More would only cut batches smaller: the disk's queue is full enough with these.
const DEPTH: usize = 4;

/// `RWF_DSYNC` of the kernel's interface: the write completes once its bytes, and what is needed to read them back, are
/// durable.
const RWF_DSYNC: i32 = 2;

/// See the module.
pub(super) struct Uring {
    ring: IoUring,
    /// Oldest first; the ids are consecutive.
    under_way: VecDeque<Write>,
    /// Id of the first write under way, or of the next one when there is none.
    first: u64,
}

struct Write {
    /// Never dropped before the completion: see the module.
    batch: ManuallyDrop<Batch>,
    complete: bool,
}

impl Uring {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Uring { ring: IoUring::new(2 * DEPTH as u32)?, under_way: VecDeque::new(), first: 0 })
    }

    fn descriptor(batch: &Batch) -> io::Result<RawFd> {
        let no_file = || io::Error::new(io::ErrorKind::Unsupported, "not a file of the operating system");
        Ok(batch.file.descriptor().ok_or_else(no_file)?.as_raw_fd())
    }

    /// Notes what has completed.
    fn reap(&mut self) -> io::Result<()> {
        for completion in self.ring.completion() {
            let index = completion.user_data().wrapping_sub(self.first);
            let write = usize::try_from(index).ok().and_then(|index| self.under_way.get_mut(index));
            let write = write.expect("the kernel completes each write once");
            write.complete = true;
            let written = completion.result();
            if written < 0 {
                return Err(io::Error::from_raw_os_error(-written));
            }
            if written as usize != write.batch.bytes.len() {
                return Err(io::Error::new(io::ErrorKind::WriteZero, "the disk took only a part of a write"));
            }
        }
        Ok(())
    }
}

impl Device for Uring {
    fn depth(&self) -> usize {
        DEPTH
    }

    fn is_direct(&self) -> bool {
        true
    }

    fn begin(&mut self, batch: Batch) -> io::Result<()> {
        assert!(self.under_way.len() < DEPTH, "the ring has room for what may be under way");
        let descriptor = Self::descriptor(&batch)?;
        let length = u32::try_from(batch.bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let entry = opcode::Write::new(types::Fd(descriptor), batch.bytes.as_ptr(), length)
            .offset(batch.offset)
            .rw_flags(RWF_DSYNC)
            .build()
            .user_data(self.first + self.under_way.len() as u64);
        // Owned here from before the kernel learns of it. Moving the batch moves neither its bytes nor its descriptor.
        self.under_way.push_back(Write { batch: ManuallyDrop::new(batch), complete: false });
        // SAFETY: the kernel reads `length` bytes at the pointer and uses the descriptor until the completion. Both
        // belong to the batch pushed above, which nothing changes or drops before `complete` is set: `finish` takes it
        // only then, and dropping `Uring` leaks it (`ManuallyDrop`). The bytes are on the heap and do not move with it.
        unsafe { self.ring.submission().push(&entry) }.expect("the ring holds twice the depth");
        loop {
            match self.ring.submit() {
                Ok(_) => return Ok(()),
                // Nothing was submitted: this is no second write.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn finish(&mut self) -> io::Result<AlignedBuffer> {
        loop {
            self.reap()?;
            if let Some(write) = self.under_way.pop_front_if(|write| write.complete) {
                self.first += 1;
                return Ok(ManuallyDrop::into_inner(write.batch).bytes);
            }
            assert!(!self.under_way.is_empty(), "a batch is under way");
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
    }
}
