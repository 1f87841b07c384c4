//! The entry filter `properties`: a subscription gets only entries in which some message is as it wants. No IO.
//!
//! As with Pulsar's sample filters (PIP-105) the arguments are the subscription's properties, given when it is created:
//!
//! ```text
//! filter.property.NAME = VALUE|VALUE…     the message's property NAME is one of these
//! filter.key           = VALUE|VALUE…     its key is
//! ```
//!
//! All of them must hold for one message. In Pulsar's terms an entry is ACCEPTed or REJECTed, never RESCHEDULEd: what is
//! rejected is acknowledged for this subscription. Unlike Pulsar's broker this one looks into batches. What nobody here can
//! look into (an encrypted batch) is accepted: a filter saves traffic, it hides nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use magnetar_proto::pulsar::api::KeyValue;

use super::contents::{messages, open};

const OF_PROPERTY: &str = "filter.property.";
const OF_KEY: &str = "filter.key";

/// Does the subscription want fewer than all entries?
pub(super) fn filters(arguments: &BTreeMap<String, String>) -> bool {
    arguments.keys().any(|name| name == OF_KEY || name.starts_with(OF_PROPERTY))
}

/// Is no message of the entry as wanted?
pub(super) fn rejects(arguments: &BTreeMap<String, String>, headers_and_payload: &Bytes) -> bool {
    let Ok((metadata, payload)) = open(headers_and_payload) else { return false };
    let wanted =
        |key: &Option<String>, properties: &[KeyValue]| is_wanted(arguments, key.as_deref(), properties);
    match (metadata.num_messages_in_batch, messages(&metadata, &payload)) {
        (None, _) => !wanted(&metadata.partition_key, &metadata.properties),
        (Some(_), None) => false,
        (Some(_), Some(all)) => {
            !all.iter().any(|(message, _)| wanted(&message.partition_key, &message.properties))
        }
    }
}

fn is_wanted(arguments: &BTreeMap<String, String>, key: Option<&str>, properties: &[KeyValue]) -> bool {
    arguments.iter().all(|(argument, values)| {
        let actual = match argument.strip_prefix(OF_PROPERTY) {
            Some(name) => {
                properties.iter().rev().find(|property| property.key == name).map(|p| p.value.as_str())
            }
            None if argument == OF_KEY => key,
            None => return true,
        };
        actual.is_some_and(|actual| values.split('|').any(|value| value == actual))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use magnetar_proto::pulsar::api::{MessageMetadata, SingleMessageMetadata};
    use magnetar_proto::pulsar::{batch, entry};

    fn arguments<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    fn properties(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
        pairs.iter().map(|(key, value)| KeyValue { key: (*key).into(), value: (*value).into() }).collect()
    }

    fn message(key: Option<&str>, pairs: &[(&str, &str)]) -> Bytes {
        let partition_key = key.map(str::to_owned);
        let metadata = MessageMetadata { partition_key, properties: properties(pairs), ..Default::default() };
        entry::build(&metadata, b"x")
    }

    #[test]
    fn all_arguments_must_hold_and_each_for_one_of_its_values() {
        let wanted = arguments([
            ("filter.property.region", "eu|us"),
            ("filter.property.kind", "order"),
            ("other", "of somebody else"),
        ]);
        assert!(filters(&wanted) && !filters(&arguments([("other", "x")])));
        assert!(!rejects(&wanted, &message(None, &[("region", "us"), ("kind", "order")])));
        assert!(rejects(&wanted, &message(None, &[("region", "asia"), ("kind", "order")])));
        assert!(rejects(&wanted, &message(None, &[("region", "eu")])));
    }

    #[test]
    fn a_key_can_be_wanted() {
        let wanted = arguments([("filter.key", "a|b")]);
        assert!(!rejects(&wanted, &message(Some("b"), &[])));
        assert!(rejects(&wanted, &message(Some("c"), &[])) && rejects(&wanted, &message(None, &[])));
    }

    #[test]
    fn one_message_that_is_wanted_brings_its_batch_and_one_that_cannot_be_opened_comes() {
        let wanted = arguments([("filter.property.n", "2")]);
        let batched = |numbers: [&str; 2], encrypted: bool| {
            let mut plain = BytesMut::new();
            let single = |n: &str| SingleMessageMetadata {
                properties: properties(&[("n", n)]),
                payload_size: 1,
                ..Default::default()
            };
            batch::encode(numbers.map(|n| (single(n), b"x".as_slice())), &mut plain);
            let metadata = MessageMetadata {
                num_messages_in_batch: Some(2),
                encryption_keys: if encrypted { vec![Default::default()] } else { Vec::new() },
                ..Default::default()
            };
            entry::build(&metadata, &plain)
        };
        assert!(!rejects(&wanted, &batched(["1", "2"], false)));
        assert!(rejects(&wanted, &batched(["1", "3"], false)));
        assert!(!rejects(&wanted, &batched(["1", "3"], true)));
        assert!(!rejects(&wanted, &Bytes::from_static(b"no entry")));
    }
}
