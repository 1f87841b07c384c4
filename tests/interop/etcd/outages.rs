//! Watches, leases and writes while etcd or the way to it fails.

use crate::support::{bytes, clock, etcd, ran, raw, soon, store, told, until};
use anyhow::Result;
use magnetar_common::clock::Clock;
use magnetar_common::metadata::{EtcdConfig, EtcdStore, Expect, MetadataError, MetadataStore};
use magnetar_tests::proxy::{Mode, Proxy};
use std::time::Duration;

#[tokio::test]
async fn a_watch_and_a_lease_live_through_a_killed_etcd() -> Result<()> {
    let Some(mut etcd) = etcd()? else { return Ok(()) };
    let store = store(&etcd.address()).await;
    let mut watch = store.watch("/w/");
    let lease = store.grant_lease(Duration::from_secs(15)).await?;
    store.put_ephemeral("/w/e", bytes("1"), Expect::Missing, lease.id()).await?;
    assert_eq!(told(soon("an event", watch.next()).await), "+/w/e");
    etcd.restart()?;
    let mut raw = raw(&etcd).await;
    raw.put("/w/a", "1", None).await?;
    assert_eq!(told(soon("an event", watch.next()).await), "+/w/a");
    store.put("/w/a", bytes("2"), Expect::Any).await?;
    assert_eq!(told(soon("an event", watch.next()).await), "/w/a");

    // The lease is renewed after the restart: what is left of it falls, then rises again.
    let mut leases = raw.lease_client();
    let mut fallen = false;
    soon("a renewal", async {
        loop {
            let left = leases.time_to_live(lease.id().0, None).await.expect("a lease").ttl();
            fallen |= left < 12;
            if fallen && left >= 13 {
                return;
            }
            clock().sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    lease.revoke().await;
    assert_eq!(told(soon("an event", watch.next()).await), "-/w/e");
    ran("watch and lease over a killed etcd");
    Ok(())
}

#[tokio::test]
async fn a_watch_overtaken_by_compaction_says_so_and_goes_on() -> Result<()> {
    let Some(etcd) = etcd()? else { return Ok(()) };
    let proxy = Proxy::start(etcd.address()).await?;
    let (store, mut raw) = (store(&proxy.address()).await, raw(&etcd).await);
    let (mut watch, mut other) = (store.watch("/w/"), store.watch("/other/"));
    raw.put("/w/a", "1", None).await?;
    assert_eq!(told(soon("an event", watch.next()).await), "+/w/a");
    proxy.set(Mode::Cut);
    raw.put("/w/a", "2", None).await?;
    raw.delete("/w/a", None).await?;
    let newest = raw.put("/w/b", "1", None).await?.header().expect("a header").revision();
    raw.compact(newest, None).await?;
    proxy.set(Mode::Open);
    assert_eq!(told(soon("an event", watch.next()).await), "resync");
    // From the oldest revision that etcd still has.
    assert_eq!(told(soon("an event", watch.next()).await), "+/w/b");
    raw.put("/w/b", "2", None).await?;
    assert_eq!(told(soon("an event", watch.next()).await), "/w/b");
    assert_eq!(told(soon("an event", other.next()).await), "resync");

    // A watch that begins where nothing is kept any more has lost nothing that its owner could know of.
    let newest = raw.put("/x", "1", None).await?.header().expect("a header").revision();
    raw.compact(newest, None).await?;
    let mut late = store.watch("/late/");
    store.put("/late/a", bytes("1"), Expect::Any).await?;
    let first = told(soon("an event", late.next()).await);
    assert!(first == "resync" || first == "+/late/a", "{first}");
    if first == "resync" {
        assert_eq!(told(soon("an event", late.next()).await), "+/late/a");
    }
    ran("compaction during a watch");
    Ok(())
}

#[tokio::test]
async fn a_lease_that_cannot_be_renewed_is_lost_and_a_new_one_can_be_had() -> Result<()> {
    let Some(etcd) = etcd()? else { return Ok(()) };
    let proxy = Proxy::start(etcd.address()).await?;
    let store = store(&proxy.address()).await;
    let lease = store.grant_lease(Duration::from_secs(8)).await?;
    store.put_ephemeral("/e", bytes("1"), Expect::Missing, lease.id()).await?;
    proxy.set(Mode::Cut);
    soon("the end of the lease", lease.lost()).await;
    proxy.set(Mode::Open);
    until("the key is gone", async || store.get("/e").await == Ok(None)).await;
    let stale = store.put_ephemeral("/e", bytes("1"), Expect::Missing, lease.id()).await;
    assert_eq!(stale, Err(MetadataError::LeaseLost));
    let again = store.grant_lease(Duration::from_secs(30)).await?;
    store.put_ephemeral("/e", bytes("2"), Expect::Missing, again.id()).await?;

    // One that etcd ends is lost, too.
    raw(&etcd).await.lease_client().revoke(again.id().0).await?;
    soon("the end of the lease", again.lost()).await;
    ran("lost leases");
    Ok(())
}

/// The store cannot know whether the write happened, so it must not do it again: here it would overwrite what came between.
#[tokio::test]
async fn a_write_whose_answer_is_lost_is_not_repeated() -> Result<()> {
    let Some(etcd) = etcd()? else { return Ok(()) };
    let proxy = Proxy::start(etcd.address()).await?;
    let limit = Duration::from_secs(5);
    let config = EtcdConfig { limit, ..EtcdConfig::parse(&format!("etcd://{}", proxy.address()))? };
    let store = EtcdStore::connect(&config, clock()).await?;
    proxy.set(Mode::Mute);
    let unknown = soon("the write's end", store.put("/k", bytes("1"), Expect::Any)).await;
    assert!(matches!(unknown, Err(MetadataError::Unavailable(_))), "{unknown:?}");
    let mut raw = raw(&etcd).await;
    let found = raw.get("/k", None).await?.take_kvs();
    let found = found.first().expect("the key");
    assert_eq!(found.version(), 1, "put once");
    proxy.cut().await;
    proxy.set(Mode::Open);
    let value = store.get("/k").await?.expect("the value");
    assert_eq!((value.bytes, value.version.0), (bytes("1"), u64::try_from(found.mod_revision())?));
    ran("lost answers");
    Ok(())
}

/// A read waits for a member that is restarting; only nobody at all is an error, and it comes in time.
#[tokio::test]
async fn an_unreachable_cluster_is_an_error_in_time_and_a_short_absence_is_none() -> Result<()> {
    let Some(mut etcd) = etcd()? else { return Ok(()) };
    let limit = Duration::from_secs(3);
    let nobody = EtcdConfig { limit, ..EtcdConfig::parse("etcd://127.0.0.1:1")? };
    let refused = soon("the refusal", EtcdStore::connect(&nobody, clock())).await.map(drop);
    assert!(
        matches!(&refused, Err(MetadataError::Unavailable(text)) if text.contains("refused")),
        "{refused:?}"
    );
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let silent = EtcdConfig { limit, ..EtcdConfig::parse(&format!("etcd://{}", silent.local_addr()?))? };
    let refused = soon("the refusal", EtcdStore::connect(&silent, clock())).await.map(drop);
    assert!(matches!(refused, Err(MetadataError::Unavailable(_))), "{refused:?}");

    let store = store(&etcd.address()).await;
    etcd.kill()?;
    let restart = tokio::task::spawn_blocking(move || etcd.restart().map(|()| etcd));
    let (read, restarted) = tokio::join!(store.get("/k"), restart);
    let _etcd = restarted??;
    assert_eq!(read, Ok(None));
    ran("unreachable clusters");
    Ok(())
}
