//! The journal and its replay over files that are cut, damaged and recycled.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use magnetar_common::storage::Storage;
use magnetar_proto::ids::LedgerId;

use super::record::Record;
use super::segment::{HEADER_BYTES, file_name};
use super::*;
use crate::testing::{body, content, instance, memory, overwrite};

const DIR: &str = "/journal";
const NOTHING: ReplayFrom = ReplayFrom { floor: None, sequence: 0 };

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn record(n: u64) -> Record {
    if n.is_multiple_of(3) { Record::Fence { ledger: LedgerId(n) } } else { Record::Entry(body(1, n)) }
}

fn replayed(
    storage: &Arc<dyn Storage>,
    from: ReplayFrom,
) -> Result<(Replayed, Vec<(u64, Record)>), ReplayError> {
    let mut records = Vec::new();
    let end = replay(storage, dir(), instance(), from, &mut |sequence, record| {
        records.push((sequence, record));
        Ok::<(), ReplayError>(())
    })?;
    Ok((end, records))
}

/// A journal whose batches the test decides.
struct Running {
    journal: Journal<u64>,
    done: mpsc::Receiver<u64>,
}

impl Running {
    fn start(storage: &Arc<dyn Storage>, from: ReplayFrom, segment_bytes: u64) -> Self {
        let (end, _) = replayed(storage, from).unwrap();
        let (send, done) = mpsc::channel();
        let hooks = Hooks {
            complete: Box::new(move |tokens| tokens.drain(..).for_each(|token| send.send(token).unwrap())),
            failed: Box::new(|error| panic!("{error}")),
            metrics: crate::testing::metrics(),
        };
        let options = Options { segment_bytes, device: DeviceOptions::default() };
        let journal = Journal::start(storage.clone(), dir(), instance(), options, end, hooks).unwrap();
        Running { journal, done }
    }

    /// One batch, durable when this returns.
    fn batch(&self, records: Vec<Record>) {
        let sequence = self.journal.submit(Submission { records, token: Some(0) });
        self.done.recv().unwrap();
        assert_eq!(self.journal.durable(), sequence);
    }

    fn batches(&self, numbers: impl IntoIterator<Item = u64>) {
        numbers.into_iter().for_each(|n| self.batch(vec![record(n)]));
    }
}

fn numbered(range: impl IntoIterator<Item = u64>) -> Vec<(u64, Record)> {
    range.into_iter().map(|n| (n, record(n))).collect()
}

#[test]
fn what_was_submitted_is_replayed_in_order_over_many_segments() {
    let storage = memory(&[DIR]);
    let running = Running::start(&storage, NOTHING, 1024);
    running.batches(1..=40);
    running.journal.stop();
    assert!(running.journal.files.live_segments().len() > 2);
    assert_eq!(replayed(&storage, NOTHING).unwrap().1, numbered(1..=40));
}

#[test]
fn tokens_complete_in_order_and_an_empty_submission_waits_for_those_before() {
    let storage = memory(&[DIR]);
    let running = Running::start(&storage, NOTHING, 1 << 20);
    for n in 1..=50 {
        let records = if n % 2 == 0 { vec![] } else { vec![record(n)] };
        running.journal.submit(Submission { records, token: Some(n) });
    }
    let order: Vec<u64> = running.done.iter().take(50).collect();
    assert_eq!(order, (1..=50).collect::<Vec<_>>());
    assert_eq!(running.journal.durable(), 25);
}

#[test]
fn a_journal_cut_at_any_byte_replays_the_whole_records_before_the_cut_and_goes_on() {
    let storage = memory(&[DIR]);
    let running = Running::start(&storage, NOTHING, 1 << 20);
    running.batches(1..=4);
    running.journal.stop();
    let path = dir().join(file_name(1));
    let whole = content(&storage, &path);
    let mut ends = vec![HEADER_BYTES];
    (1..=4).for_each(|n| ends.push(ends.last().unwrap() + record(n).encoded_len()));

    for cut in 0..=*ends.last().unwrap() {
        for zeros in [0, 100] {
            let storage = memory(&[DIR]);
            let mut bytes = whole[..cut].to_vec();
            bytes.resize(cut + zeros, 0);
            overwrite(&storage, &path, &bytes);
            let left = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1) as u64;
            let (end, records) = replayed(&storage, NOTHING).unwrap();
            assert_eq!(records, numbered(1..=left), "cut at {cut}");
            assert_eq!(end.next_sequence, left + 1);
        }
    }
}

#[test]
fn a_cut_tail_stays_cut_after_the_journal_went_on() {
    let storage = memory(&[DIR]);
    let running = Running::start(&storage, NOTHING, 1 << 20);
    running.batches(1..=2);
    running.batch(vec![record(3), record(4), record(5)]);
    running.journal.stop();
    // The middle of the last batch did not reach the disk, its end did.
    let path = dir().join(file_name(1));
    let mut bytes = content(&storage, &path);
    let at = HEADER_BYTES + record(1).encoded_len() + record(2).encoded_len() + record(3).encoded_len();
    bytes[at + 10] ^= 1;
    overwrite(&storage, &path, &bytes);

    assert_eq!(replayed(&storage, NOTHING).unwrap().1, numbered(1..=3));
    let running = Running::start(&storage, NOTHING, 1 << 20);
    running.batch(vec![record(4)]);
    running.journal.stop();
    assert_eq!(replayed(&storage, NOTHING).unwrap().1, numbered(1..=4));
}

