//! The journal: makes facts durable in the order they were submitted, and tells them again after a restart.
//! The engine submits records and replays them; the flush thread frees what a checkpoint covers.
//! It must never know of connections, caches or what a record means beyond its bytes.

mod active;
mod ahead;
#[cfg(test)]
mod ahead_tests;
mod damage;
pub(crate) mod device;
#[cfg(test)]
mod fault_tests;
mod files;
#[cfg(test)]
mod measure;
#[cfg(test)]
mod overlap_tests;
mod queue;
pub(crate) mod reader;
pub(crate) mod record;
mod replay;
pub(crate) mod segment;
mod stepped;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use magnetar_common::storage::Storage;

use self::ahead::{Ahead, AheadOwner};
#[cfg(test)]
pub(crate) use self::damage::Damage;
pub(crate) use self::device::DeviceOptions;
pub use self::device::JournalDevice;
pub(crate) use self::queue::{NotDurable, Submission};
pub use self::replay::ReplayError;
pub(crate) use self::replay::{ReplayFrom, Replayed, replay};
use self::stepped::Stepped;
use self::writer::Writer;
use crate::identity::InstanceId;
use crate::metrics::Metrics;

/// Handle of a running journal. Cheap calls, except where said that they block.
pub(crate) struct Journal<T> {
    queue: Arc<queue::Queue<T>>,
    files: Arc<files::Files>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    segment_bytes: u64,
    /// Instead of the thread, where somebody steps the journal.
    stepped: Option<Stepped<T>>,
}

/// What a user may set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) segment_bytes: u64,
    pub(crate) device: DeviceOptions,
}

/// Gets the tokens of a durable batch, in submission order, on the journal thread: must not block.
pub(crate) type Complete<T> = Box<dyn FnMut(&mut Vec<T>) + Send>;

/// What the journal thread calls.
pub(crate) struct Hooks<T> {
    pub(crate) complete: Complete<T>,
    /// Called once when a write or sync failed; nothing completes afterwards.
    pub(crate) failed: Box<dyn FnOnce(io::Error) + Send>,
    /// Where batches are counted.
    pub(crate) metrics: Arc<Metrics>,
}

impl<T: Send + 'static> Journal<T> {
    /// Starts the threads on the state that [`replay`] found. New records go to a new segment.
    pub(crate) fn start(
        storage: Arc<dyn Storage>,
        dir: &Path,
        instance: InstanceId,
        options: Options,
        replayed: Replayed,
        hooks: Hooks<T>,
    ) -> io::Result<Self> {
        let mut journal = Self::start_stepped(storage, dir, instance, options, replayed, hooks)?;
        let Some(mut stepped) = journal.stepped.take() else { return Ok(journal) };
        let ahead = Arc::new(Ahead::new(journal.files.clone(), options.segment_bytes, true));
        // Ends the other thread with this one, whatever the reason.
        stepped.prepare_with(AheadOwner(ahead.clone()));
        let queue = journal.queue.clone();
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.into()).spawn(run)
        };
        let threads = vec![
            spawn("bookie-segments", Box::new(move || ahead.run()))?,
            spawn("bookie-journal", Box::new(move || stepped.run(&queue)))?,
        ];
        journal.threads = Mutex::new(threads);
        Ok(journal)
    }

    /// As [`start`](Self::start), but without a thread: nothing becomes durable but by [`step`](Self::step).
    pub(crate) fn start_stepped(
        storage: Arc<dyn Storage>,
        dir: &Path,
        instance: InstanceId,
        options: Options,
        replayed: Replayed,
        hooks: Hooks<T>,
    ) -> io::Result<Self> {
        let device = match device::open(&*storage, dir, options.device) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::warn!(%error, "no space to try direct writes in: writing the journal through the page cache until the next start");
                device::open(
                    &*storage,
                    dir,
                    DeviceOptions { device: JournalDevice::Buffered, ..options.device },
                )?
            }
            opened => opened?,
        };
        let queue = Arc::new(queue::Queue::new(replayed.next_sequence));
        let files = Arc::new(files::Files::new(
            storage,
            dir,
            device.is_direct(),
            replayed.live,
            replayed.free,
            replayed.next_free_number,
        ));
        let next_sequence = replayed.next_sequence;
        let mut writer =
            Writer::new(queue.clone(), files.clone(), device, instance, options.segment_bytes, hooks.metrics);
        let first = replayed.last_segment + 1;
        match writer.roll(first, next_sequence) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                files.give_back_unused(replayed.unused)?;
                writer.roll(first, next_sequence)?;
            }
            begun => begun?,
        }
        let segment_bytes = options.segment_bytes;
        writer.prepare_with(AheadOwner(Arc::new(Ahead::new(files.clone(), segment_bytes, false))));
        let stepped = Some(Stepped::new(writer, hooks.complete, hooks.failed));
        Ok(Journal { queue, files, threads: Mutex::default(), segment_bytes, stepped })
    }

    /// Makes durable what is queued now, at most a batch, and completes its tokens; false when nothing is queued, after
    /// a failure, and when a thread does it. Blocks.
    pub(crate) fn step(&self) -> bool {
        self.stepped.as_ref().is_some_and(|stepped| stepped.step(&self.queue))
    }

    /// Queues records and returns the sequence of the last one queued so far. The token completes after this and every
    /// earlier submission is durable; after a failure or stop it never completes and is dropped. A submission without
    /// records waits for those before it.
    pub(crate) fn submit(&self, submission: Submission<T>) -> u64 {
        self.queue.push(submission)
    }

    /// Every record up to this sequence is durable.
    pub(crate) fn durable(&self) -> u64 {
        self.queue.durable()
    }

    /// The sequence given out last.
    pub(crate) fn last_assigned(&self) -> u64 {
        self.queue.last_assigned()
    }

    /// Blocks the thread until `sequence` is durable.
    pub(crate) fn wait_durable(&self, sequence: u64) -> Result<(), NotDurable> {
        self.queue.wait_durable(sequence)
    }

    /// Bytes that were written to fill up blocks, since the last call: with those of the records, what the disk took.
    pub(crate) fn take_padding_bytes(&self) -> u64 {
        self.queue.take_padding_bytes()
    }

    /// The lowest segment that replay needs when everything up to `sequence`, which must be durable, is checkpointed.
    pub(crate) fn floor(&self, sequence: u64) -> u64 {
        self.files.floor(sequence)
    }

    /// Gives up the segments below `floor`; only after the checkpoint naming that floor is durable. Blocks.
    pub(crate) fn free_below(&self, floor: u64) -> io::Result<()> {
        self.files.free_below(floor)
    }

    /// Takes space for a segment ahead, so that the journal can go on for that long when others have filled the disk.
    /// Cheap when it was taken before. Blocks.
    pub(crate) fn reserve(&self) -> io::Result<()> {
        self.files.reserve(self.segment_bytes)
    }

    /// Nothing completes any more, because something else that the bookie needs has failed.
    pub(crate) fn fail(&self) {
        self.queue.fail();
    }

    /// Writes what is queued, ends the threads and waits for them. Blocks. Idempotent.
    pub(crate) fn stop(&self) {
        self.queue.stop();
        let threads =
            std::mem::take(&mut *self.threads.lock().expect("nothing panics while holding the handles"));
        for thread in threads {
            // A panic of the thread has been reported by the panic hook; there is nothing left to save here.
            let _ = thread.join();
        }
    }
}

impl<T> Drop for Journal<T> {
    fn drop(&mut self) {
        self.queue.stop();
    }
}
