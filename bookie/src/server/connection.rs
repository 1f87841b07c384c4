//! One client connection: reads frames, applies them to the engine a batch at a time, and hands out answers.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use magnetar_common::budget::Ticket;
use magnetar_common::clock::SharedClock;
use magnetar_common::net::{ReadHalf, Stream, WriteHalf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::batch::Batch;
use super::chunks::Chunks;
use super::inbound::{BadRequest, Inbound};
use super::outbound::Outbound;
use super::{Peer, Shared, happened};

/// A peer that takes none of its answers for so long, or does not finish a large frame, is given up: what it makes us
/// hold is missing to others.
const STALL_MAX: Duration = Duration::from_secs(30);

/// Serves a connection until the peer closes it, misbehaves, or the server closes.
pub(super) async fn serve(shared: Arc<Shared>, stream: Stream) {
    let peer = Arc::new(Peer::new(stream.peer));
    // Both end with this task at the latest.
    let mut tasks = JoinSet::new();
    tasks.spawn(write(stream.writer, peer.clone(), shared.clock.clone()));
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
    #[error("a frame did not arrive within {} s", STALL_MAX.as_secs())]
    Slow,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The frame being received takes more than an ordinary read.
struct LargeFrame {
    _ticket: Ticket,
    too_late: BoxFuture<'static, ()>,
}

impl LargeFrame {
    /// Waits until the server has memory for a frame of `bytes`.
    async fn begin(shared: &Shared, bytes: usize) -> Self {
        let _ticket = shared.frame_bytes.acquire(bytes).await;
        LargeFrame { _ticket, too_late: shared.clock.sleep(STALL_MAX) }
    }
}

async fn read(shared: &Arc<Shared>, peer: &Arc<Peer>, mut reader: ReadHalf) -> Result<(), Broken> {
    let mut inbound = Inbound::new(shared.limits.frame_bytes_max);
    let mut batch = Batch::new(shared.clone(), peer.clone());
    let mut large_frame: Option<LargeFrame> = None;
    loop {
        peer.outbound.not_overloaded().await;
        peer.lane.not_full(&peer.outbound).await;
        let received = match inbound.large_frame() {
            None => reader.read_buf(inbound.space()).await?,
            Some(bytes) => {
                let large_frame = match &mut large_frame {
                    Some(begun) => begun,
                    none => none.insert(LargeFrame::begin(shared, bytes).await),
                };
                tokio::select! {
                    biased;
                    received = reader.read_buf(inbound.space()) => received?,
                    () = &mut large_frame.too_late => return Err(Broken::Slow),
                }
            }
        };
        if received == 0 {
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
            if batch.apply().await {
                large_frame = None;
            }
            match end {
                None => {}
                Some(Ok(())) => break,
                Some(Err(error)) => return Err(error.into()),
            }
        }
    }
}

/// Writes what is queued, everything that is there in one go.
async fn write(mut writer: WriteHalf, peer: Arc<Peer>, clock: SharedClock) {
    while let Some((mut chunks, ticket)) = peer.outbound.take().await {
        if let Err(error) = send(&mut writer, &mut chunks, &peer.outbound, &clock).await {
            if error.kind() == io::ErrorKind::TimedOut {
                tracing::warn!(peer = %peer.name, reason = %error, "closing the connection");
            }
            // Otherwise the reader sees the same end of the connection, or did already.
            break;
        }
        drop(ticket);
    }
    peer.outbound.close();
    peer.lane.close();
    let _ = writer.shutdown().await;
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
    Ok(())
}
