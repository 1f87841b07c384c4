//! What a compacted ledger's record says.

use bytes::Bytes;
use magnetar_ledger::LedgerOptions;
use magnetar_proto::ids::Position;
use prost::Message;
use std::collections::BTreeMap;

use super::entry;
use crate::managed_ledger::MlConfig;

const COMPONENT: &str = "component";
const TOPIC: &str = "pulsar/compactedTopic";

/// The facts are those that Pulsar writes (`LedgerMetadataUtils.buildMetadataForCompactedLedger`).
pub(super) fn options(config: &MlConfig, topic: &str, to: Position, partition: Option<i32>) -> LedgerOptions {
    LedgerOptions {
        custom: BTreeMap::from([
            ("application".to_owned(), Bytes::from_static(b"pulsar")),
            (COMPONENT.to_owned(), Bytes::from_static(b"compacted-ledger")),
            (TOPIC.to_owned(), Bytes::from(topic.to_owned())),
            ("pulsar/compactedTo".to_owned(), entry::id(to, partition).encode_to_vec().into()),
        ]),
        ..config.ledger_options(topic, None)
    }
}

/// Do both records say that they are of the same topic's compactions?
pub(super) fn is_of_same_topic(one: &BTreeMap<String, Bytes>, other: &BTreeMap<String, Bytes>) -> bool {
    [COMPONENT, TOPIC].into_iter().all(|name| one.contains_key(name) && one.get(name) == other.get(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use magnetar_proto::ids::{EntryId, LedgerId};

    #[test]
    fn only_compacted_ledgers_of_the_same_topic_are_taken_for_such() {
        let config = MlConfig::default();
        let at = |ledger| Position { ledger_id: LedgerId(ledger), entry_id: EntryId(0) };
        let of = |topic| options(&config, topic, at(1), None).custom;
        assert!(is_of_same_topic(&of("a"), &options(&config, "a", at(2), Some(3)).custom));
        assert!(!is_of_same_topic(&of("a"), &of("b")));
        assert!(!is_of_same_topic(&config.ledger_options("a", None).custom, &of("a")));
        assert!(!is_of_same_topic(&BTreeMap::new(), &BTreeMap::new()));
    }
}
