//! The machine's file system.

use super::{DirLock, File, Space, Storage};
use rustix::fs::OFlags;
use rustix::io::{Errno, ReadWriteFlags};
use std::fs;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Files of the operating system.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealStorage;

fn create_new(path: &Path) -> io::Result<fs::File> {
    fs::File::options().read(true).write(true).create_new(true).open(path)
}

fn open_existing(path: &Path) -> io::Result<fs::File> {
    fs::File::options().read(true).write(true).open(path)
}

impl Storage for RealStorage {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(create_new(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(open_existing(path)?))
    }

    fn create_direct(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(DirectFile::new(create_new(path)?)?))
    }

    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(DirectFile::new(open_existing(path)?)?))
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(fs::File::open(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name();
            names.push(name.into_string().map_err(|name| {
                io::Error::new(io::ErrorKind::InvalidData, format!("a file name that is not UTF-8: {name:?}"))
            })?);
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(Space { total: stat.f_blocks * stat.f_frsize, free: stat.f_bavail * stat.f_frsize })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let file = fs::File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(FileLock { _file: file }))
    }
}

/// The kernel drops the lock with the last descriptor, also when the process dies.
struct FileLock {
    _file: fs::File,
}

impl DirLock for FileLock {}

impl File for fs::File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn write_durably_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let written =
                match rustix::io::pwritev2(self, &[io::IoSlice::new(bytes)], offset, ReadWriteFlags::DSYNC) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => written,
                    Err(Errno::INTR) => continue,
                    // Nothing was written: a file system that knows no such flag.
                    Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                        File::write_all_at(self, bytes, offset)?;
                        return fs::File::sync_data(self);
                    }
                    Err(error) => return Err(error.into()),
                };
            bytes = &bytes[written..];
            offset += written as u64;
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        fs::File::sync_data(self)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.blocks() * 512)
    }

    fn first_hole(&self, offset: u64) -> io::Result<u64> {
        match rustix::fs::seek(self, rustix::fs::SeekFrom::Hole(offset)) {
            // Behind the end, or a file system that does not tell.
            Err(Errno::NXIO | Errno::INVAL) => File::len(self),
            found => Ok(found?),
        }
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        match fallocate(self, FallocateFlags::empty(), 0, length) {
            // Some file systems cannot reserve; growing the file keeps the meaning and loses only speed.
            Err(Errno::OPNOTSUPP) if File::len(self)? < length => self.set_len(length),
            Err(Errno::OPNOTSUPP) => Ok(()),
            other => Ok(other?),
        }
    }

    fn expect_random_reads(&self) {
        // A file system without the advice reads ahead as it likes.
        let _ = rustix::fs::fadvise(self, 0, None, rustix::fs::Advice::Random);
    }

    fn expect_read(&self, bytes: Range<u64>) {
        let Some(length) = bytes.end.checked_sub(bytes.start).and_then(NonZeroU64::new) else { return };
        let _ = rustix::fs::fadvise(self, bytes.start, Some(length), rustix::fs::Advice::WillNeed);
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

/// A file opened for direct access, which it loses for good where the file system turns out to refuse it.
struct DirectFile {
    file: fs::File,
    direct: AtomicBool,
}

impl DirectFile {
    fn new(file: fs::File) -> io::Result<Self> {
        let direct = match rustix::fs::fcntl_setfl(&file, OFlags::DIRECT) {
            Ok(()) => true,
            Err(Errno::INVAL) => false,
            Err(error) => return Err(error.into()),
        };
        Ok(DirectFile { file, direct: AtomicBool::new(direct) })
    }

    /// Does `access`, and does it again through the page cache when the file system took the flag but refuses the
    /// access itself (blocks larger than [`ALIGNMENT`](super::ALIGNMENT)): a refused access has done nothing.
    fn access<T>(&self, mut access: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        match access() {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput && self.is_direct() => {
                rustix::fs::fcntl_setfl(&self.file, OFlags::empty())?;
                self.direct.store(false, Ordering::Relaxed);
                access()
            }
            done => done,
        }
    }
}

impl File for DirectFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.access(|| File::read_exact_at(&self.file, buffer, offset))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.access(|| File::write_all_at(&self.file, bytes, offset))
    }

    fn write_durably_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.access(|| File::write_durably_at(&self.file, bytes, offset))
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(&self.file)
    }

    fn len(&self) -> io::Result<u64> {
        File::len(&self.file)
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        File::allocated_bytes(&self.file)
    }

    fn first_hole(&self, offset: u64) -> io::Result<u64> {
        File::first_hole(&self.file, offset)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        File::allocate(&self.file, length)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        File::truncate(&self.file, length)
    }

    fn is_direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        File::descriptor(&self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{ALIGNMENT, AlignedBuffer};

    #[test]
    fn aligned_bytes_written_directly_are_read_back_through_the_page_cache() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("a");
        let file = RealStorage.create_direct(&path)?;
        let mut buffer = AlignedBuffer::with_capacity(ALIGNMENT);
        buffer.extend_from_slice(b"one");
        buffer.pad();
        file.write_all_at(&buffer, 0)?;
        file.write_durably_at(&buffer, ALIGNMENT as u64)?;
        file.truncate(ALIGNMENT as u64 + 3)?;
        file.sync_data()?;
        let read = fs::read(&path)?;
        assert_eq!(read.len(), ALIGNMENT + 3);
        assert_eq!(&read[ALIGNMENT..], b"one");
        assert!(RealStorage.create_direct(&path).is_err());
        RealStorage.open_direct(&path)?.read_exact_at(&mut buffer, 0)?;
        assert_eq!(&buffer[..3], b"one");
        Ok(())
    }

    #[test]
    fn reserved_space_counts_and_a_hole_does_not() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let holes = RealStorage.create(&dir.path().join("a"))?;
        holes.truncate(1 << 20)?;
        assert!(holes.allocated_bytes()? < 1 << 20);
        let reserved = RealStorage.create(&dir.path().join("b"))?;
        reserved.allocate(1 << 20)?;
        assert!(reserved.allocated_bytes()? >= 1 << 20);
        Ok(())
    }
}
