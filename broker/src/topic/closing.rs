//! The end of a topic's task.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join, join3};
use futures_util::{FutureExt, StreamExt, stream};

use super::actor::Topic;
use super::compaction::Compaction;
use super::deduplication::Deduplication;
use super::departed::{Client, Departed};
use super::error::TopicError;
use super::mailbox::Reply;
use super::producers::Producer;
use super::publish::tell_waiting;
use super::request::{CloseReason, Name};
use super::subscription::Subscription;
use crate::cursor::{CursorError, CursorStore};
use crate::managed_ledger::{ManagedLedger, MlEvent};

/// How long appends under way may take to become durable before producers are sent away. A healthy ledger needs
/// milliseconds; with a sick one clients send again elsewhere. Shutdown must end in seconds.
const FINISH: Duration = Duration::from_secs(2);

/// How long cursors and the ledger may take to close. What is not written by then is recovered at the next load.
const CLOSE: Duration = Duration::from_secs(2);

/// Each writes its last state, a few KiB or less.
const CURSORS_AT_A_TIME: usize = 16;

/// Who asked for the end, and hears when it has come.
pub(crate) enum Ending {
    /// Clients are told at once.
    Closed(CloseReason, Reply<()>),
    /// Whoever asked tells the clients where to go.
    HandedOver(Reply<Departed>),
}

impl Topic {
    /// Gives the request back if it can be granted; answers it otherwise.
    pub(crate) fn may_close(&self, reason: CloseReason, reply: Reply<()>) -> Option<Ending> {
        let busy = !self.producers.is_empty() || !self.consumers.is_empty();
        if busy && reason == (CloseReason::Delete { force: false }) {
            let refused = TopicError::InUse("topic has producers or consumers connected".into());
            // Whoever asked may be gone.
            let _ = reply.send(Err(refused));
            return None;
        }
        Some(Ending::Closed(reason, reply))
    }

    /// `None`: the topic failed, or nobody has a handle any longer.
    pub(crate) async fn close(mut self, ending: Option<Ending>) {
        if self.failed.is_none() {
            self.finish_appends().await;
        }
        let departed = self.take_clients();
        // Nobody waits for an answer when whoever asked is gone; then clients look the topic up.
        match ending {
            Some(Ending::HandedOver(reply)) => {
                self.close_storage().await;
                let _ = reply.send(Ok(departed));
            }
            Some(Ending::Closed(CloseReason::Delete { .. }, reply)) => {
                drop(departed);
                let _ = reply.send(self.delete_all().await);
            }
            // Who comes back earlier would only wait for the end. And some clients do not listen yet to what follows a
            // SUBSCRIBE's answer within the same moment.
            Some(Ending::Closed(CloseReason::Unload | CloseReason::Shutdown, reply)) => {
                self.close_storage().await;
                drop(departed);
                let _ = reply.send(Ok(()));
            }
            None => {
                self.close_storage().await;
                drop(departed);
            }
        }
    }

    /// Nobody is connected any more; the clients are yet to be told.
    fn take_clients(&mut self) -> Departed {
        tell_waiting(&mut self.producers, &TopicError::closed());
        let mut clients: Vec<Client> = self.producers.take_all().iter().map(Producer::client).collect();
        let names: Vec<Name> = self.subscriptions.keys().cloned().collect();
        for name in names {
            clients.extend(self.take_consumers(&name));
        }
        Departed::new(clients)
    }

    /// Lets what was appended become durable and receipted, within reason.
    pub(crate) async fn finish_appends(&mut self) {
        let limit = self.env.environment.clock.sleep(FINISH);
        let finish = async {
            while !(self.in_flight.is_empty() && self.deferred.is_empty()) {
                match self.ml.next().await {
                    MlEvent::Confirmed { up_to } => self.on_confirmed(up_to),
                    MlEvent::Failed(error) => return self.fail(&error.to_string()),
                    MlEvent::Writable | MlEvent::NotWritable(_) | MlEvent::RolledOver { .. } => {}
                    MlEvent::Trimmable => self.trim_due = true,
                }
                self.retry_deferred();
            }
        };
        let is_done = tokio::select! {
            biased;
            () = finish => true,
            () = limit => false,
        };
        if !is_done {
            tracing::warn!(topic = %self.name, "appends did not become durable in time; producers will send again");
        }
    }

    /// What cannot be written is logged only: the next load recovers the ledger, and acknowledgements that were not
    /// confirmed are made again.
    async fn close_storage(self) {
        let limit = self.env.environment.clock.sleep(CLOSE);
        let Topic { name, subscriptions, deduplication, compaction, ml, failed, .. } = self;
        let close = |(subscription, state)| close_cursor(Arc::clone(&name), subscription, state);
        let cursors: Vec<_> = subscriptions.into_iter().map(close).collect();
        let cursors = stream::iter(cursors).buffer_unordered(CURSORS_AT_A_TIME).collect::<()>();
        let rest = close_ledgers(Arc::clone(&name), deduplication, compaction, ml, failed.is_some());
        // A cursor's state and the ledgers' end are written by themselves: a crash in between leaves the same.
        tokio::select! {
            biased;
            _ = join(cursors, rest) => {}
            () = limit => {
                tracing::warn!(topic = %name, "the topic's ledgers did not close in time; the next load recovers them");
            }
        }
    }

    async fn delete_all(self) -> Result<(), TopicError> {
        let of = self.compacted_options();
        if let Some(mut deduplication) = self.deduplication {
            deduplication.delete().await?;
        }
        if let Some(mut compaction) = self.compaction {
            compaction.delete(&self.env.managed_ledgers.ledgers, &of).await?;
        }
        for (_, state) in self.subscriptions {
            if let Some(mut durability) = state.durability {
                durability.delete().await?;
            }
        }
        let failed = |error: CursorError| TopicError::Persistence(error.to_string());
        let (env, config, name) = (&self.env.managed_ledgers, &self.env.config, self.ml.name());
        // Those whose making was not answered are not known here. They would come back with the topic's name.
        for left in CursorStore::list(env, name).await.map_err(failed)? {
            CursorStore::remove(env, config, name, &left.name).await.map_err(failed)?;
        }
        self.ml.delete().await.map_err(|error| TopicError::Persistence(error.to_string()))
    }
}

fn close_cursor(topic: Arc<str>, subscription: Name, state: Box<Subscription>) -> BoxFuture<'static, ()> {
    async move {
        let Some(durability) = state.durability else { return };
        if let Err(error) = durability.close(&state.cursor).await {
            tracing::warn!(%topic, %subscription, %error, "close the cursor");
        }
    }
    .boxed()
}

fn close_ledgers(
    topic: Arc<str>,
    deduplication: Option<Deduplication>,
    compaction: Option<Box<Compaction>>,
    ml: ManagedLedger,
    failed: bool,
) -> BoxFuture<'static, ()> {
    let deduplication = Topic::close_deduplication(deduplication, ml.ledgers());
    async move {
        let compaction = async {
            match compaction {
                Some(compaction) => compaction.close().await,
                None => Ok(()),
            }
        };
        let ledgers = async { if failed { Ok(()) } else { ml.close().await } };
        let (deduplication, compaction, ledgers) = join3(deduplication, compaction, ledgers).await;
        if let Err(error) = deduplication {
            tracing::warn!(%topic, %error, "close the cursor of deduplication");
        }
        if let Err(error) = compaction {
            tracing::warn!(%topic, %error, "close the cursor of compaction");
        }
        if let Err(error) = ledgers {
            tracing::warn!(%topic, %error, "close the managed ledger");
        }
    }
    .boxed()
}
