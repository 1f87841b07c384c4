//! The head of a durable cursor in the metadata store: Pulsar's `ManagedCursorInfo`.

use super::codec;
use super::snapshot::Snapshot;
use crate::managed_ledger::MarkDelete;
use bytes::Bytes;
use magnetar_proto::ids::LedgerId;
use magnetar_proto::pulsar::managed_ledger as wire;
use prost::Message;
use std::collections::BTreeMap;

/// What the head says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Head {
    /// The ledger whose last record is the state; `None`: the state is `snapshot`.
    pub(super) ledger: Option<LedgerId>,
    /// The state when the head was written. An owner that could not read the ledger would fall back to it; Pulsar leaves
    /// it out when there is a ledger.
    pub(super) snapshot: Option<Snapshot>,
    /// Properties of the subscription.
    pub(super) properties: BTreeMap<String, String>,
    /// When it was written, ms since 1970.
    pub(super) last_active_ms: u64,
}

impl Head {
    pub(super) fn encode(&self) -> Bytes {
        let snapshot = self.snapshot.as_ref();
        let mark = snapshot.map(|snapshot| snapshot.mark.to_wire());
        // With a ledger, the mark alone is enough to fall back to.
        let inline = snapshot.filter(|_| self.ledger.is_none());
        let info = wire::ManagedCursorInfo {
            cursors_ledger_id: self.ledger.map_or(-1, LedgerId::to_wire),
            mark_delete_ledger_id: mark.map(|(ledger, _)| ledger),
            mark_delete_entry_id: mark.map(|(_, entry)| entry),
            individual_deleted_messages: inline
                .map_or_else(Vec::new, |inline| codec::encode_ranges(inline.acked.iter())),
            properties: inline.map_or_else(Vec::new, |inline| codec::encode_properties(&inline.properties)),
            last_active: Some(self.last_active_ms as i64),
            batched_entry_deletion_index_info: inline
                .map_or_else(Vec::new, |inline| codec::encode_batches(&inline.batches)),
            cursor_properties: self
                .properties
                .iter()
                .map(|(name, value)| wire::StringProperty { name: name.clone(), value: value.clone() })
                .collect(),
        };
        info.encode_to_vec().into()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let info = wire::ManagedCursorInfo::decode(bytes).map_err(|error| error.to_string())?;
        let ledger = LedgerId::from_wire(info.cursors_ledger_id);
        let snapshot = match info.mark_delete_ledger_id {
            None => None,
            Some(id) => Some(Snapshot {
                mark: MarkDelete::from_wire(id, info.mark_delete_entry_id.unwrap_or(-1))
                    .ok_or("the mark-delete has no ledger")?,
                acked: codec::decode_ranges(&info.individual_deleted_messages)?.into_iter().collect(),
                batches: codec::decode_batches(&info.batched_entry_deletion_index_info)?,
                properties: codec::decode_properties(info.properties),
            }),
        };
        if ledger.is_none() && snapshot.is_none() {
            return Err("there is neither a ledger nor a position".into());
        }
        let properties =
            info.cursor_properties.into_iter().map(|property| (property.name, property.value)).collect();
        let last_active_ms = u64::try_from(info.last_active.unwrap_or(0)).unwrap_or(0);
        Ok(Self { ledger, snapshot, properties, last_active_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::super::ranges::AckedRange;
    use super::*;
    use magnetar_proto::ids::EntryId;
    use proptest::prelude::*;

    #[test]
    fn a_head_survives_encoding_and_keeps_only_the_mark_beside_a_ledger() {
        let inline = Head {
            ledger: None,
            snapshot: Some(Snapshot {
                mark: MarkDelete { ledger_id: LedgerId(4), entry: Some(EntryId(2)) },
                acked: [AckedRange { ledger_id: LedgerId(4), first: EntryId(4), last: EntryId(5) }]
                    .into_iter()
                    .collect(),
                batches: Default::default(),
                properties: vec![("p".into(), 1)],
            }),
            properties: BTreeMap::from([("k".into(), "v".into())]),
            last_active_ms: 77,
        };
        assert_eq!(Head::decode(&inline.encode()), Ok(inline.clone()));
        let beside = Head { ledger: Some(LedgerId(9)), ..inline };
        let decoded = Head::decode(&beside.encode()).unwrap();
        assert_eq!(decoded.ledger, Some(LedgerId(9)));
        let snapshot = decoded.snapshot.unwrap();
        assert_eq!((snapshot.mark, snapshot.acked.len()), (beside.snapshot.unwrap().mark, 0));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_head_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Head::decode(&bytes);
        }
    }
}
