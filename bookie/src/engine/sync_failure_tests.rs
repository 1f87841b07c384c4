//! EIO at each sync the engine makes, one after the other: nothing is acknowledged after it, and what was acknowledged
//! before is there when the power is cut.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc;

use magnetar_common::storage::{MemoryStorage, Storage, Unsynced};
use magnetar_proto::ids::{EntryId, LedgerId};

use super::*;
use crate::error::OpenError;
use crate::testing::{KEY, add, body, instance};

type Running = (Arc<Engine<Vec<Fact>>>, mpsc::Receiver<Vec<Fact>>);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fact {
    Entry(u64, u64),
    Fenced(u64),
}

fn open(storage: &MemoryStorage) -> Result<Running, OpenError> {
    let (send, done) = mpsc::channel();
    let disk = Disk {
        storage: Arc::new(storage.clone()),
        journal_dir: "/journal".into(),
        ledger_dirs: vec!["/ledgers".into()],
        instance: instance(),
    };
    let limits = Limits {
        write_cache_bytes: 1 << 20,
        read_cache_bytes: 1 << 20,
        journal_bytes: 1 << 20,
        segment_bytes: 2_000,
        journal_device: DeviceOptions::default(),
        free_bytes_min: 0,
    };
    let complete =
        Box::new(move |tokens: &mut Vec<_>| tokens.drain(..).for_each(|token| _ = send.send(token)));
    Ok((Engine::open(disk, limits, crate::testing::metrics(), complete)?, done))
}

/// One turn; its facts when they were acknowledged, `None` when they never will be.
fn turn((engine, done): &Running, ledger: u64, entry: u64) -> Option<Vec<Fact>> {
    let room = engine.room.clone().try_acquire_many_owned(1000).ok();
    let mut turn = engine.turn();
    let mut facts = Vec::new();
    if turn.add(add(ledger, entry)).is_ok() {
        facts.push(Fact::Entry(ledger, entry));
    }
    if entry == 7 {
        turn.fence(LedgerId(ledger), &KEY).unwrap();
        facts.push(Fact::Fenced(ledger));
    }
    turn.finish(room, Some(facts));
    // The journal's thread drops its end when it ends.
    done.recv().ok()
}

/// Two lives with flushes and a deleted ledger, as far as they go.
fn lives(storage: &MemoryStorage, acknowledged: &mut BTreeSet<Fact>) -> Result<(), FatalError> {
    for life in 0..2 {
        let Ok(running) = open(storage) else { return Err(FatalError::Stopped) };
        let result = life_of(&running, life, acknowledged);
        if let Err(error) = result {
            running.0.fail(error.clone());
            assert_eq!(turn(&running, 9, 9).map(|_| ()), None, "acknowledged after a failed sync");
            running.0.abandon();
            return Err(error);
        }
    }
    Ok(())
}

fn life_of(running: &Running, life: u64, acknowledged: &mut BTreeSet<Fact>) -> Result<(), FatalError> {
    for n in 0..12 {
        let (ledger, entry) = (n % 2 + 1, life * 12 + n / 2 + 2);
        acknowledged.extend(turn(running, ledger, entry).ok_or(FatalError::Stopped)?);
        if n % 5 == 4 {
            running.0.flush_now()?;
        }
    }
    acknowledged.extend(turn(running, 3 + life, 0).ok_or(FatalError::Stopped)?);
    running.0.flush_now()?;
    running.0.forget(&[LedgerId(3 + life)], 5);
    acknowledged.remove(&Fact::Entry(3 + life, 0));
    running.0.drop_dead_logs()?;
    running.0.close()
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_and_what_was_is_kept() {
    let mut failed = 0;
    for n in 1.. {
        let storage = MemoryStorage::new();
        for dir in ["/journal", "/ledgers"] {
            storage.create_dir_all(Path::new(dir)).unwrap();
        }
        storage.fail_nth_sync(n);
        let mut acknowledged = BTreeSet::new();
        let result = lives(&storage, &mut acknowledged);
        if storage.syncs() < n {
            assert!(result.is_ok(), "without a failed sync everything goes well");
            break;
        }
        assert!(result.is_err(), "sync {n} failed unnoticed");
        failed += 1;
        let (engine, _) = open(&storage.crash(Unsynced::Lost)).expect("what is left starts");
        for fact in &acknowledged {
            match *fact {
                Fact::Entry(ledger, entry) => {
                    let found = match engine.turn().lookup(LedgerId(ledger), Some(EntryId(entry))) {
                        Lookup::Here(body) => body,
                        Lookup::OnDisk(place) => place.read(1, 0).unwrap().remove(0),
                        _ => panic!("sync {n}: acknowledged {ledger}:{entry} is gone"),
                    };
                    assert_eq!(found, body(ledger, entry));
                }
                Fact::Fenced(ledger) => {
                    assert_eq!(engine.turn().fence(LedgerId(ledger), &KEY), Ok(true), "sync {n}");
                }
            }
        }
    }
    assert!(failed > 40, "{failed} sync points");
}
