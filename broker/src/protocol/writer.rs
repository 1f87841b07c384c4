//! The task that writes one connection's frames: everything queued meanwhile leaves with as few system calls as
//! possible, command headers and small payloads from one reused buffer, large payloads and what others encoded from where
//! they are.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Bytes, BytesMut};
use magnetar_common::net::WriteHalf;
use magnetar_proto::pulsar::frame;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::frames::{COPIED_MAX, Part};
use super::outbound::{Outbound, Queued, State};

/// Slices handed to one system call; Linux takes no more (`UIO_MAXIOV`).
const SLICES_MAX: usize = 1024;

/// Room for the headers and small payloads of one write: enough that the cost of a system call does not count, little
/// enough to be still in the processor's cache when the kernel copies it. A buffer that a burst of large commands made larger
/// is given back: an idle connection shall cost little.
const BUFFER_BYTES: usize = 64 * 1024;

/// One frame more fits while so much of the room is left, unless it is one of the rare large commands.
const FRAME_BYTES: usize = COPIED_MAX + 256;

/// Room for so many pieces is kept for the next write.
const PIECES_KEPT: usize = 16;

/// What a buffer begins with. It doubles, up to the whole room and not beyond.
const BUFFER_BYTES_MIN: usize = 1024;

/// Writes until the connection is closed and drained, aborted, or broken. `on_writable` is called when dispatchers
/// that were refused may go on.
pub(super) async fn write_frames(
    outbound: Outbound,
    mut writer: WriteHalf,
    on_writable: impl Fn() + Send + Sync,
) -> io::Result<()> {
    let result = tokio::select! {
        biased;
        () = outbound.reached(State::Aborted) => Ok(()),
        result = drain(&outbound, &mut writer, on_writable) => result,
    };
    outbound.abort();
    result
}

async fn drain(
    outbound: &Outbound,
    writer: &mut WriteHalf,
    on_writable: impl Fn() + Send + Sync,
) -> io::Result<()> {
    let mut queue = VecDeque::new();
    let mut batch = Batch::default();
    while outbound.take(&mut queue).await.is_some() {
        while !queue.is_empty() {
            batch.fill(&mut queue);
            write_all_vectored(writer, &mut batch.slices()).await?;
            if outbound.written(batch.cost) {
                on_writable();
            }
            batch.clear();
        }
        batch.shrink();
    }
    writer.shutdown().await
}

/// What is written next.
#[derive(Default)]
struct Batch {
    /// Headers, and small payloads behind theirs.
    buffer: BytesMut,
    pieces: Vec<Piece>,
    /// How many slices `pieces` are at most.
    slices_max: usize,
    cost: usize,
}

enum Piece {
    /// Of the buffer, from the last such piece on up to here.
    Own(usize),
    Payload(Bytes),
    Part(Part),
}

impl Batch {
    /// Takes from the front of the queue what fits one write; something at least. The more, the better: each
    /// write wakes the receiver, and over loopback the two are in each other's way.
    fn fill(&mut self, queue: &mut VecDeque<Queued>) {
        let mut closed = 0;
        self.buffer.reserve(BUFFER_BYTES_MIN);
        while self.buffer.len() + FRAME_BYTES <= BUFFER_BYTES
            && let Some(queued) = queue.front()
            && (self.pieces.is_empty() || self.slices_max + slices_max(queued) < SLICES_MAX)
            && let Some(queued) = queue.pop_front()
        {
            self.cost += queued.cost();
            self.slices_max += slices_max(&queued);
            let piece = match queued {
                Queued::Frame { command, payload } => {
                    frame::encode_with_payload(command, payload.len(), &mut self.buffer);
                    if payload.len() <= COPIED_MAX {
                        self.buffer.extend_from_slice(&payload);
                        continue;
                    }
                    Piece::Payload(payload)
                }
                Queued::Part(part) => Piece::Part(part),
            };
            if closed < self.buffer.len() {
                closed = self.buffer.len();
                self.pieces.push(Piece::Own(closed));
            }
            self.pieces.push(piece);
        }
        if closed < self.buffer.len() {
            self.pieces.push(Piece::Own(self.buffer.len()));
        }
    }

    fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::with_capacity(self.slices_max.min(2 * SLICES_MAX));
        let mut start = 0;
        for piece in &self.pieces {
            match piece {
                Piece::Own(end) => {
                    slices.push(IoSlice::new(&self.buffer[start..*end]));
                    start = *end;
                }
                Piece::Payload(payload) => slices.push(IoSlice::new(payload)),
                Piece::Part(part) => part.slices(&mut slices),
            }
        }
        slices
    }

    fn clear(&mut self) {
        self.buffer.clear();
        self.pieces.clear();
        (self.slices_max, self.cost) = (0, 0);
    }

    fn shrink(&mut self) {
        if self.buffer.capacity() > BUFFER_BYTES {
            self.buffer = BytesMut::new();
        }
        self.pieces.shrink_to(PIECES_KEPT);
    }
}

/// A slice of the buffer may come before it.
fn slices_max(queued: &Queued) -> usize {
    match queued {
        Queued::Frame { payload, .. } if payload.len() <= COPIED_MAX => 0,
        Queued::Frame { .. } => 2,
        Queued::Part(part) => 1 + part.slices_max(),
    }
}

async fn write_all_vectored(
    writer: &mut (impl AsyncWrite + Unpin),
    slices: &mut [IoSlice<'_>],
) -> io::Result<()> {
    let mut rest = slices;
    while !rest.is_empty() {
        let written = writer.write_vectored(rest).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut rest, written);
    }
    writer.flush().await
}

#[cfg(test)]
mod tests {
    use magnetar_proto::pulsar::{Command, api};

    use super::super::outbound::ConnectionId;
    use super::*;

    #[tokio::test]
    async fn frames_arrive_in_order_with_their_payloads_however_small_the_socket_buffer() {
        let outbound = Outbound::new(ConnectionId(1), "test");
        for sequence_id in 0..2_000 {
            let command = api::CommandSend { producer_id: 1, sequence_id, ..Default::default() };
            let payload = Bytes::from(vec![7; (sequence_id % 3) as usize]);
            outbound.send_with_payload(command.into(), payload);
        }
        outbound.close();
        let (near, mut far) = tokio::io::duplex(100);
        let writing = tokio::spawn(write_frames(outbound, Box::new(near), || {}));
        let mut decoder = frame::Decoder::new(1_000);
        let mut buffer = BytesMut::new();
        for expected in 0..2_000 {
            let received = loop {
                if let Some(received) = decoder.decode(&mut buffer).expect("a frame") {
                    break received;
                }
                tokio::io::AsyncReadExt::read_buf(&mut far, &mut buffer).await.expect("bytes");
            };
            let Command::Send(send) = received.command else { panic!("{:?}", received.command) };
            assert_eq!(send.sequence_id, expected);
            assert_eq!(received.payload.map_or(0, |payload| payload.len()), (expected % 3) as usize);
        }
        writing.await.expect("no panic").expect("no error");
    }
}
