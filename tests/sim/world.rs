//! One run: from a seed to what came of it.

use super::actor::{Actor, Reader, Recoverer, Writer};
use super::checker::Counts;
use super::defect::Defect;
use super::host::Started;
use super::messages::{CallId, Event, HostId, Reply, Tag};
use super::outside::Outside;
use super::plan::Plan;
use super::queue::{MS, Time};
use bytes::Bytes;
use magnetar_common::random::SeededRandom;
use magnetar_common::storage::Unsynced;
use magnetar_proto::bookkeeper::entry::DigestType;
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::ids::{EntryId, LedgerId};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Once nothing goes wrong any more, every recovery and every reader must have come to its end within this time.
const BOUND: Time = 3000 * MS;

/// What happened, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events.
    pub events: u64,
    /// Entries acknowledged.
    pub acknowledged: u64,
    /// Entries read, by readers.
    pub read: u64,
    /// Of how many a second replica was asked before the first had answered.
    pub second_reads: u64,
    /// Ensembles recorded after a ledger's first.
    pub segments: u64,
    /// Those of them that recoveries recorded.
    pub recovered_segments: u64,
    /// Faults done.
    pub faults: u64,
    /// Bookies that died.
    pub crashes: u64,
    /// Attempts to recover a ledger.
    pub recoveries: u64,
    /// Longest time from the healing to the end, in microseconds.
    pub settled_us_max: u64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What must hold and did not.
    pub violation: Option<String>,
    /// What happened.
    pub tally: Tally,
    /// Digest of everything that happened: equal for equal seeds.
    pub trace: u64,
}

/// See the module.
pub(super) struct World {
    pub(super) outside: Outside,
    pub(super) actors: Vec<Box<dyn Actor>>,
    /// Actors that do nothing until then.
    pub(super) frozen_until: Vec<Time>,
    pub(super) tally: Tally,
    trace: DefaultHasher,
}

/// Runs a seed, with a defect or none.
pub fn run(seed: u64, defect: Option<Defect>) -> Outcome {
    let mut world = World::new(seed, defect);
    while !world.is_over()
        && let Some((at, event)) = world.outside.queue.pop()
    {
        world.outside.now = at;
        world.tally.events += 1;
        world.happen(event);
    }
    world.finish()
}

impl World {
    fn new(seed: u64, defect: Option<Defect>) -> Self {
        let random = Arc::new(SeededRandom::new(seed));
        let plan = Plan::of(&*random);
        let mut outside = Outside::new(random, plan, defect);
        (0..outside.hosts.len()).for_each(|host| outside.queue.push(0, Event::Restart { host }));
        outside.queue.push(outside.plan.heals_at, Event::Heal);
        outside.queue.push(outside.plan.fault_every, Event::Fault);
        let actors = actors(&mut outside);
        let frozen_until = vec![0; actors.len()];
        let (tally, trace) = (Tally::default(), DefaultHasher::new());
        Self { outside, actors, frozen_until, tally, trace }
    }

    fn is_over(&self) -> bool {
        let outside = &self.outside;
        let late = outside.now > outside.plan.heals_at + BOUND;
        let ended = !outside.hostile && self.actors.iter().all(|actor| actor.is_done());
        late || ended || outside.checker.violation().is_some()
    }

    fn note(&mut self, what: impl Hash) {
        (self.outside.now, what).hash(&mut self.trace);
    }

