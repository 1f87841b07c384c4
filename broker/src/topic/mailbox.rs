//! What travels from a [`Handle`](super::Handle) to the topic's task, and how.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use magnetar_proto::ids::Position;
use magnetar_proto::pulsar::api;
use tokio::sync::{Notify, mpsc, oneshot};

use super::compaction::CompactionStatus;
use super::departed::Departed;
use super::durability::Waiter;
use super::error::TopicError;
use super::request::{
    AddProducer, CloseReason, ConsumerKey, LastMessageId, PeekedEntry, ProducerKey, ProducerReady, Publish,
    SeekTarget, StartPosition, Subscribe, Welcome,
};
use super::stats::{ConsumerStats, InternalStats, TopicStats};
use super::why::Why;
use crate::policies::TopicPolicies;
use crate::protocol::outbound::ConnectionId;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, TopicError>>;

/// The answer to a request that lets a client in. Success is told to the client at once, before whoever asked goes on.
pub(crate) struct LetIn<T> {
    pub(crate) welcome: Welcome<T>,
    pub(crate) reply: Reply<T>,
}

impl<T> LetIn<T> {
    pub(crate) fn answer(self, outcome: Result<T, TopicError>) {
        if let Ok(ready) = &outcome {
            self.welcome.say(ready);
        }
        // Whoever asked may be gone: then nobody wants the answer.
        drop(self.reply.send(outcome));
    }
}

pub(crate) enum Message {
    Publish(Publish),
    Flow(ConsumerKey, u32),
    Ack(ConsumerKey, api::CommandAck, Option<Box<Waiter>>),
    Redeliver(ConsumerKey, Vec<Position>, Option<u64>),
    ConnectionClosed(ConnectionId),
    Writable(ConnectionId),
    AddProducer(Box<AddProducer>, LetIn<ProducerReady>),
    CloseProducer(ProducerKey, Reply<()>),
    Subscribe(Box<Subscribe>, LetIn<()>),
    CloseConsumer(ConsumerKey, Reply<()>),
    Unsubscribe(ConsumerKey, bool, Reply<()>),
    Seek(ConsumerKey, SeekTarget, Reply<()>),
    LastMessageId(ConsumerKey, Reply<LastMessageId>),
    ConsumerStats(ConsumerKey, Reply<ConsumerStats>),
    Admin(Admin),
    Policies(Box<TopicPolicies>),
    /// Opens a ledger to write to.
    Prepare(Reply<()>),
    Close(CloseReason, Reply<()>),
    /// Like `Close`; the clients are told by whoever asked.
    HandOver(Reply<Departed>),
}

/// Requests of the admin API and the registry.
pub(crate) enum Admin {
    /// As memory has it: bytes of backlogs about, without their age.
    Stats(Reply<TopicStats>),
    /// With what only the ledgers know.
    MeasuredStats(Reply<TopicStats>),
    InternalStats(Reply<InternalStats>),
    Subscriptions(Reply<Vec<String>>),
    LastPosition(Reply<Option<Position>>),
    CreateSubscription(String, StartPosition, BTreeMap<String, String>, Reply<()>),
    DeleteSubscription(String, bool, Reply<()>),
    SkipAll(String, Reply<()>),
    Skip(String, u64, Reply<()>),
    /// Acknowledges single entries.
    SkipIds(String, Vec<Position>, Reply<()>),
    ResetCursor(String, SeekTarget, Reply<()>),
    Expire(String, u64, Reply<()>),
    Peek(String, u64, Reply<Option<PeekedEntry>>),
    Read(Position, Reply<Option<PeekedEntry>>),
    FindByTime(u64, Reply<Option<Position>>),
    Terminate(Reply<Option<Position>>),
    /// Everything stored is let go of, whatever retention says.
    Truncate(Reply<()>),
    /// Begins a compaction.
    Compact(Reply<()>),
    CompactionStatus(Reply<CompactionStatus>),
    /// Of a subscription, or of publishing.
    Why(Option<String>, Reply<Why>),
    Properties(Reply<BTreeMap<String, String>>),
    ChangeProperties(Vec<(String, Option<String>)>, Reply<()>),
}

