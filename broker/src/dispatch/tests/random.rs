//! Hundreds of seeded schedules of joins, departures, permits, acks and redeliveries over Shared and Key_Shared, with
//! what must hold after every step and at the end.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const ENTRIES: u64 = 300;
const BATCH_MAX: u64 = 5;

/// SplitMix64: the schedule is a function of the seed.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

struct Run {
    seed: u64,
    keyed: bool,
    dispatcher: Dispatcher,
    random: Seeded,
    entries: Vec<EntryInfo>,
    read: usize,
    acked: BTreeSet<u64>,
    holders: BTreeMap<u64, ConsumerId>,
    granted: BTreeMap<ConsumerId, i64>,
    /// Highest entry of a key that was delivered: the order of first deliveries.
    first: BTreeMap<u32, u64>,
    delivered: BTreeSet<u64>,
    next_id: u64,
}

impl Run {
    fn new(seed: u64, keyed_run: bool) -> Run {
        let mut random = Seeded(seed);
        let limits = Limits {
            unacked_per_consumer: 40,
            unacked_per_subscription: 100,
            look_ahead_per_consumer: 30,
            look_ahead_per_subscription: 60,
            round_robin_entries: 3,
            replay_batch: 10,
        };
        let dispatcher = match keyed_run {
            true => Dispatcher::KeyShared(KeyShared::new(Routing::AutoSplit, false, limits)),
            false => Dispatcher::Shared(Shared::new(limits)),
        };
        let entries = (0..ENTRIES)
            .map(|n| EntryInfo {
                messages: 1 + random.below(BATCH_MAX) as u32,
                tag: keyed_run.then(|| key_hash(format!("k{}", random.below(12)).as_bytes())),
                ..entry(n)
            })
            .collect();
        Run {
            seed,
            keyed: keyed_run,
            dispatcher,
            random,
            entries,
            read: 0,
            acked: BTreeSet::new(),
            holders: BTreeMap::new(),
            granted: BTreeMap::new(),
            first: BTreeMap::new(),
            delivered: BTreeSet::new(),
            next_id: 0,
        }
    }

    fn deliver(&mut self, n: u64, consumer: ConsumerId) {
        let seed = self.seed;
        assert!(!self.acked.contains(&n), "seed {seed}: entry {n} was delivered after its ack");
        assert!(!self.holders.contains_key(&n), "seed {seed}: entry {n} is with two consumers");
        let info = self.entries[n as usize];
        let permits = self.granted.get_mut(&consumer).expect("a connected consumer");
        assert!(*permits > 0, "seed {seed}: consumer {consumer:?} had no permits");
        *permits -= i64::from(info.messages);
        assert_eq!(*permits, self.dispatcher.permits(consumer), "seed {seed}");
        if self.keyed {
            for (m, holder) in &self.holders {
                let same = self.entries[*m as usize].tag == info.tag;
                assert!(!same || *holder == consumer, "seed {seed}: a key is in flight at two consumers");
            }
            if self.delivered.insert(n) {
                let before = self.first.insert(info.tag.expect("keyed"), n);
                assert!(before.is_none_or(|m| m < n), "seed {seed}: entry {n} was overtaken");
            }
        }
        self.delivered.insert(n);
        self.holders.insert(n, consumer);
    }

    fn dispatch(&mut self) {
        loop {
            match self.dispatcher.want() {
                Want::Nothing => return,
                Want::Replay(positions) => {
                    let mut sent = 0;
                    for position in positions {
                        let n = position.entry_id.0;
                        if let Offer::Send { consumer, .. } = self.dispatcher.offer(&self.entries[n as usize])
                        {
                            self.deliver(n, consumer);
                            sent += 1;
                        }
                    }
                    assert!(sent > 0, "seed {}: a candidate of the replay set could not be sent", self.seed);
                }
                Want::New => {
                    let Some(info) = self.entries.get(self.read).copied() else { return };
                    match self.dispatcher.offer(&info) {
                        Offer::Send { consumer, .. } => self.deliver(self.read as u64, consumer),
                        Offer::Held => {}
                        Offer::Refused => return,
                    }
                    self.read += 1;
                }
            }
        }
    }

    fn any_consumer(&mut self) -> Option<ConsumerId> {
        let n = self.granted.len() as u64;
        (n > 0).then(|| *self.granted.keys().nth(self.random.below(n) as usize).expect("in range"))
    }

    fn join(&mut self) {
        self.next_id += 1;
        let id = self.next_id;
        self.dispatcher.add(spec(id, &format!("c{}", id % 6)), Duration::ZERO).expect("may join");
        self.granted.insert(ConsumerId(id), 0);
    }

    fn ack(&mut self, n: u64) {
        self.dispatcher.acked(at(n));
        self.acked.insert(n);
        self.holders.remove(&n);
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0 if self.granted.len() < 5 => self.join(),
            1 => {
                if let Some(id) = self.any_consumer() {
                    self.dispatcher.remove(id, Duration::ZERO);
                    self.granted.remove(&id);
                    self.holders.retain(|_, holder| *holder != id);
                }
            }
            2 => {
                if let Some(id) = self.any_consumer() {
                    self.dispatcher.redeliver(id, None);
                    self.holders.retain(|_, holder| *holder != id);
                }
            }
            3 => {
                let held = self.holders.iter().next().map(|(n, id)| (*n, *id));
                if let Some((n, id)) = held {
                    self.dispatcher.redeliver(id, Some(&[at(n)]));
                    self.holders.remove(&n);
                }
            }
            4..9 => {
                if let Some(id) = self.any_consumer() {
                    let permits = self.random.below(30);
                    self.dispatcher.flow(id, permits as u32);
                    *self.granted.get_mut(&id).expect("connected") += permits as i64;
                }
            }
            _ => {
                let skip = self.random.below(4) as usize;
                if let Some(n) = self.holders.keys().nth(skip).copied() {
                    self.ack(n);
                }
            }
        }
        self.dispatch();
        let unacked: u32 = self.holders.keys().map(|n| self.entries[*n as usize].messages).sum();
        assert_eq!(self.dispatcher.unacked_total().0, unacked, "seed {}", self.seed);
    }

    /// With a willing consumer and acks everything comes through.
    fn finish(&mut self) {
        self.join();
        for _ in 0..ENTRIES * 4 {
            for id in self.granted.clone().into_keys() {
                self.dispatcher.flow(id, 10);
                *self.granted.get_mut(&id).expect("connected") += 10;
            }
            self.dispatch();
            for n in self.holders.keys().copied().collect::<Vec<_>>() {
                self.ack(n);
            }
        }
        assert_eq!(self.acked.len() as u64, ENTRIES, "seed {}: some entries were never delivered", self.seed);
        assert_eq!((self.dispatcher.unacked_total().0, self.dispatcher.replay_len()), (0, 0));
    }
}

#[test]
fn every_entry_comes_through_whatever_the_schedule() {
    for seed in 0..200 {
        let mut run = Run::new(seed, seed % 2 == 0);
        for _ in 0..600 {
            run.step();
        }
        run.finish();
    }
}
