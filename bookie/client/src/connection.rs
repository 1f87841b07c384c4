//! One TCP connection to one bookie, speaking BookKeeper's protocol version 2.
//!
//! Callers queue requests under a short lock; a single task writes all that is queued with as few system calls as it
//! can, and completes requests as answers come. It connects on demand. When the bookie cannot be reached, or the
//! connection breaks or is silent for too long, every request on it fails: whether it was carried out is unknown.

use crate::protocol::writer::AddOutcome;
use bytes::{Buf, Bytes, BytesMut};
use hashbrown::HashMap;
use magnetar_common::Environment;
use magnetar_common::bookies::BookieDirectory;
use magnetar_common::net::{ReadHalf, Stream, WriteHalf};
use magnetar_proto::bookkeeper::v2::{self, Flags, MasterKey, Request, Response};
use magnetar_proto::bookkeeper::{BookieId, Code, frame};
use magnetar_proto::ids::{EntryId, LedgerId};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc, oneshot};

/// A bookie that answers nothing for so long, while requests wait, is taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Longer connection attempts are given up.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// After a failed attempt requests fail at once for so long, instead of each waiting for another attempt.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
/// Slices in one vectored write; the kernel takes up to 1024.
const SLICES_MAX: usize = 256;
/// The longest answer: a full-sized Pulsar message with the headers of both protocols.
const FRAME_BYTES_MAX: usize = frame::MAX_FRAME_SIZE + 64 * 1024;
/// Room made for each read from the socket.
const READ_BYTES: usize = 64 * 1024;

/// How an add ended, on its way back to the ledger's writer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddDone {
    /// The slot and the ensemble it was sent under.
    pub(crate) slot: usize,
    pub(crate) ensemble: u64,
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
    pub(crate) done: AddReply,
}

/// Where an add's outcome goes.
pub(crate) struct AddReply {
    pub(crate) to: mpsc::UnboundedSender<AddDone>,
    pub(crate) slot: usize,
    pub(crate) ensemble: u64,
}

/// The answer to a read: a code with the body if it is [`Code::Ok`], or `None` when there was no answer.
pub(crate) type ReadAnswer = Option<(Code, Option<Bytes>)>;

enum Outgoing {
    Add(Add),
    Read {
        ledger: LedgerId,
        entry: Option<EntryId>,
        flags: Flags,
        key: Option<MasterKey>,
        reply: oneshot::Sender<ReadAnswer>,
    },
}

enum Waiting {
    Add(AddReply),
    Read(oneshot::Sender<ReadAnswer>),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Add(LedgerId, EntryId),
    Read(LedgerId, Option<EntryId>),
}

/// Requests sent and not answered. Equal requests may be outstanding; an answer completes any one of them.
#[derive(Default)]
struct Outstanding {
    first: HashMap<Key, Waiting>,
    more: Vec<(Key, Waiting)>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Outgoing>,
    closed: bool,
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

    /// Everything queued, or `None` when no handle is left. Waits while the queue is empty. Cancel-safe.
    async fn take(&self) -> Option<Vec<Outgoing>> {
        loop {
            {
                let mut queue = self.queue();
                if !queue.waiting.is_empty() {
                    return Some(std::mem::take(&mut queue.waiting));
                }
                if queue.closed {
                    return None;
                }
            }
            self.work.notified().await;
        }
    }
}

impl Connection {
    /// A connection to a bookie, made when first used. Must be called within a tokio runtime.
    pub(crate) fn open(bookie: BookieId, directory: BookieDirectory, env: Environment) -> Self {
        let shared = Arc::new(Shared::default());
        tokio::spawn(Task { bookie, directory, env, shared: shared.clone() }.run());
        Self { _alive: Arc::new(Alive(shared.clone())), shared }
    }

    /// Queues an add. Its outcome always arrives.
    pub(crate) fn add(&self, add: Add) {
        self.push(Outgoing::Add(add));
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
        self.push(Outgoing::Read { ledger, entry, flags, key, reply });
        async move { answer.await.ok().flatten() }
    }

    fn push(&self, request: Outgoing) {
        let mut queue = self.shared.queue();
        queue.waiting.push(request);
        let first = queue.waiting.len() == 1;
        drop(queue);
        // Whoever finds the queue empty wakes the task; it takes everything at once.
        if first {
            self.shared.work.notify_one();
        }
    }
}

