//! `bench peer`: one of our bookies beside Apache BookKeeper's, on the same disk, in the same minutes, under the same Java
//! client. What is compared first is the CPU time that a server takes for an add.
//!
//! Called by: the bench's main. Must never know: how a server stores anything; all are processes with an address.

mod apache;
mod client;
mod report;
mod server;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use self::client::{Client, Load};
use self::server::Server;

const USAGE: &str =
    "usage: bench peer [--seconds N] [--rounds N] [--payload BYTES] [--in-flight N] [--v3] [--dir DIRECTORY]
  --seconds    how long each load lasts after as long a warm-up (default 10)
  --rounds     rounds that count; one more goes before them (default 4)
  --payload    bytes of an entry's payload (default 1024)
  --in-flight  adds that the client keeps unanswered (default 1000)
  --v3         version 3 of the protocol instead of 2
  --dir        where the bookies' data goes (default: a temporary directory); about 30 GB are needed
Needs a JDK 17 or newer, and Maven unless MAGNETAR_JAVA names what tests/run has built.
LONE_BOOKIE_BIN names a bookie process other than the one built here.";

struct Settings {
    rounds: usize,
    load: Load,
    dir: Option<PathBuf>,
}

impl Settings {
    fn parse(arguments: &[String]) -> Result<Self> {
        let load = Load { version: "v2", payload_bytes: 1024, in_flight: 1000, seconds: 10 };
        let mut settings = Settings { rounds: 4, load, dir: None };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} takes a value\n{USAGE}"));
            match argument.as_str() {
                "--seconds" => settings.load.seconds = value()?.parse()?,
                "--rounds" => settings.rounds = value()?.parse()?,
                "--payload" => settings.load.payload_bytes = value()?.parse()?,
                "--in-flight" => settings.load.in_flight = value()?.parse()?,
                "--v3" => settings.load.version = "v3",
                "--dir" => settings.dir = Some(value()?.into()),
                _ => bail!("{USAGE}"),
            }
        }
        if settings.rounds == 0 {
            bail!("{USAGE}");
        }
        Ok(settings)
    }
}

/// Runs `bench peer` with these arguments.
pub(super) fn run(arguments: &[String]) -> Result<()> {
    let settings = Settings::parse(arguments)?;
    let binary = crate::server::release("magnetar-tests", "lone_bookie", "LONE_BOOKIE_BIN")?;
    let java = java()?;
    let scratch = match &settings.dir {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    };
    let scratch = scratch.context("a directory for data")?;
    let zookeeper = apache::ZooKeeper::start(&java, scratch.path())?;
    let servers = [
        Server::ours(&binary, &scratch.path().join("ours"))?,
        zookeeper.bookie("Apache, sorted storage", "SortedLedgerStorage", &scratch.path().join("sorted"))?,
        zookeeper.bookie(
            "Apache, DbLedgerStorage",
            "storage.ldb.DbLedgerStorage",
            &scratch.path().join("db"),
        )?,
    ];
    let client = Client { java: &java, scratch: scratch.path() };
    // A first round in which each server's code becomes warm, then there and back, so that what changes with time touches
    // all alike.
    let mut rounds = Vec::new();
    for round in 0..=settings.rounds {
        let mut order = servers.iter().collect::<Vec<_>>();
        if round % 2 == 1 {
            order.reverse();
        }
        for server in order {
            let outcome = client.run(&settings.load, server)?;
            eprintln!("round {round}: {}: {outcome:?}", server.name());
            if round > 0 {
                rounds.push((server.name(), outcome));
            }
        }
    }
    report::print(&settings.load, &servers.each_ref().map(Server::name), &rounds);
    Ok(())
}

/// Where the Java program and BookKeeper's jars are. Builds them like tests/run unless they are there.
fn java() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("MAGNETAR_JAVA") {
        return Ok(path.into());
    }
    let here = std::env::current_exe()?;
    let java = here.ancestors().nth(2).context("the bench lies in target/<profile>")?.join("java");
    let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/java/pom.xml");
    let mut build = Command::new("mvn");
    build.args(["-B", "-q", "-f"]).arg(pom).arg(format!("-Dout={}", java.display())).arg("compile");
    if !build.status().context("run mvn")?.success() {
        bail!("Maven could not build the Java client");
    }
    Ok(java)
}
