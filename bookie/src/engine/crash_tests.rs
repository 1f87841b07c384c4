//! Random histories cut by power failures: whatever was acknowledged must be there afterwards, unchanged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;

use bytes::Bytes;
use magnetar_common::random::{Random, SeededRandom};
use magnetar_common::storage::{MemoryStorage, Storage, Unsynced};
use magnetar_proto::ids::{EntryId, LedgerId};

use super::*;
use crate::journal::JournalDevice;
use crate::testing::{KEY, add, body, instance};

const LEDGERS: u64 = 4;

/// What one life of the bookie has acknowledged, and what the lives before it have.
#[derive(Default)]
struct Acknowledged {
    entries: BTreeMap<(u64, u64), Bytes>,
    fenced: BTreeSet<u64>,
}

enum Fact {
    Entry(u64, u64, Bytes),
    Fenced(u64),
}

struct History {
    device: JournalDevice,
    random: SeededRandom,
    storage: MemoryStorage,
    known: Acknowledged,
    next_entry: BTreeMap<u64, u64>,
}

impl History {
    fn below(&self, bound: u64) -> u64 {
        (&self.random as &dyn Random).below(bound)
    }

    fn open(&self) -> (Arc<Engine<Vec<Fact>>>, mpsc::Receiver<Vec<Fact>>) {
        let (send, done) = mpsc::channel();
        let disk = Disk {
            storage: Arc::new(self.storage.clone()),
            journal_dir: "/journal".into(),
            ledger_dirs: vec!["/ledgers-0".into(), "/ledgers-1".into()],
            instance: instance(),
        };
        let limits = Limits {
            write_cache_bytes: 20_000,
            read_cache_bytes: 1 << 20,
            journal_bytes: 6_000,
            segment_bytes: 2_000,
            journal_device: DeviceOptions { device: self.device, unsafe_no_sync: false },
            free_bytes_min: 0,
        };
        let complete =
            Box::new(move |tokens: &mut Vec<_>| tokens.drain(..).for_each(|token| _ = send.send(token)));
        (
            Engine::open(disk, limits, crate::testing::metrics(), complete)
                .expect("a crashed bookie always starts"),
            done,
        )
    }

    fn acknowledge(&mut self, facts: Vec<Fact>) {
        for fact in facts {
            match fact {
                Fact::Entry(ledger, entry, body) => _ = self.known.entries.insert((ledger, entry), body),
                Fact::Fenced(ledger) => _ = self.known.fenced.insert(ledger),
            }
        }
    }

    /// One batch of requests.
    fn turn(&mut self, engine: &Engine<Vec<Fact>>) {
        let adds = self.below(6);
        let room = loop {
            match engine.room.clone().try_acquire_many_owned(500 * adds as u32 + 1) {
                Ok(room) => break room,
                Err(_) => {
                    engine.flush.request();
                    std::thread::yield_now();
                }
            }
        };
        let mut facts = Vec::new();
        let mut turn = engine.turn();
        for _ in 0..adds {
            let ledger = self.below(LEDGERS);
            let next = self.next_entry.entry(ledger).or_default();
            let entry = *next;
            *next += 1;
            let bytes =
                Bytes::from([&body(ledger, entry)[..], &vec![entry as u8; entry as usize % 300]].concat());
            match turn.add(Add {
                body: bytes.clone(),
                recovery: entry.is_multiple_of(5),
                ..add(ledger, entry)
            }) {
                Ok(()) => facts.push(Fact::Entry(ledger, entry, bytes)),
                Err(refused) => assert_eq!(refused, Refused::Fenced),
            }
        }
        if self.below(40) == 0 {
            let ledger = self.below(LEDGERS);
            turn.fence(LedgerId(ledger), &KEY).unwrap();
            facts.push(Fact::Fenced(ledger));
        }
        turn.finish(Some(room), Some(facts));
    }

    fn check(&self, engine: &Engine<Vec<Fact>>) {
        for ((ledger, entry), expected) in &self.known.entries {
            let lookup = engine.turn().lookup(LedgerId(*ledger), Some(EntryId(*entry)));
            let found = match lookup {
                Lookup::Here(body) => body,
                Lookup::OnDisk(place) => place.read(1, 0).unwrap().remove(0),
                _ => panic!("acknowledged {ledger}:{entry} is gone"),
            };
            assert_eq!(found, expected, "{ledger}:{entry}");
        }
        for ledger in &self.known.fenced {
            assert_eq!(
                engine.turn().add(add(*ledger, 1 << 40)),
                Err(Refused::Fenced),
                "fence of {ledger} is gone"
            );
        }
    }

    /// One life of the bookie, to its sudden or orderly end.
    fn live(&mut self) {
        let (engine, done) = self.open();
        self.check(&engine);
        for _ in 0..self.below(60) {
            self.turn(&engine);
            while let Ok(facts) = done.try_recv() {
                self.acknowledge(facts);
            }
        }
        let end = self.below(5);
        if end == 0 {
            engine.close().unwrap();
        }
        let unsynced = if end == 1 { Unsynced::Kept } else { Unsynced::Lost };
        // What completes while the power goes off may or may not have been heard: only what was counts.
        while let Ok(facts) = done.try_recv() {
            self.acknowledge(facts);
        }
        self.storage = self.storage.crash(unsynced);
        engine.abandon();
    }
}

#[test]
fn no_history_of_power_failures_loses_an_acknowledged_entry_or_fence() {
    for seed in 0..60 {
        let storage = MemoryStorage::new();
        for dir in ["/journal", "/ledgers-0", "/ledgers-1"] {
            storage.create_dir_all(dir.as_ref()).unwrap();
        }
        let random = SeededRandom::new(seed);
        let device = [JournalDevice::Buffered, JournalDevice::Direct][seed as usize % 2];
        let mut history =
            History { device, random, storage, known: Acknowledged::default(), next_entry: BTreeMap::new() };
        for _ in 0..8 {
            history.live();
        }
        history.check(&history.open().0);
    }
}
