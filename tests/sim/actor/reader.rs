//! A reader that follows a ledger without disturbing its writer, and reads it from the beginning once nothing goes wrong
//! any more.

use super::reading::{Failed, Reading};
use super::{Actor, Wire};
use crate::sim::messages::{ActorId, Reply, StoreOp, StoreReply, Tag, Versioned};
use crate::sim::outside::Outside;
use crate::sim::queue::MS;
use magnetar_ledger::protocol::quorum::Quorum;
use magnetar_ledger::protocol::recovery::{Answer, FenceMachine, Progress};
use magnetar_proto::bookkeeper::metadata_format::LedgerState;
use magnetar_proto::bookkeeper::v2::Flags;
use magnetar_proto::ids::{EntryId, LedgerId};

/// See the module.
pub(in crate::sim) struct Reader {
    me: ActorId,
    wire: Wire,
    quorum: Quorum,
    phase: Phase,
    current: Option<Versioned>,
    /// The next entry to read.
    next: EntryId,
    /// The last entry that may be read. Only rises.
    limit: Option<EntryId>,
    epoch: u64,
    last_failure: String,
}

enum Phase {
    Idle,
    Opening,
    /// Asks for the last add confirmed.
    Asking(FenceMachine),
    Reading(Reading),
    Done,
}

impl Reader {
    pub(in crate::sim) fn new(me: ActorId, ledger: LedgerId, quorum: Quorum) -> Self {
        Self {
            me,
            wire: Wire::new(ledger),
            quorum,
            phase: Phase::Idle,
            current: None,
            next: EntryId::ZERO,
            limit: None,
            epoch: 0,
            last_failure: String::new(),
        }
    }

    fn later(&mut self, outside: &mut Outside, why: String) {
        self.last_failure = why;
        self.phase = Phase::Idle;
        self.epoch += 1;
        let pause = outside.between(MS, 30 * MS);
        outside.timer(self.me, self.epoch, pause);
    }

    fn opened(&mut self, outside: &mut Outside, current: Versioned) {
        let state = current.record.state;
        let (start, hosts) = current.record.last_segment();
        let hosts = outside.hosts_of(hosts);
        self.phase = Phase::Asking(FenceMachine::new(self.quorum, start));
        self.current = Some(current);
        if let LedgerState::Closed { last_entry, .. } = state {
            self.limit = last_entry;
            return self.read(outside);
        }
        for (slot, host) in hosts.into_iter().enumerate() {
            let (tag, request) = (Tag::Ask { slot, entry: None }, self.wire.read(None, Flags::NONE));
            outside.ask_bookie(self.me, self.epoch, host, tag, request);
        }
    }

    /// Begins with the next entry, if it may be read.
    fn read(&mut self, outside: &mut Outside) {
        if self.limit >= Some(self.next) {
            let record = &self.current.as_ref().expect("the record was read").record;
            self.phase = Phase::Reading(Reading::new(outside, &self.wire, self.quorum, record, self.next));
            return self.go_on(outside);
        }
        let current = self.current.as_ref().expect("the record was read");
        if matches!(current.record.state, LedgerState::Closed { .. }) && !outside.hostile {
            self.phase = Phase::Done;
        } else {
            self.later(outside, "nothing new".into());
        }
    }

    fn go_on(&mut self, outside: &mut Outside) {
        let Phase::Reading(reading) = &mut self.phase else { return };
        match reading.go_on(outside, self.me, self.epoch, &self.wire) {
            None => {}
            Some(Failed::Denied) => {
                let read_at = self.current.as_ref().expect("the record was read").version;
                if read_at == outside.store.get(self.wire.ledger).version {
                    outside.checker.on_denied(self.wire.ledger, self.next);
                }
                self.later(outside, format!("no entry {}", self.next));
            }
            Some(Failed::Unreadable) => self.later(outside, format!("cannot read entry {}", self.next)),
        }
    }

    fn on_answer(&mut self, outside: &mut Outside, slot: usize, entry: Option<EntryId>, answer: Answer) {
        match (&mut self.phase, entry) {
            (Phase::Asking(machine), None) => {
                machine.on_answer(slot, answer);
                match machine.progress() {
                    Progress::Waiting => {}
                    Progress::Done(last) => {
                        outside.checker.on_last_add_confirmed(self.wire.ledger, last);
                        self.limit = self.limit.max(last);
                        self.read(outside);
                    }
                    Progress::Stuck => self.later(outside, "the end cannot be told".into()),
                }
            }
            (Phase::Reading(reading), Some(entry)) => {
                if let Some(found) = reading.on_answer(outside, slot, entry, answer) {
                    outside.checker.on_read(self.wire.ledger, entry, &found.payload);
                    self.next = entry.next();
                    return self.read(outside);
                }
                self.go_on(outside);
            }
            _ => {}
        }
    }
}

impl Actor for Reader {
    fn start(&mut self, outside: &mut Outside) {
        self.later(outside, "not begun".into());
    }

    fn on_reply(&mut self, outside: &mut Outside, tag: Tag, reply: Reply) {
        match (tag, reply) {
            (Tag::Get, Reply::Store(Some(StoreReply::Record(current)))) => self.opened(outside, *current),
            (Tag::Get, _) => self.later(outside, "no metadata".into()),
            (Tag::Ask { slot, entry }, reply) => {
                let answer = self.wire.answer(entry, reply);
                self.on_answer(outside, slot, entry, answer);
            }
            _ => {}
        }
    }

    fn on_timer(&mut self, outside: &mut Outside) {
        match self.phase {
            Phase::Idle => {
                self.epoch += 1;
                self.phase = Phase::Opening;
                outside.ask_store(self.me, self.epoch, StoreOp::Get(self.wire.ledger));
            }
            Phase::Reading(_) => self.go_on(outside),
            Phase::Opening | Phase::Asking(_) | Phase::Done => {}
        }
    }

    fn die(&mut self, outside: &mut Outside) {
        self.later(outside, "the process died".into());
    }

    fn on_healed(&mut self, outside: &mut Outside) {
        self.next = EntryId::ZERO;
        self.later(outside, "from the beginning".into());
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    fn describe(&self) -> String {
        format!("reader of ledger {} ({})", self.wire.ledger, self.last_failure)
    }
}
