//! The record of a managed ledger in the metadata store: Pulsar's `ManagedLedgerInfo`.

use super::error::MlError;
use super::ledger_list::{LedgerInfo, LedgerList, LedgerState};
use super::mark::MarkDelete;
use bytes::Bytes;
use magnetar_proto::ids::LedgerId;
use magnetar_proto::pulsar::managed_ledger::{self as wire, managed_ledger_info};
use prost::Message;
use std::collections::BTreeMap;

/// What the record says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Record {
    /// The ledgers in order.
    pub(super) list: LedgerList,
    /// Where the topic ends, once it is terminated.
    pub(super) terminated: Option<MarkDelete>,
    /// Properties of the topic, such as its epoch.
    pub(super) properties: BTreeMap<String, String>,
    /// Who writes it: drawn by each owner for itself. 0 in what Pulsar wrote.
    pub(super) owner: u64,
}

impl Record {
    /// A sealed ledger is written as an open one: its end is a plan until all of it is confirmed, and recovery must
    /// look for itself.
    pub(super) fn encode(&self) -> Bytes {
        let info = wire::ManagedLedgerInfo {
            ledger_info: self.list.iter().map(|(id, info)| encode_ledger(id, info)).collect(),
            terminated_position: self.terminated.map(|mark| {
                let (ledger_id, entry_id) = mark.to_wire();
                wire::NestedPositionInfo { ledger_id, entry_id }
            }),
            properties: self.properties.iter().map(|(key, value)| key_value(key, value)).collect(),
            magnetar_owner: Some(self.owner).filter(|owner| *owner != 0),
        };
        info.encode_to_vec().into()
    }

    /// Nothing but closed ledgers counts as confirmed.
    pub(super) fn decode(name: &str, bytes: &[u8]) -> Result<Self, MlError> {
        let corrupt = |reason: String| MlError::Corrupt { name: name.to_owned(), reason };
        let info = wire::ManagedLedgerInfo::decode(bytes).map_err(|error| corrupt(error.to_string()))?;
        let mut ledgers = BTreeMap::new();
        for ledger in info.ledger_info {
            let (id, decoded) = decode_ledger(ledger).map_err(|reason| corrupt(reason.to_owned()))?;
            if ledgers.insert(id, decoded).is_some() {
                return Err(corrupt(format!("ledger {id} is listed twice")));
            }
        }
        let terminated = match info.terminated_position {
            None => None,
            Some(at) => Some(
                MarkDelete::from_wire(at.ledger_id, at.entry_id)
                    .ok_or_else(|| corrupt("the terminated position has no ledger".into()))?,
            ),
        };
        let properties = info.properties.into_iter().map(|pair| (pair.key, pair.value)).collect();
        let owner = info.magnetar_owner.unwrap_or(0);
        Ok(Self { list: LedgerList::new(ledgers), terminated, properties, owner })
    }
}

fn encode_ledger(id: LedgerId, info: &LedgerInfo) -> managed_ledger_info::LedgerInfo {
    let closed = match info.state {
        LedgerState::Closed { entries, size, closed_at_ms } => {
            Some((entries as i64, size as i64, closed_at_ms as i64))
        }
        LedgerState::Open | LedgerState::Sealed { .. } => None,
    };
    managed_ledger_info::LedgerInfo {
        ledger_id: id.to_wire(),
        entries: closed.map(|(entries, _, _)| entries),
        size: closed.map(|(_, size, _)| size),
        timestamp: Some(closed.map_or(0, |(_, _, at)| at)),
        offload_context: info.offload.clone(),
        properties: info.properties.iter().map(|(key, value)| key_value(key, value)).collect(),
    }
}

/// A ledger without a time of closing and without entries is open: Pulsar writes zeros for it.
fn decode_ledger(wire: managed_ledger_info::LedgerInfo) -> Result<(LedgerId, LedgerInfo), &'static str> {
    let id = LedgerId::from_wire(wire.ledger_id).ok_or("a ledger id is negative")?;
    let number =
        |value: Option<i64>| u64::try_from(value.unwrap_or(0)).map_err(|_| "a ledger's size is negative");
    let (entries, size, closed_at_ms) = (number(wire.entries)?, number(wire.size)?, number(wire.timestamp)?);
    let state = if entries == 0 && closed_at_ms == 0 {
        LedgerState::Open
    } else {
        LedgerState::Closed { entries, size, closed_at_ms }
    };
    let properties = wire.properties.into_iter().map(|pair| (pair.key, pair.value)).collect();
    Ok((id, LedgerInfo { state, properties, offload: wire.offload_context }))
}

fn key_value(key: &str, value: &str) -> wire::KeyValue {
    wire::KeyValue { key: key.to_owned(), value: value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use magnetar_proto::ids::{EntryId, Position};
    use proptest::prelude::*;

    #[test]
    fn a_record_survives_encoding_and_a_sealed_ledger_comes_back_open() {
        let mut record = Record { terminated: Some(MarkDelete::before(LedgerId(7))), ..Record::default() };
        record.list.push_open(LedgerId(3));
        record.list.set_state(LedgerId(3), LedgerState::Closed { entries: 5, size: 50, closed_at_ms: 9 });
        record.list.confirm(Position::new(LedgerId(3), EntryId(4)));
        record.list.push_open(LedgerId(7));
        record.properties.insert("pulsar.topic.epoch".into(), "3".into());
        record.owner = 1 << 63;
        assert_eq!(Record::decode("t", &record.encode()).unwrap(), record);
        let sealed = {
            let mut sealed = record.clone();
            sealed.list.set_state(LedgerId(7), LedgerState::Sealed { entries: 4 });
            sealed
        };
        assert_eq!(Record::decode("t", &sealed.encode()).unwrap(), record);
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_record_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::decode("t", &bytes);
        }
    }
}
