//! The end of a topic's task.

use std::time::Duration;

use super::actor::Topic;
use super::departed::{Client, Departed};
use super::error::TopicError;
use super::mailbox::Reply;
use super::producers::Producer;
use super::request::{CloseReason, Name};
use crate::managed_ledger::MlEvent;

/// How long appends under way may take to become durable before producers are sent away. A healthy ledger needs
/// milliseconds; with a sick one clients send again elsewhere. Shutdown must end in seconds.
const FINISH: Duration = Duration::from_secs(2);

/// How long cursors and the ledger may take to close. What is not written by then is recovered at the next load.
const CLOSE: Duration = Duration::from_secs(2);

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
            Some(Ending::Closed(CloseReason::Unload | CloseReason::Shutdown, reply)) => {
                drop(departed);
                self.close_storage().await;
                let _ = reply.send(Ok(()));
            }
            None => {
                drop(departed);
                self.close_storage().await;
            }
        }
    }

    /// Nobody is connected any more; the clients are yet to be told.
    fn take_clients(&mut self) -> Departed {
        let mut clients: Vec<Client> = self.producers.take_all().iter().map(Producer::client).collect();
        let names: Vec<Name> = self.subscriptions.keys().cloned().collect();
        for name in names {
            clients.extend(self.take_consumers(&name));
        }
        Departed::new(clients)
    }

    /// Lets what was appended become durable and receipted, within reason.
    pub(crate) async fn finish_appends(&mut self) {
        let finish = async {
            while !(self.in_flight.is_empty() && self.deferred.is_empty()) {
                match self.ml.next().await {
                    MlEvent::Confirmed { up_to } => self.on_confirmed(up_to),
                    MlEvent::Failed(error) => return self.fail(&error.to_string()),
                    MlEvent::Writable | MlEvent::NotWritable(_) | MlEvent::RolledOver { .. } => {}
                }
                self.retry_deferred();
            }
        };
        if tokio::time::timeout(FINISH, finish).await.is_err() {
            tracing::warn!(topic = %self.name, "appends did not become durable in time; producers will send again");
        }
    }

    /// What cannot be written is logged only: the next load recovers the ledger, and acknowledgements that were not
    /// confirmed are made again.
    async fn close_storage(self) {
        let Topic { name, subscriptions, deduplication, compaction, ml, failed, .. } = self;
        let close = async {
            for (subscription, state) in subscriptions {
                let Some(durability) = state.durability else { continue };
                if let Err(error) = durability.close(&state.cursor).await {
                    tracing::warn!(topic = %name, %subscription, %error, "close the cursor");
                }
            }
            if let Err(error) = Topic::close_deduplication(deduplication, ml.ledgers()).await {
                tracing::warn!(topic = %name, %error, "close the cursor of deduplication");
            }
            if let Some(compaction) = compaction
                && let Err(error) = compaction.close().await
            {
                tracing::warn!(topic = %name, %error, "close the cursor of compaction");
            }
            if failed.is_none()
                && let Err(error) = ml.close().await
            {
                tracing::warn!(topic = %name, %error, "close the managed ledger");
            }
        };
        if tokio::time::timeout(CLOSE, close).await.is_err() {
            tracing::warn!(topic = %name, "the topic's ledgers did not close in time; the next load recovers them");
        }
    }

    async fn delete_all(self) -> Result<(), TopicError> {
        let of = self.compacted_options();
        if let Some(deduplication) = self.deduplication {
            deduplication.delete().await?;
        }
        if let Some(compaction) = self.compaction {
            compaction.delete(&self.env.managed_ledgers.ledgers, &of).await?;
        }
        for (_, state) in self.subscriptions {
            if let Some(durability) = state.durability {
                durability.delete().await?;
            }
        }
        self.ml.delete().await.map_err(|error| TopicError::Persistence(error.to_string()))
    }
}
