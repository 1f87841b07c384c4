//! Segments whose files are made ready before their turn: what is on the disk, and what a crash leaves.

use std::io;
use std::path::Path;
use std::sync::mpsc;

use magnetar_common::storage::{AlignedBuffer, MemoryStorage, RealStorage, Unsynced};

use super::ahead::{Ahead, AheadOwner, Wanted};
use super::device::{Batch, Device};
use super::record::Record;
use super::segment::file_name;
use super::*;
use crate::testing::{body, instance};

const NOTHING: ReplayFrom = ReplayFrom { floor: None, sequence: 0 };
const SEGMENT: u64 = 1 << 20;

fn record(n: u64) -> Record {
    Record::Entry(body(1, n))
}

fn replayed(storage: &Arc<dyn Storage>, dir: &Path) -> (Replayed, Vec<Record>) {
    let mut records = Vec::new();
    let end = replay(storage, dir, instance(), NOTHING, &mut |_, record| {
        records.push(record);
        Ok::<(), ReplayError>(())
    });
    (end.unwrap(), records)
}

struct Stepping {
    journal: Journal<u64>,
    done: mpsc::Receiver<u64>,
}

impl Stepping {
    fn start(storage: &Arc<dyn Storage>, dir: &Path) -> Stepping {
        let (send, done) = mpsc::channel();
        let hooks = Hooks {
            complete: Box::new(move |tokens| tokens.drain(..).for_each(|token| send.send(token).unwrap())),
            failed: Box::new(|error| panic!("{error}")),
            metrics: crate::testing::metrics(),
        };
        let device = DeviceOptions { device: JournalDevice::Direct, ..DeviceOptions::default() };
        let options = Options { segment_bytes: SEGMENT, device };
        let end = replayed(storage, dir).0;
        let journal = Journal::start_stepped(storage.clone(), dir, instance(), options, end, hooks).unwrap();
        Stepping { journal, done }
    }

    /// One batch of one block for each number.
    fn batches(&self, numbers: std::ops::RangeInclusive<u64>) {
        for n in numbers {
            self.journal.submit(Submission { records: vec![record(n)], token: Some(n) });
            while self.journal.step() {}
            assert_eq!(self.done.try_recv(), Ok(n));
        }
    }
}

/// So many batches fill a segment, and half of one.
const WHOLE: u64 = SEGMENT / 4096 - 1;
const HALF: u64 = SEGMENT / 4096 / 2;

fn records(last: u64) -> Vec<Record> {
    (1..=last).map(record).collect()
}

#[test]
fn the_next_segment_is_written_from_end_to_end_before_its_turn_and_not_before_half_of_this_one() {
    let dir = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(RealStorage);
    let journal = Stepping::start(&storage, dir.path());
    let second = dir.path().join(file_name(2));
    journal.batches(1..=HALF - 1);
    assert!(!storage.exists(&second).unwrap());
    journal.batches(HALF..=HALF);
    let file = storage.open(&second).unwrap();
    assert_eq!((file.first_hole(0).unwrap(), file.len().unwrap()), (SEGMENT, SEGMENT));
    assert_eq!(journal.journal.files.live_segments(), [1], "nothing is in it yet");
    journal.batches(HALF + 1..=WHOLE + 5);
    assert_eq!(journal.journal.files.live_segments(), [1, 2]);
    assert_eq!(replayed(&storage, dir.path()).1, records(WHOLE + 5));
}

#[test]
fn what_was_prepared_is_free_after_a_crash_and_the_journal_goes_on_behind_it() {
    let disk = MemoryStorage::new();
    let dir = Path::new("/journal");
    disk.create_dir_all(dir).unwrap();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let journal = Stepping::start(&storage, dir);
    journal.batches(1..=HALF + 1);
    for unsynced in [Unsynced::Kept, Unsynced::Lost, Unsynced::Torn { seed: 7 }] {
        let storage: Arc<dyn Storage> = Arc::new(disk.crash(unsynced));
        let (end, found) = replayed(&storage, dir);
        assert_eq!((found, end.damage.len(), end.last_segment), (records(HALF + 1), 0, 2), "{unsynced:?}");
        assert_eq!(end.free, [dir.join(file_name(2))], "{unsynced:?}");
        let journal = Stepping::start(&storage, dir);
        assert!(!storage.exists(&dir.join(file_name(2))).unwrap(), "{unsynced:?}: it is used first");
        journal.batches(HALF + 2..=WHOLE * 2);
        assert_eq!(replayed(&storage, dir).1, records(WHOLE * 2), "{unsynced:?}");
    }
}

