//! Past the page cache: each write is durable when its one system call returns. On blocks that were written before, that
//! takes no metadata to the disk.

use std::io;

use magnetar_common::storage::AlignedBuffer;

use super::{Batch, Device};

/// See the module.
#[derive(Default)]
pub(super) struct Direct {
    done: Option<AlignedBuffer>,
}

impl Device for Direct {
    fn depth(&self) -> usize {
        1
    }

    fn is_direct(&self) -> bool {
        true
    }

    fn begin(&mut self, batch: Batch) -> io::Result<()> {
        batch.file.write_durably_at(&batch.bytes, batch.offset)?;
        self.done = Some(batch.bytes);
        Ok(())
    }

    fn finish(&mut self) -> io::Result<AlignedBuffer> {
        Ok(self.done.take().expect("a batch is under way"))
    }
}
