//! What is written is read back, what is not whole is noticed, and a file never grows without bound.

use bytes::BytesMut;
use magnetar_common::storage::{MemoryStorage, Storage, Unsynced};
use magnetar_proto::ids::{EntryId, LedgerId};

use super::decode::decode;
use super::*;
use crate::identity::InstanceId;

fn plain(ledger: u64) -> LedgerRow {
    LedgerRow {
        ledger: LedgerId(ledger),
        fenced: false,
        master_key: None,
        last_add_confirmed: None,
        explicit_lac: None,
        deleted_ms: None,
    }
}

fn full(ledger: u64) -> LedgerRow {
    LedgerRow {
        fenced: true,
        master_key: Some([6; 20]),
        last_add_confirmed: Some(EntryId(5)),
        explicit_lac: Some(Bytes::from_static(b"lac")),
        deleted_ms: Some(12),
        ..plain(ledger)
    }
}

fn log(log: u64) -> LogRow {
    LogRow { log, dir: 1, bytes: 4096 * log }
}

fn head(number: u64) -> Head {
    Head {
        number,
        sequence: 10 * number,
        floor: number,
        next_log: 100 + number,
        incomplete: number.is_multiple_of(2),
    }
}

/// A base of number 4.
fn checkpoint() -> Checkpoint {
    let Head { number, sequence, floor, next_log, incomplete } = head(4);
    let (logs, ledgers) = (vec![log(7), log(8)], vec![plain(1), full(2), plain(3)]);
    let instance = InstanceId::from_bytes([7; 16]);
    Checkpoint { instance, sequence, floor, next_log, number, incomplete, logs, ledgers }
}

fn first_change() -> Bytes {
    let mut change = Encoder::change(head(5));
    change.log_gone(&log(7));
    change.log(&log(9));
    change.ledger_gone(LedgerId(3));
    change.ledger(&full(1));
    change.ledger(&plain(4));
    change.finish()
}

fn second_change() -> Bytes {
    let mut change = Encoder::change(head(6));
    change.ledger_gone(LedgerId(1));
    change.ledger(&full(3));
    change.finish()
}

/// What is whole after so many changes.
fn after(changes: u64) -> Checkpoint {
    let Head { number, sequence, floor, next_log, incomplete } = head(4 + changes);
    let (logs, ledgers) = match changes {
        0 => return checkpoint(),
        1 => (vec![log(8), log(9)], vec![full(1), full(2), plain(4)]),
        _ => (vec![log(8), log(9)], vec![full(2), plain(4), full(3)]),
    };
    Checkpoint { sequence, floor, next_log, number, incomplete, logs, ledgers, ..checkpoint() }
}

fn file() -> Bytes {
    Bytes::from([&checkpoint().encode()[..], &first_change(), &second_change()].concat())
}

#[test]
fn decode_gives_back_what_the_base_and_its_changes_say() {
    let decoded = decode(&checkpoint().encode()).unwrap();
    assert_eq!(decoded.checkpoint, checkpoint());
    assert_eq!((decoded.ends, decoded.unread), (Some((4096, 4096)), None));
    let decoded = decode(&file()).unwrap();
    assert_eq!(decoded.checkpoint, after(2));
    assert_eq!((decoded.ends, decoded.unread), (Some((4096, 3 * 4096)), None));
}

#[test]
fn a_base_of_many_chunks_is_read_back() {
    let ledgers = (0..5000).map(full).collect();
    let checkpoint = Checkpoint { ledgers, ..checkpoint() };
    assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(checkpoint.clone()));
    let mut change = Encoder::change(head(5));
    (0..5000).for_each(|ledger| change.ledger(&plain(ledger)));
    let file = Bytes::from([&checkpoint.encode()[..], &change.finish()].concat());
    assert_eq!(Checkpoint::decode(&file).unwrap().ledgers, (0..5000).map(plain).collect::<Vec<_>>());
}