/// Messages which may queue in a lane before connections are asked to pause: the actor clears this in milliseconds, and
/// with the publish budget bounding the bytes it keeps the queue's memory in the low megabytes.
const QUEUED_MAX: usize = 10_000;

/// Messages of a lane taken at a time, before receipts, dispatch and timers get their turn again: some hundred
/// microseconds.
const BATCH: usize = 256;

/// Two lanes: what consumers send without waiting for an answer overtakes everything else, and is never overtaken. Behind a
/// flood of publishes a consumer's permits would come so late that it could not keep up with it.
pub(crate) fn mailbox() -> (Sender, Mailbox) {
    let (consumers, from_consumers) = mpsc::unbounded_channel();
    let (others, from_others) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared::default());
    let mailbox = Mailbox {
        consumers: from_consumers,
        others: from_others,
        batch: Vec::new(),
        owed: 0,
        shared: shared.clone(),
    };
    (Sender { consumers, others, shared }, mailbox)
}

#[derive(Clone)]
pub(crate) struct Sender {
    consumers: mpsc::UnboundedSender<Message>,
    others: mpsc::UnboundedSender<Message>,
    shared: Arc<Shared>,
}

/// The topic's end.
pub(crate) struct Mailbox {
    consumers: mpsc::UnboundedReceiver<Message>,
    others: mpsc::UnboundedReceiver<Message>,
    /// Taken from `others`, and not handed out yet. Grows with what waits: most topics never have more than a few requests at
    /// once.
    batch: Vec<Message>,
    /// So many messages of consumers come before `batch`: they were there when it was taken.
    owed: usize,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    consumers: Queued,
    others: Queued,
    closed: AtomicBool,
}

/// How full a lane is.
#[derive(Default)]
struct Queued {
    /// Messages sent and not yet taken by the actor.
    messages: AtomicUsize,
    drained: Notify,
}

impl Sender {
    /// A topic that is gone has told its producers and consumers; what they still send is void.
    pub(crate) fn send(&self, message: Message) {
        let (lane, queued) = match message.is_of_consumer() {
            true => (&self.consumers, &self.shared.consumers),
            false => (&self.others, &self.shared.others),
        };
        queued.messages.fetch_add(1, Ordering::AcqRel);
        let _ = lane.send(message);
    }

    /// Waits until there is room for what consumers send (`for_consumer`), or for all else. Cancel-safe.
    pub(crate) async fn ready(&self, for_consumer: bool) {
        let queued = if for_consumer { &self.shared.consumers } else { &self.shared.others };
        while queued.is_full() && !self.is_closed() {
            let drained = queued.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            if !queued.is_full() {
                return;
            }
            tokio::select! {
                _ = drained => {}
                _ = self.others.closed() => {}
            }
        }
    }

    /// The topic's task has ended, or is about to.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire) || self.others.is_closed()
    }

    /// Resolves when the topic's task has ended.
    pub(crate) async fn closed(&self) {
        self.others.closed().await;
    }

    pub(crate) fn is_same(&self, other: &Sender) -> bool {
        self.others.same_channel(&other.others)
    }
}

impl Mailbox {
    /// Waits for messages, and takes some of what consumers sent, and then of the rest. `None`: nobody can send any more.
    /// Cancel-safe.
    ///
    /// Nothing is taken before what its sender sent earlier, but for what consumers send, which may be.
    pub(crate) async fn take(&mut self, into: &mut Vec<Message>) -> Option<Taken> {
        if self.batch.is_empty() {
            tokio::select! {
                biased;
                others = self.others.recv_many(&mut self.batch, BATCH) => {
                    if others == 0 {
                        return None;
                    }
                    self.owed = self.consumers.len();
                }
                // Ends only together with the other one, which is asked first.
                consumers = self.consumers.recv_many(into, BATCH) => {
                    self.shared.consumers.took(consumers);
                    return Some(Taken { is_flooded: consumers == BATCH });
                }
            }
        }
        let before = into.len();
        into.extend((0..BATCH).map_while(|_| self.consumers.try_recv().ok()));
        let consumers = into.len() - before;
        self.shared.consumers.took(consumers);
        self.owed = self.owed.saturating_sub(consumers);
        if self.owed > 0 && consumers == BATCH {
            return Some(Taken { is_flooded: true });
        }
        let others = self.batch.len();
        self.shared.others.took(others);
        into.append(&mut self.batch);
        Some(Taken { is_flooded: consumers.max(others) == BATCH })
    }

