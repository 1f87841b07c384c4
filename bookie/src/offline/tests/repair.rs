//! What a repair brings back, what it refuses, and that it hides nothing.

use super::roles::Role;
use super::*;
use crate::journal::segment::SegmentHeader;
use crate::offline::{OfflineError, Repair, Repaired, Step, What, repair};

const WRITE: Repair = Repair { write: true, accept_loss: false };
const GIVE_UP: Repair = Repair { write: true, accept_loss: true };

fn repaired(storage: &MemoryStorage, how: Repair) -> (Vec<Step>, Repaired) {
    let shared: Arc<dyn Storage> = Arc::new(storage.clone());
    let mut steps = Vec::new();
    let repaired = repair(&shared, &dirs(), how, &mut |step| steps.push(step)).unwrap();
    (steps, repaired)
}

/// An entry in the journal that no checkpoint covers and that had been durable.
fn a_live_record(storage: &MemoryStorage) -> (PathBuf, usize) {
    let is_live = |role: &Role| matches!(role, Role::Record { covered: false, last_batch: false, .. });
    let found = |(path, roles): (&PathBuf, &Vec<Role>)| Some((path.clone(), roles.iter().position(is_live)?));
    roles::roles(storage).iter().find_map(found).unwrap()
}

fn flip(storage: &MemoryStorage, path: &Path, at: usize) {
    let mut bytes = storage.read(path).unwrap();
    bytes[at] ^= 0x10;
    storage.overwrite(path, &bytes).unwrap();
}

/// Bytes from the end of a log of the store: 12 entries in 4 runs.
const FOOTER: usize = 68;
const SLOTS: usize = FOOTER + 4 * 32 + 13 * 8;

fn aside(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.damaged", path.display()))
}

#[test]
fn a_log_with_a_damaged_index_serves_everything_again() {
    for from_end in [1, FOOTER + 5, SLOTS - 8 * 5 - 2] {
        let storage = store();
        let log = &logs(&storage)[0];
        let at = storage.read(log).unwrap().len() - from_end;
        flip(&storage, log, at);
        let damaged = files(&storage);

        let (planned, told) = repaired(&storage, Repair::default());
        assert_eq!((told.files, told.unsaved, told.refused), (1, 0, 0), "{planned:?}");
        assert!(files(&storage) == damaged, "without consent nothing is written");

        let (steps, _) = repaired(&storage, WRITE);
        assert!(matches!(&steps[..], [Step::RewriteLog { entries: 12, unreadable: 0, .. }]), "{steps:?}");
        assert!(storage.read(&aside(log)).unwrap() == damaged[log], "the damaged file is kept");
        let (findings, verified) = verified(&storage);
        assert!(findings.is_empty() && verified.clean(), "{findings:?}");
        assert_eq!(repaired(&storage, WRITE).1.files, 0, "nothing is left to do");
        open(&storage.crash(Unsynced::Lost)).unwrap().holds_everything();
    }
}

#[test]
fn a_lost_entry_stays_unreadable_and_never_becomes_absent() {
    let storage = store();
    let log = &logs(&storage)[0];
    let end = storage.read(log).unwrap().len();
    // The second entry, 1:1, is damaged; so is the slot of another one, which makes the log worth writing anew.
    flip(&storage, log, 40 + 60 + 30);
    flip(&storage, log, end - SLOTS + 8 * 7 + 6);
    let (steps, told) = repaired(&storage, WRITE);
    let [Step::Unsaved(lost), Step::RewriteLog { entries: 11, unreadable: 1, .. }] = &steps[..] else {
        panic!("{steps:?}");
    };
    assert_eq!((lost.ledger, lost.entry, told.unsaved), (Some(1), Some(1), 1));

    let (findings, _) = verified(&storage);
    let named: Vec<_> = findings.iter().map(|f| (f.what, f.ledger, f.entry)).collect();
    assert_eq!(named, [(What::Entry, Some(1), Some(1))]);
    let running = open(&storage).unwrap();
    let Lookup::OnDisk(place) = running.engine.turn().lookup(LedgerId(1), Some(EntryId(1))) else {
        panic!("it must not be absent");
    };
    assert!(place.read(1, 0).is_err());
    assert_eq!(running.read(1, 2), Some(add(1, 2).body));
    running.engine.abandon();
}

#[test]
fn entries_without_names_are_given_up_only_with_consent() {
    let storage = store();
    let log = &logs(&storage)[1];
    let bytes = storage.read(log).unwrap();
    storage.overwrite(log, &bytes[..bytes.len() / 2]).unwrap();
    let damaged = files(&storage);
    let (steps, told) = repaired(&storage, WRITE);
    assert!(told.refused == 1 && told.files == 0 && told.unsaved > 0, "{steps:?}");
    assert!(files(&storage) == damaged);

    let (steps, told) = repaired(&storage, GIVE_UP);
    assert_eq!((told.refused, told.files), (0, 1), "{steps:?}");
    assert!(verified(&storage).1.clean());
    let running = open(&storage).unwrap();
    let whole = (1..=LEDGER_COUNT)
        .flat_map(|l| (3..6).map(move |e| (l, e)))
        .filter(|(l, e)| running.read(*l, *e).is_some());
    let Some(Step::RewriteLog { entries, .. }) = steps.last() else { panic!("{steps:?}") };
    assert_eq!(whole.count() as u64, *entries);
    running.engine.abandon();
}