#[test]
fn a_damaged_record_before_a_later_batch_is_corruption_at_every_byte() {
    let storage = memory(&[DIR]);
    let running = Running::start(&storage, NOTHING, 1 << 20);
    running.batches(1..=3);
    running.journal.stop();
    let path = dir().join(file_name(1));
    let whole = content(&storage, &path);
    let start = HEADER_BYTES + record(1).encoded_len();
    for at in start..start + record(2).encoded_len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        overwrite(&storage, &path, &bytes);
        let error = replayed(&storage, NOTHING).unwrap_err();
        assert!(matches!(error, ReplayError::Corrupt { segment: 1, sequence: 2, .. }), "byte {at}: {error}");
    }
}

#[test]
fn damage_that_the_checkpoint_covers_is_no_loss() {
    let storage = memory(&[DIR]);
    let running = Running::start(&storage, NOTHING, 1 << 20);
    running.batches(1..=3);
    running.journal.stop();
    let path = dir().join(file_name(1));
    let mut bytes = content(&storage, &path);
    bytes[HEADER_BYTES + record(1).encoded_len() + 3] ^= 1;
    overwrite(&storage, &path, &bytes);
    let from = ReplayFrom { floor: Some(1), sequence: 2 };
    assert_eq!(replayed(&storage, from).unwrap().1, numbered(3..=3));
}

#[test]
fn a_damaged_header_is_corruption_when_records_follow_it() {
    let storage = memory(&[DIR]);
    let running = Running::start(&storage, NOTHING, 1 << 20);
    running.batches(1..=2);
    running.journal.stop();
    let path = dir().join(file_name(1));
    let mut bytes = content(&storage, &path);
    bytes[20] ^= 1;
    overwrite(&storage, &path, &bytes);
    assert!(matches!(replayed(&storage, NOTHING), Err(ReplayError::Corrupt { segment: 1, .. })));
}

#[test]
fn stale_records_of_a_recycled_segment_are_not_replayed() {
    let storage = memory(&[DIR]);
    let running = Running::start(&storage, NOTHING, 1024);
    running.batches(1..=30);
    let floor = running.journal.floor(30);
    running.journal.free_below(floor).unwrap();
    assert_eq!(running.journal.files.live_segments(), [floor]);
    let free = || storage.list(dir()).unwrap().iter().filter(|name| name.starts_with("free-")).count();
    let free_before = free();
    running.batches(31..=40);
    running.journal.stop();
    assert!(free() < free_before);
    let from = ReplayFrom { floor: Some(floor), sequence: 30 };
    assert_eq!(replayed(&storage, from).unwrap().1, numbered(31..=40));
}

#[test]
fn a_missing_segment_is_an_error() {
    let storage = memory(&[DIR]);
    let running = Running::start(&storage, NOTHING, 600);
    running.batches(1..=10);
    running.journal.stop();
    let segments = running.journal.files.live_segments();
    storage.remove(&dir().join(file_name(segments[1]))).unwrap();
    assert!(matches!(replayed(&storage, NOTHING), Err(ReplayError::Gap { .. })));
    let from = ReplayFrom { floor: Some(segments[1]), sequence: 1 };
    assert!(matches!(replayed(&storage, from), Err(ReplayError::Missing { .. })));
}

#[test]
fn a_journal_of_another_bookie_or_a_newer_version_is_refused() {
    let storage = memory(&[DIR]);
    Running::start(&storage, NOTHING, 600).journal.stop();
    let other = InstanceId::from_bytes([8; 16]);
    let ignore = &mut |_, _| Ok::<(), ReplayError>(());
    assert!(matches!(
        replay(&storage, dir(), other, NOTHING, ignore),
        Err(ReplayError::Foreign { segment: 1 })
    ));

    let path = dir().join(file_name(1));
    let mut bytes = content(&storage, &path);
    bytes[11] = 2;
    let crc = magnetar_proto::checksum::crc32c(&bytes[..44]).to_be_bytes();
    bytes[44..48].copy_from_slice(&crc);
    overwrite(&storage, &path, &bytes);
    assert!(matches!(replayed(&storage, NOTHING), Err(ReplayError::Newer { segment: 1, version: 2 })));
}

#[test]
fn random_bytes_as_a_journal_never_panic() {
    let storage = memory(&[DIR]);
    let mut seed = 1u64;
    for _ in 0..50 {
        let bytes: Vec<u8> = (0..2000)
            .map(|_| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (seed >> 56) as u8
            })
            .collect();
        overwrite(&storage, &dir().join(file_name(1)), &bytes);
        let _ = replayed(&storage, NOTHING);
    }
}