    fn happen(&mut self, event: Event) {
        let outside = &mut self.outside;
        match event {
            Event::AtBookie { host, call, request } => {
                if !outside.hosts[host].is_up() {
                    if outside.random.below(2) == 0 {
                        outside.refuse(call);
                    }
                    return;
                }
                if let Some(response) = outside.hosts[host].handle(call, &request) {
                    outside.answer(call, Reply::Bookie(Some(response)));
                }
                outside.plan_sync(host);
                outside.check_promises(host);
                self.note((1, host, call));
            }
            Event::AtStore { call, op } => {
                if outside.store.stalled_until > outside.now {
                    return outside.queue.push(outside.store.stalled_until, Event::AtStore { call, op });
                }
                let (reply, changed) = outside.store.apply(op);
                if let Some(ledger) = changed {
                    outside.checker.on_recorded(ledger, &outside.store.get(ledger).record);
                }
                outside.answer(call, Reply::Store(Some(reply)));
                self.note((2, call));
            }
            Event::AtActor { call, reply } => self.reply(call, Some(reply)),
            Event::NoAnswer { call } => self.reply(call, None),
            Event::Timer { actor, epoch } => {
                if self.frozen_until[actor] > outside.now {
                    outside.queue.push(self.frozen_until[actor], Event::Timer { actor, epoch });
                } else if self.actors[actor].epoch() == epoch {
                    self.actors[actor].on_timer(outside);
                    self.note((3, actor));
                }
            }
            Event::Sync { host, life } => self.sync(host, life),
            Event::Restart { host } => self.restart(host),
            Event::Register { host } => outside.hosts[host].registered = outside.hosts[host].is_up(),
            Event::Join => outside.cut.clear(),
            Event::Fault => {
                if outside.hostile {
                    self.fault();
                    let outside = &mut self.outside;
                    let next = outside.now + outside.between(1, 2 * outside.plan.fault_every);
                    outside.queue.push(next, Event::Fault);
                }
            }
            Event::Heal => self.heal(),
        }
    }

    fn reply(&mut self, call: CallId, reply: Option<Reply>) {
        let outside = &mut self.outside;
        let Some(asked) = outside.calls.get(&call).copied() else { return };
        if self.frozen_until[asked.actor] > outside.now {
            let event = match reply {
                Some(reply) => Event::AtActor { call, reply },
                None => Event::NoAnswer { call },
            };
            return outside.queue.push(self.frozen_until[asked.actor], event);
        }
        outside.calls.remove(&call);
        if self.actors[asked.actor].epoch() != asked.epoch {
            return;
        }
        let silence = match asked.tag {
            Tag::Add { .. } | Tag::Ask { .. } => Reply::Bookie(None),
            Tag::Get | Tag::Put => Reply::Store(None),
        };
        let answered = reply.is_some();
        self.actors[asked.actor].on_reply(outside, asked.tag, reply.unwrap_or(silence));
        self.note((4, call, answered));
    }

    fn sync(&mut self, host: HostId, life: u64) {
        let outside = &mut self.outside;
        if outside.hosts[host].life != life || !outside.hosts[host].is_up() {
            return;
        }
        outside.hosts[host].sync_is_due = false;
        let flush = outside.random.below(12) == 0;
        match outside.hosts[host].sync(flush) {
            Some(answers) => {
                outside.answer_all(answers);
                outside.plan_sync(host);
                outside.check_promises(host);
            }
            None => {
                // The disk failed, and the process with it. What the disk then holds is anyone's guess.
                let torn = Unsynced::Torn { seed: outside.random.next_u64() };
                outside.hosts[host].crash(torn);
                self.tally.crashes += 1;
                self.restart_later(host);
            }
        }
        self.note((5, host));
    }

    fn restart(&mut self, host: HostId) {
        let outside = &mut self.outside;
        if outside.hosts[host].is_up() {
            return;
        }
        let random = outside.random.clone();
        match outside.hosts[host].start(&*random) {
            Ok(Started::Serves) => {
                let soon = if outside.now == 0 { 0 } else { outside.between(0, 20 * MS) };
                outside.queue.push(outside.now + soon, Event::Register { host });
            }
            // It comes back only under another name, as a new bookie; there are enough of those.
            Ok(Started::Refused) => {}
            Err(violation) => outside.checker.violated(violation),
        }
        self.note((6, host));
    }