#[test]
fn a_repair_cut_short_between_its_renames_goes_on() {
    let storage = store();
    let log = &logs(&storage)[0];
    let bytes = storage.read(log).unwrap();
    storage.overwrite(log, &bytes[..bytes.len() - 1]).unwrap();
    storage.rename(log, &aside(log)).unwrap();
    let (steps, told) = repaired(&storage, WRITE);
    assert_eq!((told.files, told.refused), (1, 0), "{steps:?}");
    assert!(verified(&storage).1.clean());
    open(&storage).unwrap().holds_everything();
}

#[test]
fn a_damaged_segment_header_or_stamp_is_written_anew() {
    let storage = store();
    let has_begun = |(path, bytes): &(&PathBuf, &Vec<u8>)| {
        path.to_string_lossy().contains("/journal-") && SegmentHeader::decode(bytes).is_ok()
    };
    let segment = files(&storage).iter().rfind(has_begun).unwrap().0.clone();
    let stamp = PathBuf::from("/ledgers-b/ledgers-1.identity");
    let before = files(&storage);
    flip(&storage, &segment, 40);
    flip(&storage, &stamp, 3);
    open(&storage.crash(Unsynced::Kept)).unwrap().holds_everything();
    let (steps, told) = repaired(&storage, WRITE);
    assert_eq!((told.files, told.refused), (2, 0), "{steps:?}");
    assert!(files(&storage) == before);
}

#[test]
fn a_damaged_journal_record_is_told_and_left_alone() {
    let storage = store();
    let (segment, at) = a_live_record(&storage);
    flip(&storage, &segment, at + 40);
    let damaged = files(&storage);
    let (steps, told) = repaired(&storage, WRITE);
    assert_eq!((told.files, told.unsaved, told.refused), (0, 1, 1), "{steps:?}");
    assert!(files(&storage) == damaged);
}

#[test]
fn a_repair_that_writes_keeps_a_bookie_out_and_is_kept_out_by_one() {
    let storage = store();
    let shared: Arc<dyn Storage> = Arc::new(storage.clone());
    let all = identity::data_dirs(Path::new(JOURNAL), &dirs().ledger_dirs);
    let running = identity::lock(&shared, &all).unwrap();
    let refused = repair(&shared, &dirs(), WRITE, &mut |_| {});
    assert!(matches!(refused, Err(OfflineError::InUse { .. })));
    drop(running);
    let mut locked_out = false;
    flip(&storage, &logs(&storage)[0], 3);
    repair(&shared, &dirs(), WRITE, &mut |_| locked_out |= identity::lock(&shared, &all).is_err()).unwrap();
    assert!(locked_out);
}

#[test]
fn a_damaged_copy_of_the_checkpoint_is_made_whole_from_another() {
    let storage = store();
    let copy = Path::new(LEDGERS[1]).join("checkpoint");
    flip(&storage, &copy, 40);
    let (steps, told) = repaired(&storage, Repair::default());
    assert!(matches!(&steps[..], [Step::RewriteCheckpoint { file }] if *file == copy), "{steps:?}");
    assert!(!told.written && !verified(&storage).1.clean());
    repaired(&storage, WRITE);
    assert!(verified(&storage).1.clean());
    open(&storage).unwrap().holds_everything();
}

#[test]
fn a_missing_log_is_forgotten_only_with_consent() {
    let storage = store();
    storage.remove(&logs(&storage)[0]).unwrap();
    assert_eq!(repaired(&storage, WRITE).1.refused, 1);
    assert!(!verified(&storage).1.clean());
    let (steps, _) = repaired(&storage, GIVE_UP);
    assert!(matches!(&steps[..], [Step::DropLog { .. }]), "{steps:?}");
    assert!(verified(&storage).1.clean());
    let running = open(&storage).unwrap();
    assert!(matches!(running.engine.turn().lookup(LedgerId(1), Some(EntryId(0))), Lookup::NoEntry));
    assert_eq!(running.read(1, 3), Some(add(1, 3).body));
    running.engine.abandon();
}

#[test]
fn the_mark_of_a_damaged_journal_goes_only_with_consent() {
    let storage = store();
    let (segment, at) = a_live_record(&storage);
    flip(&storage, &segment, at + 40);
    let (steps, told) = repaired(&storage, GIVE_UP);
    assert_eq!((told.files, told.unsaved, told.refused), (0, 1, 1), "no start has seen it yet: {steps:?}");
    let running = open(&storage).unwrap();
    assert!(running.engine.mode().borrow().is_read_only());
    running.engine.close().unwrap();

    let marked = storage.crash(Unsynced::Kept);
    let (findings, _) = verified(&marked);
    assert!(findings.iter().any(|found| found.what == What::Incomplete), "{findings:?}");
    assert_eq!(repaired(&marked, WRITE).1.refused, 1);
    let (steps, _) = repaired(&marked, GIVE_UP);
    assert!(matches!(&steps[..], [Step::AcceptLoss { .. }]), "{steps:?}");
    assert!(verified(&marked).1.clean());
    let running = open(&marked).unwrap();
    assert!(!running.engine.mode().borrow().is_read_only());
    running.engine.abandon();
}