    /// Nobody is to send any more; what waits is not lost by that.
    pub(crate) fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
    }
}

/// What was in the mailbox.
pub(crate) struct Taken {
    /// There may well be more.
    pub(crate) is_flooded: bool,
}

impl Queued {
    fn is_full(&self) -> bool {
        self.messages.load(Ordering::Acquire) >= QUEUED_MAX
    }

    /// The actor took `n` messages.
    fn took(&self, n: usize) {
        let before = self.messages.fetch_sub(n, Ordering::AcqRel);
        if before >= QUEUED_MAX && before - n < QUEUED_MAX {
            self.drained.notify_waiters();
        }
    }
}

impl Message {
    fn is_of_consumer(&self) -> bool {
        matches!(self, Message::Flow(..) | Message::Ack(..) | Message::Redeliver(..) | Message::Writable(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(n: u32) -> Message {
        let key = ConsumerKey { connection: ConnectionId(1), consumer_id: 0 };
        Message::Flow(key, n)
    }

    fn closed(n: u64) -> Message {
        Message::ConnectionClosed(ConnectionId(n))
    }

    async fn take(mailbox: &mut Mailbox) -> (Vec<u32>, Vec<u64>) {
        let (mut taken, mut flows, mut others) = (Vec::new(), Vec::new(), Vec::new());
        assert!(mailbox.take(&mut taken).await.is_some());
        for message in taken {
            match message {
                Message::Flow(_, n) if others.is_empty() => flows.push(n),
                Message::ConnectionClosed(ConnectionId(n)) => others.push(n),
                _ => panic!("another message, or out of order"),
            }
        }
        (flows, others)
    }

    #[tokio::test]
    async fn what_consumers_send_overtakes_all_else_and_is_in_order() {
        let (sender, mut mailbox) = mailbox();
        for n in 0..1_000 {
            sender.send(closed(n));
            sender.send(flow(n as u32));
        }
        assert_eq!(take(&mut mailbox).await, ((0..256).collect(), vec![]));
        assert_eq!(take(&mut mailbox).await, ((256..512).collect(), vec![]));
        // What comes later does not hold up the others any longer.
        sender.send(flow(1_000));
        assert_eq!(take(&mut mailbox).await, ((512..768).collect(), vec![]));
        assert_eq!(take(&mut mailbox).await, ((768..1_001).collect(), (0..256).collect()));
        sender.send(flow(7));
        assert_eq!(take(&mut mailbox).await, (vec![7], (256..512).collect()));
        assert_eq!(take(&mut mailbox).await, (vec![], (512..768).collect()));
        assert_eq!(take(&mut mailbox).await, (vec![], (768..1_000).collect()));
        sender.send(flow(8));
        assert_eq!(take(&mut mailbox).await, (vec![8], vec![]));
        drop(sender);
        assert!(mailbox.take(&mut Vec::new()).await.is_none());
    }

    #[tokio::test]
    async fn a_full_lane_keeps_nobody_from_the_other_one() {
        let (sender, mut mailbox) = mailbox();
        (0..QUEUED_MAX as u64).for_each(|n| sender.send(closed(n)));
        sender.ready(true).await;
        let room = sender.ready(false);
        tokio::pin!(room);
        tokio::select! {
            biased;
            () = &mut room => panic!("there is no room"),
            () = std::future::ready(()) => {}
        }
        mailbox.take(&mut Vec::new()).await.unwrap();
        room.await;
    }
}
