//! `bench ledger`: what appending to one replicated ledger costs, in CPU time of the client and of its three bookies.
//!
//! Called by: the bench's main. The client is this very process, with nothing in it but the ledger client and a loop that
//! appends; the bookies are processes. Must never copy a payload: that none is copied on the way is what it is to show.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use magnetar_common::Environment;
use magnetar_common::bookies::{ServiceInfo, register};
use magnetar_common::clock::{Clock, SystemClock};
use magnetar_common::metadata::{MemoryStore, SharedMetadata};
use magnetar_ledger::{Client, ClientConfig, Event, LedgerOptions, Writer};
use magnetar_proto::bookkeeper::BookieId;

use magnetar_tests::usage;

const USAGE: &str =
    "usage: bench ledger [--seconds N] [--rounds N] [--payload BYTES] [--in-flight N] [--dir DIRECTORY]
  --seconds    how long each round lasts after a warm-up of 2 s (default 10)
  --rounds     rounds, of which the median is printed (default 5)
  --payload    bytes of an entry's payload (default 1024)
  --in-flight  entries that are not acknowledged at a time (default 2000)
  --dir        where the bookies' data goes (default: a temporary directory)
LONE_BOOKIE_BIN names a bookie process other than the one built here.";

const BOOKIES: usize = 3;
const WARMUP: Duration = Duration::from_secs(2);
const LEASE: Duration = Duration::from_secs(24 * 3600);

struct Settings {
    span: Duration,
    rounds: usize,
    payload_bytes: usize,
    in_flight: u64,
    dir: Option<String>,
}

/// CPU seconds for a million entries.
#[derive(Clone, Copy, Debug)]
struct Round {
    entries_per_second: f64,
    client: f64,
    bookies: f64,
}

/// Runs `bench ledger` with these arguments.
pub(super) fn run(arguments: &[String]) -> Result<()> {
    let settings = parse(arguments)?;
    let binary = crate::server::release("magnetar-tests", "lone_bookie", "LONE_BOOKIE_BIN")?;
    let scratch = match &settings.dir {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    };
    let scratch = scratch.context("a directory for data")?;
    let start = |number: usize| Bookie::start(&binary, &scratch.path().join(format!("bookie-{number}")));
    let bookies = (0..BOOKIES).map(start).collect::<Result<Vec<_>>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let rounds = runtime.block_on(measure(&settings, &bookies))?;
    print(&settings, &rounds);
    Ok(())
}

fn parse(arguments: &[String]) -> Result<Settings> {
    let mut settings = Settings {
        span: Duration::from_secs(10),
        rounds: 5,
        payload_bytes: 1024,
        in_flight: 2_000,
        dir: None,
    };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} takes a value\n{USAGE}"));
        match argument.as_str() {
            "--seconds" => settings.span = Duration::from_secs(value()?.parse()?),
            "--rounds" => settings.rounds = value()?.parse()?,
            "--payload" => settings.payload_bytes = value()?.parse()?,
            "--in-flight" => settings.in_flight = value()?.parse()?,
            "--dir" => settings.dir = Some(value()?.clone()),
            _ => bail!("{USAGE}"),
        }
    }
    if settings.rounds == 0 || settings.in_flight == 0 {
        bail!("{USAGE}");
    }
    Ok(settings)
}

async fn measure(settings: &Settings, bookies: &[Bookie]) -> Result<Vec<Round>> {
    let metadata: SharedMetadata = Arc::new(MemoryStore::new());
    let lease = metadata.grant_lease(LEASE).await?;
    for bookie in bookies {
        let (host, port) = bookie.address.rsplit_once(':').context("host:port")?;
        let info = ServiceInfo { host: host.to_owned(), port: port.parse()?, tls: false, rack: None };
        register(&metadata, &BookieId::new(&bookie.address)?, &info, lease.id()).await?;
    }
    let client = Client::new(metadata, Environment::system(), ClientConfig::default()).await?;
    let mut rounds = Vec::new();
    for number in 0..settings.rounds {
        let mut writer = client.create(options()).await?;
        let payload = Bytes::from(vec![7; settings.payload_bytes]);
        append(&mut writer, &payload, settings.in_flight, WARMUP).await?;
        let before = Cpu::of(bookies)?;
        let clock = SystemClock::default();
        let entries = append(&mut writer, &payload, settings.in_flight, settings.span).await?;
        let took = clock.now();
        let after = Cpu::of(bookies)?;
        let per_million = |seconds: f64| seconds * 1e6 / entries as f64;
        let round = Round {
            entries_per_second: entries as f64 / took.as_secs_f64(),
            client: per_million(after.client - before.client),
            bookies: per_million(after.bookies - before.bookies),
        };
        eprintln!("round {number}: {round:?}");
        rounds.push(round);
        writer.close().await?;
    }
    Ok(rounds)
}

fn options() -> LedgerOptions {
    LedgerOptions {
        ensemble: 3,
        write_quorum: 3,
        ack_quorum: 2,
        password: Bytes::new(),
        custom: BTreeMap::new(),
    }
}

/// Appends for `span`; gives how many were acknowledged.
async fn append(writer: &mut Writer, payload: &Bytes, in_flight: u64, span: Duration) -> Result<u64> {
    let clock = SystemClock::default();
    let pushed = |writer: &Writer| writer.last_add_pushed().map_or(0, |last| last.0 + 1);
    let first = pushed(writer);
    let mut confirmed = first;
    while clock.now() < span || confirmed < pushed(writer) {
        while clock.now() < span && pushed(writer) - confirmed < in_flight {
            writer.append(payload.clone())?;
        }
        match writer.next().await {
            Event::Confirmed { last } => confirmed = last.0 + 1,
            Event::Failed(error) => bail!("{error}"),
        }
    }
    Ok(confirmed - first)
}

/// CPU seconds so far.
struct Cpu {
    client: f64,
    bookies: f64,
}

impl Cpu {
    fn of(bookies: &[Bookie]) -> Result<Self> {
        let seconds = bookies.iter().map(|bookie| usage::cpu_seconds(bookie.child.id()));
        let bookies = seconds.sum::<Result<f64>>()?;
        Ok(Self { client: usage::cpu_seconds(std::process::id())?, bookies })
    }
}

/// Killed when dropped: its data are of no use afterwards.
struct Bookie {
    child: Child,
    address: String,
}

impl Bookie {
    fn start(binary: &Path, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let log = File::create(dir.with_extension("log"))?;
        let mut command = Command::new(binary);
        let mut child =
            command.arg(dir).stdout(Stdio::piped()).stderr(log).spawn().context("start a bookie")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("piped stdout")?).read_line(&mut line)?;
        let address = line.trim().rsplit(' ').next().filter(|_| line.contains(" ready "));
        let address = address.with_context(|| format!("a bookie did not start: {line:?}"))?.to_owned();
        Ok(Self { child, address })
    }
}

impl Drop for Bookie {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn print(settings: &Settings, rounds: &[Round]) {
    let median = |of: &dyn Fn(&Round) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!(
        "| one ledger 3/3/2, {} B entries, {} in flight | entries/s | CPU-s per 10^6: client | three bookies | together |\n\
         |---|---|---|---|---|\n| median of {} rounds | {:.0} | {:.2} | {:.2} | {:.2} |",
        settings.payload_bytes,
        settings.in_flight,
        rounds.len(),
        median(&|round| round.entries_per_second),
        median(&|round| round.client),
        median(&|round| round.bookies),
        median(&|round| round.client + round.bookies),
    );
}
