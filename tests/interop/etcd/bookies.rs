//! `magnetar bookie` processes that share an etcd, driven by our ledger client.

use crate::support::{etcd, ran, raw, soon, store, until};
use anyhow::{Context, Result};
use bytes::Bytes;
use magnetar_common::metadata::{MetadataStore, SharedMetadata};
use magnetar_common::{Environment, layout};
use magnetar_ledger::{Client, ClientConfig, Event, LedgerOptions, Reader, Writer};
use magnetar_proto::ids::EntryId;
use magnetar_tests::etcd::Etcd;
use magnetar_tests::process::free_ports;
use magnetar_tests::role::{Role, refusal};
use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const STOP_LIMIT: Duration = Duration::from_secs(20);

/// The command line of a bookie with its directories below `dir`.
pub(crate) fn words(etcd: &Etcd, dir: &Path, ports: (u16, u16)) -> Vec<String> {
    let (journal, first, second) = (dir.join("journal"), dir.join("ledgers-a"), dir.join("ledgers-b"));
    let words = format!(
        "bookie --metadata {} --journal-dir {} --ledger-dir {},{} --bind 127.0.0.1 --port {} --http-port {} --grpc-port 0",
        etcd.url(),
        journal.display(),
        first.display(),
        second.display(),
        ports.0,
        ports.1
    );
    words.split(' ').map(str::to_owned).collect()
}

pub(crate) async fn client(metadata: &SharedMetadata) -> Result<Client> {
    Ok(Client::new(metadata.clone(), Environment::system(), ClientConfig::default()).await?)
}

pub(crate) fn options() -> LedgerOptions {
    LedgerOptions {
        ensemble: 3,
        write_quorum: 3,
        ack_quorum: 2,
        password: Bytes::new(),
        custom: BTreeMap::new(),
    }
}

pub(crate) fn payload(number: u64) -> Bytes {
    Bytes::from(format!("entry {number}"))
}

pub(crate) async fn append(writer: &mut Writer, numbers: std::ops::Range<u64>) {
    for number in numbers.clone() {
        assert_eq!(writer.append(payload(number)).expect("open"), EntryId(number));
    }
    loop {
        match soon("a confirmation", writer.next()).await {
            Event::Confirmed { last } if last.0 + 1 >= numbers.end => return,
            Event::Confirmed { .. } => {}
            Event::Failed(error) => panic!("{error}"),
        }
    }
}

async fn read_all(reader: &Reader, count: u64) -> Result<()> {
    let mut next = 0;
    while next < count {
        for (id, read) in reader.read(EntryId(next), EntryId(count - 1), 1 << 20).await? {
            assert_eq!((id, read), (EntryId(next), payload(next)));
            next += 1;
        }
    }
    Ok(())
}

