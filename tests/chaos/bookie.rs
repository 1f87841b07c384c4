//! SIGKILL of a bookie process under load, round after round over one directory. It flushes, checkpoints and frees
//! journal segments many times a second, so that kills hit every step of that.
//!
//! What must hold after every round: the bookie starts by itself, every entry whose add was answered is read back byte
//! for byte, and every ledger whose fence was answered refuses adds. What may happen: an entry whose add was not answered
//! is there, or is not.

use crate::rounds;
use anyhow::{Context, Result, bail, ensure};
use magnetar_proto::bookkeeper::code::Code;
use magnetar_proto::bookkeeper::v2::{Flags, Response};
use magnetar_tests::bookkeeper::{Connection, add, body, read};
use magnetar_tests::lone::Lone;
use magnetar_tests::wait;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const WRITERS: u64 = 4;
/// Each writer's, anew every round.
const LEDGERS: u64 = 3;
/// Unanswered adds of a writer.
const WINDOW: usize = 64;
/// Journal between two checkpoints: some tenths of a second of work.
const JOURNAL_BYTES: u64 = 1 << 20;
/// Rounds after which entries are read back once more; all of them are at the very end.
const ROUNDS_CHECKED: usize = 3;

/// What was answered in one round.
#[derive(Default)]
struct Answered {
    entries: BTreeSet<(u64, u64)>,
    fenced: BTreeSet<u64>,
}

/// Tells its entry, and is of many lengths.
fn payload(ledger: u64, entry: u64) -> Vec<u8> {
    let length = (ledger * 31 + entry * 97) % 3000;
    (0..length).map(|at| (ledger + entry + at) as u8).collect()
}

/// Adds to the ledgers from `first` on in turn, and fences one now and then, until the connection breaks.
fn write(mut connection: Connection, first: u64, answers: &AtomicUsize) -> Result<Answered> {
    let (mut answered, mut in_flight, mut next) = (Answered::default(), 0, 0);
    loop {
        let mut requests = Vec::new();
        while in_flight < WINDOW {
            let (ledger, entry) = (first + next % LEDGERS, next / LEDGERS);
            requests.push(add(ledger, entry, &payload(ledger, entry)));
            next += 1;
            in_flight += 1;
            if next.is_multiple_of(500) {
                requests.push(read(first + next / 500 % LEDGERS, Some(0), Flags::RECOVERY_READ));
                in_flight += 1;
            }
        }
        if connection.send(&requests).is_err() {
            return Ok(answered);
        }
        let Ok(response) = connection.receive() else { return Ok(answered) };
        in_flight -= 1;
        answers.fetch_add(1, Ordering::Relaxed);
        match response {
            Response::Add { code: Code::Ok, ledger_id, entry_id } => {
                answered.entries.insert((ledger_id.0, entry_id.0));
            }
            Response::Add { code: Code::Fenced, .. } => {}
            Response::Read { code: Code::Ok, ledger_id, .. } => _ = answered.fenced.insert(ledger_id.0),
            other => bail!("{other:?}"),
        }
    }
}

fn check(address: SocketAddr, answered: &Answered) -> Result<()> {
    let mut connection = Connection::connect(address)?;
    let entries: Vec<_> = answered.entries.iter().copied().collect();
    for some in entries.chunks(WINDOW) {
        let reads: Vec<_> =
            some.iter().map(|(ledger, entry)| read(*ledger, Some(*entry), Flags::NONE)).collect();
        connection.send(&reads)?;
        // What is in memory is answered before what is on disk.
        let mut asked: BTreeSet<_> = some.iter().copied().collect();
        while !asked.is_empty() {
            let Response::Read { code, body: found, ledger_id, entry_id: Some(entry_id) } =
                connection.receive()?
            else {
                bail!("no answer to a read");
            };
            let (ledger, entry) = (ledger_id.0, entry_id.0);
            ensure!(asked.remove(&(ledger, entry)), "nobody asked for {ledger}:{entry}");
            let found = found.with_context(|| format!("{ledger}:{entry} was acknowledged: {code:?}"))?;
            ensure!(found == body(ledger, entry, &payload(ledger, entry)), "{ledger}:{entry} is changed");
        }
    }
    for ledger in &answered.fenced {
        match connection.ask(add(*ledger, 1 << 40, b"late"))? {
            Response::Add { code: Code::Fenced, .. } => {}
            other => bail!("{ledger} was fenced: {other:?}"),
        }
    }
    Ok(())
}

#[test]
fn a_bookie_killed_under_load_keeps_what_it_acknowledged() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let binary = env!("CARGO_BIN_EXE_lone_bookie");
    let mut bookie = Lone::start(binary, dir.path(), &[JOURNAL_BYTES.to_string()])?;
    let mut rounds_answered: Vec<Answered> = Vec::new();
    let rounds = rounds();
    for round in 0..rounds {
        let answers = AtomicUsize::new(0);
        // From the first answers to some checkpoints.
        let enough = 10 + usize::try_from(round % 20)? * 300;
        let address = bookie.address();
        let answered = std::thread::scope(|scope| -> Result<Answered> {
            let answers = &answers;
            let first = |writer| (round * WRITERS + writer) * LEDGERS + 1;
            // All are connected before the first one writes: the kill may follow at once.
            let connections: Vec<_> =
                (0..WRITERS).map(|_| Connection::connect(address)).collect::<Result<_>>()?;
            let writers: Vec<_> = (0..)
                .zip(connections)
                .map(|(writer, connection)| scope.spawn(move || write(connection, first(writer), answers)))
                .collect();
            let came = wait::holds_within(Duration::from_secs(300), || {
                let ended = writers.iter().any(|writer| writer.is_finished());
                ended || answers.load(Ordering::Relaxed) >= enough
            });
            // In any case: the writers end only with it.
            bookie.kill()?;
            let mut all = Answered::default();
            for writer in writers {
                let some = writer.join().expect("writer")?;
                all.entries.extend(some.entries);
                all.fenced.extend(some.fenced);
            }
            ensure!(came, "{enough} answers: not in time");
            Ok(all)
        });
        rounds_answered.push(answered.with_context(|| format!("round {round}"))?);
        bookie.restart().with_context(|| format!("start after round {round}"))?;
        for answered in rounds_answered.iter().rev().take(ROUNDS_CHECKED) {
            check(bookie.address(), answered).with_context(|| format!("after round {round}"))?;
        }
    }
    for answered in &rounds_answered {
        check(bookie.address(), answered)?;
    }
    let entries: usize = rounds_answered.iter().map(|answered| answered.entries.len()).sum();
    let fenced: usize = rounds_answered.iter().map(|answered| answered.fenced.len()).sum();
    println!("{rounds} kills of a bookie: {entries} acknowledged entries read back, {fenced} fences kept");
    ensure!(entries > 1000, "the rounds wrote next to nothing");
    Ok(())
}
