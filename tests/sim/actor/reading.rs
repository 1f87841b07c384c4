//! One entry from whichever replica gives it, as `magnetar_ledger`'s shell around [`HedgedRead`] gets it. What that shell
//! knows of bookies that are slow or gone only changes the order of asking, and is left out.

use super::Wire;
use crate::sim::messages::{ActorId, HostId, Tag};
use crate::sim::outside::Outside;
use crate::sim::queue::Time;
use magnetar_ledger::protocol::hedged::{HedgedRead, Miss, Step, slots_in_order};
use magnetar_ledger::protocol::quorum::Quorum;
use magnetar_ledger::protocol::recovery::{Answer, FoundEntry};
use magnetar_proto::bookkeeper::metadata_format::LedgerMetadata;
use magnetar_proto::bookkeeper::v2::Flags;
use magnetar_proto::ids::EntryId;
use std::collections::BTreeMap;
use std::time::Duration;

/// See the module.
pub(super) struct Reading {
    entry: EntryId,
    hosts: Vec<HostId>,
    machine: HedgedRead,
    /// When the slots were asked that have not answered.
    asked_at: BTreeMap<usize, Time>,
}

/// How a read ended that did not find its entry.
pub(super) enum Failed {
    /// Every replica proves absence.
    Denied,
    /// No replica gave it, and at least one might have it.
    Unreadable,
}

impl Reading {
    /// Begins; [`go_on`](Self::go_on) asks.
    pub(super) fn new(
        outside: &mut Outside,
        wire: &Wire,
        quorum: Quorum,
        record: &LedgerMetadata,
        entry: EntryId,
    ) -> Self {
        let slots = slots_in_order(quorum, entry, wire.ledger);
        let machine = HedgedRead::new(slots, time(outside.now), &mut outside.speculation);
        let hosts = outside.hosts_of(record.ensemble_of(entry));
        Self { entry, hosts, machine, asked_at: BTreeMap::new() }
    }

    /// Asks whom it is time to ask. `None`: to be called again at the actor's next timer.
    pub(super) fn go_on(
        &mut self,
        outside: &mut Outside,
        me: ActorId,
        epoch: u64,
        wire: &Wire,
    ) -> Option<Failed> {
        loop {
            match self.machine.poll(time(outside.now), &mut outside.speculation) {
                Step::Ask(slot) => {
                    outside.second_reads += u64::from(!self.asked_at.is_empty());
                    self.asked_at.insert(slot, outside.now);
                    let (tag, request) = (
                        Tag::Ask { slot, entry: Some(self.entry) },
                        wire.read(Some(self.entry), Flags::NONE),
                    );
                    outside.ask_bookie(me, epoch, self.hosts[slot], tag, request);
                }
                Step::Wait(until) => {
                    if let Some(until) = until {
                        // Not too early by a part of a microsecond, or time would stand still.
                        let until = Time::try_from(until.as_nanos().div_ceil(1000)).unwrap_or(Time::MAX);
                        outside.timer(me, epoch, until.saturating_sub(outside.now));
                    }
                    return None;
                }
                Step::NoSuchEntry => return Some(Failed::Denied),
                Step::Unreadable => return Some(Failed::Unreadable),
            }
        }
    }

    /// A replica answered, perhaps to a read of an earlier entry. Without the entry, [`go_on`](Self::go_on) comes next.
    pub(super) fn on_answer(
        &mut self,
        outside: &mut Outside,
        slot: usize,
        entry: EntryId,
        answer: Answer,
    ) -> Option<FoundEntry> {
        if entry != self.entry {
            return None;
        }
        let asked_at = self.asked_at.remove(&slot)?;
        let miss = match answer {
            Answer::Entry(_) | Answer::Absent => {
                outside.speculation.on_answer(time(outside.now - asked_at));
                if let Answer::Entry(found) = answer {
                    return Some(found);
                }
                Miss::Absent
            }
            Answer::Unknown => Miss::Unreadable,
        };
        self.machine.on_miss(miss);
        None
    }
}

fn time(at: Time) -> Duration {
    Duration::from_micros(at)
}
