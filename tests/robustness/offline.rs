//! A bookie whose disk has changed a byte while it was stopped: `verify` names what is hit, `repair` makes the rest
//! usable, and the bookie serves it.

use anyhow::{Context, Result, ensure};
use magnetar_proto::bookkeeper::code::Code;
use magnetar_proto::bookkeeper::v2::Response;
use magnetar_tests::bookkeeper::{Connection, add, body};
use magnetar_tests::lone::Lone;
use magnetar_tests::process;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LEDGERS: u64 = 3;
const ENTRIES: u64 = 50;
/// What is hit.
const HIT: (u64, u64) = (2, 17);

fn payload(ledger: u64, entry: u64) -> Vec<u8> {
    format!("entry {entry} of ledger {ledger} ").repeat(8).into_bytes()
}

/// Runs a tool over the bookie's directories: its exit code, and each line of JSON it wrote.
fn tool(dir: &Path, words: &[&str]) -> Result<(Option<i32>, Vec<Value>)> {
    let output = Command::new(process::binary())
        .arg("bookie")
        .args(words)
        .arg("--journal-dir")
        .arg(dir.join("journal"))
        .arg("--ledger-dir")
        .arg(dir.join("ledgers"))
        .args(["--output", "json"])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let said = String::from_utf8_lossy(&output.stderr);
    let values = text.lines().map(serde_json::from_str).collect::<Result<Vec<_>, _>>();
    Ok((output.status.code(), values.with_context(|| format!("{words:?} wrote {text:?}, {said}"))?))
}

/// Flips a bit in the middle of the entry's payload, in the one entry log that has it.
fn flip(dir: &Path) -> Result<PathBuf> {
    let wanted = payload(HIT.0, HIT.1);
    for file in fs::read_dir(dir.join("ledgers"))? {
        let path = file?.path();
        let mut bytes = fs::read(&path)?;
        if let Some(at) = bytes.windows(wanted.len()).position(|window| window == wanted) {
            bytes[at + wanted.len() / 2] ^= 0x10;
            fs::write(&path, bytes)?;
            return Ok(path);
        }
    }
    anyhow::bail!("no entry log has the entry: was it not flushed?")
}

fn check(bookie: &Lone, expected: impl Fn(u64, u64) -> Result<(), Code>) -> Result<()> {
    let mut connection = Connection::connect(bookie.address())?;
    for (ledger, entry) in (1..=LEDGERS).flat_map(|ledger| (0..ENTRIES).map(move |entry| (ledger, entry))) {
        let found = connection.read(ledger, entry)?;
        let right = match (&found, expected(ledger, entry)) {
            (Ok(found), Ok(())) => *found == body(ledger, entry, &payload(ledger, entry)),
            (Err(code), Err(expected)) => *code == expected,
            _ => false,
        };
        ensure!(right, "{ledger}:{entry} is answered with {found:?}");
    }
    Ok(())
}

#[test]
fn a_flipped_byte_is_named_by_verify_and_after_repair_the_rest_is_served() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut bookie = Lone::start(env!("CARGO_BIN_EXE_lone_bookie"), dir.path(), &[])?;
    let mut connection = Connection::connect(bookie.address())?;
    for (ledger, entry) in (1..=LEDGERS).flat_map(|ledger| (0..ENTRIES).map(move |entry| (ledger, entry))) {
        let answer = connection.ask(add(ledger, entry, &payload(ledger, entry)))?;
        ensure!(matches!(answer, Response::Add { code: Code::Ok, .. }), "{answer:?}");
    }
    let (code, _) = tool(dir.path(), &["verify"])?;
    ensure!(code == Some(2), "a running bookie cannot be verified: {code:?}");
    ensure!(bookie.terminate(Duration::from_secs(20))?.success());

    let (code, said) = tool(dir.path(), &["verify"])?;
    ensure!(code == Some(0), "{said:?}");
    let (code, said) = tool(dir.path(), &["inspect", "--ledger", "2"])?;
    ensure!(code == Some(0) && said.len() == 1, "{said:?}");

    let log = flip(dir.path())?;
    let (code, said) = tool(dir.path(), &["verify"])?;
    ensure!(code == Some(1), "{said:?}");
    let named: Vec<_> = said.iter().filter(|line| line["weight"] == "damage").collect();
    ensure!(named.len() == 1, "{named:?}");
    ensure!(named[0]["ledger"] == HIT.0 && named[0]["entry"] == HIT.1, "{named:?}");
    ensure!(named[0]["file"] == log.display().to_string(), "{named:?}");

    // Without --write it only tells.
    let before = fs::read(&log)?;
    let (code, _) = tool(dir.path(), &["repair", "--accept-loss"])?;
    ensure!(code == Some(1) && fs::read(&log)? == before, "nothing is written unasked");
    let (_, steps) = tool(dir.path(), &["repair", "--write", "--accept-loss"])?;
    let text = format!("{steps:?}");
    ensure!(text.contains("unsaved") || text.contains("rewrite-log"), "{text}");

    bookie.restart()?;
    let whole = |ledger, entry| if (ledger, entry) == HIT { Err(Code::Io) } else { Ok(()) };
    check(&bookie, whole)?;
    let mut connection = Connection::connect(bookie.address())?;
    let answer = connection.ask(add(1, ENTRIES, b"goes on"))?;
    ensure!(matches!(answer, Response::Add { code: Code::Ok, .. }), "{answer:?}");
    Ok(())
}
