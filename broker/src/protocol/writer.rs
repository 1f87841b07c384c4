//! The task that writes one connection's frames: everything queued meanwhile leaves with as few system calls as
//! possible, command headers from one reused buffer, payloads from where they are.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Bytes, BytesMut};
use magnetar_common::net::WriteHalf;
use magnetar_proto::pulsar::frame;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::outbound::{Outbound, Queued, State};

/// Slices handed to one system call; Linux takes no more (`UIO_MAXIOV`).
const SLICES_MAX: usize = 1024;

/// The header buffer is given back when a burst made it larger than this: an idle connection shall cost little.
const HEADER_BYTES_KEPT: usize = 64 * 1024;

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
    let mut frames = VecDeque::new();
    let mut headers = BytesMut::new();
    while outbound.take(&mut frames).await.is_some() {
        while !frames.is_empty() {
            let written = write_some(&mut frames, &mut headers, writer).await?;
            if outbound.written(written) {
                on_writable();
            }
        }
        if headers.capacity() > HEADER_BYTES_KEPT {
            headers = BytesMut::new();
        }
    }
    writer.shutdown().await
}

/// A frame's end in the header buffer, and the payload that follows it.
struct Segment {
    header_end: usize,
    payload: Bytes,
}

/// Writes as many frames as fit one call's slices (and all of those); gives the cost of what was written.
async fn write_some(
    frames: &mut VecDeque<Queued>,
    headers: &mut BytesMut,
    writer: &mut WriteHalf,
) -> io::Result<usize> {
    headers.clear();
    let mut segments = Vec::new();
    let mut cost = 0;
    // Headers of frames without payload run together into one slice; a frame with one needs two.
    while 2 * segments.len() + 2 < SLICES_MAX {
        let Some(queued) = frames.pop_front() else { break };
        cost += queued.cost();
        if queued.payload.is_empty() {
            frame::encode(queued.command, headers);
        } else {
            frame::encode_with_payload(queued.command, queued.payload.len(), headers);
            segments.push(Segment { header_end: headers.len(), payload: queued.payload });
        }
    }
    let mut slices = Vec::with_capacity(2 * segments.len() + 1);
    let mut start = 0;
    for segment in &segments {
        slices.push(IoSlice::new(&headers[start..segment.header_end]));
        slices.push(IoSlice::new(&segment.payload));
        start = segment.header_end;
    }
    if start < headers.len() {
        slices.push(IoSlice::new(&headers[start..]));
    }
    write_all_vectored(writer, &mut slices).await?;
    Ok(cost)
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
