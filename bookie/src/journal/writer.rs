//! The journal thread: take what is queued, one write, one sync, complete; again.
//!
//! There is no timer: while one batch syncs, the next one forms in the queue. The first failed write or sync ends the
//! thread; nothing is retried, because after a failed sync the kernel may have dropped the pages it could not write.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use magnetar_common::storage::File;

use super::files::Files;
use super::queue::{Queue, Submission};
use super::record::Place;
use super::segment::{HEADER_BYTES, SegmentHeader};
use crate::identity::InstanceId;

/// Space is reserved in steps, so that a young journal is small on disk and most syncs need no new extent.
const ALLOCATE_STEP_BYTES: u64 = 8 << 20;

/// A batch buffer that grew beyond this (one huge submission) is given back to the allocator.
const BUFFER_KEEP_BYTES: usize = 8 << 20;

pub(super) struct Writer<T> {
    pub(super) queue: Arc<Queue<T>>,
    pub(super) files: Arc<Files>,
    pub(super) instance: InstanceId,
    pub(super) segment_bytes: u64,
    /// The last segment begun.
    pub(super) segment: u64,
    pub(super) next_sequence: u64,
}

/// The segment being written. `HEADER_BYTES <= position <= allocated`.
pub(super) struct Active {
    file: Arc<dyn File>,
    position: u64,
    allocated: u64,
}

impl<T> Writer<T> {
    /// Runs until the queue is stopped and drained, or a write fails. `complete` gets the tokens of each durable batch
    /// in submission order and leaves the vector empty.
    pub(super) fn run(mut self, mut active: Active, complete: &mut dyn FnMut(&mut Vec<T>)) -> io::Result<()> {
        let mut batch: Vec<Submission<T>> = Vec::new();
        let mut tokens = Vec::new();
        let mut buffer = BytesMut::new();
        while self.queue.take(&mut batch) {
            let size: usize = batch.iter().flat_map(|s| &s.records).map(|r| r.encoded_len()).sum();
            if size > 0 {
                if active.position > HEADER_BYTES as u64 && active.position + size as u64 > self.segment_bytes
                {
                    active = self.roll()?;
                }
                self.encode(&batch, &mut buffer);
                active.append(&buffer, self.segment_bytes)?;
                self.queue.set_durable(self.next_sequence - 1);
                buffer.clear();
                if buffer.capacity() > BUFFER_KEEP_BYTES {
                    buffer = BytesMut::new();
                }
            }
            tokens.extend(batch.drain(..).filter_map(|s| s.token));
            complete(&mut tokens);
            tokens.clear();
        }
        Ok(())
    }

    /// Begins the next segment.
    pub(super) fn roll(&mut self) -> io::Result<Active> {
        self.segment += 1;
        let header = SegmentHeader {
            instance: self.instance,
            segment: self.segment,
            first_sequence: self.next_sequence,
        };
        let file = self.files.begin(&header)?;
        let allocated = file.len()?;
        Ok(Active { file, position: HEADER_BYTES as u64, allocated })
    }

    fn encode(&mut self, batch: &[Submission<T>], buffer: &mut BytesMut) {
        for (batch_offset, record) in batch.iter().flat_map(|s| &s.records).enumerate() {
            let batch_offset = u32::try_from(batch_offset).expect("a batch is bounded by bytes");
            record
                .encode(Place { segment: self.segment, sequence: self.next_sequence, batch_offset }, buffer);
            self.next_sequence += 1;
        }
    }
}

impl Active {
    /// Writes and syncs.
    fn append(&mut self, bytes: &[u8], segment_bytes: u64) -> io::Result<()> {
        let end = self.position + bytes.len() as u64;
        if end > self.allocated {
            let step = (self.allocated + ALLOCATE_STEP_BYTES).min(segment_bytes);
            self.allocated = end.max(step);
            self.file.allocate(self.allocated)?;
        }
        self.file.write_all_at(bytes, self.position)?;
        self.file.sync_data()?;
        self.position = end;
        Ok(())
    }
}
