//! A bookie process that is lost for good: what it held is copied to another one, by the others, over etcd.

use crate::bookies::{append, client, options, payload, words};
use crate::support::{etcd, ran, store, until};
use anyhow::{Context, Result, ensure};
use magnetar_common::layout;
use magnetar_common::metadata::SharedMetadata;
use magnetar_ledger::LedgerOptions;
use magnetar_ledger::replication::status;
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::bookkeeper::metadata_format::LedgerState;
use magnetar_proto::ids::{EntryId, LedgerId};
use magnetar_tests::etcd::Etcd;
use magnetar_tests::process::{binary, free_ports};
use magnetar_tests::role::{Role, refusal};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// A bookie whose absence is noticed soon, but not for one slow sync of etcd's disk.
const IMPATIENT: &str = "--session-timeout 5 --lost-bookie-delay 3 --open-ledger-grace 1";
/// Nobody dies where it is used.
const PATIENT: &str = "--session-timeout 30 --lost-bookie-delay 30 --open-ledger-grace 1";

fn start(etcd: &Etcd, dir: &Path, rack: &str, flags: &str) -> Result<Role> {
    let mut words = words(etcd, dir, free_ports()?);
    let flags = format!("{flags} --rack {rack}");
    words.extend(flags.split(' ').map(str::to_owned));
    Role::start(words)
}

fn id(role: &Role) -> Result<BookieId> {
    Ok(BookieId::new(role.told("id").context("an id")?)?)
}

