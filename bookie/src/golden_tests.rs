//! The on-disk formats, byte for byte: every later version of this program must read these files, and as long as it
//! writes their version, write them. `UPDATE_GOLDEN=1` writes them anew, for a new version.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use magnetar_common::storage::Storage;
use magnetar_proto::ids::{EntryId, LedgerId};

use crate::checkpoint::{Checkpoint, Encoder, Head, LedgerRow, LogRow};
use crate::entry_log::{self, Log};
use crate::journal::record::{Place, Record};
use crate::journal::segment::SegmentHeader;
use crate::journal::{ReplayError, ReplayFrom, replay};
use crate::testing::{body, content, instance, memory, overwrite};

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect()
}

/// Compares with, or updates, a file of the repository, and gives back what it holds.
fn golden(name: &str, written: &[u8]) -> Vec<u8> {
    let path = path(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, written).unwrap();
    }
    let golden = std::fs::read(&path).unwrap();
    assert!(golden == written, "{name}: what is written now differs from the recorded version");
    golden
}

fn records() -> Vec<Record> {
    vec![
        Record::MasterKey { ledger: LedgerId(1), key: [3; 20] },
        Record::Entry(body(1, 0)),
        Record::ExplicitLac { ledger: LedgerId(1), body: Bytes::from_static(b"explicit lac blob") },
        Record::Fence { ledger: LedgerId(1) },
    ]
}

#[test]
fn journal_segment() {
    let mut bytes = SegmentHeader { instance: instance(), segment: 1, first_sequence: 1 }.encode();
    for (record, sequence) in records().iter().zip(1..) {
        let batch_offset = if sequence > 2 { sequence as u32 - 3 } else { sequence as u32 - 1 };
        record.encode(Place { segment: 1, sequence, batch_offset }, |part| bytes.extend_from_slice(part));
    }
    let golden = golden("journal-v1.bin", &bytes);

    let storage = memory(&["/journal"]);
    overwrite(&storage, Path::new("/journal/journal-0000000000000001"), &golden);
    let mut found = Vec::new();
    let from = ReplayFrom { floor: None, sequence: 0 };
    let mut keep = |_, record| {
        found.push(record);
        Ok::<(), ReplayError>(())
    };
    replay(&storage, Path::new("/journal"), instance(), from, &mut keep).unwrap();
    assert_eq!(found, records());
}

const LOGGED: [(u64, u64); 4] = [(1, 0), (1, 1), (1, 4), (9, 7)];

/// Opens `bytes` as log 5, which must hold [`LOGGED`].
fn read_log(storage: &Arc<dyn Storage>, bytes: &[u8]) {
    let path = Path::new("/ledgers").join(entry_log::format::file_name(5));
    overwrite(storage, &path, bytes);
    let (log, runs) = Log::open(storage, &path, 5, instance()).unwrap();
    for (ledger, entry) in LOGGED {
        let slot =
            runs.iter().filter(|run| run.ledger.0 == ledger).find_map(|run| run.slot_of(EntryId(entry)));
        assert_eq!(log.read(slot.unwrap(), 1, 0).unwrap(), [body(ledger, entry)]);
    }
    let record =
        |ledger, entry| entry_log::format::ENTRY_HEADER_BYTES as u64 + body(ledger, entry).len() as u64;
    let bytes: Vec<u64> = runs.iter().map(|run| run.bytes).collect();
    assert_eq!(bytes, [record(1, 0) + record(1, 1), record(1, 4), record(9, 7)]);
}

#[test]
fn entry_log() {
    let storage = memory(&["/ledgers"]);
    let dir = Path::new("/ledgers");
    let sorted = LOGGED.iter().map(|(l, e)| (LedgerId(*l), EntryId(*e), body(*l, *e)));
    entry_log::write(&storage, dir, instance(), 5, sorted).unwrap();
    let path = dir.join(entry_log::format::file_name(5));
    read_log(&storage, &golden("entry-log-v2.bin", &content(&storage, &path)));
}

#[test]
fn an_entry_log_of_version_1_is_read() {
    read_log(&memory(&["/ledgers"]), include_bytes!("../tests/golden/entry-log-v1.bin"));
}

#[test]
fn checkpoint() {
    let checkpoint = Checkpoint {
        instance: instance(),
        sequence: 1000,
        floor: 3,
        next_log: 9,
        number: 77,
        incomplete: true,
        logs: vec![LogRow { log: 8, dir: 1, bytes: 4096 }],
        ledgers: vec![
            LedgerRow {
                ledger: LedgerId(1),
                fenced: false,
                master_key: Some([3; 20]),
                last_add_confirmed: Some(EntryId(5)),
                explicit_lac: None,
                deleted_ms: None,
            },
            LedgerRow {
                ledger: LedgerId(2),
                fenced: true,
                master_key: None,
                last_add_confirmed: None,
                explicit_lac: Some(Bytes::from_static(b"explicit lac blob")),
                deleted_ms: Some(1_767_225_600_000),
            },
        ],
    };
    let read = |name| Checkpoint::decode(&Bytes::from(std::fs::read(path(name)).unwrap()));
    assert_eq!(
        read("checkpoint-v1.bin"),
        Ok(Checkpoint { number: 0, incomplete: false, ..checkpoint.clone() })
    );
    assert_eq!(read("checkpoint-v2.bin"), Ok(checkpoint.clone()));

    let head = Head { number: 78, sequence: 1100, floor: 4, next_log: 11, incomplete: false };
    let mut change = Encoder::change(head);
    change.log_gone(&checkpoint.logs[0]);
    change.log(&LogRow { log: 10, dir: 0, bytes: 8192 });
    change.ledger_gone(LedgerId(1));
    let confirmed = LedgerRow { last_add_confirmed: Some(EntryId(9)), ..checkpoint.ledgers[1].clone() };
    change.ledger(&confirmed);
    let written = [&checkpoint.encode()[..], &change.finish()].concat();
    let golden = golden("checkpoint-v3.bin", &written);
    let expected = Checkpoint {
        sequence: 1100,
        floor: 4,
        next_log: 11,
        number: 78,
        incomplete: false,
        logs: vec![LogRow { log: 10, dir: 0, bytes: 8192 }],
        ledgers: vec![confirmed],
        ..checkpoint
    };
    assert_eq!(Checkpoint::decode(&Bytes::from(golden)), Ok(expected));
}
