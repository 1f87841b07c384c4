//! The journal thread: take what is queued, write it durably, complete; again.
//!
//! There is no timer: while batches are under way, the next one forms in the queue. The first failed write or sync ends
//! the thread; nothing is retried, because after a failed sync the kernel may have dropped the pages it could not write.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use magnetar_common::storage::{AlignedBuffer, File};

use super::active::Active;
use super::ahead::{AheadOwner, Wanted};
use super::device::{Batch, Device};
use super::files::Files;
use super::queue::{Queue, Submission};
use super::record::Place;
use super::segment::SegmentHeader;
use crate::identity::InstanceId;
use crate::metrics::Metrics;

/// A batch buffer that grew beyond this (one huge submission) is given back to the allocator.
const BUFFER_KEEP_BYTES: usize = 8 << 20;

pub(super) struct Writer<T> {
    queue: Arc<Queue<T>>,
    files: Arc<Files>,
    /// `None`: every segment's file is made when its turn comes.
    ahead: Option<AheadOwner>,
    /// The next segment's file was asked for.
    wanted: bool,
    device: Box<dyn Device>,
    instance: InstanceId,
    segment_bytes: u64,
    /// `None` until the first [`Writer::roll`].
    active: Option<Active>,
    next_sequence: u64,
    /// In the order they were begun. Every sequence before those of the first one is durable.
    under_way: VecDeque<UnderWay<T>>,
    /// Memory of batches that are done.
    spare: Vec<AlignedBuffer>,
    metrics: Arc<Metrics>,
}

struct UnderWay<T> {
    last_sequence: u64,
    tokens: Vec<T>,
    records: u64,
    bytes: u64,
    /// When it was begun, as [`Metrics::now`] tells.
    since: Duration,
}

/// Gets the tokens of a durable batch.
type CompleteRef<'a, T> = &'a mut dyn FnMut(&mut Vec<T>);

impl<T> Writer<T> {
    pub(super) fn new(
        queue: Arc<Queue<T>>,
        files: Arc<Files>,
        device: Box<dyn Device>,
        instance: InstanceId,
        segment_bytes: u64,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (active, under_way, spare) = (None, VecDeque::new(), Vec::new());
        let next_sequence = 0;
        Writer {
            queue,
            files,
            ahead: None,
            wanted: false,
            device,
            instance,
            segment_bytes,
            active,
            next_sequence,
            under_way,
            spare,
            metrics,
        }
    }

    /// Segments after this have their files made by `ahead`.
    pub(super) fn prepare_with(&mut self, ahead: AheadOwner) {
        self.ahead = Some(ahead);
    }

    /// Runs until the queue is stopped and drained, or a write fails. `complete` gets the tokens of each durable batch
    /// in submission order and leaves the vector empty.
    pub(super) fn run(mut self, complete: CompleteRef<'_, T>) -> io::Result<()> {
        let mut batch = Vec::new();
        loop {
            if self.under_way.is_empty() && !self.queue.take(&mut batch) {
                // What failed beside the last batch is a failure, too, although no batch comes that would notice.
                return self.take_prepared().map(drop);
            }
            self.round(&mut batch, complete)?;
        }
    }

    /// Makes durable what is queued now, at most a batch; false when nothing is.
    pub(super) fn step(&mut self, complete: CompleteRef<'_, T>) -> io::Result<bool> {
        let mut batch = Vec::new();
        if self.under_way.is_empty() && !self.queue.try_take(&mut batch) {
            return Ok(false);
        }
        self.round(&mut batch, complete)?;
        Ok(true)
    }

    /// Begins what was taken and what fits beside it, then waits for the oldest batch under way.
    fn round(&mut self, batch: &mut Vec<Submission<T>>, complete: CompleteRef<'_, T>) -> io::Result<()> {
        if !batch.is_empty() {
            self.begin(batch, complete)?;
        }
        while self.under_way.len() < self.device.depth() && self.queue.try_take(batch) {
            self.begin(batch, complete)?;
        }
        if self.under_way.is_empty() { Ok(()) } else { self.finish(complete) }
    }

