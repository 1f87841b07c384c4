//! Every sync and every write of the journal, failing once: nothing completes afterwards, and what completed is there.

use std::sync::mpsc;

use magnetar_common::storage::{MemoryStorage, Unsynced};

use super::record::Record;
use super::*;
use crate::testing::{body, instance};

const DEVICES: [JournalDevice; 2] = [JournalDevice::Buffered, JournalDevice::Direct];
const DIR: &str = "/journal";
const RECORDS: u64 = 16;
const NOTHING: ReplayFrom = ReplayFrom { floor: None, sequence: 0 };

fn record(n: u64) -> Record {
    Record::Entry(body(1, n))
}

fn replayed(storage: &MemoryStorage) -> (Replayed, Vec<Record>) {
    let storage: Arc<dyn Storage> = Arc::new(storage.clone());
    let mut records = Vec::new();
    let end = replay(&storage, DIR.as_ref(), instance(), NOTHING, &mut |_, record| {
        records.push(record);
        Ok::<(), ReplayError>(())
    });
    (end.unwrap(), records)
}

/// What a life of the journal came to.
struct Outcome {
    completed: Vec<u64>,
    failed: bool,
}

/// One life: a few segments of batches, one after the other, until all are durable or the journal has failed; then some
/// more submissions, and the end. Without threads, so that the n-th sync is the same one each time.
fn live(storage: &MemoryStorage, device: JournalDevice) -> Outcome {
    let (end, _) = replayed(storage);
    let (send, done) = mpsc::channel();
    let (send_failure, failure) = mpsc::channel();
    let hooks = Hooks {
        complete: Box::new(move |tokens| tokens.drain(..).for_each(|token| send.send(token).unwrap())),
        failed: Box::new(move |_| send_failure.send(()).unwrap()),
        metrics: crate::testing::metrics(),
    };
    let options =
        Options { segment_bytes: 16 << 10, device: DeviceOptions { device, unsafe_no_sync: false } };
    let files: Arc<dyn Storage> = Arc::new(storage.clone());
    let mut completed = Vec::new();
    let Ok(journal) = Journal::start_stepped(files, DIR.as_ref(), instance(), options, end, hooks) else {
        return Outcome { completed, failed: true };
    };
    for n in 1..=RECORDS {
        // Some batches are large, so that space is reserved for them rather than filled.
        let mut records = vec![record(n)];
        if n % 8 == 0 {
            records.push(Record::Entry(vec![7; 200 << 10].into()));
        }
        journal.submit(Submission { records, token: Some(n) });
        while journal.step() {}
        match done.try_recv() {
            Ok(token) => completed.push(token),
            Err(_) => break,
        }
    }
    let failed = completed.len() < RECORDS as usize;
    if failed {
        failure.try_recv().unwrap();
        (1..=5).for_each(|n| _ = journal.submit(Submission { records: vec![record(n)], token: Some(99) }));
        assert_eq!(journal.wait_durable(journal.last_assigned()), Err(NotDurable));
    }
    while journal.step() {}
    completed.extend(done.try_iter());
    Outcome { completed, failed }
}

fn fresh() -> MemoryStorage {
    let storage = MemoryStorage::new();
    storage.create_dir_all(DIR.as_ref()).unwrap();
    storage
}

/// Injects a failure at each point of a life until one is met by none of them.
fn fail_each_point(device: JournalDevice, inject: impl Fn(&MemoryStorage, u64)) -> u64 {
    for n in 1.. {
        let storage = fresh();
        inject(&storage, n);
        let Outcome { completed, failed } = live(&storage, device);
        let expected: Vec<u64> = (1..=completed.len() as u64).collect();
        assert_eq!(completed, expected, "{device}, point {n}: tokens complete in order, or never");
        for unsynced in [Unsynced::Lost, Unsynced::Torn { seed: n }] {
            let (_, records) = replayed(&storage.crash(unsynced));
            let small: Vec<_> = records.into_iter().filter(|r| r.encoded_len() < 1 << 10).collect();
            assert!(small.len() >= completed.len(), "{device}, point {n}: what completed is there");
            let there: Vec<Record> = (1..=small.len() as u64).map(record).collect();
            assert_eq!(small, there, "{device}, point {n}");
        }
        if !failed {
            assert_eq!(completed.len() as u64, RECORDS);
            return n - 1;
        }
    }
    unreachable!("a life has an end")
}

#[test]
fn after_any_failed_sync_nothing_completes() {
    for device in DEVICES {
        let points = fail_each_point(device, |storage, n| storage.fail_nth_sync(n));
        assert!(
            points > RECORDS,
            "{device}: each batch, each segment's header and name are synced: {points}"
        );
    }
}

#[test]
fn after_any_failed_write_nothing_completes() {
    for device in DEVICES {
        // Not for want of space: a start without any does without trying direct writes.
        let other = io::ErrorKind::Other;
        let points = fail_each_point(device, |storage, n| storage.fail_nth_write(n, other));
        assert!(points > RECORDS, "{device}: {points}");
    }
}
