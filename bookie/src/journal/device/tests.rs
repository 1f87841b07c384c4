//! What every device keeps to, and which one is chosen.

use std::os::fd::{AsFd, BorrowedFd};

use magnetar_common::storage::{MemoryStorage, RealStorage, Unsynced};

use super::*;

fn block(fill: u8, blocks: usize) -> AlignedBuffer {
    let mut bytes = AlignedBuffer::with_capacity(blocks * ALIGNMENT);
    bytes.extend_from_slice(&vec![fill; blocks * ALIGNMENT]);
    bytes
}

fn opened(storage: &dyn Storage, dir: &Path, device: JournalDevice) -> Box<dyn Device> {
    open(storage, dir, DeviceOptions { device, unsafe_no_sync: false }).unwrap()
}

#[test]
fn every_device_gives_batches_back_in_order_with_their_bytes_in_the_file() {
    for choice in [JournalDevice::Buffered, JournalDevice::Direct, JournalDevice::Uring] {
        let dir = tempfile::tempdir().unwrap();
        let mut device = opened(&RealStorage, dir.path(), choice);
        let file = RealStorage.create_direct(&dir.path().join("journal")).unwrap();
        let (mut begun, mut finished, mut offset) = (0u8, 0u8, 0);
        let mut expected = Vec::new();
        while finished < 50 {
            if begun < 50 && usize::from(begun - finished) < device.depth() {
                begun += 1;
                // The first of several is the largest: the others may be done before it.
                let bytes = block(begun, if begun % 4 == 1 { 64 } else { 1 });
                expected.extend_from_slice(&bytes);
                let length = bytes.len() as u64;
                device.begin(Batch { file: file.clone(), offset, bytes }).unwrap();
                offset += length;
            } else {
                finished += 1;
                assert_eq!(device.finish().unwrap()[0], finished, "{choice}");
            }
        }
        assert!(std::fs::read(dir.path().join("journal")).unwrap() == expected, "{choice}");
        assert_eq!(RealStorage.list(dir.path()).unwrap(), ["journal"], "the probe's file is gone");
    }
}

/// A file on a disk that is full.
struct Full(std::fs::File);

impl File for Full {
    fn read_exact_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        File::write_all_at(&self.0, bytes, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }
    fn allocate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn truncate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

#[test]
fn a_failed_write_is_reported_and_nothing_behind_it_finishes() {
    for choice in [JournalDevice::Buffered, JournalDevice::Direct, JournalDevice::Uring] {
        let dir = tempfile::tempdir().unwrap();
        let mut device = opened(&RealStorage, dir.path(), choice);
        let good = RealStorage.create_direct(&dir.path().join("journal")).unwrap();
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let full: Arc<dyn File> = Arc::new(Full(full));
        let depth = device.depth();
        let mut finished = Vec::new();
        let outcome = (|| {
            for (n, file) in [&good, &full, &good, &good].into_iter().enumerate() {
                let batch =
                    Batch { file: file.clone(), offset: (n * ALIGNMENT) as u64, bytes: block(n as u8, 1) };
                device.begin(batch)?;
                if depth == 1 {
                    finished.push(device.finish()?[0]);
                }
            }
            (0..4).try_for_each(|_| device.finish().map(|bytes| finished.push(bytes[0])))
        })();
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::StorageFull, "{choice}");
        assert!(finished.is_empty() || finished == [0], "{choice}: {finished:?}");
    }
}

#[test]
fn files_in_memory_are_written_through_the_page_cache_unless_told_otherwise() {
    let storage = MemoryStorage::new();
    storage.create_dir_all("/journal".as_ref()).unwrap();
    let device = |choice| opened(&storage, "/journal".as_ref(), choice);
    assert!(!device(JournalDevice::Auto).is_direct());
    assert!(!device(JournalDevice::Buffered).is_direct());
    assert!(device(JournalDevice::Direct).is_direct());
    assert_eq!(device(JournalDevice::Uring).depth(), 1, "io_uring needs files of the operating system");
}

#[test]
fn only_the_device_that_says_so_does_not_sync() {
    for unsafe_no_sync in [false, true] {
        let storage = MemoryStorage::new();
        storage.create_dir_all("/journal".as_ref()).unwrap();
        let options = DeviceOptions { device: JournalDevice::Direct, unsafe_no_sync };
        let mut device = open(&storage, "/journal".as_ref(), options).unwrap();
        let path = Path::new("/journal/a");
        let file = storage.create(path).unwrap();
        storage.sync_dir("/journal".as_ref()).unwrap();
        device.begin(Batch { file, offset: 0, bytes: block(1, 1) }).unwrap();
        device.finish().unwrap();
        let left = storage.crash(Unsynced::Lost).read(path).unwrap().len();
        assert_eq!(left, if unsafe_no_sync { 0 } else { ALIGNMENT });
    }
}

#[test]
fn devices_have_names() {
    for (name, device) in NAMES {
        assert_eq!(name.parse(), Ok(device));
        assert_eq!(device.to_string(), name);
    }
    assert!("fast".parse::<JournalDevice>().unwrap_err().contains("auto, buffered, direct, uring"));
}
