//! Batches that are under way together: what their records say, which of them complete, and what a crash leaves.

use std::collections::VecDeque;
use std::sync::mpsc;

use magnetar_common::storage::{AlignedBuffer, MemoryStorage, RealStorage};

use super::device::{Batch, Device};
use super::queue::BATCH_BYTES_MAX;
use super::record::{Record, decode};
use super::*;
use crate::testing::{body, instance, metrics};

const NOTHING: ReplayFrom = ReplayFrom { floor: None, sequence: 0 };

/// Finishes batches one by one, and tells what it was given; the batch with the number `fails` fails.
struct Slow {
    under_way: VecDeque<AlignedBuffer>,
    begun: mpsc::Sender<(u64, u64)>,
    fails: Option<usize>,
}

const DEPTH: usize = 3;

impl Device for Slow {
    fn depth(&self) -> usize {
        DEPTH
    }

    fn is_direct(&self) -> bool {
        true
    }

    fn begin(&mut self, batch: Batch) -> io::Result<()> {
        assert!(self.under_way.len() < DEPTH);
        let (place, _, _) = decode(&batch.bytes.to_vec().into()).unwrap();
        self.begun.send((place.sequence, place.durable_before())).unwrap();
        self.under_way.push_back(batch.bytes);
        Ok(())
    }

    fn finish(&mut self) -> io::Result<AlignedBuffer> {
        let done = self.under_way.pop_front().unwrap();
        self.fails = self.fails.and_then(|n| n.checked_sub(1));
        if self.fails == Some(0) { Err(io::Error::other("injected EIO")) } else { Ok(done) }
    }
}

/// Runs a writer over submissions of one large record each, so that each is a batch. Returns the sequences that were
/// begun with what each said was durable, the tokens that completed, and how far the journal is durable.
fn run(submissions: u64, fails: Option<usize>) -> (Vec<(u64, u64)>, Vec<u64>, u64) {
    let storage = MemoryStorage::new();
    storage.create_dir_all("/journal".as_ref()).unwrap();
    let queue = Arc::new(queue::Queue::new(1));
    let storage: Arc<dyn Storage> = Arc::new(storage);
    let files = Arc::new(files::Files::new(storage, "/journal".as_ref(), true, vec![], vec![], 1));
    let (begun, places) = mpsc::channel();
    let device = Box::new(Slow { under_way: VecDeque::new(), begun, fails });
    let mut writer = Writer::new(queue.clone(), files, device, instance(), 1 << 30, metrics());
    writer.roll(1, 1).unwrap();
    let large = bytes::Bytes::from(vec![7; BATCH_BYTES_MAX / 2 + 1]);
    for n in 1..=submissions {
        queue.push(Submission { records: vec![Record::Entry(large.clone())], token: Some(n) });
    }
    // Waits for those before it, under way or not.
    queue.push(Submission { records: vec![], token: Some(submissions + 1) });
    queue.stop();
    let mut completed = Vec::new();
    let result = writer.run(&mut |tokens| completed.append(tokens));
    assert_eq!(result.is_err(), fails.is_some());
    (places.iter().collect(), completed, queue.durable())
}

#[test]
fn a_record_says_what_was_durable_when_it_was_written() {
    let (places, completed, durable) = run(5, None);
    assert_eq!(places, [(1, 1), (2, 1), (3, 1), (4, 2), (5, 3)]);
    assert_eq!(completed, [1, 2, 3, 4, 5, 6]);
    assert_eq!(durable, 5);
}

#[test]
fn nothing_completes_behind_a_batch_that_failed() {
    for fails in 1..=4 {
        let (_, completed, durable) = run(4, Some(fails));
        assert_eq!(completed, (1..fails as u64).collect::<Vec<_>>());
        assert_eq!(durable, fails as u64 - 1);
    }
}

/// A segment of three batches of one record each: the second one did not reach the disk, and the third one says that
/// everything before `durable_before` had been durable.
fn segment_with_a_hole(durable_before: u64) -> Arc<dyn Storage> {
    let storage = MemoryStorage::new();
    storage.create_dir_all("/journal".as_ref()).unwrap();
    let file = storage.create(&Path::new("/journal").join(segment::file_name(1))).unwrap();
    let header = segment::SegmentHeader { instance: instance(), segment: 1, first_sequence: 1 };
    file.write_all_at(&header.encode(), 0).unwrap();
    for (sequence, durable_before) in [(1, 1), (3, durable_before)] {
        let batch_offset = (sequence - durable_before) as u32;
        let mut bytes = AlignedBuffer::default();
        let place = record::Place { segment: 1, sequence, batch_offset };
        Record::Entry(body(1, sequence)).encode(place, |part| bytes.extend_from_slice(part));
        bytes.pad();
        file.write_all_at(&bytes, sequence * 4096).unwrap();
    }
    Arc::new(storage)
}

#[test]
fn a_batch_that_was_lost_beside_one_under_way_with_it_is_a_torn_tail_and_no_damage() {
    for (durable_before, damaged) in [(1, false), (2, false), (3, true)] {
        let storage = segment_with_a_hole(durable_before);
        let mut sequences = Vec::new();
        let replayed = replay(&storage, "/journal".as_ref(), instance(), NOTHING, &mut |sequence, _| {
            sequences.push(sequence);
            Ok::<(), ReplayError>(())
        })
        .unwrap();
        assert_eq!(!replayed.damage.is_empty(), damaged, "{durable_before}");
        assert_eq!(sequences, if damaged { vec![1, 3] } else { vec![1] }, "{durable_before}");
    }
}

#[test]
fn records_of_many_submitters_are_replayed_in_order_from_every_device() {
    for device in [JournalDevice::Buffered, JournalDevice::Direct, JournalDevice::Uring] {
        let dir = tempfile::tempdir().unwrap();
        let storage: Arc<dyn Storage> = Arc::new(RealStorage);
        let mut expected = Vec::new();
        for life in 0..2 {
            let mut records = Vec::new();
            let replayed = replay(&storage, dir.path(), instance(), NOTHING, &mut |_, record| {
                records.push(record);
                Ok::<(), ReplayError>(())
            })
            .unwrap();
            assert!(records == expected, "{device}, life {life}");
            let (send, done) = mpsc::channel();
            let hooks = Hooks {
                complete: Box::new(move |tokens| tokens.drain(..).for_each(|token| _ = send.send(token))),
                failed: Box::new(|error| panic!("{error}")),
                metrics: metrics(),
            };
            let options =
                Options { segment_bytes: 64 << 10, device: DeviceOptions { device, unsafe_no_sync: false } };
            let journal =
                Journal::start(storage.clone(), dir.path(), instance(), options, replayed, hooks).unwrap();
            std::thread::scope(|scope| {
                for ledger in 1..=4 {
                    let journal = &journal;
                    scope.spawn(move || {
                        for entry in 0..100 {
                            let record = Record::Entry(body(ledger, entry));
                            journal.submit(Submission { records: vec![record.clone()], token: Some(record) });
                        }
                    });
                }
            });
            journal.stop();
            expected.extend(done.iter());
        }
        assert_eq!(expected.len(), 800);
    }
}
