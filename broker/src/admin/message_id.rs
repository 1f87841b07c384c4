//! Message ids as admin bodies and answers carry them.

use std::collections::BTreeMap;

use magnetar_common::topic_name::TopicName;
use magnetar_proto::ids::{EntryId, LedgerId, Position};
use magnetar_proto::pulsar::api::MessageIdData;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{AdminError, AdminResult};
use crate::topic::StartPosition;

/// A place in a topic. Ledger −1 is the earliest, the largest ledger of all the latest, as in the protocol; some tools
/// write the two as words.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum MessageId {
    Word(String),
    #[serde(rename_all = "camelCase")]
    Id {
        ledger_id: i64,
        entry_id: i64,
        /// Start after it.
        #[serde(default)]
        is_excluded: bool,
        #[serde(default)]
        properties: Option<BTreeMap<String, String>>,
    },
}

impl MessageId {
    /// Where a cursor set to it begins.
    pub(super) fn start(&self) -> AdminResult<StartPosition> {
        match self {
            MessageId::Word(word) if word == "earliest" => Ok(StartPosition::Earliest),
            MessageId::Word(word) if word == "latest" => Ok(StartPosition::Latest),
            MessageId::Word(word) => Err(AdminError::bad_request(format!(
                "{word:?} is no message id; use earliest, latest or {{\"ledgerId\", \"entryId\"}}"
            ))),
            MessageId::Id { ledger_id, entry_id, is_excluded, .. } => {
                // Sentinels of both signs travel as the same 64 bits.
                let id = MessageIdData {
                    ledger_id: *ledger_id as u64,
                    entry_id: *entry_id as u64,
                    ..MessageIdData::default()
                };
                Ok(after(StartPosition::from_wire(&id), *is_excluded))
            }
        }
    }

    /// Properties for a subscription that is created with it.
    pub(super) fn into_properties(self) -> BTreeMap<String, String> {
        match self {
            MessageId::Id { properties: Some(properties), .. } => properties,
            _ => BTreeMap::new(),
        }
    }
}

/// Messages to be skipped one by one: the form of PIP-423 with `"type": "messageId"`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MessageIds {
    message_ids: Vec<Skipped>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Skipped {
    ledger_id: u64,
    entry_id: u64,
    #[serde(default)]
    batch_index: Option<i32>,
}

impl MessageIds {
    /// 412 for a single message of a batch.
    pub(super) fn positions(&self) -> AdminResult<Vec<Position>> {
        let position = |id: &Skipped| match id.batch_index {
            None | Some(..0) => Ok(Position::new(LedgerId(id.ledger_id), EntryId(id.entry_id))),
            Some(_) => Err(AdminError::precondition(format!(
                "{}:{} is skipped with all messages of its batch only: leave out batchIndex",
                id.ledger_id, id.entry_id
            ))),
        };
        self.message_ids.iter().map(position).collect()
    }
}

fn after(start: StartPosition, excluded: bool) -> StartPosition {
    match start {
        StartPosition::At { position, .. } if excluded => {
            let entry_id = EntryId(position.entry_id.0.saturating_add(1));
            StartPosition::At { position: Position { entry_id, ..position }, ack_set: Vec::new() }
        }
        start => start,
    }
}

/// As an answer; (−1, −1) for none.
pub(super) fn to_json(topic: &TopicName, position: Option<Position>) -> Value {
    let (ledger_id, entry_id) = match position {
        Some(position) => (json!(position.ledger_id.0), json!(position.entry_id.0)),
        None => (json!(-1), json!(-1)),
    };
    let partition = topic.partition().map_or(-1, i64::from);
    json!({ "ledgerId": ledger_id, "entryId": entry_id, "partitionIndex": partition })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(body: &str) -> StartPosition {
        serde_json::from_str::<MessageId>(body).expect("a message id").start().expect("a start")
    }

    #[test]
    fn both_ends_of_a_topic_are_understood_as_words_and_as_ids() {
        assert_eq!(start("\"earliest\""), StartPosition::Earliest);
        assert_eq!(start("\"latest\""), StartPosition::Latest);
        assert_eq!(start(r#"{"ledgerId":-1,"entryId":-1,"partitionIndex":-1}"#), StartPosition::Earliest);
        let latest = r#"{"ledgerId":9223372036854775807,"entryId":9223372036854775807,"partitionIndex":-1}"#;
        assert_eq!(start(latest), StartPosition::Latest);
    }

    #[test]
    fn an_excluded_id_starts_at_the_entry_after_it() {
        let StartPosition::At { position, .. } = start(r#"{"ledgerId":3,"entryId":4,"isExcluded":true}"#)
        else {
            panic!("not a position");
        };
        assert_eq!((position.ledger_id.0, position.entry_id.0), (3, 5));
    }
}
