//! Everything that an actor meets: the network, the bookies behind it, the metadata store, time and chance.

use super::checker::Checker;
use super::defect::Defect;
use super::host::Host;
use super::messages::{ActorId, CallId, Event, HostId, Peer, Reply, StoreOp, Tag};
use super::plan::Plan;
use super::queue::{MS, Queue, Time};
use super::store::Store;
use magnetar_common::random::Random;
use magnetar_ledger::protocol::hedged::Speculation;
use magnetar_ledger::protocol::quorum::Slots;
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::bookkeeper::v2::{Request, Response};
use magnetar_proto::ids::LedgerId;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

/// A question whose asker waits.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) actor: ActorId,
    /// A question of an earlier epoch is of no interest to its asker any more.
    pub(super) epoch: u64,
    pub(super) peer: Peer,
    pub(super) tag: Tag,
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    Out,
    Back,
}

/// See the module.
pub(super) struct Outside {
    pub(super) now: Time,
    pub(super) queue: Queue<Event>,
    pub(super) random: Arc<dyn Random>,
    pub(super) plan: Plan,
    pub(super) defect: Option<Defect>,
    pub(super) hosts: Vec<Host>,
    pub(super) store: Store,
    pub(super) checker: Checker,
    /// Whether things still go wrong.
    pub(super) hostile: bool,
    pub(super) calls: BTreeMap<CallId, Call>,
    next_call: CallId,
    /// Ways on which nothing gets through.
    pub(super) cut: BTreeSet<(ActorId, Peer, Way)>,
    /// Ways on which what is sent stays until then.
    pub(super) held: BTreeMap<(ActorId, Peer, Way), Time>,
    pub(super) writers: BTreeMap<LedgerId, ActorId>,
    /// Syncs of these bookies take long until then.
    pub(super) slow_until: BTreeMap<HostId, Time>,
    /// All who read are one client.
    pub(super) speculation: Speculation,
    /// Replicas asked while another one might still have answered.
    pub(super) second_reads: u64,
}

impl Outside {
    pub(super) fn new(random: Arc<dyn Random>, plan: Plan, defect: Option<Defect>) -> Self {
        Self {
            now: 0,
            queue: Queue::new(),
            random,
            hosts: (0..plan.bookies).map(|number| Host::new(number, defect)).collect(),
            plan,
            defect,
            store: Store::default(),
            checker: Checker::default(),
            hostile: true,
            calls: BTreeMap::new(),
            next_call: 0,
            cut: BTreeSet::new(),
            held: BTreeMap::new(),
            writers: BTreeMap::new(),
            slow_until: BTreeMap::new(),
            speculation: Speculation::default(),
            second_reads: 0,
        }
    }

    pub(super) fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    /// True in so many of 1000 cases, while the world is hostile.
    pub(super) fn chance(&self, permille: u64) -> bool {
        self.hostile && self.random.below(1000) < permille
    }

    pub(super) fn between(&self, least: Time, most: Time) -> Time {
        least + self.random.below(most - least + 1)
    }

    /// One of `0..count`, which must not be empty.
    pub(super) fn one_of(&self, count: usize) -> usize {
        self.random.below(count as u64) as usize
    }

    fn travel(&self) -> Time {
        if self.chance(self.plan.late) { self.between(5 * MS, 80 * MS) } else { self.between(50, MS) }
    }

    /// When a message that is sent now arrives.
    fn arrival(&self, way: (ActorId, Peer, Way)) -> Time {
        self.held.get(&way).map_or(self.now, |until| self.now.max(*until)) + self.travel()
    }

    fn ask(&mut self, call: Call, question: impl Fn(CallId) -> Event) {
        let id = self.next_call;
        self.next_call += 1;
        self.calls.insert(id, call);
        self.queue.push(self.now + self.plan.patience, Event::NoAnswer { call: id });
        let way = (call.actor, call.peer, Way::Out);
        if self.cut.contains(&way) || self.chance(self.plan.lost) {
            return;
        }
        self.queue.push(self.arrival(way), question(id));
        if self.chance(self.plan.doubled) {
            self.queue.push(self.arrival(way), question(id));
        }
    }

