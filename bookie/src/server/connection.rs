//! One client connection: reads frames, applies them to the engine a batch at a time, and hands out answers.

use std::sync::Arc;

use bytes::Buf;
use magnetar_common::net::Stream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;

use super::batch::Batch;
use super::inbound::{BadRequest, Inbound};
use super::{Peer, Shared, happened};

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
    Request(#[from] BadRequest),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

async fn read(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    mut reader: Box<dyn AsyncRead + Send + Unpin>,
) -> Result<(), Broken> {
    let mut inbound = Inbound::new(shared.frame_bytes_max);
    let mut batch = Batch::new(shared.clone(), peer.clone());
    loop {
        peer.outbound.not_overloaded().await;
        peer.lane.not_full(&peer.outbound).await;
        if reader.read_buf(inbound.space()).await? == 0 {
            return Ok(());
        }
        loop {
            let end = match inbound.next() {
                Ok(Some(request)) => {
                    batch.push(request);
                    if !batch.is_full() {
                        continue;
                    }
                    None
                }
                Ok(None) => Some(Ok(())),
                Err(error) => Some(Err(error)),
            };
            // What came before a bad frame is still answered.
            batch.apply().await;
            match end {
                None => {}
                Some(Ok(())) => break,
                Some(Err(error)) => return Err(error.into()),
            }
        }
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
