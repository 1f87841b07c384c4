//! Through the page cache: a write, then a sync. Works on every file system.

use std::io;

use magnetar_common::storage::AlignedBuffer;

use super::{Batch, Device};

/// See the module.
pub(super) struct Buffered {
    sync: bool,
    done: Option<AlignedBuffer>,
}

impl Buffered {
    pub(super) fn synced() -> Self {
        Buffered { sync: true, done: None }
    }

    /// Calls durable what only the kernel has.
    pub(super) fn unsynced() -> Self {
        Buffered { sync: false, done: None }
    }
}

impl Device for Buffered {
    fn depth(&self) -> usize {
        1
    }

    fn is_direct(&self) -> bool {
        false
    }

    fn begin(&mut self, batch: Batch) -> io::Result<()> {
        batch.file.write_all_at(&batch.bytes, batch.offset)?;
        if self.sync {
            batch.file.sync_data()?;
        }
        self.done = Some(batch.bytes);
        Ok(())
    }

    fn finish(&mut self) -> io::Result<AlignedBuffer> {
        Ok(self.done.take().expect("a batch is under way"))
    }
}
