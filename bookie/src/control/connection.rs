//! Connections of the control ports: few, and none kept that says nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use magnetar_common::clock::SharedClock;
use magnetar_common::net::{Listener, ReadHalf, Stream, WriteHalf};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Connections of one port at the same time: scrapers, probes and a few people. More wait to be accepted.
const CONNECTIONS_MAX: usize = 128;

/// A connection from which nothing comes for so long is closed; scrapers come back sooner, and the gRPC port asks its
/// peers for a sign of life four times as often.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// Pause after a failed accept, so that a lasting cause does not take a whole core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes connections for one port.
pub(super) struct Acceptor {
    listener: Box<dyn Listener>,
    clock: SharedClock,
    places: Arc<Semaphore>,
    cut: watch::Receiver<bool>,
}

impl Acceptor {
    /// Connections end as soon as `cut` holds true, whatever they are doing.
    pub(super) fn new(listener: Box<dyn Listener>, clock: SharedClock, cut: watch::Receiver<bool>) -> Self {
        Acceptor { listener, clock, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)), cut }
    }

    /// The next connection. Cancel-safe.
    pub(super) async fn next(&mut self) -> Connection {
        let place = self.places.clone().acquire_owned().await.expect("nobody closes the places");
        loop {
            match self.listener.accept().await {
                Ok(stream) => return Connection::new(stream, self.clock.clone(), self.cut.clone(), place),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a control connection");
                    self.clock.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl axum::serve::Listener for Acceptor {
    type Io = Connection;
    type Addr = ();

    async fn accept(&mut self) -> (Connection, ()) {
        (self.next().await, ())
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

/// One connection; fails with an error once it is idle for too long or cut.
pub(super) struct Connection {
    reader: ReadHalf,
    writer: WriteHalf,
    clock: SharedClock,
    idle: BoxFuture<'static, ()>,
    cut: BoxFuture<'static, ()>,
    /// Frees the place at the port.
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(
        stream: Stream,
        clock: SharedClock,
        mut cut: watch::Receiver<bool>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let idle = clock.sleep(IDLE_MAX);
        let cut = async move {
            // A port that is gone has cut its connections too.
            let _ = cut.wait_for(|cut| *cut).await;
        };
        Connection {
            reader: stream.reader,
            writer: stream.writer,
            clock,
            idle,
            cut: cut.boxed(),
            _place: place,
        }
    }

    fn check_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut.poll_unpin(context) {
            Poll::Ready(()) => {
                // Not polled again after it is ready.
                self.cut = futures_util::future::ready(()).boxed();
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_cut(context)?;
        match Pin::new(&mut self.reader).poll_read(context, into) {
            Poll::Ready(result) => {
                self.idle = self.clock.sleep(IDLE_MAX);
                Poll::Ready(result)
            }
            Poll::Pending => match self.idle.poll_unpin(context) {
                Poll::Ready(()) => {
                    self.idle = futures_util::future::ready(()).boxed();
                    Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_cut(context)?;
        Pin::new(&mut self.writer).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_cut(context)?;
        Pin::new(&mut self.writer).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(context)
    }
}
