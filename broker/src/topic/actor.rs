//! The topic's task: what it owns, and the loop that everything happens in.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join, join3};
use hashbrown::HashMap;
use magnetar_common::Environment;
use magnetar_common::clock::SharedClock;
use magnetar_common::topic_name::{Domain, TopicName};
use magnetar_proto::ids::Position;
use tokio::sync::{Semaphore, mpsc};

use super::closing::Ending;
use super::compaction::Compaction;
use super::dead_letter::{Cemetery, StoreElsewhere};
use super::deduplication::Deduplication;
use super::durability::take_over_cursors;
use super::error::TopicError;
use super::event::{Event, Events};
use super::handle::Handle;
use super::housekeeping::Housekeeping;
use super::mailbox::{Mailbox, Message, mailbox};
use super::names::ProducerNames;
use super::producers::Producers;
use super::publish::InFlightQueue;
use super::rate::Rate;
use super::reads::{Entries, ReadDone, Source};
use super::request::{ConsumerKey, Name, Publish};
use super::runs::Runs;
use super::subscription::{Context, Subscription};
use super::tail_cache::{TailBudget, TailCache};
use crate::cursor::CursorStore;
use crate::dispatch::{ConsumerId, Limits};
use crate::managed_ledger::{ManagedLedger, MlConfig, MlEnv, MlEvent};
use crate::policies::{PolicySource, TopicPolicies};

/// What topics of a broker share. Cheap to clone.
#[derive(Clone)]
pub struct TopicEnv {
    pub managed_ledgers: MlEnv,
    pub config: MlConfig,
    pub environment: Environment,
    pub limits: TopicLimits,
    pub names: Arc<ProducerNames>,
    /// This broker's name in stats (`ownerBroker`).
    pub broker: Arc<str>,
    pub policies: Arc<dyn PolicySource>,
    /// Of the newest entries of all topics.
    pub tail_budget: Arc<TailBudget>,
    /// A permit for each topic that may be compacted at the same time.
    pub compactions: Arc<Semaphore>,
    /// For what leaves a topic for another one.
    pub elsewhere: Arc<dyn StoreElsewhere>,
}

/// Bounds of one topic's memory.
#[derive(Clone, Copy, Debug)]
pub struct TopicLimits {
    /// Bytes of the newest entries kept for consumers that keep up.
    pub tail_cache_bytes: usize,
    /// Bytes read from bookies ahead of what a subscription's consumers have taken.
    pub read_ahead_bytes: usize,
    pub dispatch: Limits,
}

impl Default for TopicLimits {
    fn default() -> Self {
        TopicLimits {
            tail_cache_bytes: 16 * 1024 * 1024,
            read_ahead_bytes: 4 * 1024 * 1024,
            dispatch: Limits::default(),
        }
    }
}

/// State of a topic. Only its task touches it.
pub(crate) struct Topic {
    pub name: Name,
    pub partition: Option<i32>,
    pub env: TopicEnv,
    pub ml: ManagedLedger,
    pub cache: TailCache,
    pub runs: Runs,
    pub producers: Producers,
    pub in_flight: InFlightQueue,
    /// Publishes that came while the ledger could queue no more; bounded by the publish budget.
    pub deferred: VecDeque<Publish>,
    /// Boxed: the map's nodes are half empty.
    pub subscriptions: BTreeMap<Name, Box<Subscription>>,
    pub consumers: HashMap<ConsumerKey, (Name, ConsumerId)>,
    pub next_consumer: u64,
    pub next_serial: u32,
    pub terminated: bool,
    /// Why the topic must end itself; its producers and consumers come back to a fresh one.
    pub failed: Option<String>,
    /// A producer left: one that waits may have its turn.
    pub producer_left: bool,
    /// A durable mark-delete moved, or a cursor went: ledgers may have become free.
    pub trim_due: bool,
    /// Entries were acknowledged or added: the cache may let go of some.
    pub release_due: bool,
    pub incoming: Rate,
    pub chunks_published: bool,
    pub entries_added: u64,
    pub last_publish_ms: u64,
    pub loaded_ms: u64,
    pub policies: TopicPolicies,
    pub housekeeping: Housekeeping,
    /// `None`: off.
    pub deduplication: Option<Deduplication>,
    /// `None`: it never was, and no policy asks for it.
    pub compaction: Option<Box<Compaction>>,
    /// For the tasks beside this one.
    pub events: Events,
}

