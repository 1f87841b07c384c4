//! Our ledger client on three of Apache BookKeeper's bookies, with the metadata in an etcd that Apache's client uses too:
//! what either writes, the other one reads and recovers, and a bookie dies on the way.
//!
//! `tests/run` fetches the jars and etcd and names them in MAGNETAR_JAVA and MAGNETAR_ETCD; without either the suite is
//! skipped with a printed reason.

mod apache;
mod brokers;
mod entries;
mod pulsar;

use anyhow::{Context, Result, bail, ensure};
use apache::{Bookie, Java};
use bytes::Bytes;
use entries::{PASSWORD, payload};
use magnetar_common::Environment;
use magnetar_common::clock::SystemClock;
use magnetar_common::metadata::{EtcdConfig, EtcdStore, SharedMetadata};
use magnetar_ledger::{Client, ClientConfig, Event, LedgerOptions, Reader, Writer};
use magnetar_proto::ids::{EntryId, LedgerId};
use magnetar_tests::etcd::Etcd;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const BOOKIES: usize = 3;
const ENTRIES: u64 = 300;
/// For one step, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Cluster {
    java: Java,
    bookies: Vec<Bookie>,
    metadata: SharedMetadata,
    _etcd: Etcd,
}

impl Cluster {
    async fn start(java: PathBuf, etcd: Etcd, scratch: &Path) -> Result<Self> {
        let java = Java::new(java, &etcd);
        java.init_cluster(scratch)?;
        let start = |number: usize| java.bookie(&scratch.join(format!("bookie-{number}")));
        let mut bookies = (0..BOOKIES).map(start).collect::<Result<Vec<_>>>()?;
        bookies.iter_mut().try_for_each(Bookie::ready)?;
        let config = EtcdConfig::parse(&etcd.url())?;
        let store = EtcdStore::connect(&config, Arc::new(SystemClock::default())).await?;
        Ok(Self { java, bookies, metadata: Arc::new(store), _etcd: etcd })
    }

    async fn client(&self) -> Result<Client> {
        let config = ClientConfig { registration_wait: PATIENCE, ..ClientConfig::default() };
        Ok(Client::new(self.metadata.clone(), Environment::system(), config).await?)
    }

    /// SIGKILLs the bookie in the first slot of the ledger's last segment.
    async fn kill_one_of(&mut self, client: &Client, ledger: LedgerId) -> Result<()> {
        let record = client.metadata(ledger).await?;
        let id = record.last_segment().1[0].to_string();
        let bookie = self.bookies.iter_mut().find(|bookie| bookie.id == id);
        bookie.with_context(|| format!("no bookie {id}"))?.kill()
    }
}

fn options(ensemble: u32, ack_quorum: u32) -> LedgerOptions {
    LedgerOptions {
        ensemble,
        write_quorum: ensemble,
        ack_quorum,
        password: Bytes::from_static(PASSWORD),
        custom: BTreeMap::new(),
    }
}

