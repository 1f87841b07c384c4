//! One connection to one bookie, speaking BookKeeper's protocol version 2 over TCP or TLS.
//!
//! Callers queue requests under a short lock; a single task writes all that is queued with as few system calls as it
//! can, and completes requests as answers come. It connects on demand. When the bookie cannot be reached, or the
//! connection breaks or is silent for too long, every request on it fails: whether it was carried out is unknown.
//! Nothing here may know what a quorum is.

mod live;
mod load;
mod outstanding;
mod request;
mod start_tls;
mod task;

pub(crate) use load::{AddTimes, Load};
pub(crate) use request::{Add, AddDone, AddReply, BatchAnswer, ENTRY_OVERHEAD, ReadAnswer};

use magnetar_common::Environment;
use magnetar_common::bookies::BookieDirectory;
use magnetar_common::net::Stream;
use magnetar_common::net::tls::TlsClient;
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::bookkeeper::v2::{Flags, MasterKey};
use magnetar_proto::ids::{EntryId, LedgerId};
use request::{BatchRead, Outgoing, Read};
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// What all connections of a client have in common.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) directory: BookieDirectory,
    pub(crate) env: Environment,
    /// Every connection is upgraded; a bookie that offers no TLS is not spoken to.
    pub(crate) tls: Option<Arc<TlsClient>>,
    pub(crate) load: Arc<Load>,
}

/// Longer connection attempts, with their handshakes, are given up.
const CONNECT_MAX: Duration = Duration::from_secs(3);

impl Context {
    /// A connection to a bookie at `host:port` that is ready for requests, upgraded to TLS if that is asked for.
    pub(crate) async fn dial(&self, address: &str) -> io::Result<Stream> {
        let connected = async {
            let stream = self.env.network.connect(address).await?;
            match &self.tls {
                Some(tls) => start_tls::start(stream, address, tls).await,
                None => Ok(stream),
            }
        };
        tokio::select! {
            stream = connected => stream,
            () = self.env.clock.sleep(CONNECT_MAX) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// A handle to the connection. Clones share it; its task ends with the last one.
#[derive(Clone)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    _alive: Arc<Alive>,
}

struct Shared {
    queue: Mutex<Queue>,
    work: Notify,
    context: Context,
    adds: load::Adds,
    next_batch: AtomicI64,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Outgoing>,
    closed: bool,
}

/// Dropped with the last handle: tells the task to end.
struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.queue().closed = true;
        self.0.work.notify_one();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, request: Outgoing) {
        let mut queue = self.queue();
        queue.waiting.push(request);
        let first = queue.waiting.len() == 1;
        drop(queue);
        // Whoever finds the queue empty wakes the task; it takes everything at once.
        if first {
            self.work.notify_one();
        }
    }

    /// Moves everything queued into `batch`, which must be empty; false when no handle is left. Waits while the queue is
    /// empty. Cancel-safe.
    async fn take(&self, batch: &mut Vec<Outgoing>) -> bool {
        loop {
            {
                let mut queue = self.queue();
                if !queue.waiting.is_empty() {
                    std::mem::swap(&mut queue.waiting, batch);
                    return true;
                }
                if queue.closed {
                    return false;
                }
            }
            self.work.notified().await;
        }
    }

    /// An add has its outcome.
    fn release(&self, bytes: usize) {
        self.adds.release(bytes);
    }

    /// Fails a request that was never sent.
    fn fail(&self, request: Outgoing) {
        self.release(request.bytes());
    }
}

impl Connection {
    /// A connection to a bookie, made when first used. Must be called within a tokio runtime.
    pub(crate) fn open(bookie: BookieId, context: Context) -> Self {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            work: Notify::new(),
            context,
            adds: load::Adds::default(),
            next_batch: AtomicI64::new(0),
        });
        tokio::spawn(task::run(bookie, shared.clone()));
        Self { _alive: Arc::new(Alive(shared.clone())), shared }
    }

    /// Queues an add; never blocks. Its outcome always arrives. It fails at once when this bookie is too far behind the
    /// others; see [`Load`].
    pub(crate) fn add(&self, add: Add) {
        let request = Outgoing::Add(add);
        let now = || self.shared.context.env.clock.now();
        if !self.shared.adds.take(request.bytes(), &self.shared.context.load, now) {
            return self.shared.fail(request);
        }
        self.shared.push(request);
    }

    /// Queues a read of an entry, or of the newest one, and gives its answer.
    pub(crate) fn read(
        &self,
        ledger: LedgerId,
        entry: Option<EntryId>,
        flags: Flags,
        key: Option<MasterKey>,
    ) -> impl Future<Output = ReadAnswer> + use<> {
        let (reply, answer) = oneshot::channel();
        self.shared.push(Outgoing::Read(Read { ledger, entry, flags, key, reply }));
        async move { answer.await.ok().flatten() }
    }

    /// Queues a read of up to `count` consecutive entries with up to `bytes` in all, and gives its answer: at least one
    /// entry if there is one. A bookie that does not know such requests closes the connection.
    pub(crate) fn read_batch(
        &self,
        ledger: LedgerId,
        first: EntryId,
        count: i32,
        bytes: i64,
    ) -> impl Future<Output = BatchAnswer> + use<> {
        let (reply, answer) = oneshot::channel();
        let id = self.shared.next_batch.fetch_add(1, Ordering::Relaxed);
        self.shared.push(Outgoing::BatchRead(BatchRead { ledger, first, count, bytes, id, reply }));
        async move { answer.await.ok().flatten() }
    }

    /// How quick adds have been so far, and since when they wait.
    pub(crate) fn add_times(&self) -> AddTimes {
        self.shared.adds.times()
    }
}
