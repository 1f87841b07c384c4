//! The way out of the broker to one client: a byte-accounted queue that one writer task drains.
//!
//! Whoever holds an [`Outbound`] may send at any time without waiting; order of sending is order on the wire. Messages
//! are held back by whoever sends them ([`Outbound::is_writable`]); answers, receipts and errors always pass. What
//! bounds the queue is the hard cap: a peer that lets it grow past that does not read, and is disconnected.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use magnetar_proto::pulsar::{Command, api};
use tokio::sync::{Notify, watch};

use super::frames::Part;

/// Above this many queued bytes no more messages should be dispatched to the connection: enough to keep a fast
/// network busy between two turns of a dispatcher, little enough to hold for each of thousands of connections.
pub const HIGH_WATER_BYTES: usize = 1024 * 1024;

/// Dispatch goes on when the queue has fallen below this: half, so that the two do not alternate on every write.
pub const LOW_WATER_BYTES: usize = HIGH_WATER_BYTES / 2;

/// A queue beyond this means that the peer does not read. Dispatchers stop at the high-water mark and overshoot by at
/// most one entry, or one run of small ones, each, so that only unread answers can get here.
pub const HARD_CAP_BYTES: usize = 64 * 1024 * 1024;

const _: () = assert!(LOW_WATER_BYTES < HIGH_WATER_BYTES && HIGH_WATER_BYTES < HARD_CAP_BYTES);

/// What a queued command costs beside its payload and the names it carries: its place in the queue.
const PLACE_COST_BYTES: usize = size_of::<Queued>();

/// Unique within the process, never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who is at the other end, as CONNECT said.
#[derive(Clone, Debug, Default)]
pub struct ClientInfo {
    /// Name and version of the client library; empty before CONNECT.
    pub version: String,
    /// Protocol version in use: the smaller of the two peers'.
    pub protocol: i32,
    /// Remote address, as in the REST API's stats.
    pub address: String,
    pub feature_flags: api::FeatureFlags,
    /// When the connection was made, in ms since 1970.
    pub connected_since_ms: u64,
}

impl ClientInfo {
    /// The Rust crate files CLOSE_PRODUCER away unread: only the end of the connection makes its producers come back.
    pub fn ignores_close_producer(&self) -> bool {
        self.version.starts_with("pulsar-rs")
    }

    /// The C++ core (so Python too) and Go drop the connection on REACHED_END_OF_TOPIC.
    pub fn knows_reached_end_of_topic(&self) -> bool {
        self.version.starts_with("Pulsar-Java")
    }
}

/// What is to be written.
pub(crate) enum Queued {
    /// One frame.
    Frame { command: Command, payload: Bytes },
    /// Frames that are encoded already.
    Part(Part),
}

/// Cheap to clone; all clones are the same connection. Sending to a connection that ended does nothing.
#[derive(Clone)]
pub struct Outbound(Arc<Shared>);

struct Shared {
    connection: ConnectionId,
    /// Set once, by CONNECT; nobody but the connection itself holds an `Outbound` before.
    client: OnceLock<ClientInfo>,
    before_connect: ClientInfo,
    queue: Mutex<Queue>,
    /// Bytes in `queue` and in the writer's hands. Written under the queue's lock by senders, without it by the writer.
    queued_bytes: AtomicUsize,
    /// Somebody was told 'not writable' since the queue was last drained.
    refused: AtomicBool,
    /// The writer sleeps on it.
    work: Notify,
    state: watch::Sender<State>,
    /// Reads that brought bytes.
    received: AtomicU64,
    /// The reader waits for room, and does not listen.
    is_paused: AtomicBool,
    /// PONGs that came, and who waits for the next one.
    pongs: AtomicU64,
    ponged: Notify,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Queued>,
    /// No frame is taken any more.
    closed: bool,
}

/// Moves forward only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum State {
    Open,
    /// What is queued is still written, then the connection ends.
    Closing,
    /// Ends now.
    Aborted,
}

impl Outbound {
    /// A queue without a writer yet; `address` names the peer.
    pub fn new(connection: ConnectionId, address: impl Into<String>) -> Self {
        let before_connect = ClientInfo { address: address.into(), ..ClientInfo::default() };
        Outbound(Arc::new(Shared {
            connection,
            client: OnceLock::new(),
            before_connect,
            queue: Mutex::default(),
            queued_bytes: AtomicUsize::new(0),
            refused: AtomicBool::new(false),
            work: Notify::new(),
            state: watch::Sender::new(State::Open),
            received: AtomicU64::new(0),
            is_paused: AtomicBool::new(false),
            pongs: AtomicU64::new(0),
            ponged: Notify::new(),
        }))
    }