/// Appends all of these and waits until they are acknowledged.
async fn append(writer: &mut Writer, entries: std::ops::Range<u64>) -> Result<()> {
    for entry in entries.clone() {
        writer.append(payload(writer.id(), EntryId(entry)))?;
    }
    let all = async {
        loop {
            match writer.next().await {
                Event::Confirmed { last } if last.0 + 1 >= entries.end => return Ok(()),
                Event::Confirmed { .. } => {}
                Event::Failed(error) => bail!("{error}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, all).await?
}

async fn compare(reader: &Reader, count: u64) -> Result<()> {
    ensure!(
        reader.last_entry() == Some(EntryId(count - 1)),
        "{:?}, not {count} entries",
        reader.last_entry()
    );
    let mut next = 0;
    while next < count {
        for (id, read) in reader.read(EntryId(next), EntryId(count - 1), 256 << 10).await? {
            ensure!(id == EntryId(next) && read == payload(reader.id(), id), "entry {id} differs");
            next += 1;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours_and_apaches_client_read_and_recover_each_others_ledgers_on_apaches_bookies() -> Result<()> {
    let (java, program) = match brokers::programs() {
        Ok(programs) => programs,
        Err(reason) => {
            println!("SKIPPED interop bookkeeper: {reason}");
            return Ok(());
        }
    };
    let scratch = tempfile::tempdir()?;
    let mut cluster = Cluster::start(java, Etcd::start(program)?, scratch.path()).await?;
    let mut apache = cluster.java.client()?;
    let ours = cluster.client().await?;

    // Ours writes: Apache's looks at it while it is open, and reads it once it is closed.
    let mut writer = ours.create(options(3, 2)).await?;
    let id = writer.id();
    append(&mut writer, 0..ENTRIES - 1).await?;
    // Others see what an add that was sent afterwards has told of.
    append(&mut writer, ENTRIES - 1..ENTRIES).await?;
    let seen = apache.look(id)?;
    ensure!((ENTRIES - 2..ENTRIES).contains(&seen), "Apache's client sees entries up to {seen}");
    compare(&writer.reader(), ENTRIES).await?;
    writer.close().await?;
    ensure!(apache.read(id)? == ENTRIES - 1);
    println!("RAN interop bookkeeper: Apache's client reads what ours wrote");

    // Apache's writes: ours reads a closed ledger, and takes over an open one, whose writer is fenced from then on.
    let id = apache.write(ENTRIES, true)?;
    compare(&ours.open(id, PASSWORD).await?, ENTRIES).await?;
    let id = apache.write(ENTRIES, false)?;
    compare(&ours.recover(id, PASSWORD).await?, ENTRIES).await?;
    ensure!(apache.is_fenced(id)?, "Apache's writer goes on with ledger {id}");
    ensure!(apache.read(id)? == ENTRIES - 1);
    println!("RAN interop bookkeeper: ours reads and recovers what Apache's client wrote");

    // And the other way round: Apache's takes over a ledger of ours.
    let mut writer = ours.create(options(3, 2)).await?;
    append(&mut writer, 0..ENTRIES).await?;
    ensure!(apache.read(writer.id())? == ENTRIES - 1);
    writer.append(payload(writer.id(), EntryId(ENTRIES)))?;
    let end = tokio::time::timeout(PATIENCE, writer.next()).await?;
    ensure!(matches!(end, Event::Failed(magnetar_ledger::LedgerError::Fenced(_))), "{end:?}");
    println!("RAN interop bookkeeper: Apache's client recovers a ledger of ours and fences its writer");

    // A bookie dies: another one takes its place, and what the writer leaves open is recovered without it.
    let mut writer = ours.create(options(2, 2)).await?;
    let id = writer.id();
    append(&mut writer, 0..ENTRIES).await?;
    cluster.kill_one_of(&ours, id).await?;
    append(&mut writer, ENTRIES..2 * ENTRIES).await?;
    ensure!(ours.metadata(id).await?.segments.len() == 2, "no ensemble change was recorded");
    drop(writer);
    let other = cluster.client().await?;
    compare(&other.recover(id, PASSWORD).await?, 2 * ENTRIES).await?;
    ensure!(apache.read(id)? == 2 * ENTRIES - 1);
    println!("RAN interop bookkeeper: a dead bookie is replaced, and its ledger recovered");

    // With two of three left the old ledgers are read all the same, by a client that was not there when they were written.
    let id = ledger_on_two_bookies(&other, &mut apache).await?;
    compare(&other.open(id, PASSWORD).await?, ENTRIES).await?;
    println!("RAN interop bookkeeper: ledgers are written and read with one of three bookies gone");
    Ok(())
}

/// A ledger on the two bookies that are left, by us, recovered by Apache's client.
async fn ledger_on_two_bookies(ours: &Client, apache: &mut apache::Client) -> Result<LedgerId> {
    let mut writer = ours.create(options(2, 2)).await?;
    append(&mut writer, 0..ENTRIES).await?;
    let id = writer.id();
    drop(writer);
    ensure!(apache.read(id)? == ENTRIES - 1);
    Ok(id)
}