/// Opens the topic's managed ledger and cursors (creating the ledger if there is none), and starts its task.
///
/// An earlier owner of the ledger, wherever it is, gets nothing acknowledged any more. Opened `for_writing`, it has a ledger
/// for its first producer already, if one can be had.
pub async fn open(mut env: TopicEnv, name: TopicName, for_writing: bool) -> Result<Handle, TopicError> {
    if name.domain() == Domain::NonPersistent {
        return super::volatile::open(env, name).await;
    }
    let not_ready = |what: &str, error: &dyn Display| TopicError::NotReady(format!("{what}: {error}"));
    let ml_name = name.managed_ledger_name();
    // What is read before anything is taken over. The next ledger's id comes with it.
    let (policies, found, cursors) = join3(
        env.policies.of(&name),
        ManagedLedger::look(&env.managed_ledgers, &ml_name, for_writing),
        CursorStore::list(&env.managed_ledgers, &ml_name),
    )
    .await;
    let policies = policies.map_err(|error| not_ready("read the policies", &error))?;
    let cursors = cursors.map_err(|error| not_ready("list the cursors", &error))?;
    let unopened = |error| not_ready("open the managed ledger", &error);
    let found = found.map_err(unopened)?;
    // The cursors' ledgers lie where the topic's do.
    env.config.isolation = policies.isolation.clone();
    let (managed_ledgers, config) = (env.managed_ledgers.clone(), env.config.clone());
    let taking = take_over_cursors(&managed_ledgers, &config, &ml_name, cursors);
    let opening = ManagedLedger::open_found(managed_ledgers, &ml_name, config, found);
    let (ml, cursors) = join(opening, taking).await;
    let (ml, cursors) = (ml.map_err(unopened)?, cursors?);
    let clock = env.environment.clock.clone();
    let (sender, mailbox) = mailbox();
    let (events, reported) = Events::new();
    let mut topic = Topic {
        name: Arc::from(name.as_str()),
        partition: name.partition().and_then(|n| i32::try_from(n).ok()),
        cache: TailCache::new(env.limits.tail_cache_bytes, Arc::clone(&env.tail_budget)),
        runs: Runs::new(Arc::clone(&env.tail_budget)),
        env,
        terminated: ml.terminated().is_some(),
        ml,
        producers: Producers::default(),
        in_flight: InFlightQueue::default(),
        deferred: VecDeque::new(),
        subscriptions: BTreeMap::new(),
        consumers: HashMap::new(),
        next_consumer: 0,
        next_serial: 0,
        failed: None,
        producer_left: false,
        trim_due: false,
        release_due: false,
        incoming: Rate::new(clock.now()),
        chunks_published: false,
        entries_added: 0,
        last_publish_ms: 0,
        loaded_ms: clock.unix_ms(),
        policies: TopicPolicies::default(),
        housekeeping: Housekeeping::default(),
        deduplication: None,
        compaction: None,
        events,
    };
    topic.load_epoch();
    topic.set_policies(policies);
    topic.recover_subscriptions(cursors).await?;
    let handle = Handle::new(topic.name.clone(), sender);
    tokio::spawn(run(topic, mailbox, reported));
    Ok(handle)
}

/// The task's end is the mailbox's: requests still in it are answered `NotReady` by being dropped.
async fn run(mut topic: Topic, mut mailbox: Mailbox, mut reported: mpsc::UnboundedReceiver<Event>) {
    let clock = topic.env.environment.clock.clone();
    let mut timer = Timer::new(clock);
    // Grows with what waits: most topics never have more than a few requests at once.
    let mut batch = Vec::new();
    let mut is_flooded = false;
    let closing = loop {
        if std::mem::take(&mut is_flooded) {
            // Whoever feeds and drains the topic needs the thread as well, and other topics do.
            tokio::task::yield_now().await;
        }
        timer.set(topic.deadline());
        tokio::select! {
            event = topic.ml.next() => topic.on_ledger(event),
            Some(event) = reported.recv() => topic.on_event(event).await,
            taken = mailbox.take(&mut batch) => {
                let Some(taken) = taken else { break None };
                is_flooded = taken.is_flooded;
            }
            () = timer.expired() => topic.on_timer(),
        }
        let mut close = None;
        for message in batch.drain(..) {
            match message {
                Message::Close(reason, reply) => {
                    close = topic.may_close(reason, reply);
                    if close.is_some() {
                        break;
                    }
                }
                Message::HandOver(reply) => {
                    close = Some(Ending::HandedOver(reply));
                    break;
                }
                message => topic.handle(message).await,
            }
        }
        topic.settle_all().await;
        if close.is_some() {
            break close;
        }
        if let Some(reason) = &topic.failed {
            tracing::warn!(topic = %topic.name, reason, "topic ends itself; it is loaded anew on demand");
            break None;
        }
    };
    mailbox.close();
    Box::pin(topic.close(closing)).await;
}

