//! Far more than a bookie can take, from connections that never wait and from some that never listen; then a kill, and
//! the start that must replay the journal.
//!
//! Called by: the bench's main. Must never know: what memory the bookie is meant to need.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use magnetar_proto::bookkeeper::v2::{Flags, Request, encode_request};
use magnetar_proto::ids::{EntryId, LedgerId};
use tokio::task::LocalSet;

use super::process::{Bookie, Cores, Launch};
use super::writer::{Answered, Writer};
use magnetar_tests::{usage, wait};

const WRITERS: u64 = 48;
/// Connections that ask for entries, or add some, and never read an answer.
const DEAF_READERS: u64 = 8;
const DEAF_WRITERS: u64 = 8;
const PAYLOAD_BYTES: usize = 16 << 10;
/// Unanswered adds of one connection: 256 MiB, so 48 of them offer 12 GiB to a cache of 64 MiB.
const WINDOW: usize = (256 << 20) / PAYLOAD_BYTES;
const SAMPLE: Duration = Duration::from_millis(50);
/// After the load: how long memory may take to come back.
const REST: Duration = Duration::from_secs(3);

/// What an overload showed, in 10^6 bytes.
pub(super) struct Outcome {
    pub(super) idle: f64,
    /// The highest in each quarter of the time: a growing row is memory that is not bounded.
    pub(super) quarters: [f64; 4],
    pub(super) peak: f64,
    pub(super) after: f64,
    pub(super) gigabytes_added: f64,
}

/// What a start showed.
pub(super) struct Start {
    pub(super) ready: Duration,
    /// Of the files in its directories, in 10^9 bytes.
    pub(super) journal_gigabytes: f64,
    pub(super) logs_gigabytes: f64,
}

struct Ignore;

impl Answered for Ignore {
    fn answered(&mut self, _: Instant, _: Instant) {}
}

/// Overloads a fresh bookie for `span`, and kills it.
pub(super) fn run(launch: &Launch, span: Duration) -> Result<Outcome> {
    let bookie = launch.fresh(Cores::Shared)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = LocalSet::new().block_on(&runtime, overload(&bookie, span))?;
    bookie.kill()?;
    Ok(outcome)
}

#[expect(clippy::disallowed_methods, reason = "a bench measures over real time")]
async fn overload(bookie: &Bookie, span: Duration) -> Result<Outcome> {
    let idle = usage::rss_mb(bookie.pid())?;
    let mut writers = Vec::new();
    for connection in 0..WRITERS + DEAF_WRITERS {
        let ledgers = connection * 4..connection * 4 + 4;
        writers.push(Writer::connect(bookie.address(), ledgers, PAYLOAD_BYTES, WINDOW).await?);
    }
    let (from, until) = (Instant::now(), Instant::now() + span);
    let mut tasks = Vec::new();
    for (connection, mut writer) in (0..).zip(writers) {
        tasks.push(tokio::task::spawn_local(async move {
            let more = || Instant::now() < until;
            if connection < WRITERS {
                // Ends with the load: what is under way then is given up.
                let _ = tokio::time::timeout_at(until.into(), writer.run(more, &mut Ignore)).await;
                Ok(writer.answered_in_all())
            } else {
                writer.run_deaf(more).await.map(|()| 0)
            }
        }));
    }
    // On a thread of its own: the connections leave this one no time.
    let pid = bookie.pid();
    let sampler = std::thread::spawn(move || sample(pid, from, span));
    for reader in 0..DEAF_READERS {
        tasks.push(tokio::task::spawn_local(deaf_reader(bookie.address(), reader * 4, until)));
    }
    let mut added = 0;
    for task in tasks {
        added += task.await.context("a connection's task")??;
    }
    let quarters = sampler.join().expect("the sampler")?;
    tokio::time::sleep(REST).await;
    Ok(Outcome {
        idle,
        quarters,
        peak: usage::peak_rss_mb(bookie.pid())?,
        after: usage::rss_mb(bookie.pid())?,
        gigabytes_added: (added * PAYLOAD_BYTES as u64) as f64 / 1e9,
    })
}

/// The highest resident memory in each quarter of the time.
fn sample(pid: u32, from: Instant, span: Duration) -> Result<[f64; 4]> {
    let mut quarters = [0.0; 4];
    loop {
        let quarter = (from.elapsed().as_secs_f64() / span.as_secs_f64() * 4.0) as usize;
        let Some(highest) = quarters.get_mut(quarter) else { return Ok(quarters) };
        *highest = f64::max(*highest, usage::rss_mb(pid)?);
        wait::pause(SAMPLE);
    }
}

/// Asks for the first entries of a ledger over and over until the bookie takes no more, and reads nothing.
#[expect(clippy::disallowed_methods, reason = "a bench measures over real time")]
async fn deaf_reader(address: std::net::SocketAddr, ledger: u64, until: Instant) -> Result<u64> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let mut requests = bytes::BytesMut::new();
    for entry in 0..1024 {
        let entry_id = Some(EntryId(entry % 16));
        let read =
            Request::Read { ledger_id: LedgerId(ledger), entry_id, flags: Flags::NONE, master_key: None };
        encode_request(&read, &mut requests);
    }
    let mut at = 0;
    while Instant::now() < until {
        match stream.try_write(&requests[at..]) {
            Ok(bytes) => at = (at + bytes) % requests.len(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                let _ = tokio::time::timeout_at(until.into(), stream.writable()).await;
            }
            Err(error) => return Err(error).context("ask for entries"),
        }
    }
    Ok(0)
}

/// Starts a bookie over what a killed one left, and stops it in order.
pub(super) fn restart(launch: &Launch) -> Result<Start> {
    let size = |directory: &str| -> Result<f64> {
        let files = std::fs::read_dir(launch.directory.join(directory))?;
        let sizes = files.map(|file| Ok(file?.metadata()?.len()));
        Ok(sizes.sum::<std::io::Result<u64>>()? as f64 / 1e9)
    };
    let (journal_gigabytes, logs_gigabytes) = (size("journal")?, size("ledgers")?);
    let (bookie, ready) = launch.start(Cores::Shared)?;
    bookie.stop()?;
    Ok(Start { ready, journal_gigabytes, logs_gigabytes })
}