    /// Queues a simple frame.
    pub fn send(&self, command: Command) {
        self.push(Queued::Frame { command, payload: Bytes::new() });
    }

    /// Queues a payload frame; `payload` goes out unchanged behind the command, and uncopied unless it is small.
    pub fn send_with_payload(&self, command: Command, payload: Bytes) {
        self.push(Queued::Frame { command, payload });
    }

    /// Queues frames that are encoded already.
    pub(crate) fn send_part(&self, part: Part) {
        self.push(Queued::Part(part));
    }

    /// May more messages be dispatched? Once this said no, the connection calls `Handle::writable` on the topics it
    /// consumes from as soon as the queue has drained.
    pub fn is_writable(&self) -> bool {
        if self.queued_bytes() < HIGH_WATER_BYTES {
            return true;
        }
        self.0.refused.store(true, Ordering::SeqCst);
        // The writer may have drained everything between the two lines above: then it saw no refusal.
        self.queued_bytes() < LOW_WATER_BYTES
    }

    /// Bytes accepted and not yet written.
    pub fn queued_bytes(&self) -> usize {
        self.0.queued_bytes.load(Ordering::SeqCst)
    }

    /// Ends the connection after what is queued has been written. Idempotent.
    pub fn close(&self) {
        self.advance(State::Closing);
    }

    /// Ends the connection at once. Idempotent.
    pub fn abort(&self) {
        self.advance(State::Aborted);
    }

    /// Is the connection ending, or gone?
    pub fn is_closed(&self) -> bool {
        *self.0.state.borrow() != State::Open
    }

    pub fn connection(&self) -> ConnectionId {
        self.0.connection
    }

    pub fn client(&self) -> &ClientInfo {
        self.0.client.get().unwrap_or(&self.0.before_connect)
    }

    pub(crate) fn set_client(&self, client: ClientInfo) {
        // A second CONNECT closes the connection before it gets here.
        let _ = self.0.client.set(client);
    }

    /// Resolves when the state is at least `state`.
    pub(crate) async fn reached(&self, state: State) {
        // Fails only when the sender is gone, which `self` keeps.
        let _ = self.0.state.subscribe().wait_for(|now| *now >= state).await;
    }

