//! The way to a topic's task.

use std::collections::BTreeMap;
use std::sync::Arc;

use magnetar_proto::ids::Position;
use magnetar_proto::pulsar::api;
use tokio::sync::oneshot;

use super::compaction::CompactionStatus;
use super::departed::Departed;
use super::durability::Waiter;
use super::error::TopicError;
use super::mailbox::{Admin, LetIn, Message, Reply, Sender};
use super::request::{
    AddProducer, CloseReason, ConsumerKey, LastMessageId, PeekedEntry, ProducerKey, ProducerReady, Publish,
    SeekTarget, StartPosition, Subscribe,
};
use super::stats::{ConsumerStats, InternalStats, TopicStats};
use super::why::Why;
use crate::policies::TopicPolicies;
use crate::protocol::outbound::{ConnectionId, Outbound};

/// Cheap to clone. Requests of one caller are handled in the order of the calls,
/// but for `flow`, `ack` and `redeliver`, which overtake whatever else still waits. A request to a topic that closed is
/// answered [`TopicError::NotReady`]; whoever keeps handles drops a closed one and loads the topic anew.
///
/// The topic is the truth about who is connected to it: after CLOSE_PRODUCER or CLOSE_CONSUMER of its own accord a
/// key is free at once, whatever a connection still remembers. So a connection passes every PRODUCER and SUBSCRIBE on,
/// also for ids it knows; for a key that lives here the answer is success again.
#[derive(Clone)]
pub struct Handle {
    name: Arc<str>,
    mailbox: Sender,
}

impl Handle {
    pub(crate) fn new(name: Arc<str>, mailbox: Sender) -> Self {
        Handle { name, mailbox }
    }

    /// Of a topic whose task never runs; dropping the mailbox is its end.
    #[cfg(test)]
    pub(crate) fn of_nobody(name: &str) -> (Self, super::mailbox::Mailbox) {
        let (sender, mailbox) = super::mailbox::mailbox();
        (Handle::new(name.into(), sender), mailbox)
    }

    /// Full name of the topic.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The topic's task has ended, or is about to: load the topic anew.
    pub fn is_closed(&self) -> bool {
        self.mailbox.is_closed()
    }

    /// Resolves when the topic's task has ended and its ledgers are closed.
    pub async fn closed(&self) {
        self.mailbox.closed().await;
    }

    /// Two handles lead to the same task.
    pub fn same_topic(&self, other: &Handle) -> bool {
        self.mailbox.is_same(&other.mailbox)
    }

    /// Waits until there is room for publishes and requests. A connection awaits it before it reads on from its socket: that
    /// is what bounds the queue. Cancel-safe.
    pub async fn ready(&self) {
        self.mailbox.ready(false).await;
    }

    /// The same, for what consumers send without waiting for an answer. It does not wait behind publishes.
    pub async fn ready_for_consumers(&self) {
        self.mailbox.ready(true).await;
    }

    fn post(&self, message: Message) {
        self.mailbox.send(message);
    }

    async fn ask<T>(&self, message: impl FnOnce(Reply<T>) -> Message) -> Result<T, TopicError> {
        let (reply, answer) = oneshot::channel();
        self.post(message(reply));
        answer.await.unwrap_or_else(|_| Err(TopicError::closed()))
    }

    /// Registers a producer. Durable before it returns where it changes the topic epoch.
    pub async fn add_producer(&self, mut request: AddProducer) -> Result<ProducerReady, TopicError> {
        let welcome = std::mem::take(&mut request.welcome);
        self.ask(|reply| Message::AddProducer(Box::new(request), LetIn { welcome, reply })).await
    }

    /// Appends an entry. The receipt goes to the producer's outbound once the entry is durable, in order of the calls.
    /// After a failure no receipt comes: the topic closes the producer instead (its connection, for clients that ignore
    /// CLOSE_PRODUCER). Entries of a producer that is not here are dropped: it was told so before.
    pub fn publish(&self, publish: Publish) {
        // It would lie there with its share of the publish budget until the topic has closed, and be dropped.
        if self.mailbox.is_closed() {
            return;
        }
        self.post(Message::Publish(publish));
    }

    /// Returns when everything the producer sent before is durable and receipted. An unknown key is fine.
    pub async fn close_producer(&self, key: ProducerKey) -> Result<(), TopicError> {
        self.ask(|reply| Message::CloseProducer(key, reply)).await
    }

    /// Registers a consumer, creating the subscription durably first where needed. No message is sent before `flow`.
    pub async fn subscribe(&self, mut request: Subscribe) -> Result<(), TopicError> {
        let welcome = std::mem::take(&mut request.welcome);
        self.ask(|reply| Message::Subscribe(Box::new(request), LetIn { welcome, reply })).await
    }

    /// Grants permits, counted in messages.
    pub fn flow(&self, key: ConsumerKey, permits: u32) {
        self.post(Message::Flow(key, permits));
    }

