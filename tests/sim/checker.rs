//! What must hold, whatever happens: told by everybody what they did, it notes the first thing that must not be.

use super::actor::payload_of;
use super::host::Host;
use super::queue::Time;
use super::store::Store;
use bytes::Bytes;
use magnetar_ledger::protocol::quorum::Quorum;
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::ids::{EntryId, LedgerId};
use std::collections::BTreeMap;

/// See the module.
#[derive(Default)]
pub(super) struct Checker {
    ledgers: BTreeMap<LedgerId, Facts>,
    read: u64,
    violation: Option<String>,
}

/// What happened to all ledgers.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) acknowledged: u64,
    pub(super) read: u64,
    /// Ensembles recorded after a ledger's first, and those of them that recoveries recorded.
    pub(super) segments: u64,
    pub(super) recovered_segments: u64,
}

/// What is known of a ledger.
struct Facts {
    quorum: Quorum,
    /// What the writer appended last under an id, and when.
    appended: BTreeMap<EntryId, (Bytes, Time)>,
    /// Acknowledged to the application.
    acknowledged: BTreeMap<EntryId, Bytes>,
    /// What a reader saw first.
    seen: BTreeMap<EntryId, Bytes>,
    /// When a recovery had fenced enough bookies first.
    fenced_at: Option<Time>,
    record: Option<LedgerMetadata>,
    recovered_segments: u64,
}

impl Facts {
    fn last(&self) -> Option<EntryId> {
        self.acknowledged.last_key_value().map(|(last, _)| *last)
    }

    /// What an entry must read as, as far as that is certain.
    fn expected(&self, entry: EntryId) -> Option<&Bytes> {
        let appended = || self.appended.get(&entry).map(|(payload, _)| payload);
        self.acknowledged.get(&entry).or_else(|| self.seen.get(&entry)).or_else(appended)
    }

    fn check_closed(&self, last_entry: Option<EntryId>, length: u64) -> Result<(), String> {
        if self.last() > last_entry {
            return Err(format!("closed at {last_entry:?} with {:?} acknowledged", self.last()));
        }
        let entries = (0..last_entry.map_or(0, |last| last.0 + 1)).map(EntryId);
        let lengths = entries.map(|entry| self.expected(entry).map_or(0, |payload| payload.len() as u64));
        let sum: u64 = lengths.sum();
        if sum == length { Ok(()) } else { Err(format!("closed with length {length} instead of {sum}")) }
    }
}

