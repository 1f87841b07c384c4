//! When a durable subscription's cursor is written, and who is told.
//!
//! One write is under way at a time; what changes meanwhile goes into the next one. An acknowledgement whose client
//! waits for the answer is written at once, others at most every [`PERSIST_EVERY`]. After a large write the next one
//! waits longer: a cursor with a million holes must not keep the bookies busy with nothing else.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use magnetar_proto::pulsar::api;
use tokio::task::JoinHandle;

use super::actor::Topic;
use super::error::TopicError;
use super::event::Events;
use super::request::{Name, SubscriptionType};
use super::{compaction, deduplication};
use crate::cursor::{Cursor, CursorError, CursorStore, StoredCursor, TakenOver};
use crate::managed_ledger::{MarkDelete, MlConfig, MlEnv};
use crate::protocol::outbound::Outbound;

/// Unconfirmed acknowledgements may be lost for this long by a crash: their messages are delivered again.
const PERSIST_EVERY: Duration = Duration::from_millis(100);

/// A cursor's share of what bookies can write, in bytes per second.
const BYTES_PER_SECOND: u64 = 32 << 20;

/// Pause after a write that failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// For this long an acknowledgement whose client waits for the answer is tried; well below what clients wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Cursors taken over at once when a topic is opened: each may have a ledger to be recovered.
const RECOVERED_AT_A_TIME: usize = 16;

/// Told by a write task: this subscription's write has ended.
pub(crate) struct Stored(pub Name);

/// A client that waits for ACK_RESPONSE. It hears an error if this is dropped, wherever that is: some do nothing else, not even
/// connect again, until they have their answer.
pub(crate) struct Waiter {
    outbound: Outbound,
    consumer_id: u64,
    request_id: u64,
    is_answered: bool,
}

impl Waiter {
    /// `None`: nobody waits for an answer to this acknowledgement.
    pub(crate) fn of(ack: &api::CommandAck, outbound: &Outbound) -> Option<Self> {
        let request_id = ack.request_id?;
        let (outbound, consumer_id) = (outbound.clone(), ack.consumer_id);
        Some(Waiter { outbound, consumer_id, request_id, is_answered: false })
    }

    pub(crate) fn answer(mut self, error: Option<(api::ServerError, String)>) {
        self.send(error);
    }

    fn send(&mut self, error: Option<(api::ServerError, String)>) {
        self.is_answered = true;
        let (error, message) = error.unzip();
        self.outbound.send(
            api::CommandAckResponse {
                consumer_id: self.consumer_id,
                request_id: Some(self.request_id),
                error: error.map(i32::from),
                message,
                ..Default::default()
            }
            .into(),
        );
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if !self.is_answered {
            let text = "the consumer or its topic went before this was durable; acknowledge it again";
            self.send(Some((api::ServerError::ConsumerNotFound, text.into())));
        }
    }
}

type Write = JoinHandle<(CursorStore, Result<usize, CursorError>)>;

/// Versions count changes of the cursor: `durable <= writing <= version`.
pub(crate) struct Durability {
    /// `None` exactly while `write` is under way.
    store: Option<CursorStore>,
    write: Option<Write>,
    version: u64,
    writing: u64,
    durable: u64,
    writing_mark: MarkDelete,
    durable_mark: MarkDelete,
    /// When the next write is wanted; `None`: nothing to write.
    due: Option<Duration>,
    /// No write begins earlier.
    not_before: Duration,
    /// In the order in which they came, with the version and the time at which they did.
    waiters: VecDeque<(u64, Duration, Waiter)>,
    /// Why the last write failed; `None` once one went well.
    last_error: Option<String>,
}

impl Durability {
    /// Over a store that holds the cursor as it is.
    pub(crate) fn new(store: CursorStore, mark: MarkDelete) -> Self {
        Durability {
            store: Some(store),
            write: None,
            version: 0,
            writing: 0,
            durable: 0,
            writing_mark: mark,
            durable_mark: mark,
            due: None,
            not_before: Duration::ZERO,
            waiters: VecDeque::new(),
            last_error: None,
        }
    }

    /// What a crash would fall back to: ledgers below it are not needed for this subscription.
    pub(crate) fn durable_mark_delete(&self) -> MarkDelete {
        self.durable_mark
    }