#[test]
fn a_segment_that_is_needed_while_it_is_being_made_is_written_no_further() {
    let dir = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(RealStorage);
    let journal = Stepping::start(&storage, dir.path());
    let (calls, wanted) =
        (std::cell::Cell::new(0), Wanted { instance: instance(), segment: 2, filled: true });
    let is_urgent = || calls.replace(calls.get() + 1) == 1;
    let file = journal.journal.files.prepare(wanted, SEGMENT, &is_urgent).unwrap().unwrap();
    let hole = file.first_hole(0).unwrap();
    assert!(0 < hole && hole < SEGMENT, "{hole}");
    assert_eq!(file.len().unwrap(), SEGMENT, "its space is taken all the same");
}

#[test]
fn without_space_for_it_the_next_segment_is_made_when_its_turn_comes() {
    let disk = MemoryStorage::new();
    let dir = Path::new("/journal");
    disk.create_dir_all(dir).unwrap();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let journal = Stepping::start(&storage, dir);
    journal.batches(1..=HALF - 1);
    // The first write is the batch's, the second one prepares.
    disk.fail_nth_write(2, io::ErrorKind::StorageFull);
    journal.batches(HALF..=HALF);
    assert!(!storage.exists(&dir.join(file_name(2))).unwrap());
    journal.batches(HALF + 1..=WHOLE + 5);
    assert_eq!(journal.journal.files.live_segments(), [1, 2]);
    assert_eq!(replayed(&storage, dir).1, records(WHOLE + 5));
}

/// A device beside whose batch the next segment's file is made.
struct Beside {
    disk: MemoryStorage,
    fails: bool,
    ahead: Arc<Ahead>,
    batch: Option<AlignedBuffer>,
}

impl Device for Beside {
    fn depth(&self) -> usize {
        1
    }

    fn is_direct(&self) -> bool {
        true
    }

    fn begin(&mut self, batch: Batch) -> io::Result<()> {
        self.batch = Some(batch.bytes);
        Ok(())
    }

    fn finish(&mut self) -> io::Result<AlignedBuffer> {
        if self.fails {
            self.disk.fail_nth_sync(1);
        }
        self.ahead.want(Wanted { instance: instance(), segment: 2, filled: false });
        Ok(self.batch.take().unwrap())
    }
}

/// A clean end went well with a failed sync behind it.
#[test]
fn what_fails_beside_the_last_batch_is_a_failure_of_the_journal() {
    for fails in [false, true] {
        let disk = MemoryStorage::new();
        let dir = Path::new("/journal");
        disk.create_dir_all(dir).unwrap();
        let queue = Arc::new(queue::Queue::new(1));
        let storage: Arc<dyn Storage> = Arc::new(disk.clone());
        let files = Arc::new(files::Files::new(storage, dir, true, vec![], vec![], 1));
        let ahead = Arc::new(Ahead::new(files.clone(), SEGMENT, false));
        let device = Box::new(Beside { disk, fails, ahead: ahead.clone(), batch: None });
        let mut writer =
            Writer::new(queue.clone(), files, device, instance(), SEGMENT, crate::testing::metrics());
        writer.prepare_with(AheadOwner(ahead));
        writer.roll(1, 1).unwrap();
        queue.push(Submission { records: vec![record(1)], token: Some(1) });
        queue.stop();
        let mut completed = Vec::new();
        assert_eq!(writer.run(&mut |tokens| completed.append(tokens)).is_err(), fails);
        assert_eq!(completed, [1]);
    }
}
