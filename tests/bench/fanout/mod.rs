//! `bench fanout`: what consumers cost. Whether they keep up with producers, what one more subscription costs beside a bare
//! copy of its bytes over loopback, Key_Shared beside Shared, and the memory of what clients open.
//!
//! Called by: the bench's main. The servers are processes; the clients are in here, but for `magnetar perf`.

mod bare;
mod copies;
mod memory;
mod sharing;

use anyhow::{Context, Result, bail};
use magnetar_proto::pulsar::Command;
use magnetar_tests::raw::Connection;

use crate::load::Load;
use crate::server::{self, Server};

const USAGE: &str = "usage: bench fanout [keep-up] [copies] [sharing] [memory]   (all of them when none is named)
Memory needs etcd: in PATH, or named by MAGNETAR_ETCD. MAGNETAR_BIN names a binary other than the one built here.";

const SECONDS: u64 = 10;
/// Sends without a receipt.
const WINDOW: u64 = 1_000;

/// Runs `bench fanout` with these arguments.
pub(super) fn run(arguments: &[String]) -> Result<()> {
    let named: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let parts = ["keep-up", "copies", "sharing", "memory"];
    if named.iter().any(|name| !parts.contains(name)) {
        bail!("{USAGE}");
    }
    let is_wanted = |part: &str| named.is_empty() || named.contains(&part);
    let binary = server::build()?;
    let scratch = tempfile::tempdir().context("a directory for data")?;
    if parts[..3].iter().any(|part| is_wanted(part)) {
        let (mut server, _) = Server::start(&binary, &scratch.path().join("data"))?;
        if is_wanted("keep-up") {
            keep_up(&binary, &server)?;
        }
        if is_wanted("copies") {
            copies::run(&server)?;
        }
        if is_wanted("sharing") {
            sharing::run(&server)?;
        }
        server.stop()?;
    }
    if is_wanted("memory") {
        memory::run()?;
    }
    Ok(())
}

fn keep_up(binary: &std::path::Path, server: &Server) -> Result<()> {
    println!(
        "| 128-byte messages, unbatched, flat-out | in, msg/s | out, msg/s | server CPU-s per 10^6 |\n|---|---|---|---|"
    );
    for (name, producers) in [("1 producer", 1), ("100 producers", 100)] {
        let load = Load { name, rate: None, batching: false, size: 128, producers };
        load.run(binary, server, 2, "warm-up")?;
        let found = load.run(binary, server, SECONDS, "load")?;
        println!(
            "| {name} | {:.0} | {:.0} | {:.1} |",
            found.publish.messages_per_second,
            found.end_to_end.messages_per_second,
            found.cpu_seconds_per_million
        );
    }
    println!();
    Ok(())
}

fn address(server: &Server) -> &str {
    server.service_url().trim_start_matches("pulsar://")
}

/// Waits for one receipt more.
fn receipt(connection: &mut Connection) -> Result<()> {
    connection.expect(|frame| matches!(frame.command, Command::SendReceipt(_)).then_some(()))
}