    /// The cursor changed; `waiter` is answered when that is durable.
    pub(crate) fn changed(&mut self, waiter: Option<Waiter>, now: Duration) {
        self.version += 1;
        match waiter {
            Some(waiter) => {
                self.waiters.push_back((self.version, now, waiter));
                self.due = Some(now);
            }
            None => {
                self.due.get_or_insert(now + PERSIST_EVERY);
            }
        }
    }

    /// The cursor changed, and that is to be written at once. Answers which version it is now.
    pub(crate) fn changed_now(&mut self, now: Duration) -> u64 {
        self.version += 1;
        self.due = Some(now);
        self.version
    }

    /// The version that a crash would fall back to.
    pub(crate) fn durable_version(&self) -> u64 {
        self.durable
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        let write = self.due.filter(|_| self.write.is_none()).map(|due| due.max(self.not_before));
        let overdue = self.waiters.front().map(|(_, since, _)| *since + PATIENCE);
        write.into_iter().chain(overdue).min()
    }

    /// Begins a write if one is due.
    pub(crate) fn write_if_due(&mut self, cursor: &Cursor, name: &Name, events: &Events, now: Duration) {
        if self.due.is_none_or(|due| due.max(self.not_before) > now) {
            return;
        }
        let Some(mut store) = self.store.take() else { return };
        self.due = None;
        self.begin(cursor);
        let (snapshot, name, events) = (cursor.snapshot(), name.clone(), events.clone());
        self.write = Some(tokio::spawn(async move {
            let result = store.persist(snapshot).await;
            // The topic may be gone by now.
            events.tell(Stored(name));
            (store, result)
        }));
    }

    fn begin(&mut self, cursor: &Cursor) {
        self.writing = self.version;
        self.writing_mark = cursor.mark_delete();
    }

    /// Takes the result of the write under way, waiting for it. Answers whether the cursor became more durable.
    pub(crate) async fn on_stored(&mut self, now: Duration) -> Result<bool, TopicError> {
        let Some(write) = self.write.take() else { return Ok(false) };
        let (store, result) =
            write.await.map_err(|error| TopicError::Persistence(format!("write the cursor: {error}")))?;
        self.store = Some(store);
        match result {
            Ok(bytes) => {
                self.not_before = now + Duration::from_millis(bytes as u64 * 1_000 / BYTES_PER_SECOND);
                self.written();
                Ok(true)
            }
            Err(error) if error.is_final() => Err(TopicError::Persistence(error.to_string())),
            Err(error) => {
                tracing::warn!(%error, "write the cursor");
                if matches!(error, CursorError::TooLarge { .. }) {
                    self.refuse(&error.to_string());
                }
                self.last_error = Some(error.to_string());
                self.due = Some(now + RETRY_AFTER);
                Ok(false)
            }
        }
    }

    /// Answers those who have waited too long with an error. What they acknowledged is acknowledged, may be durable, and is
    /// tried further; asked again, they wait again.
    pub(crate) fn refuse_overdue(&mut self, now: Duration) {
        while self.waiters.front().is_some_and(|(_, since, _)| *since + PATIENCE <= now) {
            let Some((.., waiter)) = self.waiters.pop_front() else { return };
            let reason = self.last_error.as_deref().unwrap_or("the bookies did not answer yet");
            let text = format!("not known to be durable within {PATIENCE:?}: {reason}; acknowledge it again");
            waiter.answer(Some((api::ServerError::PersistenceError, text)));
        }
    }

    fn written(&mut self) {
        self.last_error = None;
        (self.durable, self.durable_mark) = (self.writing, self.writing_mark);
        self.answer(None);
    }

    /// What was to be written cannot be: whoever waits for it must know that it may come undone.
    fn refuse(&mut self, text: &str) {
        self.answer(Some((api::ServerError::PersistenceError, text.to_owned())));
    }

    /// Answers those who wait for what was written last.
    fn answer(&mut self, error: Option<(api::ServerError, String)>) {
        while self.waiters.front().is_some_and(|(version, ..)| *version <= self.writing) {
            if let Some((.., waiter)) = self.waiters.pop_front() {
                waiter.answer(error.clone());
            }
        }
    }

