//! The writer of a ledger, as `magnetar_ledger::Writer` is: it appends, changes its ensemble, and may close.

use super::{Actor, Wire, outcome_of};
use crate::sim::defect::Defect;
use crate::sim::messages::{ActorId, HostId, Reply, StoreOp, StoreReply, Tag, Versioned};
use crate::sim::outside::Outside;
use crate::sim::plan::LedgerPlan;
use bytes::Bytes;
use magnetar_ledger::protocol::quorum::{Quorum, Slots};
use magnetar_ledger::protocol::record;
use magnetar_ledger::protocol::writer::{Action, PendingEntry, WriterMachine};
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::bookkeeper::v2::Flags;
use magnetar_proto::ids::{EntryId, LedgerId};
use std::rc::Rc;

/// Entries that are not confirmed at once.
const PIPELINE_MAX: u64 = 24;

/// See the module.
pub(in crate::sim) struct Writer {
    me: ActorId,
    plan: Rc<LedgerPlan>,
    wire: Wire,
    machine: WriterMachine,
    slots: Vec<Slot>,
    current: Versioned,
    change: Option<Change>,
    /// What the record is to become once no change is running.
    closing: Option<LedgerState>,
    /// What is being written to the store.
    wanted: Option<LedgerMetadata>,
    reported: Option<EntryId>,
    epoch: u64,
    has_ended: bool,
}

struct Slot {
    host: HostId,
    generation: u64,
}

/// A change of the ensemble that is being recorded.
struct Change {
    first_entry: EntryId,
    before: Vec<HostId>,
    ensemble: Vec<HostId>,
    slots: Slots,
}

impl Writer {
    pub(in crate::sim) fn new(
        me: ActorId,
        ledger: LedgerId,
        plan: Rc<LedgerPlan>,
        current: Versioned,
        hosts: Vec<HostId>,
    ) -> Self {
        Self {
            me,
            wire: Wire::new(ledger),
            machine: WriterMachine::new(plan.quorum),
            plan,
            slots: hosts.into_iter().map(|host| Slot { host, generation: 0 }).collect(),
            current,
            change: None,
            closing: None,
            wanted: None,
            reported: None,
            epoch: 0,
            has_ended: false,
        }
    }

    fn append(&mut self, outside: &mut Outside) {
        let id = self.machine.last_add_pushed().map_or(EntryId::ZERO, EntryId::next);
        let nonce = outside.random.next_u64();
        let text = format!("{}:{id} {nonce:x} ", self.wire.ledger);
        let payload = Bytes::from(text.repeat(1 + outside.one_of(5)));
        if self.machine.append(payload.clone()) == Ok(id) {
            outside.checker.on_appended(self.wire.ledger, id, payload, outside.now);
        }
    }

    /// Carries out what the machine wants, and tells what is confirmed.
    fn act(&mut self, outside: &mut Outside) {
        if self.has_ended || self.closing.is_some() {
            return;
        }
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Send { slot, entry } => self.send(outside, slot, entry),
                Action::ChangeEnsemble { first_entry, failed, .. } => {
                    self.change_ensemble(outside, first_entry, failed);
                }
            }
        }
        let confirmed = self.machine.last_add_confirmed();
        if confirmed > self.reported {
            self.reported = confirmed;
            let record = &outside.store.get(self.wire.ledger).record;
            outside.checker.on_confirmed(
                self.wire.ledger,
                confirmed,
                self.machine.confirmed_length(),
                record,
            );
        }
        self.has_ended |= self.machine.failure().is_some();
    }

    fn send(&mut self, outside: &mut Outside, slot: usize, mut entry: PendingEntry) {
        if outside.has(Defect::LacAheadOfAcked) {
            entry.last_add_confirmed = Some(entry.id);
        }
        let Slot { host, generation } = self.slots[slot];
        let tag = Tag::Add { slot, generation, entry: entry.id };
        outside.ask_bookie(self.me, self.epoch, host, tag, self.wire.add(&entry, Flags::NONE));
    }

    fn change_ensemble(&mut self, outside: &mut Outside, first_entry: EntryId, failed: Slots) {
        let before: Vec<HostId> = self.slots.iter().map(|slot| slot.host).collect();
        let (ensemble, slots) = outside.replace(&before, failed);
        if slots.is_empty() {
            return self.machine.on_no_replacement();
        }
        self.change = Some(Change { first_entry, before, ensemble, slots });
        if outside.has(Defect::AckBeforeChangeRecorded) {
            self.take_over_change();
        }
        self.decide(outside);
    }

    /// Asks the store for what is wanted, given the record as it was read last.
    fn decide(&mut self, outside: &mut Outside) {
        let record = &self.current.record;
        let wanted = match (&self.change, self.closing) {
            (Some(change), _) => {
                let (before, ensemble) = (outside.ids(&change.before), outside.ids(&change.ensemble));
                record::change_ensemble(record, change.first_entry, &before, &ensemble)
            }
            (None, Some(closed)) => record::close_written(record, closed),
            (None, None) => return,
        };
        match wanted {
            Ok(Some(wanted)) => {
                let blind = self.change.is_none() && outside.has(Defect::CloseWithoutCompare);
                let expected = (!blind).then_some(self.current.version);
                let put = StoreOp::Put(self.wire.ledger, Box::new(wanted.clone()), expected);
                self.wanted = Some(wanted);
                outside.ask_store(self.me, self.epoch, put);
            }
            Ok(None) => self.settled(outside),
            Err(_) => self.taken_over(outside),
        }
    }

    /// The record is as wanted.
    fn settled(&mut self, outside: &mut Outside) {
        if self.change.is_none() {
            self.has_ended = true;
            return;
        }
        if !outside.has(Defect::AckBeforeChangeRecorded) {
            self.take_over_change();
        }
        self.change = None;
        // A close may have waited for it.
        self.decide(outside);
    }

    fn take_over_change(&mut self) {
        let Some(Change { ensemble, slots, .. }) = &self.change else { return };
        for number in slots.iter() {
            let slot = &mut self.slots[number];
            if slot.host != ensemble[number] {
                *slot = Slot { host: ensemble[number], generation: slot.generation + 1 };
            }
        }
        self.machine.on_ensemble_changed(*slots);
    }

    fn taken_over(&mut self, outside: &mut Outside) {
        self.machine.on_taken_over();
        self.change = None;
        if self.closing.is_some() {
            self.has_ended = true;
        }
        self.act(outside);
    }

    fn on_store(&mut self, outside: &mut Outside, tag: Tag, reply: Option<StoreReply>) {
        match (tag, reply) {
            (_, Some(StoreReply::Record(current))) => {
                self.current = *current;
                self.decide(outside);
            }
            (_, Some(StoreReply::Written(version))) => {
                let record = self.wanted.take().expect("it was written because it was wanted");
                self.current = Versioned { record, version };
                self.settled(outside);
            }
            (Tag::Put, None) if outside.has(Defect::UnknownTakenForFailure) && self.change.is_some() => {
                self.change = None;
                self.machine.on_no_replacement();
            }
            // Whether it was written only the record can tell. A close gives up when it cannot be read.
            (Tag::Get, None) if self.change.is_none() => self.has_ended = true,
            (_, Some(StoreReply::Conflict) | None) => {
                outside.ask_store(self.me, self.epoch, StoreOp::Get(self.wire.ledger));
            }
        }
        self.act(outside);
    }

    /// Closes at what is confirmed, once a running change has ended.
    fn close(&mut self, outside: &mut Outside) {
        let last_entry = self.machine.last_add_confirmed();
        let length = self.machine.confirmed_length();
        self.closing = Some(LedgerState::Closed { last_entry, length });
        if self.change.is_none() {
            self.decide(outside);
        }
    }

    fn in_flight(&self) -> u64 {
        let after = |entry: Option<EntryId>| entry.map_or(0, |entry| entry.0 + 1);
        after(self.machine.last_add_pushed()) - after(self.machine.last_add_confirmed())
    }
}