async fn ledger(metadata: &SharedMetadata, options: LedgerOptions, count: u64) -> Result<LedgerId> {
    let mut writer = client(metadata).await?.create(options).await?;
    append(&mut writer, 0..count).await;
    let ledger = writer.id();
    writer.close().await?;
    Ok(ledger)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_and_wiped_bookie_held_is_copied_to_a_new_one() -> Result<()> {
    let Some(etcd) = etcd()? else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let path = |number: usize| dir.path().join(number.to_string());
    let mut bookies = Vec::new();
    for number in 0..3 {
        bookies.push(start(&etcd, &path(number), &format!("/r{number}"), IMPATIENT)?);
    }
    let metadata: SharedMetadata = Arc::new(store(&etcd.address()).await);
    let mut ledgers = Vec::new();
    for count in [1, 50, 300] {
        ledgers.push((ledger(&metadata, options(), count).await?, count));
    }
    let striped = LedgerOptions { write_quorum: 2, ..options() };
    ledgers.push((ledger(&metadata, striped, 100).await?, 100));
    let mut abandoned = client(&metadata).await?.create(options()).await?;
    append(&mut abandoned, 0..80).await;
    ledgers.push((abandoned.id(), 80));
    drop(abandoned);

    let lost = id(&bookies[0])?;
    bookies[0].kill()?;
    std::fs::remove_dir_all(path(0))?;
    let newcomer = start(&etcd, &path(3), "/r0", IMPATIENT)?;
    let client = client(&metadata).await?;
    for (ledger, _) in &ledgers {
        until("replaced", async || {
            let record = client.metadata(*ledger).await.expect("metadata");
            let is_closed = matches!(record.state, LedgerState::Closed { .. });
            is_closed && !record.segments.values().flatten().any(|bookie| *bookie == lost)
        })
        .await;
    }
    until("no marks", async || status(&metadata).await.expect("told").marked.is_empty()).await;
    let http = newcomer.told("http").context("an address")?;
    let metrics = ureq::get(format!("{http}/metrics")).call()?.body_mut().read_to_string()?;
    assert!(metrics.contains("replication_worker_NUM_ENTRIES_WRITTEN"), "{metrics}");

    // The emptied one does not come back as if nothing had happened.
    let (said, code) = refusal(words(&etcd, &path(0), port_of(&lost)?))?;
    assert!(said.contains("data directories are empty") && code == Some(1), "{said}");

    // Each entry of the last ledgers is on every bookie of the ensemble: the newcomer alone can give those of three copies.
    bookies[1].kill()?;
    bookies[2].kill()?;
    for (ledger, count) in ledgers.into_iter().filter(|(_, count)| *count != 100) {
        let reader = client.open(ledger, b"").await?;
        assert_eq!(reader.last_entry(), Some(EntryId(count - 1)));
        let mut next = 0;
        while next < count {
            for (entry, read) in reader.read(EntryId(next), EntryId(count - 1), 1 << 20).await? {
                assert_eq!((entry, read), (EntryId(next), payload(next)));
                next += 1;
            }
        }
    }
    ran("a killed and wiped bookie");
    Ok(())
}

fn port_of(bookie: &BookieId) -> Result<(u16, u16)> {
    let (_, port) = bookie.as_str().rsplit_once(':').context("host:port")?;
    Ok((port.parse()?, free_ports()?.0))
}

/// What a tool said, if it ended well.
fn tool(words: &str, etcd: &Etcd) -> Result<String> {
    let words = format!("bookie {words} --metadata {}", etcd.url());
    let output = Command::new(binary()).args(words.split(' ')).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{words}: {}: {said}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bookie_is_emptied_stopped_and_forgotten_from_the_command_line() -> Result<()> {
    let Some(etcd) = etcd()? else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let mut bookies = Vec::new();
    for number in 0..4 {
        bookies.push(start(&etcd, &dir.path().join(number.to_string()), &format!("/r{number}"), PATIENT)?);
    }
    let metadata: SharedMetadata = Arc::new(store(&etcd.address()).await);
    let wide = LedgerOptions { ensemble: 4, write_quorum: 2, ..options() };
    let narrow = ledger(&metadata, options(), 40).await?;
    let one_too_many = ledger(&metadata, wide, 40).await?;
    let client = client(&metadata).await?;
    let leaving = client.metadata(narrow).await?.last_segment().1[0].clone();

    let asked = tool(&format!("drain {leaving} --no-wait"), &etcd)?;
    assert_eq!(asked, format!("bookie {leaving} is being emptied\n"));
    until("read-only", async || {
        metadata.get(&layout::bookie_read_only(&leaving)).await.expect("get").is_some()
    })
    .await;
    // Four bookies of four: nobody is left to take its place, until another one is started.
    until("marked", async || !status(&metadata).await.expect("told").marked.is_empty()).await;
    let spare = start(&etcd, &dir.path().join("4"), "/r4", PATIENT)?;
    let told = tool(&format!("drain {leaving}"), &etcd)?;
    assert!(told.ends_with(&format!("then `magnetar bookie forget {leaving}`\n")), "{told}");
    until("no marks", async || status(&metadata).await.expect("told").marked.is_empty()).await;
    // The auditor's office is free for a moment when its bookie was too busy to keep its lease.
    until("an auditor", async || status(&metadata).await.expect("told").auditor.is_some()).await;
    let lacking = tool("under-replicated", &etcd)?;
    assert!(lacking.contains("under-replicated ledgers: 0") && lacking.contains("auditor: "), "{lacking}");
    for ledger in [narrow, one_too_many] {
        let named = client.metadata(ledger).await?.segments.into_values().flatten().collect::<Vec<_>>();
        assert!(!named.contains(&leaving), "{named:?}");
    }
    assert!(client.metadata(one_too_many).await?.last_segment().1.contains(&id(&spare)?));

    let running = tool(&format!("forget {leaving}"), &etcd).expect_err("it runs").to_string();
    assert!(running.contains("stop it first"), "{running}");
    let at = bookies.iter().position(|role| role.told("id") == Some(leaving.as_str())).context("a role")?;
    bookies[at].terminate(std::time::Duration::from_secs(20))?;
    // Gone at once, or as soon as a slow etcd gets to it.
    until("unregistered", async || {
        metadata.get(&layout::bookie_read_only(&leaving)).await.expect("get").is_none()
    })
    .await;
    tool(&format!("forget {leaving}"), &etcd)?;
    assert_eq!(metadata.get(&layout::cookie(&leaving)).await?, None);
    ran("a bookie emptied and forgotten");
    Ok(())
}