    /// Begins to write a batch.
    fn begin(&mut self, batch: &mut Vec<Submission<T>>, complete: CompleteRef<'_, T>) -> io::Result<()> {
        let size: usize = batch.iter().flat_map(|s| &s.records).map(|r| r.encoded_len()).sum();
        if size == 0 {
            let tokens = batch.drain(..).filter_map(|s| s.token);
            match self.under_way.back_mut() {
                Some(before) => before.tokens.extend(tokens),
                None if self.queue.has_failed() => {}
                None => complete(&mut tokens.collect()),
            }
            return Ok(());
        }
        if self.active().is_full(size as u64, self.segment_bytes) {
            // The next segment's header says that everything before it is durable.
            while !self.under_way.is_empty() {
                self.finish(complete)?;
            }
            self.roll(self.active().segment + 1, self.next_sequence)?;
        }
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.reserve(size);
        let first = self.next_sequence;
        self.encode(batch, &mut bytes);
        if self.device.is_direct() {
            bytes.pad();
            self.queue.add_padding_bytes((bytes.len() - size) as u64);
        }
        let segment_bytes = self.segment_bytes;
        let since = self.metrics.now();
        let advanced = self.active_mut().advance(bytes.len() as u64, segment_bytes);
        let (file, offset) = advanced.inspect_err(|_| {
            // Making room includes a sync, and its failure ends the journal like any other.
            self.metrics.journal.synced(self.next_sequence - first, 0, self.metrics.now() - since, false);
        })?;
        let under_way = UnderWay {
            last_sequence: self.next_sequence - 1,
            tokens: batch.drain(..).filter_map(|s| s.token).collect(),
            records: self.next_sequence - first,
            bytes: bytes.len() as u64,
            since: self.metrics.now(),
        };
        if let Err(error) = self.device.begin(Batch { file, offset, bytes }) {
            self.count(&under_way, false);
            return Err(error);
        }
        self.under_way.push_back(under_way);
        self.want_next(size as u64)
    }

    /// Has the next segment's file made once this one is half full: a young journal is small on disk. What fails there
    /// ends the journal as if it had failed here.
    fn want_next(&mut self, batch_bytes: u64) -> io::Result<()> {
        let Some(AheadOwner(ahead)) = &self.ahead else { return Ok(()) };
        let active = self.active();
        if !self.wanted && active.is_half_full(self.segment_bytes) {
            let filled = !Active::is_large(batch_bytes);
            ahead.want(Wanted { instance: self.instance, segment: active.segment + 1, filled });
            self.wanted = true;
        }
        if ahead.has_failed() { ahead.take().map(drop) } else { Ok(()) }
    }

    /// Waits for the oldest batch under way.
    fn finish(&mut self, complete: CompleteRef<'_, T>) -> io::Result<()> {
        let finished = self.device.finish();
        let mut done = self.under_way.pop_front().expect("the device had a batch under way");
        self.count(&done, finished.is_ok());
        let bytes = finished?;
        if self.queue.set_durable(done.last_sequence) {
            complete(&mut done.tokens);
        }
        if bytes.capacity() <= BUFFER_KEEP_BYTES {
            self.spare.push(bytes);
        }
        Ok(())
    }

    fn count(&self, batch: &UnderWay<T>, durable: bool) {
        let elapsed = self.metrics.now() - batch.since;
        self.metrics.journal.synced(batch.records, batch.bytes, elapsed, durable);
    }

    fn active(&self) -> &Active {
        self.active.as_ref().expect("a segment is begun before the thread")
    }

    fn active_mut(&mut self) -> &mut Active {
        self.active.as_mut().expect("a segment is begun before the thread")
    }

    /// Begins a segment. Everything before `first_sequence` is durable.
    pub(super) fn roll(&mut self, segment: u64, first_sequence: u64) -> io::Result<()> {
        assert!(self.under_way.is_empty(), "a segment's header says that everything before it is durable");
        let since = self.metrics.now();
        let header = SegmentHeader { instance: self.instance, segment, first_sequence };
        let begun = self.take_prepared().and_then(|prepared| self.files.begin(&header, prepared));
        self.metrics.journal.began_segment(self.metrics.now() - since, &begun);
        let (file, first_record) = begun?;
        self.active = Some(Active::new(segment, file, first_record)?);
        self.wanted = false;
        self.next_sequence = first_sequence;
        Ok(())
    }

    fn take_prepared(&self) -> io::Result<Option<Arc<dyn File>>> {
        self.ahead.as_ref().map_or(Ok(None), |AheadOwner(ahead)| ahead.take())
    }

    fn encode(&mut self, batch: &[Submission<T>], bytes: &mut AlignedBuffer) {
        let segment = self.active().segment;
        let not_durable = self.queue.durable() + 1;
        for record in batch.iter().flat_map(|s| &s.records) {
            let sequence = self.next_sequence;
            let batch_offset =
                u32::try_from(sequence - not_durable).expect("what is under way is bounded by bytes");
            record.encode(Place { segment, sequence, batch_offset }, |part| bytes.extend_from_slice(part));
            self.next_sequence += 1;
        }
    }
}