    /// Acknowledges. With a request id the ACK_RESPONSE goes to `outbound` once the cursor is durable, or with an error.
    pub fn ack(&self, key: ConsumerKey, ack: api::CommandAck, outbound: &Outbound) {
        let waiter = Waiter::of(&ack, outbound).map(Box::new);
        self.post(Message::Ack(key, ack, waiter));
    }

    /// Asks for entries again: those given, or all when `ids` is empty.
    pub fn redeliver(&self, key: ConsumerKey, ids: Vec<Position>, epoch: Option<u64>) {
        self.post(Message::Redeliver(key, ids, epoch));
    }

    /// Takes a consumer away; what it held goes to the others. An unknown key is fine.
    pub async fn close_consumer(&self, key: ConsumerKey) -> Result<(), TopicError> {
        self.ask(|reply| Message::CloseConsumer(key, reply)).await
    }

    /// Deletes the consumer's subscription. With other consumers connected: `ConsumerBusy` unless forced.
    pub async fn unsubscribe(&self, key: ConsumerKey, force: bool) -> Result<(), TopicError> {
        self.ask(|reply| Message::Unsubscribe(key, force, reply)).await
    }

    /// Moves the consumer's subscription. Every consumer of it gets CLOSE_CONSUMER before this returns, and the new
    /// position is durable.
    pub async fn seek(&self, key: ConsumerKey, target: SeekTarget) -> Result<(), TopicError> {
        self.ask(|reply| Message::Seek(key, target, reply)).await
    }

    /// The last readable message.
    pub async fn last_message_id(&self, key: ConsumerKey) -> Result<LastMessageId, TopicError> {
        self.ask(|reply| Message::LastMessageId(key, reply)).await
    }

    /// For CONSUMER_STATS.
    pub async fn consumer_stats(&self, key: ConsumerKey) -> Result<ConsumerStats, TopicError> {
        self.ask(|reply| Message::ConsumerStats(key, reply)).await
    }

    /// Takes away all producers and consumers of a connection that ended.
    pub fn connection_closed(&self, connection: ConnectionId) {
        self.post(Message::ConnectionClosed(connection));
    }

    /// The connection's outbound queue fell below its low-water mark: dispatch to it goes on.
    pub fn writable(&self, connection: ConnectionId) {
        self.post(Message::Writable(connection));
    }

    /// From memory alone: the bytes of backlogs are estimates, and their age is left out.
    pub async fn stats(&self) -> Result<TopicStats, TopicError> {
        self.ask(|reply| Message::Admin(Admin::Stats(reply))).await
    }

    /// With exact bytes and the age of every backlog, for which two entries a subscription are read from bookies.
    pub async fn measured_stats(&self) -> Result<TopicStats, TopicError> {
        self.ask(|reply| Message::Admin(Admin::MeasuredStats(reply))).await
    }

    pub async fn internal_stats(&self) -> Result<InternalStats, TopicError> {
        self.ask(|reply| Message::Admin(Admin::InternalStats(reply))).await
    }

    /// Names of all subscriptions, sorted.
    pub async fn subscriptions(&self) -> Result<Vec<String>, TopicError> {
        self.ask(|reply| Message::Admin(Admin::Subscriptions(reply))).await
    }

    /// Position of the last durable entry.
    pub async fn last_position(&self) -> Result<Option<Position>, TopicError> {
        self.ask(|reply| Message::Admin(Admin::LastPosition(reply))).await
    }

    /// Creates a durable subscription; `Exists` if it is there. Durable before it returns.
    pub async fn create_subscription(
        &self,
        name: &str,
        start: StartPosition,
        properties: BTreeMap<String, String>,
    ) -> Result<(), TopicError> {
        let name = name.to_owned();
        self.ask(|reply| Message::Admin(Admin::CreateSubscription(name, start, properties, reply))).await
    }

    /// Deletes a subscription; `InUse` with consumers connected unless forced.
    pub async fn delete_subscription(&self, name: &str, force: bool) -> Result<(), TopicError> {
        let name = name.to_owned();
        self.ask(|reply| Message::Admin(Admin::DeleteSubscription(name, force, reply))).await
    }

    /// Acknowledges the whole backlog.
    pub async fn skip_all(&self, subscription: &str) -> Result<(), TopicError> {
        let name = subscription.to_owned();
        self.ask(|reply| Message::Admin(Admin::SkipAll(name, reply))).await
    }

    /// Acknowledges the next `entries` entries of the backlog.
    pub async fn skip(&self, subscription: &str, entries: u64) -> Result<(), TopicError> {
        let name = subscription.to_owned();
        self.ask(|reply| Message::Admin(Admin::Skip(name, entries, reply))).await
    }

