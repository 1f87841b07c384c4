//! What a crash leaves, and faults that come when ordered.

use super::file::SECTOR_BYTES;
use super::*;
use crate::storage::{ALIGNMENT, AlignedBuffer};

#[test]
fn a_crash_keeps_what_was_synced_and_named_durably() -> io::Result<()> {
    let storage = MemoryStorage::new();
    let dir = Path::new("/d");
    storage.create_dir_all(dir)?;
    let file = storage.create(&dir.join("a"))?;
    file.write_all_at(b"one", 0)?;
    file.sync_data()?;
    assert!(!storage.crash(Unsynced::Lost).exists(&dir.join("a"))?);
    storage.sync_dir(dir)?;
    file.write_all_at(b"two", 0)?;
    assert_eq!(storage.crash(Unsynced::Lost).read(&dir.join("a"))?, b"one");
    assert_eq!(storage.crash(Unsynced::Kept).read(&dir.join("a"))?, b"two");
    Ok(())
}

#[test]
fn a_sync_told_to_fail_fails_and_makes_nothing_durable() -> io::Result<()> {
    let storage = MemoryStorage::new();
    storage.create_dir_all(Path::new("/d"))?;
    let path = Path::new("/d/a");
    let file = storage.create(path)?;
    storage.sync_dir(Path::new("/d"))?;
    file.write_all_at(b"one", 0)?;
    storage.fail_syncs(Path::new("/d"));
    assert!(file.sync_data().is_err());
    assert_eq!(storage.crash(Unsynced::Lost).read(path)?, b"");
    Ok(())
}

/// A file of two sectors, both rewritten but not synced, and a new name that is not durable.
fn half_written() -> io::Result<MemoryStorage> {
    let storage = MemoryStorage::new();
    storage.create_dir_all(Path::new("/d"))?;
    let file = storage.create(Path::new("/d/a"))?;
    file.write_all_at(&[1; 2 * SECTOR_BYTES], 0)?;
    file.sync_data()?;
    storage.sync_dir(Path::new("/d"))?;
    file.write_all_at(&[2; 2 * SECTOR_BYTES], 0)?;
    file.write_all_at(&[3; 10], 2 * SECTOR_BYTES as u64)?;
    storage.create(Path::new("/d/b"))?;
    Ok(storage)
}

#[test]
fn a_torn_crash_keeps_or_loses_each_sector_length_and_name_by_itself() -> io::Result<()> {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let storage = half_written()?;
        let left = storage.crash(Unsynced::Torn { seed });
        let bytes = left.read(Path::new("/d/a"))?;
        assert_eq!(bytes, storage.crash(Unsynced::Torn { seed }).read(Path::new("/d/a"))?);
        let (first, rest) = bytes.split_at(SECTOR_BYTES);
        let (second, tail) = rest.split_at(SECTOR_BYTES);
        for sector in [first, second, tail] {
            assert!(sector.windows(2).all(|pair| pair[0] == pair[1]), "a sector is never mixed");
        }
        seen.insert((first[0], second[0], tail.first().copied(), left.exists(Path::new("/d/b"))?));
    }
    // Old or new for each of both sectors; tail absent, zero or written; name absent or there.
    assert_eq!(seen.len(), 2 * 2 * 3 * 2);
    Ok(())
}

#[test]
fn syncs_fail_for_files_created_after_the_order_too() -> io::Result<()> {
    let storage = MemoryStorage::new();
    storage.create_dir_all(Path::new("/d"))?;
    storage.fail_syncs(Path::new("/d"));
    let file = storage.create(Path::new("/d/a"))?;
    assert!(file.sync_data().is_err());
    assert!(storage.crash(Unsynced::Kept).open(Path::new("/d/a"))?.sync_data().is_ok());
    Ok(())
}

fn one_file() -> io::Result<(MemoryStorage, Arc<dyn File>)> {
    let storage = MemoryStorage::new();
    storage.create_dir_all(Path::new("/d"))?;
    let file = storage.create(Path::new("/d/a"))?;
    storage.sync_dir(Path::new("/d"))?;
    Ok((storage, file))
}