#[test]
fn every_cut_is_noticed_unless_it_leaves_an_earlier_whole_file() {
    let bytes = file();
    for cut in 0..bytes.len() {
        match decode(&bytes.slice(..cut)) {
            Err(error) => assert!(error == FormatError::Damaged && cut < 4096, "cut at {cut}"),
            Ok(decoded) => {
                let whole = cut.is_multiple_of(4096);
                assert_eq!(decoded.unread.is_none(), whole, "cut at {cut}");
                assert_eq!(decoded.ends.is_some(), whole, "cut at {cut}");
                assert!(whole || decoded.is_cut, "cut at {cut}");
                // A change is whole when only zeros behind it are missing.
                let changes = decoded.checkpoint.number - 4;
                assert!(
                    [(cut / 4096).saturating_sub(1), cut.div_ceil(4096) - 1].contains(&(changes as usize)),
                    "cut at {cut}"
                );
                assert_eq!(decoded.checkpoint, after(changes), "cut at {cut}");
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed_and_never_changes_what_is_read() {
    let bytes = file();
    for bit in 0..bytes.len() * 8 {
        let mut bad = BytesMut::from(&bytes[..]);
        bad[bit / 8] ^= 1 << (bit % 8);
        match decode(&bad.freeze()) {
            Err(error) => assert!(error == FormatError::Damaged && bit / 8 < 4096, "bit {bit}"),
            Ok(decoded) => {
                assert!(decoded.unread.is_some() && decoded.ends.is_none(), "bit {bit}");
                assert_eq!(decoded.checkpoint, after(decoded.checkpoint.number - 4), "bit {bit}");
            }
        }
    }
}

#[test]
fn a_change_follows_only_the_number_before_it() {
    let base = checkpoint().encode();
    for wrong in [&second_change()[..], &base, &[&first_change()[..], &first_change()].concat()] {
        let decoded = decode(&Bytes::from([&base[..], wrong].concat())).unwrap();
        assert!(decoded.unread.is_some());
        assert!(decoded.checkpoint == after(0) || decoded.checkpoint == after(1));
    }
}

#[test]
fn a_newer_version_is_told_apart_from_damage() {
    let mut bytes = BytesMut::from(&checkpoint().encode()[..]);
    bytes[11] = 9;
    assert_eq!(decode(&bytes.clone().freeze()).unwrap_err(), FormatError::Damaged);
    let crc = magnetar_proto::checksum::crc32c(&bytes[..28]).to_be_bytes();
    bytes[28..32].copy_from_slice(&crc);
    assert_eq!(decode(&bytes.freeze()).unwrap_err(), FormatError::Newer { version: 9 });
}

const DIRS: [&str; 2] = ["/a", "/b"];

fn storage() -> (MemoryStorage, Arc<dyn Storage>) {
    let memory = MemoryStorage::new();
    DIRS.iter().for_each(|dir| memory.create_dir_all(dir.as_ref()).unwrap());
    (memory.clone(), Arc::new(memory))
}

fn open(storage: &Arc<dyn Storage>) -> (Copies, Option<Checkpoint>) {
    Copies::open(storage, DIRS.iter().map(Path::new)).unwrap()
}

#[test]
fn a_copy_grows_by_changes_and_is_written_anew_before_they_outweigh_it() {
    let (memory, storage) = storage();
    let (mut copies, found) = open(&storage);
    assert_eq!(found, None);
    let (mut anew, mut longest) = (0, 0);
    for number in 5..1000 {
        let copy = copies.of(Path::new("/a"));
        if copy.needs_base(&storage, number) {
            copy.replace(
                &storage,
                number,
                &Encoder::base(InstanceId::from_bytes([7; 16]), head(number)).finish(),
            )
            .unwrap();
            anew += 1;
        } else {
            copy.append(&storage, number, &Encoder::change(head(number)).finish()).unwrap();
        }
        longest = longest.max(memory.read(Path::new("/a/checkpoint")).unwrap().len());
        let left: Arc<dyn Storage> = Arc::new(memory.crash(Unsynced::Lost));
        assert_eq!(newest(&left, [Path::new("/a")].into_iter()).unwrap().unwrap().number, number);
    }
    assert!((3..6).contains(&anew), "{anew} times in 995");
    assert!(longest < (1 << 20) + 16_384, "{longest} bytes");
}

#[test]
fn a_change_without_space_leaves_the_file_as_it_was_and_can_be_appended_again() {
    let (memory, storage) = storage();
    let (mut copies, _) = open(&storage);
    let copy = copies.of(Path::new("/a"));
    copy.replace(&storage, 4, &checkpoint().encode()).unwrap();
    memory.set_free(1000);
    let failed = copy.append(&storage, 5, &first_change()).unwrap_err();
    assert!(failed.untouched);
    assert_eq!(memory.read(Path::new("/a/checkpoint")).unwrap(), checkpoint().encode());
    memory.set_free(1 << 20);
    assert!(!copy.needs_base(&storage, 5));
    copy.append(&storage, 5, &first_change()).unwrap();
    assert_eq!(open(&storage).1, Some(after(1)));
}

#[test]
fn what_is_behind_the_newest_whole_change_of_any_copy_is_written_anew() {
    for (a, b, expected) in [
        // The power went while the first copy, then while the second one, got its change.
        (&file()[..8250], &file()[..8192], 1),
        (&file()[..], &file()[..8250], 2),
        // The last change has rotted in one.
        (&file()[..8192 + 4095], &file()[..], 2),
        (&file()[..100], &file()[..4096], 0),
    ] {
        let (_, storage) = storage();
        crate::testing::overwrite(&storage, Path::new("/a/checkpoint"), a);
        crate::testing::overwrite(&storage, Path::new("/b/checkpoint"), b);
        let (mut copies, found) = open(&storage);
        assert_eq!(found, Some(after(expected)));
        for (dir, bytes) in DIRS.iter().zip([a, b]) {
            let up_to_date = bytes.len() == 4096 * (expected as usize + 1);
            assert_eq!(copies.of(dir.as_ref()).needs_base(&storage, 5 + expected), !up_to_date, "{dir}");
        }
    }
}

#[test]
fn a_file_that_others_have_changed_is_not_appended_to() {
    let (_, storage) = storage();
    let (mut copies, _) = open(&storage);
    copies.of(Path::new("/a")).replace(&storage, 4, &checkpoint().encode()).unwrap();
    crate::testing::overwrite(&storage, Path::new("/a/checkpoint"), &file());
    assert!(copies.of(Path::new("/a")).needs_base(&storage, 5));
    storage.remove(Path::new("/a/checkpoint")).unwrap();
    assert!(copies.of(Path::new("/a")).needs_base(&storage, 5));
}

/// For the figures in the module's comment: `cargo test -p magnetar-bookie --lib checkpoint::tests::bytes -- --nocapture`.
#[test]
fn bytes_of_a_flush_are_those_of_what_it_changed() {
    let row = |ledger| LedgerRow {
        master_key: Some([6; 20]),
        last_add_confirmed: Some(EntryId(ledger)),
        ..plain(ledger)
    };
    let mut base = Encoder::base(InstanceId::from_bytes([7; 16]), head(4));
    (0..1_000_000).for_each(|ledger| base.ledger(&row(ledger)));
    let base = base.finish().len();
    println!("a base of a million ledgers: {base} bytes");
    for changed in [0, 100, 1_000, 10_000] {
        let mut change = Encoder::change(head(5));
        change.log(&log(9));
        (0..changed).for_each(|ledger| change.ledger(&row(ledger)));
        let change = change.finish().len();
        println!("a change of {changed} ledgers: {change} bytes");
        assert!(change as u64 <= 4096 + changed * 40);
    }
}