impl Checker {
    pub(super) fn violated(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    pub(super) fn violation(&self) -> Option<&String> {
        self.violation.as_ref()
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts { read: self.read, ..Counts::default() };
        for facts in self.ledgers.values() {
            counts.acknowledged += facts.acknowledged.len() as u64;
            counts.segments += facts.record.as_ref().map_or(0, |record| record.segments.len() as u64 - 1);
            counts.recovered_segments += facts.recovered_segments;
        }
        counts
    }

    fn check(&mut self, ledger: LedgerId, check: impl FnOnce(&mut Facts) -> Result<(), String>) {
        let facts = self.ledgers.get_mut(&ledger).expect("the ledger was created");
        if let Err(what) = check(facts) {
            self.violated(format!("ledger {ledger}: {what}"));
        }
    }

    pub(super) fn on_created(&mut self, ledger: LedgerId, quorum: Quorum) {
        let facts = Facts {
            quorum,
            appended: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            seen: BTreeMap::new(),
            fenced_at: None,
            record: None,
            recovered_segments: 0,
        };
        self.ledgers.insert(ledger, facts);
    }

    /// A record is in the store.
    pub(super) fn on_recorded(&mut self, ledger: LedgerId, record: &LedgerMetadata) {
        self.check(ledger, |facts| {
            let before = facts.record.replace(record.clone());
            if let Some(before) = before.as_ref().filter(|before| before.state == LedgerState::InRecovery) {
                let added = |entry: &&EntryId| before.segments.get(*entry) != record.segments.get(*entry);
                facts.recovered_segments += record.segments.keys().filter(added).count() as u64;
            }
            match before.map(|before| before.state) {
                Some(LedgerState::Closed { .. }) => return Err("changed after it was closed".into()),
                Some(LedgerState::InRecovery) if record.state == LedgerState::Open => {
                    return Err("opened again".into());
                }
                _ => {}
            }
            match record.state {
                LedgerState::Closed { last_entry, length } => facts.check_closed(last_entry, length),
                LedgerState::Open | LedgerState::InRecovery => Ok(()),
            }
        });
    }

    /// The writer takes an entry.
    pub(super) fn on_appended(&mut self, ledger: LedgerId, entry: EntryId, payload: Bytes, now: Time) {
        self.check(ledger, |facts| {
            facts.appended.insert(entry, (payload, now));
            Ok(())
        });
    }

    /// The writer acknowledges everything up to `last`; `record` is what a new reader would see.
    pub(super) fn on_confirmed(
        &mut self,
        ledger: LedgerId,
        last: Option<EntryId>,
        length: u64,
        record: &LedgerMetadata,
    ) {
        self.check(ledger, |facts| {
            let Some(last) = last.filter(|last| facts.last() < Some(*last)) else {
                return Err(format!("last add confirmed went back from {:?} to {last:?}", facts.last()));
            };
            for entry in (facts.last().map_or(0, |before| before.0 + 1)..=last.0).map(EntryId) {
                let (payload, sent_at) = facts.appended[&entry].clone();
                if facts.fenced_at.is_some_and(|fenced| fenced < sent_at) {
                    return Err(format!(
                        "entry {entry} was sent after the writer was fenced, and acknowledged"
                    ));
                }
                facts.acknowledged.insert(entry, payload);
            }
            let sum: u64 = facts.acknowledged.values().map(|payload| payload.len() as u64).sum();
            if sum != length {
                return Err(format!("{length} bytes confirmed instead of {sum}"));
            }
            match record.state {
                LedgerState::Closed { last_entry, .. } if last_entry < Some(last) => {
                    Err(format!("entry {last} acknowledged after the ledger was closed at {last_entry:?}"))
                }
                _ => Ok(()),
            }
        });
    }

    /// A recovery has fenced so many bookies that the writer can get nothing more acknowledged.
    pub(super) fn on_fenced(&mut self, ledger: LedgerId, now: Time) {
        self.check(ledger, |facts| {
            facts.fenced_at.get_or_insert(now);
            Ok(())
        });
    }

    /// A reader of an open ledger was told that it may read up to `last`.
    pub(super) fn on_last_add_confirmed(&mut self, ledger: LedgerId, last: Option<EntryId>) {
        self.check(ledger, |facts| {
            if last <= facts.last() {
                return Ok(());
            }
            Err(format!("a reader may read up to {last:?} with {:?} acknowledged", facts.last()))
        });
    }

    /// A reader got an entry.
    pub(super) fn on_read(&mut self, ledger: LedgerId, entry: EntryId, payload: &Bytes) {
        self.read += 1;
        self.check(ledger, |facts| {
            let first = facts.seen.entry(entry).or_insert_with(|| payload.clone());
            if first != payload {
                return Err(format!("two readers saw different entries {entry}"));
            }
            match facts.acknowledged.get(&entry) {
                Some(acknowledged) if acknowledged != payload => {
                    Err(format!("entry {entry} reads otherwise than it was acknowledged"))
                }
                _ => Ok(()),
            }
        });
    }

    /// Every replica denied an entry that a reader may read.
    pub(super) fn on_denied(&mut self, ledger: LedgerId, entry: EntryId) {
        self.check(ledger, |_| Err(format!("every replica denies entry {entry}")));
    }

    /// A recovery came to an end.
    pub(super) fn on_recovered(&mut self, ledger: LedgerId, last_entry: Option<EntryId>) {
        self.check(ledger, |facts| match facts.record.as_ref().map(|record| record.state) {
            Some(LedgerState::Closed { last_entry: last, .. }) if last == last_entry => Ok(()),
            state => Err(format!("recovered up to {last_entry:?} while its state is {state:?}")),
        });
    }

    /// When everything has come to an end: each entry is on an ack quorum of the bookies that the record names, apart from
    /// those that lost their disks.
    pub(super) fn at_rest(&mut self, store: &Store, hosts: &mut [Host]) {
        let ledgers: Vec<LedgerId> = self.ledgers.keys().copied().collect();
        for ledger in ledgers {
            self.check(ledger, |facts| facts.at_rest(ledger, &store.get(ledger).record, hosts));
        }
    }
}

impl Facts {
    fn at_rest(&self, ledger: LedgerId, record: &LedgerMetadata, hosts: &mut [Host]) -> Result<(), String> {
        let LedgerState::Closed { last_entry, .. } = record.state else {
            return Err("never closed".into());
        };
        for entry in (0..last_entry.map_or(0, |last| last.0 + 1)).map(EntryId) {
            let ensemble = record.ensemble_of(entry);
            let (mut copies, mut lossy) = (0, 0);
            for slot in self.quorum.write_set(entry) {
                let host = hosts.iter_mut().find(|host| host.id == ensemble[slot]).expect("a known bookie");
                let payload = host.peek(ledger, entry).and_then(|body| payload_of(ledger, entry, body));
                copies += usize::from(payload.is_some() && payload.as_ref() == self.expected(entry));
                lossy += usize::from(host.lossy);
            }
            if copies + lossy < self.quorum.ack() {
                return Err(format!("entry {entry} has {copies} copies, beside {lossy} lost disks"));
            }
        }
        Ok(())
    }
}
