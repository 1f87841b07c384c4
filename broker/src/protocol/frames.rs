//! Payload frames that are encoded once and go out to any number of connections.
//!
//! A topic makes them, connections' writers write them. They must never know what the frames say.

use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use magnetar_proto::pulsar::{Command, frame};

/// A payload of up to so many bytes is copied behind its header. A slice of its own costs more than such a copy: in memory
/// twice the size of two slices and a reference count, in the kernel a step of its own for each of header and payload, and
/// both for every connection that gets it, while the copy is made once.
pub(crate) const COPIED_MAX: usize = 2 * 1024;

/// What a header takes: lengths, the command, and in it the ids; mostly much less.
pub(crate) const HEADER_BYTES: usize = 64;

/// Frames one after the other. Large payloads stay where they are; everything else is one piece of memory.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// Headers, each with its payload behind it where that was copied.
    bytes: BytesMut,
    /// The payloads that were not, with the place in `bytes` that each belongs to. In order.
    large: Vec<(usize, Bytes)>,
    /// Where each frame ends.
    ends: Vec<End>,
}

#[derive(Clone, Copy, Debug, Default)]
struct End {
    /// In `bytes`.
    at: usize,
    /// In `large`.
    large: usize,
    /// On the wire.
    len: usize,
}

impl Frames {
    /// With room for frames of these payloads.
    pub(crate) fn with_room(payloads: impl Iterator<Item = usize>) -> Frames {
        let (mut frames, mut bytes) = (0, 0);
        for len in payloads {
            frames += 1;
            bytes += HEADER_BYTES + if len > COPIED_MAX { 0 } else { len };
        }
        Frames { bytes: BytesMut::with_capacity(bytes), large: Vec::new(), ends: Vec::with_capacity(frames) }
    }

    /// Appends a frame.
    pub(crate) fn push(&mut self, command: Command, payload: &Bytes) {
        let start = self.bytes.len();
        frame::encode_with_payload(command, payload.len(), &mut self.bytes);
        let len = self.len() + self.bytes.len() - start + payload.len();
        if payload.len() > COPIED_MAX {
            self.large.push((self.bytes.len(), payload.clone()));
        } else {
            self.bytes.extend_from_slice(payload);
        }
        self.ends.push(End { at: self.bytes.len(), large: self.large.len(), len });
    }

    /// Bytes on the wire.
    pub(crate) fn len(&self) -> usize {
        self.end(self.ends.len()).len
    }

    /// Where the first `n` frames end.
    fn end(&self, n: usize) -> End {
        n.checked_sub(1).map_or(End::default(), |last| self.ends[last])
    }
}

/// Some neighbours of [`Frames`].
#[derive(Clone, Debug)]
pub(crate) struct Part {
    frames: Arc<Frames>,
    start: End,
    end: End,
}

impl Part {
    /// The frames of this range, which must be there.
    pub(crate) fn new(frames: &Arc<Frames>, range: Range<usize>) -> Part {
        Part { start: frames.end(range.start), end: frames.end(range.end), frames: Arc::clone(frames) }
    }

    /// Bytes on the wire.
    pub(crate) fn len(&self) -> usize {
        self.end.len - self.start.len
    }

    /// No more slices than this.
    pub(crate) fn slices_max(&self) -> usize {
        2 * (self.end.large - self.start.large) + 1
    }

    /// Appends what is to be written.
    pub(crate) fn slices<'a>(&'a self, slices: &mut Vec<IoSlice<'a>>) {
        let mut at = self.start.at;
        for (place, payload) in &self.frames.large[self.start.large..self.end.large] {
            slices.push(IoSlice::new(&self.frames.bytes[at..*place]));
            slices.push(IoSlice::new(payload));
            at = *place;
        }
        if at < self.end.at {
            slices.push(IoSlice::new(&self.frames.bytes[at..self.end.at]));
        }
    }

    /// What is written, in one piece.
    #[cfg(test)]
    pub(crate) fn to_bytes(&self) -> BytesMut {
        let mut slices = Vec::new();
        self.slices(&mut slices);
        assert!(slices.len() <= self.slices_max());
        slices.iter().flat_map(|slice| slice.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use magnetar_proto::pulsar::api;

    use super::*;

    #[test]
    fn any_part_is_what_its_frames_are_one_by_one() {
        let sizes = [10, COPIED_MAX, COPIED_MAX + 1, 100_000, 0, 1, 5_000];
        let mut frames = Frames::with_room(sizes.into_iter());
        let mut alone = Vec::new();
        for (n, size) in sizes.into_iter().enumerate() {
            let payload = Bytes::from(vec![n as u8; size]);
            let command = || api::CommandSend { sequence_id: n as u64, ..Default::default() }.into();
            frames.push(command(), &payload);
            let mut bytes = BytesMut::new();
            frame::encode_with_payload(command(), size, &mut bytes);
            bytes.extend_from_slice(&payload);
            alone.push(bytes);
        }
        let frames = Arc::new(frames);
        assert_eq!(frames.len(), alone.iter().map(|bytes| bytes.len()).sum::<usize>());
        for start in 0..sizes.len() {
            for end in start..=sizes.len() {
                let part = Part::new(&frames, start..end);
                let expected = alone[start..end].concat();
                assert_eq!(part.len(), expected.len(), "{start}..{end}");
                assert_eq!(&part.to_bytes()[..], expected, "{start}..{end}");
            }
        }
    }
}
