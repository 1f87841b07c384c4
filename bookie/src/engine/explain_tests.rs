//! The sum of what is explained against what the file system counts.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use magnetar_common::storage::{RealStorage, Storage};
use magnetar_proto::ids::LedgerId;

use super::explain::LedgerReport;
use crate::entry_log::format::ENTRY_HEADER_BYTES;
use crate::testing::{BODY_BYTES, Store};

/// Blocks of all files below a directory, as `du` counts them.
fn allocated(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| fs::metadata(&path).unwrap().blocks() * 512).sum()
}

#[test]
fn every_byte_on_disk_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, ledgers) = (dir.path().join("journal"), dir.path().join("ledgers"));
    let storage: Arc<dyn Storage> = Arc::new(RealStorage);
    for dir in [&journal, &ledgers] {
        storage.create_dir_all(dir).unwrap();
        fs::write(dir.join("LOCK"), b"").unwrap();
        fs::write(dir.join("STAMP"), vec![1; 300]).unwrap();
    }
    let store = Store::open_in(&storage, &journal, &ledgers);
    for log in 0..4 {
        for ledger in 0..5 {
            store.add(ledger, log * 50..(log + 1) * 50);
        }
        store.flush();
    }
    store.put(0, 7, 1);
    store.flush();
    store.engine.forget(&[LedgerId(1), LedgerId(2)], 1);
    let report = store.engine.explain().unwrap();

    let counted = allocated(&journal) + allocated(&ledgers);
    assert!(
        report.total_bytes().abs_diff(counted) * 50 <= counted,
        "{} explained, {counted} on disk: {report:?}",
        report.total_bytes()
    );
    let entry = (ENTRY_HEADER_BYTES + BODY_BYTES) as u64;
    assert_eq!(report.live_bytes, 600 * entry);
    let of_dead = 401 * entry;
    assert!((of_dead..of_dead * 102 / 100).contains(&report.dead_bytes), "{}", report.dead_bytes);
    let ledger = |id| LedgerReport { ledger: LedgerId(id), live_bytes: 200 * entry, entries: 200 };
    assert_eq!(report.ledgers, [ledger(0), ledger(3), ledger(4)]);
    assert_eq!(report.logs.len(), 5);
    assert_eq!((report.unreadable_log_bytes, report.unnamed_log_bytes), (0, 0));
    assert!(report.journal_live_bytes > 0 && report.checkpoint_bytes > 0 && report.identity_bytes > 0);
    store.engine.close().unwrap();
}
