//! Moving a subscription.

use std::time::Duration;

use super::actor::Topic;
use super::error::TopicError;
use super::request::{ConsumerKey, Name, SeekTarget, StartPosition};
use super::subscription::dispatcher;
use crate::cursor::Cursor;

/// How long a reader that was sent away by its own seek may take to come back. Clients try again within a second.
const RETURN_WITHIN: Duration = Duration::from_secs(60);

impl Topic {
    pub(crate) async fn seek(&mut self, key: ConsumerKey, target: SeekTarget) -> Result<(), TopicError> {
        let Some((name, _)) = self.consumers.get(&key).cloned() else {
            return Err(TopicError::Invalid("Consumer not found".into()));
        };
        self.reset_cursor(&name, target).await
    }

    /// Every consumer is told to go before the cursor moves: a client that stays connected would keep permits for
    /// messages which it threw away.
    pub(crate) async fn reset_cursor(&mut self, name: &Name, target: SeekTarget) -> Result<(), TopicError> {
        let compacted =
            self.subscriptions.get(name).and_then(|subscription| self.compacted_for(subscription));
        let compacted = compacted.as_ref();
        let found = match (&target, compacted) {
            (SeekTarget::PublishTime(unix_ms), Some(compacted)) => compacted.find_by_time(*unix_ms).await?,
            _ => None,
        };
        let target = match found {
            Some(position) => SeekTarget::Id(StartPosition::At { position, ack_set: Vec::new() }),
            None => target,
        };
        let cursor = match target {
            SeekTarget::Id(start) => self.cursor_at(&start, compacted),
            SeekTarget::PublishTime(unix_ms) => {
                let found = self.finder().find_by_time(unix_ms).await?;
                let list = self.ml.ledgers();
                Cursor::new(found.map_or(list.latest(), |position| list.mark_before(position)))
            }
        };
        self.disconnect_consumers(name);
        let limits = self.dispatch_limits();
        let Some(subscription) = self.subscriptions.get_mut(name) else {
            return Err(TopicError::SubscriptionNotFound(name.to_string()));
        };
        subscription.cursor = cursor;
        subscription.dispatcher =
            dispatcher(subscription.kind, &subscription.key_shared, &self.name, self.partition, limits);
        subscription.departing.clear();
        subscription.rewind(self.ml.ledgers());
        if let Some(durability) = &mut subscription.durability {
            durability.persist_now(&subscription.cursor).await?;
        } else {
            // It would have ended with its last consumer, but that one is about to come back.
            subscription.forsaken_at = Some(self.env.environment.clock.now() + RETURN_WITHIN);
        }
        self.look_soon();
        self.trim_due = true;
        Ok(())
    }
}
