//! Random flips and cuts: `verify` finds each that matters, names what it hits, and is silent about the rest.

use magnetar_common::random::{Random, SeededRandom};

use super::roles::{Role, roles};
use super::*;
use crate::offline::{Weight, What};

/// The finding about a flipped bit in a byte of this role, or why there is none.
fn check(role: &Role, at: u64, findings: &[Finding]) {
    let only = || {
        assert_eq!(findings.len(), 1, "{findings:?}");
        &findings[0]
    };
    let is_in = |finding: &Finding| {
        let from = finding.offset.unwrap();
        (from..from + finding.bytes.unwrap()).contains(&at)
    };
    match role {
        Role::Whole(What::Checkpoint) => assert!(findings.iter().any(|found| found.what == What::Checkpoint)),
        // A flip can also make the version a newer one.
        Role::Whole(what) => assert!(only().what == *what || only().detail.contains("newer")),
        Role::Entry { ledger, entry, offset } => {
            let found = only();
            let named = (found.what, found.ledger, found.entry, found.ids_certain, found.offset);
            assert_eq!(named, (What::Entry, Some(*ledger), Some(*entry), true, Some(*offset)));
            assert!(is_in(found) && !found.harmless);
        }
        Role::Slot => assert!(findings.iter().all(|found| found.what == What::Slot && is_in(found))),
        Role::LogHeader => assert!(only().what == What::LogHeader && only().harmless),
        Role::LogIndex => assert!(only().what == What::LogIndex && !only().harmless),
        Role::SegmentHeader => assert_eq!(only().what, What::SegmentHeader),
        Role::SegmentMark => assert!(only().what == What::NeverBegun && only().harmless),
        Role::Record { last_batch: true, .. } => assert_eq!(only().what, What::TornTail),
        Role::Record { place, entry, offset, covered, .. } => {
            let found = only();
            assert_eq!(
                (found.what, found.sequences),
                (What::JournalRecord, Some((place.sequence, place.sequence)))
            );
            assert_eq!(found.ledger.zip(found.entry), *entry);
            assert_eq!(found.offset, Some(*offset));
            // Behind the last record of a segment nothing tells what its length should have been.
            let in_length = (offset + 4..offset + 8).contains(&at);
            assert!(in_length || found.ids_certain == entry.is_some());
            assert!(is_in(found) && found.harmless == *covered);
        }
        Role::Nothing => assert!(findings.is_empty(), "{findings:?}"),
    }
}

#[test]
fn the_undamaged_store_is_clean() {
    let storage = store();
    let (findings, verified) = verified(&storage);
    assert!(findings.is_empty() && verified.clean(), "{findings:?}");
    assert_eq!((verified.logs, verified.entries), (2, 24));
    open(&storage).unwrap().holds_everything();
}

#[test]
fn every_flipped_bit_that_matters_is_found_and_named() {
    let storage = store();
    let roles = roles(&storage);
    let before = files(&storage);
    let paths: Vec<_> = roles.keys().collect();
    let random: &dyn Random = &SeededRandom::new(3);
    let mut seen = std::collections::HashSet::new();
    for round in 0..2000 {
        let path = paths[random.below(paths.len() as u64) as usize];
        let roles = &roles[path];
        // Half of the flips keep to the bytes that matter: most of a segment file is yet unwritten.
        let meaning: Vec<_> = (0..roles.len()).filter(|at| roles[*at] != Role::Nothing).collect();
        let at = if round % 2 == 0 && !meaning.is_empty() {
            meaning[random.below(meaning.len() as u64) as usize]
        } else {
            random.below(roles.len() as u64) as usize
        };
        let bit = random.below(8);
        let mut bytes = before[path].clone();
        bytes[at] ^= 1 << bit;
        storage.overwrite(path, &bytes).unwrap();
        let (findings, verified) = verified(&storage);
        eprintln!("round {round}: {} byte {at} bit {bit}: {:?}", path.display(), roles[at]);
        seen.insert(std::mem::discriminant(&roles[at]));
        check(&roles[at], at as u64, &findings);
        let torn = findings.iter().any(|found| found.weight == Weight::Note);
        assert_eq!(verified.clean(), torn || findings.is_empty());
        if findings.is_empty() {
            let copy = storage.crash(Unsynced::Kept);
            let running = open(&copy).unwrap();
            running.holds_everything();
            running.engine.abandon();
        }
        storage.overwrite(path, &before[path]).unwrap();
    }
    // Whether a file was made ready ahead when the store was closed is a matter of time.
    seen.remove(&std::mem::discriminant(&Role::SegmentMark));
    assert_eq!(seen.len(), 8, "every kind of byte was hit");
}

