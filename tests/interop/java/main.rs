//! Apache BookKeeper's own client against four of our bookies: one test a subject, over versions 2 and 3 of the protocol.
//!
//! `tests/run` builds the Java program beside this file and names the directory in MAGNETAR_JAVA; without it the suites
//! are skipped with a printed reason.

mod bookies;
mod certificates;

use anyhow::{Context, Result, bail};
use bookies::Bookies;
use magnetar_tests::java;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

/// Three for an ensemble and one to replace a dead one.
const BOOKIES: usize = 4;

fn run(subject: &str) -> Result<()> {
    let java = match java::built() {
        Ok(java) => java,
        Err(reason) => {
            println!("SKIPPED interop java/{subject}: {reason}");
            return Ok(());
        }
    };
    let dir = tempfile::tempdir()?;
    let tls = dir.path().join("tls");
    let uses_tls = subject == "tls";
    if uses_tls {
        std::fs::create_dir(&tls)?;
        certificates::write(&tls)?;
    }
    let mut bookies = Bookies::start(dir.path(), BOOKIES, uses_tls.then_some(&tls))?;
    let metadata = dir.path().join("metadata");
    std::fs::create_dir(&metadata)?;
    let uri = format!("files:{}?bookies={}", metadata.display(), bookies.addresses());
    let mut child = java::command(&java, "-Xmx384m")
        .arg(format!("-Dmagnetar.tls={}", tls.display()))
        .args(["magnetar.Main", subject, &uri, "v2", "v3"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start java")?;
    let mut answers = child.stdin.take().context("piped stdin")?;
    for line in BufReader::new(child.stdout.take().context("piped stdout")?).lines() {
        let line = line?;
        match line.split_once(' ') {
            Some(("KILL", address)) => bookies.kill(address)?,
            Some(("RESTART", address)) => bookies.restart(address)?,
            _ => {
                println!("{line}");
                continue;
            }
        }
        writeln!(answers, "done")?;
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("java suite {subject}: {status}");
    }
    println!("RAN interop java/{subject}");
    Ok(())
}

#[test]
fn entries_come_back_whole() -> Result<()> {
    run("round_trip")
}

#[test]
fn readers_learn_what_is_confirmed() -> Result<()> {
    run("confirmed")
}

#[test]
fn a_reader_that_caught_up_is_told_what_is_new() -> Result<()> {
    run("waiting")
}

#[test]
fn an_opened_ledger_refuses_its_old_writer() -> Result<()> {
    run("fencing")
}

#[test]
fn a_ledger_of_a_vanished_writer_recovers() -> Result<()> {
    run("recovery")
}

#[test]
fn writing_goes_on_over_dead_bookies() -> Result<()> {
    run("failures")
}

#[test]
fn bookies_tell_what_they_hold() -> Result<()> {
    run("information")
}

#[test]
fn clients_with_a_certificate_are_served_over_mutual_tls_and_no_others() -> Result<()> {
    run("tls")
}
