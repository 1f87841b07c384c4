//! The BookKeeper wire protocol, V2 and V3, over sockets: from frames to the engine and back.
//! The bookie starts it on a bound listener and ends it; nobody else calls it.
//! It must never decide whether an entry may be stored or is absent: the engine does.

mod admission;
mod answer;
mod batch;
mod chunks;
mod connection;
mod durable;
mod inbound;
mod lane;
mod opening;
mod outbound;
mod parking;
mod receiver;
mod refusals;
mod stepped;
mod tally;
mod v2;
mod v3;

use std::sync::Arc;
use std::time::Duration;

use magnetar_common::budget::ByteBudget;
use magnetar_common::clock::SharedClock;
use magnetar_common::net::Listener;
use magnetar_common::net::tls::TlsServer;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

pub(crate) use self::durable::{Durable, complete};
pub(crate) use self::inbound::Inbound;
use self::lane::Lane;
use self::outbound::Outbound;
use self::parking::Parking;
use self::refusals::Refusals;
pub(crate) use self::stepped::{Owed, Taken, take};
use crate::engine::Engine;

/// Pause after a failed accept, so that a lasting cause does not take a whole core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a server keeps to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) frame_bytes_max: usize,
    /// Large frames being received plus answers being sent, of all connections.
    pub(crate) in_flight_bytes_max: usize,
    pub(crate) connections_max: usize,
}

/// How connections are upgraded.
pub(crate) struct Tls {
    pub(crate) server: Arc<TlsServer>,
    /// Requests are taken over TLS only.
    pub(crate) required: bool,
}

/// What all connections share.
pub(crate) struct Shared {
    engine: Arc<Engine<Durable>>,
    clock: SharedClock,
    limits: Limits,
    /// `None`: plain connections only.
    tls: Option<Tls>,
    /// For frames being received that take more than an ordinary read.
    frame_bytes: ByteBudget,
    /// For entries in answers that are not yet sent. Apart from `frame_bytes`: clients that are slow to take their answers
    /// must not keep others from sending.
    answer_bytes: ByteBudget,
    /// Places for reads that wait for news.
    parked: Arc<Semaphore>,
    /// Admits blocking disk jobs.
    disk_jobs: Semaphore,
    /// Of connections without TLS where it is required.
    plain_refused: Refusals,
    closing: watch::Sender<bool>,
}

/// One connection, as seen by whoever has something for it.
pub(crate) struct Peer {
    name: String,
    outbound: Arc<Outbound>,
    lane: Arc<Lane>,
    parking: Parking,
}

impl Peer {
    fn new(name: String) -> Self {
        Peer { name, outbound: Arc::default(), lane: Arc::default(), parking: Parking::default() }
    }
}

/// A serving listener.
pub(crate) struct Server {
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Serves `listener` until closed.
    pub(crate) fn start(
        engine: Arc<Engine<Durable>>,
        limits: Limits,
        tls: Option<Tls>,
        listener: Box<dyn Listener>,
        clock: SharedClock,
    ) -> Self {
        let (closing, _) = watch::channel(false);
        let shared = Arc::new(Shared {
            engine,
            clock,
            limits,
            tls,
            frame_bytes: ByteBudget::new(limits.in_flight_bytes_max / 2),
            answer_bytes: ByteBudget::new(limits.in_flight_bytes_max / 2),
            parked: Arc::new(Semaphore::new(parking::PARKED_MAX)),
            disk_jobs: Semaphore::new(lane::DISK_JOBS_MAX),
            plain_refused: Refusals::default(),
            closing,
        });
        let accepting = tokio::spawn(accept(shared.clone(), listener));
        Server { shared, accepting }
    }

    /// Begins what [`Server::close`] does, without waiting for it.
    pub(crate) fn abort(&self) {
        self.shared.closing.send_replace(true);
    }

    /// Stops accepting, closes every connection and waits until no request is in progress.
    pub(crate) async fn close(self) {
        self.shared.closing.send_replace(true);
        // A panic there has been reported by the panic hook.
        let _ = self.accepting.await;
    }
}

/// Waits until the value is as wanted, or can change no more.
async fn happened<V>(value: &mut watch::Receiver<V>, wanted: impl FnMut(&V) -> bool) {
    let _ = value.wait_for(wanted).await;
}

async fn accept(shared: Arc<Shared>, listener: Box<dyn Listener>) {
    let mut connections = JoinSet::new();
    let mut closing = shared.closing.subscribe();
    let mut failure = shared.engine.failure();
    let connections_max = shared.limits.connections_max;
    // Said once, not for each of the thousands that may follow.
    let mut refusing = false;
    loop {
        tokio::select! {
            biased;
            () = happened(&mut closing, |closing| *closing) => break,
            // Nothing is answered any more, not even from memory: who asks must turn to other bookies.
            () = happened(&mut failure, Option::is_some) => {
                shared.closing.send_replace(true);
                break;
            }
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok(stream) if connections.len() < connections_max => {
                    refusing = false;
                    connections.spawn(connection::serve(shared.clone(), stream));
                }
                Ok(stream) => {
                    if !std::mem::replace(&mut refusing, true) {
                        tracing::warn!(
                            peer = %stream.peer, connections_max,
                            "refusing connections: there are as many as allowed"
                        );
                    }
                }
                // Out of file descriptors, or a peer that was gone again: those connected are served on.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    shared.clock.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}
