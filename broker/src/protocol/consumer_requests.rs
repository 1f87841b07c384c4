//! Requests about an existing consumer: UNSUBSCRIBE, SEEK, GET_LAST_MESSAGE_ID, CONSUMER_STATS.

use std::future::Future;

use magnetar_proto::ids::{EntryId, LedgerId, Position};
use magnetar_proto::pulsar::api::{self, ServerError};

use super::context::{Context, Room};
use super::refusal::Refusal;
use super::sessions::Kind;
use crate::topic::{
    ConsumerKey, ConsumerStats, Handle, LastMessageId, SeekTarget, StartPosition, TopicError,
};

/// An id that stands for 'nothing' on the wire: -1 in both parts.
const NO_ID: u64 = u64::MAX;

impl Context {
    pub(super) fn on_unsubscribe(&self, room: Room, command: api::CommandUnsubscribe) {
        let (id, force) = (command.consumer_id, command.force());
        let context = self.clone();
        self.on_consumer_request(
            room,
            id,
            move |topic, key| async move { topic.unsubscribe(key, force).await },
            move |outcome| {
                if outcome.is_ok() {
                    context.sessions.forget(Kind::Consumer, id);
                }
                context.answer(command.request_id, outcome);
            },
        );
    }

    pub(super) fn on_seek(&self, room: Room, command: api::CommandSeek) {
        let target = match (&command.message_id, command.message_publish_time) {
            (Some(id), _) => SeekTarget::Id(StartPosition::from_wire(id)),
            (None, Some(unix_ms)) => SeekTarget::PublishTime(unix_ms),
            (None, None) => {
                let refusal = Refusal::new(
                    ServerError::MetadataError,
                    "SEEK needs a message id or a publish time to go to",
                );
                return self.refuse(command.request_id, refusal);
            }
        };
        let context = self.clone();
        self.on_consumer_request(
            room,
            command.consumer_id,
            move |topic, key| async move { topic.seek(key, target).await },
            move |outcome| context.answer(command.request_id, outcome),
        );
    }

    pub(super) fn on_get_last_message_id(&self, room: Room, command: api::CommandGetLastMessageId) {
        let context = self.clone();
        self.on_consumer_request(
            room,
            command.consumer_id,
            |topic, key| async move { topic.last_message_id(key).await },
            move |outcome| match outcome {
                Ok(last) => context.send(last_message_id(command.request_id, &last)),
                Err(refusal) => context.refuse(command.request_id, refusal),
            },
        );
    }

    pub(super) fn on_consumer_stats(&self, room: Room, command: api::CommandConsumerStats) {
        let context = self.clone();
        self.on_consumer_request(
            room,
            command.consumer_id,
            |topic, key| async move { topic.consumer_stats(key).await },
            move |outcome| {
                let mut response = match outcome {
                    Ok(stats) => consumer_stats(stats),
                    Err(refusal) => api::CommandConsumerStatsResponse {
                        error_code: Some(refusal.code as i32),
                        error_message: Some(refusal.message),
                        ..Default::default()
                    },
                };
                response.request_id = command.request_id;
                context.send(response);
            },
        );
    }

    /// Asks the consumer's topic in the consumer's turn, and hands the outcome to `answer`.
    fn on_consumer_request<T, F>(
        &self,
        room: Room,
        consumer_id: u64,
        ask: impl FnOnce(Handle, ConsumerKey) -> F + Send + 'static,
        answer: impl FnOnce(Result<T, Refusal>) + Send + 'static,
    ) where
        T: Send + 'static,
        F: Future<Output = Result<T, TopicError>> + Send + 'static,
    {
        let Some((mut turn, topic)) = self.sessions.begin_request(Kind::Consumer, consumer_id) else {
            return answer(Err(Refusal::new(ServerError::MetadataError, "Consumer not found")));
        };
        let key = self.consumer_key(consumer_id);
        self.spawn(room, async move {
            turn.come().await;
            answer(ask(topic, key).await.map_err(Refusal::from));
        });
    }
}

fn last_message_id(request_id: u64, last: &LastMessageId) -> api::CommandGetLastMessageIdResponse {
    let id = |ledger: Option<LedgerId>, entry: Option<EntryId>, batch_index| api::MessageIdData {
        ledger_id: ledger.map_or(NO_ID, |ledger| ledger.0),
        entry_id: entry.map_or(NO_ID, |entry| entry.0),
        partition: Some(last.partition),
        batch_index: Some(batch_index),
        ..Default::default()
    };
    let (ledger_id, entry_id) = match last.position {
        Some(Position { ledger_id, entry_id }) => (Some(ledger_id), Some(entry_id)),
        None => (None, None),
    };
    let (mark_delete_ledger, mark_delete_entry) = last.mark_delete;
    api::CommandGetLastMessageIdResponse {
        last_message_id: id(ledger_id, entry_id, last.batch_index),
        request_id,
        consumer_mark_delete_position: Some(id(Some(mark_delete_ledger), mark_delete_entry, -1)),
    }
}

fn consumer_stats(stats: ConsumerStats) -> api::CommandConsumerStatsResponse {
    api::CommandConsumerStatsResponse {
        msg_rate_out: Some(stats.msg_rate_out),
        msg_throughput_out: Some(stats.msg_throughput_out),
        msg_rate_redeliver: Some(stats.msg_rate_redeliver),
        consumer_name: Some(stats.consumer_name),
        available_permits: Some(u64::try_from(stats.available_permits).unwrap_or(0)),
        unacked_messages: Some(stats.unacked_messages),
        blocked_consumer_on_unacked_msgs: Some(stats.blocked_consumer_on_unacked_msgs),
        address: Some(stats.address),
        connected_since: Some(stats.connected_since),
        r#type: Some(stats.subscription_type),
        msg_backlog: Some(stats.msg_backlog),
        message_ack_rate: Some(stats.message_ack_rate),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_topic_has_the_last_message_minus_one() {
        let last = LastMessageId {
            position: None,
            batch_index: -1,
            partition: -1,
            mark_delete: (LedgerId(3), None),
        };
        let response = last_message_id(9, &last);
        let id = &response.last_message_id;
        assert_eq!((id.ledger_id as i64, id.entry_id as i64, id.batch_index), (-1, -1, Some(-1)));
        let mark_delete = response.consumer_mark_delete_position.expect("always filled");
        assert_eq!((mark_delete.ledger_id, mark_delete.entry_id as i64), (3, -1));
    }
}
