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
fn a_damaged_record_before_a_later_batch_is_reported_at_every_byte_and_the_rest_replayed() {
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
        let (end, records) = replayed(&storage, NOTHING).unwrap();
        let offset = start as u64;
        assert_eq!(end.damage, [Damage { segment: 1, offset, first: 2, end: 3 }], "byte {at}");
        assert_eq!(records, [(1, record(1)), (3, record(3))], "byte {at}");
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
fn the_records_after_a_damaged_header_are_replayed() {
    let storage = memory(&[DIR]);
    let running = Running::start(&storage, NOTHING, 1 << 20);
    running.batches(1..=2);
    running.journal.stop();
    let path = dir().join(file_name(1));
    let mut bytes = content(&storage, &path);
    bytes[20] ^= 1;
    overwrite(&storage, &path, &bytes);
    let (end, records) = replayed(&storage, NOTHING).unwrap();
    assert_eq!((end.damage, records), (vec![], numbered(1..=2)));
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
fn a_missing_segment_is_reported() {
    let storage = memory(&[DIR]);
    let running = Running::start(&storage, NOTHING, 600);
    running.batches(1..=10);
    running.journal.stop();
    let segments = running.journal.files.live_segments();
    storage.remove(&dir().join(file_name(segments[1]))).unwrap();
    let (end, records) = replayed(&storage, NOTHING).unwrap();
    let [Damage { segment, first, end, .. }] = end.damage[..] else { panic!("{:?}", end.damage) };
    assert_eq!(segment, segments[0], "behind its end");
    assert_eq!(records, numbered((1..first).chain(end..=10)));
    // The checkpoint still covers what stood there, or does not.
    let from = |sequence| ReplayFrom { floor: Some(segments[1]), sequence };
    assert_eq!(replayed(&storage, from(end - 1)).unwrap().0.damage, []);
    assert_eq!(replayed(&storage, from(1)).unwrap().0.damage.len(), 1);
}

#[test]
fn a_journal_that_is_gone_is_reported() {
    let storage = memory(&[DIR]);
    let from = ReplayFrom { floor: Some(4), sequence: 9 };
    let damage = replayed(&storage, from).unwrap().0.damage;
    assert_eq!(damage, [Damage { segment: 4, offset: 0, first: 10, end: 10 }]);
    assert!(damage[0].to_string().contains("unknown number"));
}

/// Replay once took the rest of a batch for torn when a later batch proved that the damaged part had been durable, and
/// lost records that could be read.
#[test]
fn what_can_be_read_of_a_damaged_batch_is_replayed() {
    let storage = memory(&[DIR]);
    let running = Running::start(&storage, NOTHING, 1 << 20);
    running.batch(vec![record(1), record(2), record(3), record(4)]);
    running.batch(vec![record(5)]);
    running.journal.stop();
    let path = dir().join(file_name(1));
    let mut bytes = content(&storage, &path);
    bytes[HEADER_BYTES + record(1).encoded_len() + 3] ^= 1;
    overwrite(&storage, &path, &bytes);
    let (end, records) = replayed(&storage, NOTHING).unwrap();
    assert_eq!(records, numbered([1, 3, 4, 5]));
    assert_eq!(end.damage.len(), 1);
    // Also when the checkpoint covers a part of what is missing.
    let (end, records) = replayed(&storage, ReplayFrom { floor: Some(1), sequence: 1 }).unwrap();
    assert_eq!((records, end.damage.len()), (numbered([3, 4, 5]), 1));
    let (end, records) = replayed(&storage, ReplayFrom { floor: Some(1), sequence: 2 }).unwrap();
    assert_eq!((records, end.damage.len()), (numbered([3, 4, 5]), 0));
}

#[test]
fn zeros_up_to_the_next_block_are_padding() {
    let storage = memory(&[DIR]);
    let running = Running::start(&storage, NOTHING, 1 << 20);
    running.batches(1..=2);
    running.journal.stop();
    let path = dir().join(file_name(1));
    let bytes = content(&storage, &path);
    let second = HEADER_BYTES + record(1).encoded_len();
    let mut padded = bytes[..second].to_vec();
    padded.resize(4096, 0);
    padded.extend_from_slice(&bytes[second..]);
    overwrite(&storage, &path, &padded);
    assert_eq!(replayed(&storage, NOTHING).unwrap().1, numbered(1..=2));
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