impl Topic {
    async fn handle(&mut self, message: Message) {
        let clock = &self.env.environment.clock;
        match message {
            Message::Publish(publish) => self.publish(publish),
            Message::Flow(key, permits) => {
                let now_ms = clock.unix_ms();
                self.with_consumer(key, |s, id, _| s.flow(id, permits, now_ms));
            }
            Message::Ack(key, ack, waiter) => self.on_ack(key, ack, waiter.map(|waiter| *waiter)),
            Message::Redeliver(key, ids, epoch) => {
                self.with_consumer(key, |s, id, cx| s.redeliver(id, &ids, epoch, cx));
            }
            Message::ConnectionClosed(connection) => self.on_connection_closed(connection),
            Message::Writable(connection) => {
                let keys = self.consumers.keys().filter(|key| key.connection == connection);
                for key in keys.copied().collect::<Vec<_>>() {
                    self.with_consumer(key, |s, id, _| {
                        s.dispatcher.set_writable(id, true);
                        s.due = true;
                    });
                }
            }
            // Whoever asked may be gone: then nobody wants the answer. What waits is boxed: in this task it would take room for
            // the largest of these requests as long as the topic is in memory.
            Message::AddProducer(request, asked) => asked.answer(Box::pin(self.add_producer(*request)).await),
            Message::CloseProducer(key, reply) => self.close_producer(key, reply),
            Message::Subscribe(request, asked) => asked.answer(Box::pin(self.subscribe(*request)).await),
            Message::CloseConsumer(key, reply) => {
                self.remove_consumer(key);
                drop(reply.send(Ok(())));
            }
            Message::Unsubscribe(key, force, reply) => {
                drop(reply.send(Box::pin(self.unsubscribe(key, force)).await))
            }
            Message::Seek(key, target, reply) => drop(reply.send(Box::pin(self.seek(key, target)).await)),
            Message::LastMessageId(key, reply) => {
                let name = self.consumers.get(&key).map(|(name, _)| name.clone()).unwrap_or_default();
                drop(reply.send(Box::pin(self.last_message_id(&name)).await));
            }
            Message::ConsumerStats(key, reply) => drop(reply.send(self.consumer_stats(key))),
            Message::Admin(request) => Box::pin(self.admin(request)).await,
            Message::Policies(policies) => self.set_policies(*policies),
            Message::Prepare(reply) => drop(reply.send(Box::pin(self.prepare()).await)),
            Message::Close(_, reply) => drop(reply.send(Err(TopicError::closed()))),
            Message::HandOver(reply) => drop(reply.send(Err(TopicError::closed()))),
        }
    }

    async fn on_event(&mut self, event: Event) {
        match event {
            Event::Read(done) => self.on_read(*done),
            Event::Stored(done) => self.on_stored(done).await,
            Event::Looked(done) => self.on_looked(*done),
            Event::Compaction(event) => self.on_compaction(*event),
            Event::Departed(departed) => self.on_departed(*departed),
        }
    }

    fn on_ledger(&mut self, event: MlEvent) {
        match event {
            MlEvent::Confirmed { up_to } => self.on_confirmed(up_to),
            MlEvent::Writable | MlEvent::RolledOver { .. } | MlEvent::Trimmable => self.trim_due = true,
            MlEvent::NotWritable(error) => {
                tracing::warn!(topic = %self.name, %error, "open a ledger to write to");
            }
            MlEvent::Failed(error) => self.fail(&error.to_string()),
        }
        self.retry_deferred();
    }

    /// Ends the topic after the current event.
    pub(crate) fn fail(&mut self, reason: &str) {
        self.failed.get_or_insert_with(|| reason.to_owned());
    }

    fn on_read(&mut self, done: ReadDone) {
        let now = self.env.environment.clock.now();
        let name = done.subscription.clone();
        self.with_subscription(&name, |subscription, cx| {
            for gone in subscription.reads.on_done(done, now) {
                subscription.ack_entry(gone, cx);
            }
            subscription.due = true;
        });
    }

    fn on_timer(&mut self) {
        let now = self.env.environment.clock.now();
        let now_ms = self.env.environment.clock.unix_ms();
        self.drop_forsaken(now);
        self.keep_house(now);
        let names: Vec<Name> = self.subscriptions.keys().cloned().collect();
        for name in names {
            self.with_subscription(&name, |subscription, cx| {
                if subscription.deadline(now, now_ms).is_some_and(|at| at <= now) {
                    subscription.on_timer(cx);
                }
            });
        }
    }

    fn deadline(&self) -> Option<Duration> {
        let clock = &self.env.environment.clock;
        let (now, now_ms) = (clock.now(), clock.unix_ms());
        let of_subscriptions = self.subscriptions.values().filter_map(|s| s.deadline(now, now_ms)).min();
        let deduplication = self.deduplication.as_ref().and_then(Deduplication::deadline);
        let compaction = self.compaction.as_ref().and_then(|compaction| compaction.deadline());
        [of_subscriptions, self.housekeeping.deadline(), deduplication, compaction]
            .into_iter()
            .flatten()
            .min()
    }

