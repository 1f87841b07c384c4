//! What a compacted ledger's record says.

use bytes::Bytes;
use magnetar_ledger::LedgerOptions;
use magnetar_proto::ids::Position;
use prost::Message;
use std::collections::BTreeMap;

use super::entry;
use crate::managed_ledger::MlConfig;

/// The facts are those that Pulsar writes (`LedgerMetadataUtils.buildMetadataForCompactedLedger`).
pub(super) fn options(config: &MlConfig, topic: &str, to: Position, partition: Option<i32>) -> LedgerOptions {
    LedgerOptions {
        custom: BTreeMap::from([
            ("application".to_owned(), Bytes::from_static(b"pulsar")),
            ("component".to_owned(), Bytes::from_static(b"compacted-ledger")),
            ("pulsar/compactedTopic".to_owned(), Bytes::from(topic.to_owned())),
            ("pulsar/compactedTo".to_owned(), entry::id(to, partition).encode_to_vec().into()),
        ]),
        ..config.ledger_options(topic, None)
    }
}