#[test]
fn the_nth_sync_fails_and_a_sync_after_it_does_not_save_what_it_lost() -> io::Result<()> {
    let (storage, file) = one_file()?;
    assert_eq!(storage.syncs(), 1);
    storage.fail_nth_sync(2);
    file.write_all_at(b"one", 0)?;
    file.sync_data()?;
    file.write_all_at(b"two", 3)?;
    assert!(file.sync_data().is_err());
    file.write_all_at(b"six", 6)?;
    file.sync_data()?;
    assert_eq!(storage.syncs(), 4);
    assert_eq!(storage.crash(Unsynced::Lost).read(Path::new("/d/a"))?, b"one\0\0\0six");
    storage.fail_nth_sync(1);
    assert!(storage.sync_dir(Path::new("/d")).is_err());
    Ok(())
}

#[test]
fn the_nth_write_fails_half_done() -> io::Result<()> {
    let (storage, file) = one_file()?;
    storage.fail_nth_write(2, io::ErrorKind::StorageFull);
    file.write_all_at(b"one", 0)?;
    assert_eq!(file.write_all_at(b"zwei", 3).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(storage.read(Path::new("/d/a"))?, b"onezw");
    file.write_all_at(b"two", 3)?;
    assert_eq!(storage.writes(), 3);
    Ok(())
}

#[test]
fn a_full_disk_takes_what_does_not_grow_and_what_fits_after_a_removal() -> io::Result<()> {
    let (storage, file) = one_file()?;
    let other = storage.create(Path::new("/d/b"))?;
    other.allocate(100)?;
    file.write_all_at(&[1; 50], 0)?;
    storage.set_free(10);
    assert_eq!(storage.space(Path::new("/d"))?, Space { total: 160, free: 10 });
    let full = |result: io::Result<()>| result.unwrap_err().kind() == io::ErrorKind::StorageFull;
    assert!(full(file.write_all_at(&[2; 61], 0)));
    assert!(full(file.allocate(61)));
    file.write_all_at(&[2; 60], 0)?;
    assert_eq!(storage.space(Path::new("/d"))?.free, 0);
    other.truncate(90)?;
    assert_eq!(storage.space(Path::new("/d"))?.free, 10);
    storage.remove(Path::new("/d/b"))?;
    // Without a name it takes no space, whatever its holder does with it.
    other.allocate(1000)?;
    assert_eq!(storage.space(Path::new("/d"))?.free, 100);
    file.allocate(160)?;
    Ok(())
}

#[test]
fn a_cut_that_was_synced_stays_cut_when_the_file_grows_again() -> io::Result<()> {
    let (storage, file) = one_file()?;
    file.write_all_at(b"abcdef", 0)?;
    file.sync_data()?;
    file.truncate(2)?;
    file.allocate(6)?;
    file.sync_data()?;
    assert_eq!(storage.crash(Unsynced::Lost).read(Path::new("/d/a"))?, b"ab\0\0\0\0");
    Ok(())
}

#[test]
fn a_direct_file_takes_only_aligned_accesses_and_shares_its_bytes() -> io::Result<()> {
    let (storage, file) = one_file()?;
    let direct = storage.open_direct(Path::new("/d/a"))?;
    assert!(direct.is_direct() && !file.is_direct());
    let mut buffer = AlignedBuffer::with_capacity(2 * ALIGNMENT);
    buffer.extend_from_slice(b"one");
    assert!(direct.write_all_at(&buffer, 0).is_err());
    buffer.pad();
    assert!(direct.write_all_at(&buffer, 512).is_err());
    direct.write_durably_at(&buffer, 0)?;
    assert!(direct.write_all_at(&buffer[512..], 0).is_err());
    assert!(direct.read_exact_at(&mut [0; 3], 0).is_err());
    assert_eq!(&storage.crash(Unsynced::Lost).read(Path::new("/d/a"))?[..3], b"one");
    file.write_all_at(b"two", 0)?;
    direct.read_exact_at(&mut buffer, 0)?;
    assert_eq!(&buffer[..3], b"two");
    Ok(())
}
