//! What a million ledgers take of memory; run by hand for the figures in the module's comment:
//! `cargo test --release -p magnetar-bookie --lib million -- --ignored --nocapture`.

use magnetar_proto::ids::LedgerId;

use super::*;

const LEDGERS: u64 = 1_000_000;

/// Memory of this process that is in use.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap() * 4096
}

fn report(what: &str, before: u64) {
    let bytes = resident_bytes() - before;
    println!("{what}: {} MiB, {} bytes a ledger", bytes >> 20, bytes / LEDGERS);
}

fn add_parts(ledgers: &mut Ledgers, round: u32) {
    for id in 0..LEDGERS {
        let ledger = ledgers.table.ensure(LedgerId(id));
        let part = Part::of(round + 1, u64::from(round) * 10, 10, id as u32, 1000);
        ledger.runs.add(part, &Offsets::default(), &mut ledgers.usage);
    }
}

#[test]
#[ignore = "a measurement"]
fn a_million_ledgers() {
    let before = resident_bytes();
    let mut ledgers = Ledgers::default();
    for id in 0..LEDGERS {
        ledgers.admit(LedgerId(id), &[1; 20]).unwrap();
    }
    report("known, without entries", before);
    for round in 0..10 {
        add_parts(&mut ledgers, round);
        report(&format!("with runs in {} logs", round + 1), before);
    }
    assert_eq!(ledgers.use_of(3).entries, 10 * LEDGERS);

    let before = resident_bytes();
    let mut ledgers = Ledgers::default();
    for id in 0..LEDGERS {
        let mut key = [1; 20];
        key[..8].copy_from_slice(&id.to_be_bytes());
        ledgers.admit(LedgerId(id), &key).unwrap();
    }
    report("known, each with a key of its own", before);
    assert_eq!(ledgers.len() as u64, LEDGERS);
}