    /// Nothing goes wrong any more.
    fn heal(&mut self) {
        let outside = &mut self.outside;
        outside.hostile = false;
        outside.cut.clear();
        outside.held.clear();
        outside.slow_until.clear();
        outside.store.stalled_until = 0;
        self.frozen_until.iter_mut().for_each(|until| *until = 0);
        // The last fault: the power fails everywhere. Disks that were about to fail are in order afterwards.
        let random = self.outside.random.clone();
        for host in 0..self.outside.hosts.len() {
            let torn = Unsynced::Torn { seed: random.next_u64() };
            self.crash(host, if random.below(2) == 0 { Unsynced::Lost } else { torn });
        }
        for actor in &mut self.actors {
            actor.on_healed(&mut self.outside);
        }
    }

    fn finish(mut self) -> Outcome {
        let outside = &mut self.outside;
        if outside.checker.violation().is_none() {
            let waiting = self.actors.iter().filter(|actor| !actor.is_done());
            let waiting: Vec<String> = waiting.map(|actor| actor.describe()).collect();
            if !waiting.is_empty() {
                outside.checker.violated(format!("no end within {BOUND} us: {}", waiting.join("; ")));
            }
        }
        let random = outside.random.clone();
        for host in outside.hosts.iter_mut().filter(|host| !host.is_up()) {
            if let Err(violation) = host.start(&*random) {
                outside.checker.violated(violation);
            }
        }
        if outside.checker.violation().is_none() {
            outside.checker.at_rest(&outside.store, &mut outside.hosts);
        }
        let Counts { acknowledged, read, segments, recovered_segments } = outside.checker.counts();
        let second_reads = outside.second_reads;
        let settled_us_max = outside.now.saturating_sub(outside.plan.heals_at);
        let recoveries = self.actors.iter().map(|actor| actor.attempts()).sum();
        let tally = Tally {
            acknowledged,
            read,
            second_reads,
            segments,
            recovered_segments,
            settled_us_max,
            recoveries,
            ..self.tally
        };
        (outside.checker.violation(), acknowledged, read).hash(&mut self.trace);
        Outcome { violation: outside.checker.violation().cloned(), tally, trace: self.trace.finish() }
    }
}

/// The ledgers with everybody who has to do with them.
fn actors(outside: &mut Outside) -> Vec<Box<dyn Actor>> {
    let mut actors: Vec<Box<dyn Actor>> = Vec::new();
    for number in 0..outside.plan.ledgers.len() {
        let ledger = LedgerId(number as u64 + 1);
        let plan = outside.plan.ledgers[number].clone();
        let mut hosts: Vec<HostId> = (0..outside.hosts.len()).collect();
        outside.random.shuffle(&mut hosts);
        hosts.truncate(plan.quorum.ensemble());
        let size = |size: usize| u32::try_from(size).expect("ensembles are small");
        let record = LedgerMetadata {
            ensemble_size: size(plan.quorum.ensemble()),
            write_quorum: size(plan.quorum.write()),
            ack_quorum: size(plan.quorum.ack()),
            state: LedgerState::Open,
            segments: BTreeMap::from([(EntryId::ZERO, outside.ids(&hosts))]),
            digest: DigestType::Crc32c,
            password: Bytes::new(),
            ctime_ms: None,
            custom: BTreeMap::new(),
            c_token: None,
        };
        let created = outside.store.create(ledger, record);
        outside.checker.on_created(ledger, plan.quorum);
        outside.writers.insert(ledger, actors.len());
        actors.push(Box::new(Writer::new(actors.len(), ledger, plan.clone(), created, hosts)));
        for at in &plan.recoveries {
            actors.push(Box::new(Recoverer::new(actors.len(), ledger, plan.quorum, *at)));
        }
        for _ in 0..plan.readers {
            actors.push(Box::new(Reader::new(actors.len(), ledger, plan.quorum)));
        }
    }
    actors.iter_mut().for_each(|actor| actor.start(outside));
    actors
}
