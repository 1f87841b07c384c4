//! What goes wrong, one thing at a time.

use super::messages::{ActorId, Event, HostId, Peer};
use super::outside::Way;
use super::queue::MS;
use super::world::World;
use magnetar_common::storage::Unsynced;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A bookie's process dies; the machine lives.
    Kill,
    /// A bookie's machine dies: what was not synced is lost, or torn.
    PowerCut,
    /// A bookie's syncs take long for a while.
    SlowDisk,
    /// A sync of a bookie's disk fails.
    SyncFails,
    /// A write to a bookie's disk fails.
    WriteFails,
    /// A bookie's disks are replaced by empty ones; it tries to come back under its old address.
    Wipe,
    /// A bit of what a bookie has stored flips.
    Rot,
    /// Nothing gets through between some actors and some peers, one way or both ways.
    Partition,
    /// What some actors and some peers send each other is held back for a while, and arrives then.
    Hold,
    /// An actor stops for a while and then goes on as if nothing had happened.
    Freeze,
    /// An actor's clock jumps: everything that it waits for has taken too long.
    ClockJump,
    /// The metadata store answers nobody for a while.
    StoreStall,
    /// An actor's process dies. A recovery begins anew; a writer is gone.
    ActorDies,
}

impl Fault {
    pub(super) const ALL: [Self; 13] = [
        Self::Kill,
        Self::PowerCut,
        Self::SlowDisk,
        Self::SyncFails,
        Self::WriteFails,
        Self::Wipe,
        Self::Rot,
        Self::Partition,
        Self::Hold,
        Self::Freeze,
        Self::ClockJump,
        Self::StoreStall,
        Self::ActorDies,
    ];
}

impl World {
    pub(super) fn fault(&mut self) {
        let outside = &mut self.outside;
        let Some(fault) =
            outside.plan.faults.get(outside.random.below(outside.plan.faults.len() as u64) as usize)
        else {
            return;
        };
        let fault = *fault;
        let host = outside.one_of(outside.hosts.len());
        let actor = outside.one_of(self.actors.len());
        let (now, random) = (outside.now, outside.random.clone());
        self.tally.faults += 1;
        match fault {
            Fault::Kill => self.crash(host, Unsynced::Kept),
            Fault::PowerCut => {
                let torn = Unsynced::Torn { seed: random.next_u64() };
                self.crash(host, if random.below(2) == 0 { Unsynced::Lost } else { torn });
            }
            Fault::SlowDisk => {
                outside.slow_until.insert(host, now + outside.between(10 * MS, 150 * MS));
            }
            Fault::SyncFails | Fault::WriteFails => {
                outside.hosts[host].fail_soon(1 + random.below(4), fault == Fault::SyncFails);
            }
            Fault::Wipe => {
                if self.may_lose(host) {
                    self.crash(host, Unsynced::Lost);
                    self.outside.hosts[host].wipe();
                }
            }
            Fault::Rot => {
                if self.may_lose(host) {
                    self.outside.hosts[host].rot(&*random);
                }
            }
            Fault::Partition => {
                let ways = self.some_ways();
                let outside = &mut self.outside;
                outside.cut.extend(ways);
                outside.queue.push(now + outside.between(5 * MS, 150 * MS), Event::Join);
            }
            Fault::Hold => {
                for way in self.some_ways() {
                    let until = now + self.outside.between(MS, 50 * MS);
                    self.outside.held.insert(way, until);
                }
            }
            Fault::Freeze => {
                self.frozen_until[actor] = now + outside.between(10 * MS, 250 * MS);
            }
            Fault::ClockJump => {
                let waiting = outside.calls.iter().filter(|(_, call)| call.actor == actor);
                let waiting: Vec<_> = waiting.map(|(call, _)| *call).collect();
                waiting.into_iter().for_each(|call| outside.queue.push(now, Event::NoAnswer { call }));
            }
            Fault::StoreStall => {
                outside.store.stalled_until = now + outside.between(10 * MS, 150 * MS);
            }
            Fault::ActorDies => self.actors[actor].die(outside),
        }
    }

    /// The process dies, and comes back in a while.
    pub(super) fn crash(&mut self, host: HostId, unsynced: Unsynced) {
        let outside = &mut self.outside;
        let was_up = outside.hosts[host].is_up();
        outside.hosts[host].crash(unsynced);
        if !was_up {
            // It is on its way back already, or will never be.
            return;
        }
        self.tally.crashes += 1;
        let outside = &mut self.outside;
        // Connections break, or fall silent.
        if outside.random.below(2) == 0 {
            let broken = outside.calls.iter().filter(|(_, call)| call.peer == Peer::Bookie(host));
            let broken: Vec<_> = broken.map(|(call, _)| *call).collect();
            broken.into_iter().for_each(|call| outside.refuse(call));
        }
        self.restart_later(host);
    }

    /// Schedules the next start of a bookie, and when clients learn of its end.
    pub(super) fn restart_later(&mut self, host: HostId) {
        let outside = &mut self.outside;
        let most = if outside.hostile { 200 * MS } else { 2 * MS };
        outside.queue.push(outside.now + outside.between(MS, most), Event::Restart { host });
        outside.queue.push(outside.now + outside.between(MS, 30 * MS), Event::Register { host });
    }

    /// Whether this bookie may lose what it has: no more may than leave one copy of every acknowledged entry.
    fn may_lose(&self, host: HostId) -> bool {
        let outside = &self.outside;
        let lossy = outside.hosts.iter().filter(|host| host.lossy).count();
        outside.hosts[host].lossy || lossy < outside.plan.losses_max
    }

    /// Ways between some actors and some peers, in one direction or in both.
    fn some_ways(&self) -> Vec<(ActorId, Peer, Way)> {
        let outside = &self.outside;
        let directions: &[Way] = match outside.random.below(4) {
            0 => &[Way::Out],
            1 => &[Way::Back],
            _ => &[Way::Out, Way::Back],
        };
        let mut ways = Vec::new();
        for actor in (0..self.actors.len()).filter(|_| outside.random.below(2) == 0) {
            let peers = (0..outside.hosts.len()).map(Peer::Bookie).chain([Peer::Store]);
            for peer in peers.filter(|_| outside.random.below(3) == 0) {
                ways.extend(directions.iter().map(|way| (actor, peer, *way)));
            }
        }
        ways
    }
}