/// The ids below /ledgers/available.
async fn available(metadata: &SharedMetadata) -> Vec<String> {
    let mut names = metadata.children(layout::BOOKIES).await.expect("the bookies");
    names.retain(|name| name != "readonly");
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_bookies_keep_a_ledger_while_one_of_them_and_etcd_are_killed() -> Result<()> {
    let Some(mut etcd) = etcd()? else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let mut bookies = Vec::new();
    for number in 0..3 {
        let ports = free_ports()?;
        bookies.push(Role::start(words(&etcd, &dir.path().join(number.to_string()), ports))?);
    }
    let ids: Vec<String> = bookies.iter().filter_map(|bookie| bookie.told("id")).map(str::to_owned).collect();
    let metadata: SharedMetadata = Arc::new(store(&etcd.address()).await);

    // Every address of the ready line is one that answers.
    let http = bookies[0].told("http").context("an address")?;
    assert_eq!(ureq::get(format!("{http}/heartbeat")).call()?.status(), 200);
    TcpStream::connect(bookies[0].told("grpc").context("an address")?)?;

    // What the first start wrote, where Apache's clients and tools look for it.
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert_eq!(available(&metadata).await, sorted);
    assert_eq!(metadata.children(layout::COOKIES).await?, sorted);
    let instance = metadata.get(layout::INSTANCE_ID).await?.context("INSTANCEID")?;
    assert_eq!(instance.bytes.len(), 36);
    let layout = metadata.get(layout::LEDGER_LAYOUT).await?.context("LAYOUT")?;
    assert!(layout.bytes.starts_with(b"2\norg.apache.bookkeeper.meta.HierarchicalLedgerManagerFactory:"));

    let client_of_the_writer = client(&metadata).await?;
    let mut writer = client_of_the_writer.create(options()).await?;
    let ledger = writer.id();
    append(&mut writer, 0..200).await;
    bookies[0].kill()?;
    append(&mut writer, 200..400).await;
    bookies[0].restart()?;
    assert_eq!(bookies[0].told("id"), Some(ids[0].as_str()));
    append(&mut writer, 400..500).await;

    // Nobody needs the metadata to go on with a ledger.
    etcd.kill()?;
    append(&mut writer, 500..600).await;
    etcd.restart()?;
    until("all three are registered", async || available(&metadata).await.len() == 3).await;

    let closed = writer.close().await?;
    assert_eq!(closed.last_entry, Some(EntryId(599)));
    let fresh: SharedMetadata = Arc::new(store(&etcd.address()).await);
    let reader = client(&fresh).await?.open(ledger, b"").await?;
    read_all(&reader, 600).await?;

    // A stop in order takes the bookie off the list at once, and loses nothing.
    assert!(bookies[1].terminate(STOP_LIMIT)?.success());
    until("off the list", async || !available(&metadata).await.contains(&ids[1])).await;
    bookies[1].restart()?;
    bookies[2].kill()?;
    bookies[0].kill()?;
    let reader = client(&fresh).await?.open(ledger, b"").await?;
    read_all(&reader, 600).await?;
    ran("three bookies");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bookie_without_its_data_or_with_anothers_is_refused() -> Result<()> {
    let Some(etcd) = etcd()? else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    let ports = free_ports()?;
    let words_of_one = words(&etcd, &one, ports);
    let mut first = Role::start(&words_of_one)?;
    let (in_use, code) = refusal(words(&etcd, &one, free_ports()?))?;
    assert!(in_use.contains("in use by another process") && code == Some(1), "{in_use}");
    first.terminate(STOP_LIMIT)?;

    // The wiped bookie would deny what it has acknowledged.
    std::fs::rename(&one, dir.path().join("kept"))?;
    let (wiped, code) = refusal(&words_of_one)?;
    assert!(wiped.contains("data directories are empty") && code == Some(1), "{wiped}");
    assert_eq!(wiped.lines().count(), 1, "{wiped}");
    let store = store(&etcd.address()).await;
    until("not announced", async || store.get(&layout_of(ports)).await.expect("get").is_none()).await;

    // So would one whose ledger directory is gone, or that was given another's.
    let mut second = Role::start(words(&etcd, &other, free_ports()?))?;
    second.terminate(STOP_LIMIT)?;
    std::fs::remove_dir_all(&one)?;
    std::fs::rename(dir.path().join("kept"), &one)?;
    std::fs::remove_dir_all(one.join("ledgers-b"))?;
    std::fs::rename(other.join("ledgers-b"), one.join("ledgers-b"))?;
    let (mixed, code) = refusal(&words_of_one)?;
    assert!(mixed.contains("belong to different instances") && code == Some(1), "{mixed}");
    ran("refused directories");
    Ok(())
}

fn layout_of(ports: (u16, u16)) -> String {
    format!("{}/127.0.0.1:{}", layout::BOOKIES, ports.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_registration_is_made_again() -> Result<()> {
    let Some(etcd) = etcd()? else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let bookie = Role::start(words(&etcd, dir.path(), free_ports()?))?;
    let metadata = store(&etcd.address()).await;
    let key = format!("{}/{}", layout::BOOKIES, bookie.told("id").context("an id")?);
    let lease = metadata.get(&key).await?.and_then(|value| value.lease).context("an ephemeral key")?;
    raw(&etcd).await.lease_client().revoke(lease.0).await?;
    until("another registration", async || {
        let found = metadata.get(&key).await.expect("get").and_then(|value| value.lease);
        found.is_some_and(|found| found != lease)
    })
    .await;
    ran("a lost registration");
    Ok(())
}

/// These need no etcd.
#[test]
fn a_bookie_that_cannot_share_metadata_says_so_in_one_line() -> Result<()> {
    let dirs = ["--journal-dir", "/nonexistent/j", "--ledger-dir", "/nonexistent/l"];
    for (metadata, expected) in [
        (None, "a bookie needs --metadata etcd://host:2379"),
        (Some("embedded"), "cannot be shared"),
        (Some("zk:localhost:2181"), "names no etcd cluster"),
    ] {
        let metadata = metadata.map(|url| ["--metadata", url]).into_iter().flatten();
        let (said, code) = refusal(["bookie"].into_iter().chain(dirs).chain(metadata))?;
        assert!(said.contains(expected) && code == Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    Ok(())
}
