//! Files behind one trait, so that tests can fail a sync or lose what was not synced.
//!
//! Called by the bookie from threads that may block. It must never retry a sync: after a failed one the kernel may have
//! dropped the pages it could not write, and only the caller knows what that means.

mod aligned;
mod memory;
mod real;

pub use aligned::{ALIGNMENT, AlignedBuffer, align_up};
pub use memory::{MemoryStorage, Unsynced};
pub use real::RealStorage;

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

/// Bytes of the file system that holds a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Size of the file system.
    pub total: u64,
    /// What an unprivileged process may still write.
    pub free: u64,
}

/// Held as long as this process uses a directory; dropping it gives the directory back.
pub trait DirLock: Send + Sync {}

/// A file system. Every call blocks.
pub trait Storage: Send + Sync + 'static {
    /// Creates a new empty file for reading and writing; fails with `AlreadyExists`.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Like [`create`](Self::create), for reads and writes that go past the page cache (`O_DIRECT`) where the file
    /// system can do that, and through it where it cannot ([`File::is_direct`] tells). In both cases the caller keeps
    /// every offset, every length and every buffer at multiples of [`ALIGNMENT`]. Direct is not durable: syncs are
    /// needed all the same.
    fn create_direct(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.create(path)
    }
    /// Opens an existing file like [`create_direct`](Self::create_direct).
    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.open(path)
    }
    /// Opens an existing file that is only read: works where nothing may be written. Writing to it may fail.
    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.open(path)
    }
    /// Names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Replaces `to` atomically. Durable only after [`sync_dir`](Self::sync_dir).
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Unlinks a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Whether something is there. "Cannot tell" is an error, never `false`.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Creates a directory and its parents.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Space of the file system that holds `dir`.
    fn space(&self, dir: &Path) -> io::Result<Space>;
    /// Takes an exclusive lock on the file `path` (created if missing); `WouldBlock` when another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>>;
}

/// An open file. Reads and writes are positional, so that it can be shared.
pub trait File: Send + Sync + 'static {
    /// Fills `buffer` from `offset`; `UnexpectedEof` when the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`, growing the file if needed.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset` and makes them durable, with what is needed to read them back (`RWF_DSYNC`).
    /// Nothing is said about earlier writes. After an error nothing is known about these bytes.
    fn write_durably_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)?;
        self.sync_data()
    }
    /// Makes everything written durable (fdatasync). After an error nothing about earlier writes is known.
    fn sync_data(&self) -> io::Result<()>;
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Bytes that the file takes of its file system (`st_blocks`): less than its length where it has holes, more where
    /// space was reserved. Delayed allocation may show only after a sync.
    fn allocated_bytes(&self) -> io::Result<u64> {
        self.len()
    }
    /// Where the first blocks at or behind `offset` begin that were never written, be they reserved or not; the file's
    /// length when all of them were, and where the file system does not tell.
    fn first_hole(&self, _offset: u64) -> io::Result<u64> {
        self.len()
    }
    /// Reserves space so that the file is at least `length` bytes long; new bytes read as zero.
    fn allocate(&self, length: u64) -> io::Result<()>;
    /// Cuts the file to `length` bytes.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Tells that reads come in no order: each brings into the page cache what it asks for and nothing around it. A
    /// hint: it cannot fail.
    fn expect_random_reads(&self) {}
    /// Tells that these bytes will be read soon: they begin to come into the page cache, and the caller does not wait for
    /// them. A hint: it cannot fail.
    fn expect_read(&self, _bytes: Range<u64>) {}
    /// Whether reads and writes go past the page cache.
    fn is_direct(&self) -> bool {
        false
    }
    /// The operating system's handle, for those who write without blocking. `None` in memory.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