impl Waiting {
    fn fail(self, entry: Option<EntryId>) {
        match (self, entry) {
            (Waiting::Add(reply), Some(entry)) => reply.send(entry, AddOutcome::Failed),
            (Waiting::Add(_), None) => {}
            (Waiting::Read(reply), _) => drop(reply.send(None)),
        }
    }
}

impl AddReply {
    /// A writer that is gone needs no answer.
    fn send(self, entry: EntryId, outcome: AddOutcome) {
        let _ = self.to.send(AddDone { slot: self.slot, ensemble: self.ensemble, entry, outcome });
    }
}

impl Outgoing {
    fn into_waiting(self) -> (Key, Waiting) {
        match self {
            Outgoing::Add(add) => (Key::Add(add.ledger, add.entry), Waiting::Add(add.done)),
            Outgoing::Read { ledger, entry, reply, .. } => (Key::Read(ledger, entry), Waiting::Read(reply)),
        }
    }

    fn fail(self) {
        let (key, waiting) = self.into_waiting();
        waiting.fail(key.entry());
    }
}

impl Key {
    fn entry(self) -> Option<EntryId> {
        match self {
            Key::Add(_, entry) => Some(entry),
            Key::Read(_, entry) => entry,
        }
    }
}

impl Outstanding {
    fn insert(&mut self, key: Key, waiting: Waiting) {
        if let Some(earlier) = self.first.insert(key, waiting) {
            self.more.push((key, earlier));
        }
    }

    fn take(&mut self, key: Key) -> Option<Waiting> {
        if let Some(index) = self.more.iter().position(|(other, _)| *other == key) {
            return Some(self.more.swap_remove(index).1);
        }
        self.first.remove(&key)
    }

    fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    fn fail_all(&mut self) {
        for (key, waiting) in self.first.drain().chain(self.more.drain(..)) {
            waiting.fail(key.entry());
        }
    }
}

struct Task {
    bookie: BookieId,
    directory: BookieDirectory,
    env: Environment,
    shared: Arc<Shared>,
}

impl Task {
    async fn run(self) {
        let mut failed_at: Option<Duration> = None;
        while let Some(requests) = self.shared.take().await {
            if failed_at.is_some_and(|at| self.env.clock.now() < at + RECONNECT_PAUSE) {
                requests.into_iter().for_each(Outgoing::fail);
                continue;
            }
            match self.connect().await {
                Ok(stream) => {
                    failed_at = None;
                    if let Err(error) = self.serve(stream, requests).await {
                        tracing::info!(bookie = %self.bookie, %error, "the connection to a bookie ended");
                    }
                }
                Err(error) => {
                    tracing::warn!(bookie = %self.bookie, %error, "cannot connect to a bookie");
                    failed_at = Some(self.env.clock.now());
                    requests.into_iter().for_each(Outgoing::fail);
                }
            }
        }
    }

    async fn connect(&self) -> io::Result<Stream> {
        let address = self.directory.resolve(&self.bookie);
        let address =
            address.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it is not registered"))?;
        tokio::select! {
            stream = self.env.network.connect(&address) => stream,
            () = self.env.clock.sleep(CONNECT_MAX) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Serves requests until the connection ends. Everything outstanding has failed when it returns.
    async fn serve(&self, stream: Stream, requests: Vec<Outgoing>) -> io::Result<()> {
        let live = Live {
            outstanding: Mutex::default(),
            progress: Mutex::new(self.env.clock.now()),
            sent: Notify::new(),
        };
        let outcome = tokio::select! {
            end = live.write(stream.writer, &self.shared, requests) => end,
            end = live.read(stream.reader, &self.env) => end,
            () = live.watch(&self.env) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer for 10 s")),
        };
        live.outstanding().fail_all();
        outcome
    }
}

/// The state of an established connection, shared by the three futures that one task runs.
struct Live {
    outstanding: Mutex<Outstanding>,
    /// When an answer came last, or a request went out to an idle bookie.
    progress: Mutex<Duration>,
    sent: Notify,
}

impl Live {
    fn outstanding(&self) -> MutexGuard<'_, Outstanding> {
        self.outstanding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, mut writer: WriteHalf, shared: &Shared, requests: Vec<Outgoing>) -> io::Result<()> {
        let mut requests = Some(requests);
        while let Some(batch) = requests.take() {
            let mut slices = VecDeque::with_capacity(batch.len() * 2);
            {
                let mut outstanding = self.outstanding();
                for request in batch {
                    request.encode(&mut slices);
                    let (key, waiting) = request.into_waiting();
                    outstanding.insert(key, waiting);
                }
            }
            self.sent.notify_one();
            write_all(&mut writer, slices).await?;
            requests = shared.take().await;
        }
        Ok(())
    }

    async fn read(&self, mut reader: ReadHalf, env: &Environment) -> io::Result<()> {
        let mut decoder = frame::Decoder::new(FRAME_BYTES_MAX);
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        let invalid =
            |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
        loop {
            if reader.read_buf(&mut buffer).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the bookie"));
            }
            while let Some(packet) = decoder.decode(&mut buffer).map_err(|error| invalid(&error))? {
                let response = v2::decode_response(packet).map_err(|error| invalid(&error))?;
                self.complete(response)?;
            }
            *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = env.clock.now();
            buffer.reserve(READ_BYTES);
        }
    }

