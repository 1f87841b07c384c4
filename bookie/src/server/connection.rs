//! One client connection: reads frames, applies them to the engine a batch at a time, and hands out answers.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use magnetar_common::net::Stream;
use magnetar_proto::bookkeeper::frame::Decoder;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;

use super::batch::{BadRequest, Batch};
use super::{Peer, Shared, happened};

/// Space for one read of the socket. Entries stay slices of it, so it is small against the write cache.
const READ_BYTES: usize = 128 << 10;

/// A read is worth a system call with this much space; below, new space is taken.
const READ_BYTES_MIN: usize = 4 << 10;

/// Bytes of adds applied in one turn: a longer batch would hold the engine's lock longer than others should wait.
const TURN_BYTES: usize = 1 << 20;

/// Serves a connection until the peer closes it, misbehaves, or the server closes.
pub(super) async fn serve(shared: Arc<Shared>, stream: Stream) {
    let peer = Arc::new(Peer::new(stream.peer));
    // Both end with this task at the latest.
    let mut tasks = JoinSet::new();
    tasks.spawn(write(stream.writer, peer.clone()));
    tasks.spawn(peer.lane.clone().run(shared.clone(), peer.outbound.clone()));
    let mut closing = shared.closing.subscribe();
    let reason = tokio::select! {
        biased;
        () = happened(&mut closing, |closing| *closing) => Ok(()),
        result = read(&shared, &peer, stream.reader) => result,
    };
    if let Err(reason) = reason {
        tracing::warn!(peer = %peer.name, %reason, "closing the connection");
    }
    peer.outbound.close();
    peer.lane.close();
    tokio::select! {
        biased;
        () = async { while tasks.join_next().await.is_some() {} } => {}
        // A peer that does not read must not hold up the end of the server.
        () = happened(&mut closing, |closing| *closing) => {}
    }
}

/// Why a connection is closed from our side.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Frame(#[from] magnetar_proto::bookkeeper::frame::FrameError),
    #[error("{0}")]
    Request(#[from] BadRequest),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

async fn read(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    mut reader: Box<dyn AsyncRead + Send + Unpin>,
) -> Result<(), Broken> {
    let mut decoder = Decoder::new(shared.frame_bytes_max);
    let mut buffer = BytesMut::new();
    let mut batch = Batch::new(shared.clone(), peer.clone());
    loop {
        peer.outbound.not_overloaded().await;
        peer.lane.not_full(&peer.outbound).await;
        if buffer.capacity() - buffer.len() < READ_BYTES_MIN {
            buffer.reserve(READ_BYTES);
        }
        if reader.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        loop {
            // What came before a bad frame is still answered.
            let next = next_request(&mut decoder, &mut buffer, &mut batch);
            if matches!(next, Ok(true)) && batch.add_bytes() < TURN_BYTES {
                continue;
            }
            batch.apply().await;
            if !next? {
                break;
            }
        }
    }
}

/// Moves one request from the buffer to the batch; false when there is no whole one.
fn next_request(decoder: &mut Decoder, buffer: &mut BytesMut, batch: &mut Batch) -> Result<bool, Broken> {
    match decoder.decode(buffer)? {
        Some(frame) => {
            batch.push(frame)?;
            Ok(true)
        }
        None => Ok(false),
    }
}

/// Writes what is queued, everything that is there in one go.
async fn write(mut writer: Box<dyn AsyncWrite + Send + Unpin>, peer: Arc<Peer>) {
    while let Some(mut chunks) = peer.outbound.take().await {
        let bytes = chunks.remaining();
        let written = writer.write_all_buf(&mut chunks).await;
        peer.outbound.pay(bytes);
        if written.is_err() {
            // The reader sees the same end of the connection, or did already.
            break;
        }
    }
    peer.outbound.close();
    peer.lane.close();
    let _ = writer.shutdown().await;
}