    /// After each batch of events: consumers get what is there for them, cursors are written, ledgers let go.
    async fn settle_all(&mut self) {
        if self.producer_left {
            self.producer_left = false;
            Box::pin(self.admit_waiting()).await;
        }
        self.dispatch_due();
        self.persist_due();
        self.keep_deduplication();
        self.keep_compaction().await;
        if std::mem::take(&mut self.release_due) {
            self.release_cache();
            self.housekeeping.quota_due |= self.policies.storage_quota.is_some();
        }
        if std::mem::take(&mut self.trim_due) {
            self.trim();
        }
        self.plan_housekeeping();
    }

    fn dispatch_due(&mut self) {
        if !self.subscriptions.values().any(|s| s.due) {
            return;
        }
        let (cx, subscriptions, runs) = self.parts();
        for subscription in subscriptions.values_mut().filter(|s| s.due) {
            subscription.dispatch(&cx, runs);
        }
        self.release_runs();
    }

    /// Runs to which nobody will come need not be in memory.
    fn release_runs(&mut self) {
        let streaming = self.subscriptions.values().filter(|s| !s.consumers.is_empty() && s.kind.is_single());
        self.runs.release(streaming.map(|s| s.read_position).min());
    }

    /// Entries which everybody who is connected has acknowledged need not be in memory.
    fn release_cache(&mut self) {
        self.release_runs();
        // Who is away reads from bookies when it comes back.
        let present = self.subscriptions.values().filter(|s| !s.consumers.is_empty());
        let acknowledged = present.map(|s| s.cursor.mark_delete()).min();
        let position = match acknowledged {
            Some(mark) => mark.entry.map(|entry_id| Position { ledger_id: mark.ledger_id, entry_id }),
            None => self.ml.last_confirmed(),
        };
        if let Some(position) = position {
            self.cache.release(position);
        }
    }

    /// What subscriptions borrow, the subscriptions, and what was encoded for them.
    pub(crate) fn parts(&mut self) -> (Context<'_>, &mut BTreeMap<Name, Box<Subscription>>, &mut Runs) {
        let clock = &self.env.environment.clock;
        let source = self.ml.last_confirmed().map(|up_to| Source {
            reader: Entries::Topic(self.ml.reader()),
            done: self.events.clone(),
            up_to,
            bytes_max: self.env.limits.read_ahead_bytes,
        });
        let compacted = self.compaction.as_ref().and_then(|compaction| compaction.compacted());
        let compacted = compacted.map(|compacted| Source {
            reader: Entries::Compacted(compacted.clone()),
            done: self.events.clone(),
            up_to: compacted.horizon(),
            bytes_max: self.env.limits.read_ahead_bytes,
        });
        let cx = Context {
            compacted,
            ledgers: self.ml.ledgers(),
            cache: &self.cache,
            source,
            partition: self.partition,
            now: clock.now(),
            now_ms: clock.unix_ms(),
            terminated: self.terminated,
            ttl: self.policies.message_ttl,
            delays: self.policies.delayed_delivery,
            filters: self.policies.filter_by_properties,
            cemetery: Cemetery {
                topic: &self.name,
                policies: &self.policies.dead_letters,
                elsewhere: &self.env.elsewhere,
                done: &self.events,
            },
        };
        (cx, &mut self.subscriptions, &mut self.runs)
    }

    pub(crate) fn with_subscription(&mut self, name: &str, f: impl FnOnce(&mut Subscription, &Context<'_>)) {
        let (cx, subscriptions, _) = self.parts();
        if let Some(subscription) = subscriptions.get_mut(name) {
            f(subscription, &cx);
        }
    }

    fn with_consumer(
        &mut self,
        key: ConsumerKey,
        f: impl FnOnce(&mut Subscription, ConsumerId, &Context<'_>),
    ) {
        let Some((name, id)) = self.consumers.get(&key).cloned() else { return };
        self.with_subscription(&name, |subscription, cx| f(subscription, id, cx));
    }
}

/// One timer for everything in the topic; none runs while nothing is pending.
pub(super) struct Timer {
    clock: SharedClock,
    armed: Option<(Duration, BoxFuture<'static, ()>)>,
}

impl Timer {
    pub(super) fn new(clock: SharedClock) -> Self {
        Timer { clock, armed: None }
    }

    pub(super) fn set(&mut self, deadline: Option<Duration>) {
        match (deadline, &self.armed) {
            (None, _) => self.armed = None,
            (Some(at), Some((armed, _))) if *armed == at => {}
            (Some(at), _) => {
                let wait = at.saturating_sub(self.clock.now());
                self.armed = Some((at, self.clock.sleep(wait)));
            }
        }
    }

    pub(super) async fn expired(&mut self) {
        match &mut self.armed {
            Some((_, sleep)) => sleep.await,
            None => std::future::pending().await,
        }
        self.armed = None;
    }
}
