//! What the tools tell of an undamaged store.

use super::*;
use crate::offline::{FileState, OfflineError, SegmentUse, inspect, inspect_file, inspect_ledger};

#[test]
fn an_inventory_counts_what_was_stored() {
    let storage: Arc<dyn Storage> = Arc::new(store());
    let found = inspect(&storage, &dirs()).unwrap();
    assert_eq!(found.instance, instance().to_string());
    assert!(found.identities.iter().all(|stamp| stamp.bookie.as_deref() == Some("bookie-1:3181")));
    let checkpoint = &found.checkpoint;
    assert_eq!((checkpoint.logs, checkpoint.ledgers, checkpoint.ledgers_fenced), (2, LEDGER_COUNT, 0));
    let logs: Vec<_> =
        found.logs.iter().map(|log| (log.dir, log.entries, log.runs, log.ledgers_live)).collect();
    assert_eq!(logs, [(1, 12, 4, 4), (0, 12, 4, 4)]);

    let live = found.segments.iter().filter(|segment| segment.used == SegmentUse::Live);
    let replayed: u64 = live.clone().map(|segment| segment.records_to_replay).sum();
    assert_eq!(replayed, LEDGER_COUNT * 4 + 3);
    let fences: u64 = live.map(|segment| segment.records.fences).sum();
    assert_eq!(fences, 1);
    assert!(found.segments.iter().all(|segment| !segment.torn_tail && segment.damaged == 0));
}

#[test]
fn a_ledger_is_told_as_a_start_would_know_it() {
    let storage: Arc<dyn Storage> = Arc::new(store());
    let found = inspect_ledger(&storage, &dirs(), LedgerId(FENCED)).unwrap();
    assert!(found.known && found.fenced && found.master_key && found.explicit_lac);
    assert_eq!((found.entries, found.last_entry), (ENTRY_COUNT, Some(ENTRY_COUNT - 1)));
    assert_eq!(found.last_add_confirmed, Some(ENTRY_COUNT - 2));
    let runs: Vec<_> = found.runs.iter().map(|run| (run.first_entry, run.last_entry)).collect();
    assert_eq!(runs, [(0, 2), (3, 5)]);
    assert_eq!(found.in_journal, [6, 7, 8, 9]);
    assert!(found.unreadable.is_empty());

    let unknown = inspect_ledger(&storage, &dirs(), LedgerId(99)).unwrap();
    assert!(!unknown.known && unknown.entries == 0);
}

#[test]
fn a_file_is_told_by_its_name() {
    let memory = store();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    for path in files(&memory).keys() {
        let found = inspect_file(&storage, &dirs(), path).unwrap();
        if let FileState::Log { log, runs } = &found {
            assert_eq!(log.runs, runs.len() as u64);
        }
    }
    let stranger = inspect_file(&storage, &dirs(), Path::new("stranger"));
    assert!(matches!(stranger, Err(OfflineError::UnknownFile { .. })));
}

#[test]
fn directories_of_no_bookie_are_refused() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    assert!(matches!(inspect(&storage, &dirs()), Err(OfflineError::NoDirectory { .. })));
    [JOURNAL, LEDGERS[0], LEDGERS[1]].iter().for_each(|dir| storage.create_dir_all(Path::new(dir)).unwrap());
    assert!(matches!(inspect(&storage, &dirs()), Err(OfflineError::NotABookie)));
}