    /// Writes the cursor as it is now, after the write under way.
    pub(crate) async fn persist_now(&mut self, cursor: &Cursor) -> Result<(), TopicError> {
        self.on_stored(Duration::ZERO).await?;
        self.version += 1;
        self.begin(cursor);
        let Some(store) = &mut self.store else { return Err(TopicError::closed()) };
        if let Err(error) = store.persist(cursor.snapshot()).await {
            // The cursor has moved all the same.
            self.due = Some(self.not_before);
            return Err(TopicError::Persistence(error.to_string()));
        }
        self.due = None;
        self.written();
        Ok(())
    }

    /// Writes the cursor for the last time, where the next owner finds it quickest.
    pub(crate) async fn close(mut self, cursor: &Cursor) -> Result<(), TopicError> {
        self.on_stored(Duration::ZERO).await?;
        self.begin(cursor);
        let Some(store) = self.store.take() else { return Err(TopicError::closed()) };
        let result = store.close(cursor.snapshot()).await;
        result.map_err(|error| TopicError::Persistence(error.to_string()))?;
        self.version = self.version.max(self.writing);
        self.written();
        Ok(())
    }

    /// Deletes the cursor; durable when this returns. After an error it may be there still: then it counts as before, and
    /// this may be tried again.
    pub(crate) async fn delete(&mut self) -> Result<(), TopicError> {
        // Whether the last write succeeded does not matter any more.
        let _ = self.on_stored(Duration::ZERO).await;
        let Some(store) = &mut self.store else { return Err(TopicError::closed()) };
        store.delete().await.map_err(|error| TopicError::Persistence(error.to_string()))
    }
}

impl Topic {
    pub(crate) async fn on_stored(&mut self, Stored(name): Stored) {
        let now = self.env.environment.clock.now();
        let durability = match &*name {
            deduplication::CURSOR => self.deduplication.as_mut().map(|d| d.durability_mut()),
            compaction::CURSOR => self.compaction.as_mut().map(|c| c.durability_mut()),
            _ => self.subscriptions.get_mut(&name).and_then(|s| s.durability.as_mut()),
        };
        let Some(durability) = durability else { return };
        match durability.on_stored(now).await {
            Ok(more) => {
                self.trim_due |= more;
                if more && *name == *compaction::CURSOR {
                    self.on_compaction_stored();
                }
            }
            Err(error) => self.fail(&error.to_string()),
        }
    }

    /// Begins the cursor writes that are due.
    pub(crate) fn persist_due(&mut self) {
        let now = self.env.environment.clock.now();
        for (name, subscription) in &mut self.subscriptions {
            if let Some(durability) = &mut subscription.durability {
                durability.write_if_due(&subscription.cursor, name, &self.events, now);
                durability.refuse_overdue(now);
            }
        }
    }

    /// Makes subscriptions of the cursors that earlier owners left, with the properties they were created with.
    pub(crate) async fn recover_subscriptions(&mut self, cursors: Vec<TakenOver>) -> Result<(), TopicError> {
        for taken in cursors {
            let name = taken.name().to_owned();
            let (store, cursor, properties) = taken.restore(self.ml.ledgers());
            match name.as_str() {
                deduplication::CURSOR => {
                    self.recover_deduplication(store, cursor).await?;
                    continue;
                }
                compaction::CURSOR => {
                    self.recover_compaction(store, cursor);
                    continue;
                }
                _ => {}
            }
            let durability = Durability::new(store, cursor.mark_delete());
            let kind = SubscriptionType::Exclusive;
            self.insert_subscription(&name.as_str().into(), cursor, Some(durability), properties, kind)?;
        }
        Ok(())
    }
}

/// Takes over the cursors that a listing has shown, in its order.
pub(crate) fn take_over_cursors(
    env: &MlEnv,
    config: &MlConfig,
    managed_ledger: &str,
    cursors: Vec<StoredCursor>,
) -> BoxFuture<'static, Result<Vec<TakenOver>, TopicError>> {
    let take_over = |found: StoredCursor| {
        let (env, config, managed_ledger) = (env.clone(), config.clone(), managed_ledger.to_owned());
        async move {
            let name = found.name.clone();
            let taken = CursorStore::take_over(&env, &config, &managed_ledger, &name, Some(found)).await;
            taken.map_err(|error| TopicError::NotReady(format!("recover cursor {name}: {error}")))
        }
        .boxed()
    };
    let taking: Vec<_> = cursors.into_iter().map(take_over).collect();
    stream::iter(taking).buffered(RECOVERED_AT_A_TIME).try_collect().boxed()
}
