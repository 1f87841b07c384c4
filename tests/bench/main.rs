//! Prints the figures of the README: start, idle cost, and what `magnetar perf` shows of a fresh standalone; as
//! `bench bookie`, those of one bookie.
//!
//! Run as `cargo run --release -p magnetar-tests --bin bench`; `-- --seconds N` sets how long each load lasts, `-- bookie`
//! measures a bookie, `-- peer` one beside Apache BookKeeper's, `-- cluster` many topics over two brokers, `-- fanout` what
//! consumers cost, `-- ledger` the ledger client, `-- sim` runs seeds of the simulation. It must never link the servers it
//! measures: they are processes. (The simulation is not measured, and links what it runs.)

mod bookie;
mod cluster;
mod fanout;
mod ledger;
mod load;
mod peer;
mod server;
mod sim;

use std::time::Duration;

use anyhow::{Context, Result};

use self::load::{Load, Outcome};
use self::server::Server;

/// How long each load lasts unless told otherwise: long enough for a few thousand samples above p99.9 at the lowest rate.
const LOAD_SECONDS: u64 = 20;
/// A short load beforehand, whose figures are dropped: connections, ledgers and caches exist afterwards.
const WARMUP_SECONDS: u64 = 3;
/// How long the idle process is watched.
const IDLE: Duration = Duration::from_secs(10);
const STARTS: usize = 7;
const PAYLOAD_BYTES: u32 = 1024;

fn main() -> Result<()> {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    match arguments.split_first() {
        Some((command, rest)) if command == "bookie" => bookie::run(rest),
        Some((command, rest)) if command == "cluster" => cluster::run(rest),
        Some((command, rest)) if command == "fanout" => fanout::run(rest),
        Some((command, rest)) if command == "ledger" => ledger::run(rest),
        Some((command, rest)) if command == "peer" => peer::run(rest),
        Some((command, rest)) if command == "sim" => sim::run(rest),
        _ => standalone(seconds_wanted(&arguments)?),
    }
}

fn standalone(seconds: u64) -> Result<()> {
    let binary = server::build()?;
    let scratch = tempfile::tempdir().context("a directory for data")?;

    let mut starts_ms = Vec::new();
    for number in 0..STARTS {
        let (mut server, ready) = Server::start(&binary, &scratch.path().join(format!("start-{number}")))?;
        starts_ms.push(ready.as_secs_f64() * 1e3);
        server.stop()?;
    }
    starts_ms.sort_by(f64::total_cmp);
    let (mut server, _) = Server::start(&binary, &scratch.path().join("data"))?;
    let (idle_cpu_percent, idle_rss_mb) = server.idle(IDLE)?;

    println!("| start and idle | |\n|---|---|");
    println!(
        "| start to ready on an empty directory, median of {STARTS} | {:.0} ms |",
        starts_ms[STARTS / 2]
    );
    println!("| idle resident memory | {idle_rss_mb:.0} MB |");
    println!("| idle CPU over {} s | {idle_cpu_percent:.2} % of a core |", IDLE.as_secs());
    println!();
    println!(
        "| 1 KiB messages, 1 topic | msg/s | MB/s | publish p50 / p99 / p99.9 ms | end-to-end p50 / p99 / p99.9 ms | \
         server CPU-s per 10^6 messages |"
    );
    println!("|---|---|---|---|---|---|");
    for load in loads() {
        load.run(&binary, &server, WARMUP_SECONDS, "warm-up")?;
        let outcome = load.run(&binary, &server, seconds, "load")?;
        println!("{}", row(&load, &outcome));
    }
    eprintln!("resident memory after the loads: {:.0} MB", server.rss_mb()?);
    server.stop()
}

/// What is measured; README.md shows it in this order.
fn loads() -> Vec<Load> {
    let load = |name, rate, batching| Load { name, rate, batching, size: PAYLOAD_BYTES, producers: 1 };
    vec![
        load("batched, fixed rate", Some(20_000), true),
        load("unbatched, fixed rate", Some(2_000), false),
        load("batched, flat-out", None, true),
        load("unbatched, flat-out", None, false),
    ]
}

fn row(load: &Load, outcome: &Outcome) -> String {
    let Outcome { publish, end_to_end, cpu_seconds_per_million } = outcome;
    // Flat-out latency is only the length of the queue that the client allows itself.
    let latencies = |side: &load::Side| match load.rate {
        Some(_) => format!("{:.2} / {:.2} / {:.2}", side.p50_ms, side.p99_ms, side.p999_ms),
        None => "-".to_owned(),
    };
    format!(
        "| {} | {:.0} | {:.1} | {} | {} | {:.1} |",
        load.name,
        publish.messages_per_second,
        publish.megabytes_per_second,
        latencies(publish),
        latencies(end_to_end),
        cpu_seconds_per_million,
    )
}

fn seconds_wanted(arguments: &[String]) -> Result<u64> {
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(LOAD_SECONDS),
        ["--seconds", number] => number.parse().context("--seconds takes a whole number"),
        _ => anyhow::bail!(
            "usage: bench [--seconds N] | bench bookie | bench cluster | bench fanout | bench ledger | bench peer | bench sim (each with --help)"
        ),
    }
}
