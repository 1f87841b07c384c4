//! A control port that is served, and how it ends.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use magnetar_common::clock::SharedClock;
use magnetar_common::net::Listener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::connection::Acceptor;

/// How long the requests under way at the end have to be answered.
const GRACE: Duration = Duration::from_secs(1);

/// A served port. Dropping it cuts its connections.
pub(crate) struct Port {
    local_addr: SocketAddr,
    clock: SharedClock,
    /// No more requests are taken.
    stop: watch::Sender<bool>,
    /// Connections end.
    cut: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Port {
    /// Serves `listener` with what `serve` makes of its connections and the signal to stop.
    pub(super) fn start<F>(
        listener: Box<dyn Listener>,
        clock: SharedClock,
        serve: impl FnOnce(Acceptor, BoxFuture<'static, ()>) -> F,
    ) -> Port
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (stop, mut stopped) = watch::channel(false);
        let (cut, cutting) = watch::channel(false);
        let local_addr = listener.local_addr();
        let acceptor = Acceptor::new(listener, clock.clone(), cutting);
        let stopped = async move {
            // A port that is gone is stopped too.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        let task = tokio::spawn(serve(acceptor, Box::pin(stopped)));
        Port { local_addr, clock, stop, cut, task }
    }

    /// Where it listens.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Takes no more requests, lets those under way be answered for a while, and closes the connections.
    pub(crate) async fn close(mut self) {
        self.stop.send_replace(true);
        tokio::select! {
            // A panic there has been reported by the panic hook.
            _ = &mut self.task => {}
            () = self.clock.sleep(GRACE) => {
                self.cut.send_replace(true);
                self.task.abort();
                // The port is free again when this returns.
                let _ = (&mut self.task).await;
            }
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.cut.send_replace(true);
        self.task.abort();
    }
}