    pub(super) fn ask_bookie(
        &mut self,
        actor: ActorId,
        epoch: u64,
        host: HostId,
        tag: Tag,
        request: Request,
    ) {
        let request = Rc::new(request);
        let call = Call { actor, epoch, peer: Peer::Bookie(host), tag };
        self.ask(call, |call| Event::AtBookie { host, call, request: request.clone() });
    }

    /// Reads the record, or changes it.
    pub(super) fn ask_store(&mut self, actor: ActorId, epoch: u64, op: StoreOp) {
        let tag = if matches!(op, StoreOp::Get(_)) { Tag::Get } else { Tag::Put };
        let call = Call { actor, epoch, peer: Peer::Store, tag };
        self.ask(call, |call| Event::AtStore { call, op: op.clone() });
    }

    /// Sends an answer on its way, if somebody waits for it.
    pub(super) fn answer(&mut self, call: CallId, reply: Reply) {
        let Some(Call { actor, peer, .. }) = self.calls.get(&call) else { return };
        let way = (*actor, *peer, Way::Back);
        if self.cut.contains(&way) || self.chance(self.plan.lost) {
            return;
        }
        self.queue.push(self.arrival(way), Event::AtActor { call, reply });
    }

    /// The asker learns soon that there is no answer.
    pub(super) fn refuse(&mut self, call: CallId) {
        self.queue.push(self.now + self.travel(), Event::NoAnswer { call });
    }

    pub(super) fn timer(&mut self, actor: ActorId, epoch: u64, after: Time) {
        self.queue.push(self.now + after, Event::Timer { actor, epoch });
    }

    /// Sees to it that what the bookie owes is synced in a while.
    pub(super) fn plan_sync(&mut self, host: HostId) {
        let slow = self.slow_until.get(&host).is_some_and(|until| *until > self.now);
        let after = if slow { self.between(5 * MS, 60 * MS) } else { self.between(50, 2 * MS) };
        let bookie = &mut self.hosts[host];
        if bookie.is_owing() && !bookie.sync_is_due {
            bookie.sync_is_due = true;
            self.queue.push(self.now + after, Event::Sync { host, life: bookie.life });
        }
    }

    pub(super) fn check_promises(&mut self, host: HostId) {
        if let Some(broken) = self.hosts[host].broken_promise() {
            self.checker.violated(broken);
        }
    }

    /// Sometimes, when a recovery begins to ask, one bookie is hard to reach: the first questions get lost, and what the
    /// writer sends it arrives late. That is when fencing must prove itself.
    pub(super) fn trouble_recovery(&mut self, recoverer: ActorId, ledger: LedgerId, asked: &[HostId]) {
        if !self.chance(250) {
            return;
        }
        let peer = Peer::Bookie(asked[self.one_of(asked.len())]);
        let until = self.now + self.between(2 * MS, 30 * MS);
        self.held.insert((self.writers[&ledger], peer, Way::Out), until);
        if self.cut.is_empty() {
            self.cut.insert((recoverer, peer, Way::Out));
            self.queue.push(self.now + self.between(200, 3 * MS), Event::Join);
        }
    }

    pub(super) fn answer_all(&mut self, answers: Vec<(CallId, Response)>) {
        for (call, response) in answers {
            self.answer(call, Reply::Bookie(Some(response)));
        }
    }

    /// The ensemble with other bookies in as many of the failed slots as there are registered ones, and which these are.
    pub(super) fn replace(&self, before: &[HostId], failed: Slots) -> (Vec<HostId>, Slots) {
        let usable = |host: &HostId| self.hosts[*host].registered && !before.contains(host);
        let mut usable: Vec<HostId> = (0..self.hosts.len()).filter(usable).collect();
        self.random.shuffle(&mut usable);
        let (mut ensemble, mut changed) = (before.to_vec(), Slots::NONE);
        for (slot, host) in failed.iter().zip(usable) {
            ensemble[slot] = host;
            changed.insert(slot);
        }
        (ensemble, changed)
    }

    pub(super) fn ids(&self, ensemble: &[HostId]) -> Vec<BookieId> {
        ensemble.iter().map(|host| self.hosts[*host].id.clone()).collect()
    }

    pub(super) fn hosts_of(&self, ensemble: &[BookieId]) -> Vec<HostId> {
        let number = |id: &BookieId| id.as_str()[1..].parse().expect("ids are made by Host::new");
        ensemble.iter().map(number).collect()
    }
}
