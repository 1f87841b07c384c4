//! What travels from a [`Handle`](super::Handle) to the topic's task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use magnetar_proto::ids::Position;
use magnetar_proto::pulsar::api;
use tokio::sync::{Notify, oneshot};

use super::compaction::CompactionStatus;
use super::departed::Departed;
use super::error::TopicError;
use super::request::{
    AddProducer, CloseReason, ConsumerKey, LastMessageId, PeekedEntry, ProducerKey, ProducerReady, Publish,
    SeekTarget, StartPosition, Subscribe,
};
use super::stats::{ConsumerStats, InternalStats, TopicStats};
use super::why::Why;
use crate::policies::TopicPolicies;
use crate::protocol::outbound::ConnectionId;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, TopicError>>;

pub(crate) enum Message {
    Publish(Publish),
    Flow(ConsumerKey, u32),
    Ack(ConsumerKey, api::CommandAck),
    Redeliver(ConsumerKey, Vec<Position>, Option<u64>),
    ConnectionClosed(ConnectionId),
    Writable(ConnectionId),
    AddProducer(Box<AddProducer>, Reply<ProducerReady>),
    CloseProducer(ProducerKey, Reply<()>),
    Subscribe(Box<Subscribe>, Reply<()>),
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

/// Messages which may queue before connections are asked to pause: the actor clears this in milliseconds, and with
/// the publish budget bounding the bytes it keeps the queue's memory in the low megabytes.
pub(crate) const QUEUED_MAX: usize = 10_000;

/// State shared by all handles of a topic.
#[derive(Default)]
pub(crate) struct Shared {
    /// Messages sent and not yet taken by the actor.
    pub queued: AtomicUsize,
    pub drained: Notify,
    pub closed: AtomicBool,
}

impl Shared {
    /// The actor took `n` messages.
    pub(crate) fn took(&self, n: usize) {
        let before = self.queued.fetch_sub(n, Ordering::AcqRel);
        if before >= QUEUED_MAX && before - n < QUEUED_MAX {
            self.drained.notify_waiters();
        }
    }
}

pub(crate) type SharedState = Arc<Shared>;