    /// Acknowledges these entries, wherever they are: delayed, at a consumer, or still to be read. Durable before it
    /// returns; an entry that is acknowledged already is fine. `Invalid`, and nothing is changed, if one does not exist.
    pub async fn skip_ids(&self, subscription: &str, ids: Vec<Position>) -> Result<(), TopicError> {
        let name = subscription.to_owned();
        self.ask(|reply| Message::Admin(Admin::SkipIds(name, ids, reply))).await
    }

    /// Like `seek`, for a subscription by its name.
    pub async fn reset_cursor(&self, subscription: &str, target: SeekTarget) -> Result<(), TopicError> {
        let name = subscription.to_owned();
        self.ask(|reply| Message::Admin(Admin::ResetCursor(name, target, reply))).await
    }

    /// Acknowledges entries published more than `age_seconds` ago.
    pub async fn expire(&self, subscription: &str, age_seconds: u64) -> Result<(), TopicError> {
        let name = subscription.to_owned();
        self.ask(|reply| Message::Admin(Admin::Expire(name, age_seconds, reply))).await
    }

    /// The n-th entry (from 1) of the backlog; `None` beyond its end.
    pub async fn peek(&self, subscription: &str, n: u64) -> Result<Option<PeekedEntry>, TopicError> {
        let name = subscription.to_owned();
        self.ask(|reply| Message::Admin(Admin::Peek(name, n, reply))).await
    }

    /// The entry at a position; `None` if there is none.
    pub async fn read(&self, position: Position) -> Result<Option<PeekedEntry>, TopicError> {
        self.ask(|reply| Message::Admin(Admin::Read(position, reply))).await
    }

    /// The first entry published at or after `unix_ms`; `None` if there is none.
    pub async fn find_by_time(&self, unix_ms: u64) -> Result<Option<Position>, TopicError> {
        self.ask(|reply| Message::Admin(Admin::FindByTime(unix_ms, reply))).await
    }

    /// No more entries; answers the last one. Durable before it returns.
    pub async fn terminate(&self) -> Result<Option<Position>, TopicError> {
        self.ask(|reply| Message::Admin(Admin::Terminate(reply))).await
    }

    /// Acknowledges everything for every subscription, durably, and lets go of all that is stored, whatever retention
    /// says. Space comes back as soon as the bookies have collected it.
    pub async fn truncate(&self) -> Result<(), TopicError> {
        self.ask(|reply| Message::Admin(Admin::Truncate(reply))).await
    }

    /// Begins a compaction of everything that is durable by now, and returns; see [`Self::compaction_status`]. `Exists`
    /// while one is under way.
    pub async fn compact(&self) -> Result<(), TopicError> {
        self.ask(|reply| Message::Admin(Admin::Compact(reply))).await
    }

    /// What became of the last compaction since the topic was loaded.
    pub async fn compaction_status(&self) -> Result<CompactionStatus, TopicError> {
        self.ask(|reply| Message::Admin(Admin::CompactionStatus(reply))).await
    }

    /// Why nothing is delivered to a subscription, or (`None`) nothing published.
    pub async fn why(&self, subscription: Option<&str>) -> Result<Why, TopicError> {
        let subscription = subscription.map(str::to_owned);
        self.ask(|reply| Message::Admin(Admin::Why(subscription, reply))).await
    }

    /// The topic's properties as operators set them.
    pub async fn properties(&self) -> Result<BTreeMap<String, String>, TopicError> {
        self.ask(|reply| Message::Admin(Admin::Properties(reply))).await
    }

    /// Sets properties, or removes those that are given as `None`. Durable before it returns.
    pub async fn change_properties(&self, changes: Vec<(String, Option<String>)>) -> Result<(), TopicError> {
        self.ask(|reply| Message::Admin(Admin::ChangeProperties(changes, reply))).await
    }

    /// These policies hold from now on.
    pub fn set_policies(&self, policies: TopicPolicies) {
        self.post(Message::Policies(Box::new(policies)));
    }

    /// Has a ledger opened for appends, which the first producer would wait for.
    pub async fn prepare(&self) -> Result<(), TopicError> {
        self.ask(Message::Prepare).await
    }

    /// Like [`Self::close`] with `Unload`, but the clients are not told: that is up to the caller, who knows where the topic
    /// is served next. A topic closed before had nobody left.
    pub async fn hand_over(&self) -> Departed {
        self.ask(Message::HandOver).await.unwrap_or_default()
    }

    /// Tells producers and consumers to go, makes cursors durable, closes the ledger (or deletes all of it), and ends
    /// the task. A topic closed before is fine, except for `Delete`.
    pub async fn close(&self, reason: CloseReason) -> Result<(), TopicError> {
        match self.ask(|reply| Message::Close(reason, reply)).await {
            Err(TopicError::NotReady(_)) if !matches!(reason, CloseReason::Delete { .. }) => Ok(()),
            answer => answer,
        }
    }
}
