//! `bench bookie`: one bookie against the disk it writes to. All figures of a run are of the same machine, directory and
//! minute, and the machine's own come first.
//!
//! Called by: the bench's main. Must never know: the bookie's insides; it is a process and an address.

mod adds;
mod cold;
mod overload;
mod probe;
mod process;
mod reader;
mod report;
mod unloaded;
mod writer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use self::process::{Cores, Launch};
use self::report::Report;
use self::unloaded::Waiting;

const USAGE: &str =
    "usage: bench bookie [--quick] [--seconds N] [--dir DIRECTORY] [--only unloaded|adds|cold|memory]...
  --quick      small data and short loads: to see that it works, not for figures
  --seconds    how long each load of adds lasts (default 10, quick 3)
  --dir        where the bookie's data goes (default: a temporary directory); up to 24 GB are needed
  --only       measure only this part; may be given more than once
  --load       measure only one load of adds, e.g. 1024x16x512 (payload bytes, connections, window), and with ,pinned
               at the end one core for the bookie and one for the client; may be given more than once
  --entries    cold reads only of entries with so many bytes of payload, 65536 or 1024
LONE_BOOKIE_BIN names a bookie process other than the one built here.";

/// What a run does.
struct Settings {
    seconds: u64,
    dir: Option<PathBuf>,
    only: Vec<String>,
    loads: Vec<adds::Load>,
    /// The size of cold entries, or both sizes.
    cold_entries: Option<usize>,
    /// Bytes of the ledger read cold, and of the files the disk is probed with.
    ledger_bytes: u64,
    probe_bytes: u64,
}

impl Settings {
    fn parse(arguments: &[String]) -> Result<Self> {
        let quick = arguments.iter().any(|argument| argument == "--quick");
        let mut settings = Settings {
            seconds: if quick { 3 } else { 10 },
            dir: None,
            only: Vec::new(),
            loads: Vec::new(),
            cold_entries: None,
            ledger_bytes: if quick { 256 << 20 } else { 4 << 30 },
            probe_bytes: if quick { 256 << 20 } else { 2 << 30 },
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} takes a value\n{USAGE}"));
            match argument.as_str() {
                "--quick" => {}
                "--seconds" => {
                    settings.seconds = value()?.parse().context("--seconds takes a whole number")?
                }
                "--dir" => settings.dir = Some(value()?.into()),
                "--only" => settings.only.push(value()?.clone()),
                "--load" => {
                    let load = value()?;
                    settings.loads.push(parse_load(load).with_context(|| format!("--load {load}\n{USAGE}"))?);
                    settings.only = vec!["adds".into()];
                }
                "--entries" => {
                    settings.cold_entries =
                        Some(value()?.parse().context("--entries takes a number of bytes")?);
                    settings.only = vec!["cold".into()];
                }
                _ => bail!("{USAGE}"),
            }
        }
        if settings.loads.is_empty() {
            settings.loads = loads();
        }
        Ok(settings)
    }

    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }
}

/// Runs `bench bookie` with these arguments.
pub(super) fn run(arguments: &[String]) -> Result<()> {
    let settings = Settings::parse(arguments)?;
    let binary = crate::server::release("magnetar-tests", "lone_bookie", "LONE_BOOKIE_BIN")?;
    let scratch = match &settings.dir {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    };
    let scratch = scratch.context("a directory for data")?;
    let launch = Launch { binary, directory: scratch.path().join("bookie") };

    let mut report = Report::begin(scratch.path())?;
    probe(&settings, scratch.path(), &mut report)?;
    if settings.wants("unloaded") {
        for waiting in [Waiting::Sleeps, Waiting::Spins] {
            for payload_bytes in [1 << 10, 64 << 10] {
                report.unloaded(payload_bytes, waiting, &unloaded::run(&launch, payload_bytes, waiting)?);
            }
        }
    }
    if settings.wants("adds") {
        adds(&settings, &launch, &mut report)?;
    }
    if settings.wants("cold") {
        cold(&settings, &launch, &mut report)?;
    }
    if settings.wants("memory") {
        let span = Duration::from_secs(2 * settings.seconds);
        report.overload(&overload::run(&launch, span)?);
        report.start(&overload::restart(&launch)?);
        launch.clear()?;
    }
    Ok(())
}

fn probe(settings: &Settings, scratch: &Path, report: &mut Report) -> Result<()> {
    let probe = probe::Probe::new(&scratch.join("probe"), settings.probe_bytes, settings.seconds)?;
    report.disk(
        probe.tool(),
        probe.sync_us()?,
        probe.raw("read")?,
        probe.raw("write")?,
        [(1 << 10, probe.durable_writes(1 << 10)?), (64 << 10, probe.durable_writes(64 << 10)?)],
    );
    Ok(())
}

fn adds(settings: &Settings, launch: &Launch, report: &mut Report) -> Result<()> {
    let span = Duration::from_secs(settings.seconds);
    for load in &settings.loads {
        report.adds(load, &load.run(launch, span)?);
    }
    Ok(())
}

/// Windows are those that fill the journal's batches; one add at a time is the unloaded bookie.
fn loads() -> Vec<adds::Load> {
    let mut loads = Vec::new();
    for cores in [Cores::Shared, Cores::OneEach] {
        for (payload_bytes, windows) in [
            (1 << 10, [(1, 1), (1, 4096), (4, 2048), (16, 512), (64, 256)]),
            (64 << 10, [(1, 1), (1, 64), (4, 32), (16, 16), (64, 8)]),
        ] {
            for (connections, window) in windows {
                loads.push(adds::Load { payload_bytes, connections, window, cores });
            }
        }
    }
    loads
}

fn parse_load(text: &str) -> Option<adds::Load> {
    let (numbers, cores) = match text.strip_suffix(",pinned") {
        Some(numbers) => (numbers, Cores::OneEach),
        None => (text, Cores::Shared),
    };
    let numbers = numbers.split('x').map(str::parse).collect::<Result<Vec<usize>, _>>().ok()?;
    match numbers[..] {
        [payload_bytes, connections, window] if window > 0 && payload_bytes > 0 => {
            Some(adds::Load { payload_bytes, connections: connections as u64, window, cores })
        }
        _ => None,
    }
}

fn cold(settings: &Settings, launch: &Launch, report: &mut Report) -> Result<()> {
    // Small entries cost by number, not by byte: a quarter of the data shows it as well.
    for (payload_bytes, bytes) in [(64 << 10, settings.ledger_bytes), (1 << 10, settings.ledger_bytes / 4)] {
        if settings.cold_entries.is_some_and(|wanted| wanted != payload_bytes) {
            continue;
        }
        let written = cold::write(launch, bytes, payload_bytes)?;
        report.written(payload_bytes, &written);
        for batches in [false, true] {
            let reading = cold::read(launch, &written, payload_bytes, batches)?;
            report.reading(payload_bytes, batches, &reading);
        }
        launch.clear()?;
    }
    Ok(())
}
