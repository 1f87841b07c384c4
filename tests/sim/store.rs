//! The metadata store: linearizable, with compare-and-set. It stalls; that a write's answer gets lost on the way is the
//! network's doing.

use super::messages::{StoreOp, StoreReply, Versioned};
use super::queue::Time;
use magnetar_proto::bookkeeper::metadata_format::LedgerMetadata;
use magnetar_proto::ids::LedgerId;
use std::collections::BTreeMap;

/// See the module.
#[derive(Default)]
pub(super) struct Store {
    records: BTreeMap<LedgerId, Versioned>,
    /// Until when it answers nobody.
    pub(super) stalled_until: Time,
}

impl Store {
    pub(super) fn create(&mut self, ledger: LedgerId, record: LedgerMetadata) -> Versioned {
        let created = Versioned { record, version: 0 };
        self.records.insert(ledger, created.clone());
        created
    }

    pub(super) fn get(&self, ledger: LedgerId) -> &Versioned {
        &self.records[&ledger]
    }

    /// Applies an operation; also gives the ledger whose record it has changed.
    pub(super) fn apply(&mut self, op: StoreOp) -> (StoreReply, Option<LedgerId>) {
        match op {
            StoreOp::Get(ledger) => (StoreReply::Record(Box::new(self.get(ledger).clone())), None),
            StoreOp::Put(ledger, record, expected) => {
                let now = self.records.get_mut(&ledger).expect("ledgers are never deleted here");
                if expected.is_some_and(|expected| expected != now.version) {
                    return (StoreReply::Conflict, None);
                }
                // Through its stored form, as a real one would come back.
                let record = LedgerMetadata::decode(&record.encode()).expect("what is written can be read");
                *now = Versioned { record, version: now.version + 1 };
                (StoreReply::Written(now.version), Some(ledger))
            }
        }
    }
}