#[test]
fn every_cut_file_is_found_or_has_lost_nothing() {
    let storage = store();
    let roles = roles(&storage);
    let before = files(&storage);
    let paths: Vec<_> = before.keys().collect();
    let random: &dyn Random = &SeededRandom::new(4);
    let mut clean = 0;
    for _ in 0..200 {
        let path = paths[random.below(paths.len() as u64) as usize];
        let cut = random.below(before[path].len() as u64) as usize;
        storage.overwrite(path, &before[path][..cut]).unwrap();
        let (findings, _) = verified(&storage);
        eprintln!("{} cut at {cut}: {:?}", path.display(), roles[path][cut]);
        // A journal that ends with a whole batch, and zeros behind it, may have been longer: nothing in it can tell.
        let zeros = |offset: usize| before[path][offset..cut].iter().all(|byte| *byte == 0);
        let ends_with_batch = roles[path][cut].record().is_some_and(|(_, offset)| zeros(offset));
        if findings.is_empty() && !ends_with_batch {
            clean += 1;
            let copy = storage.crash(Unsynced::Kept);
            let running = open(&copy).unwrap_or_else(|error| panic!("{} at {cut}: {error}", path.display()));
            running.holds_everything();
            running.engine.abandon();
        }
        storage.overwrite(path, &before[path]).unwrap();
    }
    assert!(clean > 0 && clean < 150, "{clean} cuts of 200 mattered not");
}

#[test]
fn a_missing_file_is_named() {
    for (path, expected) in files(&store()).keys().filter_map(|path| {
        let name = path.file_name()?.to_str()?;
        let what = match name {
            _ if name.ends_with(".identity") => What::Identity,
            _ if name.ends_with(".elog") => What::MissingLog,
            _ => return None,
        };
        Some((path.clone(), what))
    }) {
        let storage = store();
        storage.remove(&path).unwrap();
        let (findings, verified) = verified(&storage);
        assert!(!verified.clean(), "{}", path.display());
        assert!(findings.iter().any(|found| found.what == expected), "{}: {findings:?}", path.display());
    }
}

#[test]
fn a_whole_page_of_zeros_in_the_journal_is_a_hole_and_not_its_end() {
    let storage = store();
    let is_live = |role: &Role| matches!(role, Role::Record { covered: false, last_batch: false, .. });
    let records = |roles: &[Role]| {
        let live = roles.iter().filter(|role| is_live(role)).filter_map(Role::record);
        live.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    let all = roles(&storage);
    let (path, records) = all
        .iter()
        .map(|(path, roles)| (path, records(roles)))
        .find(|(_, records)| records.len() > 6)
        .unwrap();
    let bytes = storage.read(path).unwrap();
    let mut bad = bytes;
    bad[records[1].1..records[4].1].fill(0);
    storage.overwrite(path, &bad).unwrap();
    let (findings, _) = verified(&storage);
    let sequences: Vec<_> = findings.iter().map(|found| found.sequences).collect();
    assert_eq!(sequences, [Some((records[1].0, records[3].0))], "{findings:?}");
    let running = open(&storage).unwrap();
    assert!(running.engine.mode().borrow().is_read_only(), "replay agrees");
}
