//! One client connection: reads frames, applies them to the engine a batch at a time, and hands out answers.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use bytes::Buf;
use futures_util::FutureExt;
use magnetar_common::clock::SharedClock;
use magnetar_common::net::{Stream, WriteHalf};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use super::batch::Batch;
use super::chunks::Chunks;
use super::opening::{Opened, open};
use super::outbound::{Outbound, Taken};
use super::receiver::{Broken, Receiver, STALL_MAX};
use super::{Peer, Shared, happened};

/// Serves a connection until the peer closes it, misbehaves, or the server closes.
pub(super) async fn serve(shared: Arc<Shared>, stream: Stream) {
    let peer = Arc::new(Peer::new(stream.peer.clone()));
    let mut closing = shared.closing.subscribe();
    // Both end with this task at the latest.
    let mut tasks = JoinSet::new();
    let reason = tokio::select! {
        biased;
        () = happened(&mut closing, |closing| *closing) => Ok(()),
        result = read(&shared, &peer, stream, &mut tasks) => result,
    };
    match reason {
        Ok(()) => {}
        Err(reason @ Broken::TlsRequired) => {
            if let Some(connections) = shared.plain_refused.count(shared.clock.now()) {
                tracing::warn!(peer = %peer.name, connections, %reason, "closing connections without TLS");
            }
        }
        Err(reason) => tracing::warn!(peer = %peer.name, %reason, "closing the connection"),
    }
    peer.outbound.close();
    peer.lane.close();
    peer.parking.close().await;
    tokio::select! {
        biased;
        () = async { while tasks.join_next().await.is_some() {} } => {}
        // A peer that does not read must not hold up the end of the server.
        () = happened(&mut closing, |closing| *closing) => {}
    }
    // The journal may hold on to the peer for longer than the connection lasts.
    drop(peer.outbound.take_writer());
}

async fn read(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    stream: Stream,
    tasks: &mut JoinSet<()>,
) -> Result<(), Broken> {
    let Some(Opened { mut receiver, writer, plain, first }) = open(shared, stream).await? else {
        return Ok(());
    };
    peer.outbound.open(writer, plain);
    tasks.spawn(write(peer.clone(), shared.clock.clone()));
    tasks.spawn(peer.lane.clone().run(shared.clone(), peer.outbound.clone()));
    let mut batch = Batch::new(shared.clone(), peer.clone());
    if let Some(first) = first {
        batch.push(first);
    }
    loop {
        apply_received(&mut receiver, &mut batch).await?;
        peer.outbound.not_overloaded().await;
        peer.lane.not_full(&peer.outbound).await;
        if !receiver.receive(shared).await? {
            return Ok(());
        }
    }
}

/// Applies the requests that have arrived, a turn at a time.
async fn apply_received(receiver: &mut Receiver, batch: &mut Batch) -> Result<(), Broken> {
    loop {
        let end = match receiver.next() {
            Ok(Some(request)) => {
                batch.push(request);
                if !batch.is_full() {
                    continue;
                }
                None
            }
            Ok(None) => Some(Ok(())),
            Err(error) => Some(Err(error.into())),
        };
        // What came before a bad frame is still answered.
        if batch.apply().await {
            receiver.done();
        }
        if let Some(end) = end {
            return end;
        }
    }
}

/// Writes what is queued, everything that is there in one go.
async fn write(peer: Arc<Peer>, clock: SharedClock) {
    while let Some(Taken { mut chunks, ticket, mut writer }) = peer.outbound.take().await {
        let sent = send(&mut writer, &mut chunks, &peer.outbound, &clock).await;
        drop(ticket);
        peer.outbound.written(writer);
        if let Err(error) = sent {
            if error.kind() == io::ErrorKind::TimedOut {
                tracing::warn!(peer = %peer.name, reason = %error, "closing the connection");
            }
            // Otherwise the reader sees the same end of the connection, or did already.
            break;
        }
    }
    peer.outbound.close();
    peer.lane.close();
    if let Some(mut writer) = peer.outbound.take_writer() {
        let _ = writer.shutdown().await;
    }
}

async fn send(
    writer: &mut WriteHalf,
    chunks: &mut Chunks,
    outbound: &Outbound,
    clock: &SharedClock,
) -> io::Result<()> {
    while chunks.has_remaining() {
        let mut write = pin!(writer.write_buf(chunks));
        let written = match write.as_mut().now_or_never() {
            Some(written) => written?,
            // Only now is a timer worth its cost.
            None => tokio::select! {
                biased;
                written = write => written?,
                () = clock.sleep(STALL_MAX) => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes no answers"));
                }
            },
        };
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        outbound.sent(written);
    }
    // Nothing to do for TCP; TLS may hold a part back.
    writer.flush().await
}