impl Actor for Writer {
    fn start(&mut self, outside: &mut Outside) {
        if outside.has(Defect::AckBelowQuorum) && self.plan.quorum.ack() > 1 {
            let size = |size: usize| u32::try_from(size).expect("ensembles are small");
            let quorum = self.plan.quorum;
            let below = Quorum::new(size(quorum.ensemble()), size(quorum.write()), size(quorum.ack() - 1));
            self.machine = WriterMachine::new(below.expect("still valid"));
        }
        let after = outside.between(1, self.plan.append_every);
        outside.timer(self.me, self.epoch, after);
    }

    fn on_reply(&mut self, outside: &mut Outside, tag: Tag, reply: Reply) {
        if self.has_ended {
            return;
        }
        match (tag, reply) {
            (tag @ (Tag::Get | Tag::Put), Reply::Store(reply)) => self.on_store(outside, tag, reply),
            (Tag::Add { slot, generation, entry }, reply) => {
                let current = self.slots[slot].generation == generation;
                if self.closing.is_none() && (current || outside.has(Defect::ReplacedBookiesCount)) {
                    self.machine.on_added(slot, entry, outcome_of(&reply));
                    self.act(outside);
                }
            }
            _ => {}
        }
    }

    fn on_timer(&mut self, outside: &mut Outside) {
        if self.has_ended || self.closing.is_some() {
            return;
        }
        if outside.random.below(4) == 0 {
            self.machine.on_bookies_changed();
        }
        if outside.has(Defect::EntryIdReused) && self.change.is_none() && outside.chance(100) {
            let (confirmed, length) = (self.machine.last_add_confirmed(), self.machine.confirmed_length());
            self.machine = WriterMachine::resume(self.machine.quorum(), confirmed, length);
        }
        let pushed = self.machine.last_add_pushed().map_or(0, |last| last.0 + 1);
        if pushed < self.plan.entries {
            for _ in 0..(1 + outside.random.below(4)).min(self.plan.entries - pushed) {
                if self.in_flight() < PIPELINE_MAX {
                    self.append(outside);
                }
            }
        } else if self.plan.closes && (self.in_flight() == 0 || outside.random.below(50) == 0) {
            self.close(outside);
        }
        self.act(outside);
        let after = outside.between(1, 2 * self.plan.append_every);
        outside.timer(self.me, self.epoch, after);
    }

    fn die(&mut self, outside: &mut Outside) {
        // Most writers live, or there would be little to recover.
        if outside.random.below(4) == 0 {
            self.epoch += 1;
            self.has_ended = true;
        }
    }

    fn on_healed(&mut self, _: &mut Outside) {}

    fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Its end is not asked for: whoever recovers the ledger ends it.
    fn is_done(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        format!("writer of ledger {}", self.wire.ledger)
    }
}