    /// The reader got bytes from the peer.
    pub(crate) fn note_received(&self) {
        self.0.received.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn received_so_far(&self) -> u64 {
        self.0.received.load(Ordering::SeqCst)
    }

    /// The reader stops listening, or goes on; meanwhile the peer's silence means nothing.
    pub(crate) fn set_paused(&self, is_paused: bool) {
        self.0.is_paused.store(is_paused, Ordering::SeqCst);
        if !is_paused {
            self.note_received();
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.0.is_paused.load(Ordering::SeqCst)
    }

    /// The reader came to a PONG.
    pub(crate) fn note_pong(&self) {
        self.0.pongs.fetch_add(1, Ordering::SeqCst);
        self.0.ponged.notify_waiters();
    }

    pub(crate) fn pongs_so_far(&self) -> u64 {
        self.0.pongs.load(Ordering::SeqCst)
    }

    /// Resolves at the first PONG after the call to `pongs_so_far` that gave `before`. Cancel-safe.
    pub(crate) async fn pong_since(&self, before: u64) {
        loop {
            let ponged = self.0.ponged.notified();
            tokio::pin!(ponged);
            ponged.as_mut().enable();
            if self.pongs_so_far() != before {
                return;
            }
            ponged.await;
        }
    }

    /// Takes everything queued, in order; waits while there is nothing. `None`: closed, and nothing is left.
    /// Cancel-safe. For the one writer only.
    pub(crate) async fn take(&self, into: &mut VecDeque<Queued>) -> Option<()> {
        debug_assert!(into.is_empty());
        loop {
            {
                let mut queue = self.queue();
                if !queue.frames.is_empty() {
                    std::mem::swap(&mut queue.frames, into);
                    return Some(());
                }
                if queue.closed {
                    return None;
                }
            }
            self.0.work.notified().await;
        }
    }

    /// The writer is done with frames of this cost. True: dispatch was refused before, and may go on now.
    pub(crate) fn written(&self, cost: usize) -> bool {
        let before = self.0.queued_bytes.fetch_sub(cost, Ordering::SeqCst);
        before - cost < LOW_WATER_BYTES && self.0.refused.swap(false, Ordering::SeqCst)
    }

    fn push(&self, frame: Queued) {
        let cost = frame.cost();
        let queued_bytes = {
            let mut queue = self.queue();
            if queue.closed {
                return;
            }
            queue.frames.push_back(frame);
            self.0.queued_bytes.fetch_add(cost, Ordering::SeqCst) + cost
        };
        self.0.work.notify_one();
        if queued_bytes > HARD_CAP_BYTES {
            self.give_up(queued_bytes);
        }
    }

    fn give_up(&self, queued_bytes: usize) {
        let client = self.client();
        tracing::warn!(
            peer = client.address,
            client = client.version,
            queued_bytes,
            limit = HARD_CAP_BYTES,
            "client does not read what it asked for; disconnecting it"
        );
        self.abort();
    }

    fn advance(&self, to: State) {
        {
            let mut queue = self.queue();
            queue.closed = true;
            if to == State::Aborted {
                let cost = queue.frames.drain(..).map(|frame| frame.cost()).sum();
                self.0.queued_bytes.fetch_sub(cost, Ordering::SeqCst);
            }
        }
        self.0.state.send_if_modified(|state| {
            let moved = *state < to;
            *state = (*state).max(to);
            moved
        });
        self.0.work.notify_one();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queued {
    /// Bytes accounted for it while it is queued.
    pub(crate) fn cost(&self) -> usize {
        PLACE_COST_BYTES
            + match self {
                Queued::Frame { command, payload } => payload.len() + names_bytes(command),
                Queued::Part(part) => part.len(),
            }
    }
}

/// Lists of topics are the only commands that can be large.
fn names_bytes(command: &Command) -> usize {
    let bytes = |names: &[String]| names.iter().map(|name| size_of::<String>() + name.len()).sum();
    match command {
        Command::GetTopicsOfNamespaceResponse(list) => bytes(&list.topics),
        Command::WatchTopicListSuccess(list) => bytes(&list.topic),
        Command::WatchTopicUpdate(update) => bytes(&update.new_topics) + bytes(&update.deleted_topics),
        _ => 0,
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outbound({})", self.connection())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbound() -> Outbound {
        Outbound::new(ConnectionId(1), "test")
    }

    async fn drain(outbound: &Outbound) -> (usize, bool) {
        let mut frames = VecDeque::new();
        outbound.take(&mut frames).await.expect("frames are queued");
        let signals = frames.iter().filter(|frame| outbound.written(frame.cost())).count();
        (frames.len(), signals == 1)
    }

    #[tokio::test]
    async fn a_refused_dispatcher_is_told_once_when_the_queue_has_drained() {
        let outbound = outbound();
        outbound.send_with_payload(api::CommandPing {}.into(), Bytes::from(vec![0; HIGH_WATER_BYTES]));
        assert!(!outbound.is_writable());
        assert_eq!(drain(&outbound).await, (1, true));
        assert!(outbound.is_writable());

        outbound.send(api::CommandPing {}.into());
        assert_eq!(drain(&outbound).await, (1, false));
        assert_eq!(outbound.queued_bytes(), 0);
    }

    #[tokio::test]
    async fn control_frames_pass_above_the_high_water_mark() {
        let outbound = outbound();
        outbound.send_with_payload(api::CommandPing {}.into(), Bytes::from(vec![0; HIGH_WATER_BYTES]));
        outbound.send(api::CommandPong {}.into());
        assert_eq!(drain(&outbound).await.0, 2);
    }

    #[tokio::test]
    async fn closing_hands_out_what_is_queued_and_takes_nothing_more() {
        let outbound = outbound();
        outbound.send(api::CommandPing {}.into());
        outbound.close();
        outbound.send(api::CommandPing {}.into());
        assert_eq!(drain(&outbound).await.0, 1);
        assert_eq!(outbound.take(&mut VecDeque::new()).await, None);
        outbound.reached(State::Closing).await;
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_cut_off_at_the_hard_cap() {
        let outbound = outbound();
        let payload = Bytes::from(vec![0; HIGH_WATER_BYTES]);
        for _ in 0..=HARD_CAP_BYTES / HIGH_WATER_BYTES {
            outbound.send_with_payload(api::CommandPing {}.into(), payload.clone());
        }
        outbound.reached(State::Aborted).await;
        assert_eq!(outbound.queued_bytes(), 0);
    }

    #[tokio::test]
    async fn a_probe_hears_of_a_pong_that_arrives_after_it_began() {
        let outbound = outbound();
        outbound.note_pong();
        let hear = outbound.pong_since(outbound.pongs_so_far());
        tokio::pin!(hear);
        tokio::select! {
            biased;
            () = &mut hear => panic!("nothing arrived yet"),
            () = std::future::ready(()) => {}
        }
        outbound.note_pong();
        hear.await;
    }
}
