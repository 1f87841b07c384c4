//! What happens to a payload's bytes between the caller and the sockets: nothing.

use crate::cluster::{Cluster, confirmed, options};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use magnetar_common::Environment;
use magnetar_common::net::{BindError, Listener, Network, Stream, TcpNetwork, WriteHalf};
use magnetar_ledger::{Client, ClientConfig};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

const PAYLOAD_BYTES: usize = 1 << 20;

/// TCP that counts the bytes it takes from one stretch of memory.
#[derive(Clone, Default)]
struct Watching {
    memory: Arc<OnceLock<Range<usize>>>,
    taken: Arc<AtomicUsize>,
}

impl Watching {
    /// `written` bytes of `bufs` were taken.
    fn note(&self, bufs: &[IoSlice<'_>], mut written: usize) {
        let Some(memory) = self.memory.get() else { return };
        for buf in bufs {
            let taken = buf.len().min(written);
            written -= taken;
            if memory.contains(&(buf.as_ptr() as usize)) {
                self.taken.fetch_add(taken, Ordering::Relaxed);
            }
        }
    }
}

impl Network for Watching {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        async move {
            let Stream { reader, writer, peer } = TcpNetwork.connect(address).await?;
            Ok(Stream { reader, writer: Box::new(Watched { writer, network: self.clone() }), peer })
        }
        .boxed()
    }

    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Listener>, BindError>> {
        async move { TcpNetwork.bind(address).await }.boxed()
    }
}

struct Watched {
    writer: WriteHalf,
    network: Watching,
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.writer).poll_write(context, buf))?;
        self.network.note(&[IoSlice::new(buf)], written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.writer).poll_write_vectored(context, bufs))?;
        self.network.note(bufs, written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.writer.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(context)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sockets_of_all_bookies_are_given_the_callers_own_bytes() {
    let cluster = Cluster::start(3).await;
    let network = Watching::default();
    let env = Environment { network: Arc::new(network.clone()), ..Environment::system() };
    let client = Client::new(cluster.metadata.clone(), env, ClientConfig::default()).await.expect("a client");
    let mut writer = client.create(options()).await.expect("a ledger");
    let payload = Bytes::from(vec![7; PAYLOAD_BYTES]);
    let start = payload.as_ptr() as usize;
    network.memory.set(start..start + PAYLOAD_BYTES).expect("set once");
    writer.append(payload.clone()).expect("open");
    confirmed(&mut writer, 0).await;
    // Two copies confirm it, and the third is on its way.
    let all = async {
        while network.taken.load(Ordering::Relaxed) < 3 * PAYLOAD_BYTES {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), all).await.expect("every byte is the caller's");
    assert_eq!(network.taken.load(Ordering::Relaxed), 3 * PAYLOAD_BYTES);
}
