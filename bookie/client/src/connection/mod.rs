//! One TCP connection to one bookie, speaking BookKeeper's protocol version 2.
//!
//! Callers queue requests under a short lock; a single task writes all that is queued with as few system calls as it
//! can, and completes requests as answers come. It connects on demand. When the bookie cannot be reached, or the
//! connection breaks or is silent for too long, every request on it fails: whether it was carried out is unknown.
//! Nothing here may know what a quorum is.

mod live;
mod outstanding;
mod task;

use crate::protocol::writer::AddOutcome;
use bytes::{Bytes, BytesMut};
use magnetar_common::Environment;
use magnetar_common::bookies::BookieDirectory;
use magnetar_proto::bookkeeper::v2::{self, Flags, MasterKey, Request};
use magnetar_proto::bookkeeper::{BookieId, Code};
use magnetar_proto::ids::{EntryId, LedgerId};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc, oneshot};

/// Payload bytes that may wait for one bookie, unsent or unanswered. More than a broker's publish budget: only a bookie
/// that is slower than the others for seconds reaches it, and then it is better replaced than waited for.
const ADD_BYTES_MAX: usize = 128 * 1024 * 1024;

/// How an add ended, on its way back to the ledger's writer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddDone {
    /// The slot and the generation of its bookie that it was sent to.
    pub(crate) slot: usize,
    pub(crate) generation: u64,
    pub(crate) entry: EntryId,
    pub(crate) outcome: AddOutcome,
}

/// An add on its way out.
pub(crate) struct Add {
    pub(crate) ledger: LedgerId,
    pub(crate) entry: EntryId,
    /// Everything before the payload, encoded: shared by all bookies of the write set.
    pub(crate) head: Bytes,
    pub(crate) payload: Bytes,
    pub(crate) reply: AddReply,
}

/// Where an add's outcome goes. Exactly one arrives: dropping it unanswered says that the add failed.
pub(crate) struct AddReply {
    to: Option<mpsc::UnboundedSender<AddDone>>,
    slot: usize,
    generation: u64,
    entry: EntryId,
}

impl AddReply {
    pub(crate) fn new(
        to: mpsc::UnboundedSender<AddDone>,
        slot: usize,
        generation: u64,
        entry: EntryId,
    ) -> Self {
        Self { to: Some(to), slot, generation, entry }
    }

    fn answer(mut self, outcome: AddOutcome) {
        self.send(outcome);
    }

    fn send(&mut self, outcome: AddOutcome) {
        if let Some(to) = self.to.take() {
            // A writer that is gone needs no answer.
            let _ =
                to.send(AddDone { slot: self.slot, generation: self.generation, entry: self.entry, outcome });
        }
    }
}

impl Drop for AddReply {
    fn drop(&mut self) {
        self.send(AddOutcome::Failed);
    }
}

/// The answer to a read: a code with the body if it is [`Code::Ok`], or `None` when there was no answer.
pub(crate) type ReadAnswer = Option<(Code, Option<Bytes>)>;

/// A read on its way out. Dropping it unanswered says that there was no answer.
struct Read {
    ledger: LedgerId,
    entry: Option<EntryId>,
    flags: Flags,
    key: Option<MasterKey>,
    reply: oneshot::Sender<ReadAnswer>,
}

enum Outgoing {
    Add(Add),
    Read(Read),
}

/// What ties an answer to its request: protocol version 2 has no request ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Add(LedgerId, EntryId),
    Read(LedgerId, Option<EntryId>),
}

impl Outgoing {
    fn key(&self) -> Key {
        match self {
            Outgoing::Add(add) => Key::Add(add.ledger, add.entry),
            Outgoing::Read(read) => Key::Read(read.ledger, read.entry),
        }
    }

    /// What it counts against [`ADD_BYTES_MAX`].
    fn bytes(&self) -> usize {
        match self {
            Outgoing::Add(add) => add.head.len() + add.payload.len(),
            Outgoing::Read(_) => 0,
        }
    }

    fn encode(&self, slices: &mut VecDeque<Bytes>) {
        match self {
            Outgoing::Add(add) => {
                slices.push_back(add.head.clone());
                if !add.payload.is_empty() {
                    slices.push_back(add.payload.clone());
                }
            }
            Outgoing::Read(read) => {
                let mut out = BytesMut::new();
                let request = Request::Read {
                    ledger_id: read.ledger,
                    entry_id: read.entry,
                    flags: read.flags,
                    master_key: read.key,
                };
                v2::encode_request(&request, &mut out);
                slices.push_back(out.freeze());
            }
        }
    }
}

/// A handle to the connection. Clones share it; its task ends with the last one.
#[derive(Clone)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    _alive: Arc<Alive>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    work: Notify,
    /// Bytes of all adds that have no outcome yet, queued or sent.
    add_bytes: AtomicUsize,
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
        self.add_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Fails a request that was never sent.
    fn fail(&self, request: Outgoing) {
        self.release(request.bytes());
    }
}

impl Connection {
    /// A connection to a bookie, made when first used. Must be called within a tokio runtime.
    pub(crate) fn open(bookie: BookieId, directory: BookieDirectory, env: Environment) -> Self {
        let shared = Arc::new(Shared::default());
        tokio::spawn(task::run(bookie, directory, env, shared.clone()));
        Self { _alive: Arc::new(Alive(shared.clone())), shared }
    }

    /// Queues an add; never blocks. Its outcome always arrives. It fails at once when too much waits for this bookie.
    pub(crate) fn add(&self, add: Add) {
        let request = Outgoing::Add(add);
        let bytes = request.bytes();
        if self.shared.add_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > ADD_BYTES_MAX {
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
}