    fn complete(&self, response: Response) -> io::Result<()> {
        match response {
            Response::Add { code, ledger_id, entry_id } => {
                if let Some(Waiting::Add(reply)) = self.outstanding().take(Key::Add(ledger_id, entry_id)) {
                    reply.send(entry_id, add_outcome(code));
                }
            }
            Response::Read { code, ledger_id, entry_id, body } => {
                if let Some(Waiting::Read(reply)) = self.outstanding().take(Key::Read(ledger_id, entry_id)) {
                    let _ = reply.send(Some((code, body)));
                }
            }
            Response::BatchRead { .. } | Response::Auth(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "an answer to nothing that was asked",
                ));
            }
        }
        Ok(())
    }

    /// Ends when requests have waited too long without any answer. Sleeps only while requests wait.
    async fn watch(&self, env: &Environment) {
        loop {
            if self.outstanding().is_empty() {
                self.sent.notified().await;
                *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = env.clock.now();
            }
            let since = *self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            let silent = env.clock.now().saturating_sub(since);
            if silent >= SILENCE_MAX && !self.outstanding().is_empty() {
                return;
            }
            env.clock.sleep(SILENCE_MAX.saturating_sub(silent).max(Duration::from_secs(1))).await;
        }
    }
}

fn add_outcome(code: Code) -> AddOutcome {
    match code {
        Code::Ok => AddOutcome::Stored,
        Code::Fenced => AddOutcome::Fenced,
        Code::Unauthorized => AddOutcome::Unauthorized,
        Code::NoLedger
        | Code::NoEntry
        | Code::BadRequest
        | Code::Io
        | Code::BadVersion
        | Code::ReadOnly
        | Code::TooManyRequests
        | Code::UnknownLedgerState => AddOutcome::Failed,
    }
}

impl Outgoing {
    fn encode(&self, slices: &mut VecDeque<Bytes>) {
        match self {
            Outgoing::Add(add) => {
                slices.push_back(add.head.clone());
                if !add.payload.is_empty() {
                    slices.push_back(add.payload.clone());
                }
            }
            Outgoing::Read { ledger, entry, flags, key, .. } => {
                let mut out = BytesMut::new();
                let request =
                    Request::Read { ledger_id: *ledger, entry_id: *entry, flags: *flags, master_key: *key };
                v2::encode_request(&request, &mut out);
                slices.push_back(out.freeze());
            }
        }
    }
}

async fn write_all(writer: &mut WriteHalf, mut slices: VecDeque<Bytes>) -> io::Result<()> {
    while !slices.is_empty() {
        let mut written = {
            let mut io = [IoSlice::new(&[]); SLICES_MAX];
            let count = slices.len().min(SLICES_MAX);
            for (io, slice) in io.iter_mut().zip(&slices) {
                *io = IoSlice::new(slice);
            }
            writer.write_vectored(&io[..count]).await?
        };
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while written > 0 {
            let Some(first) = slices.front_mut() else { break };
            if written < first.len() {
                first.advance(written);
                break;
            }
            written -= first.len();
            slices.pop_front();
        }
    }
    Ok(())
}
