//! The store keeps the metadata contract over a real etcd, and lays keys out as Pulsar does.

use crate::support::{bytes, clock, etcd, ran, raw, soon, store, told};
use anyhow::Result;
use magnetar_common::metadata::{
    EtcdConfig, EtcdStore, Expect, MetadataError, MetadataStore, Op, Version, conformance,
};
use std::sync::Arc;
use std::time::Duration;

const TTL: Duration = Duration::from_secs(10);

#[tokio::test]
async fn the_store_conforms() -> Result<()> {
    let Some(etcd) = etcd()? else { return Ok(()) };
    conformance::run_all(async || {
        let all = etcd_client::DeleteOptions::new().with_all_keys();
        raw(&etcd).await.delete("", Some(all)).await.expect("an empty cluster");
        Arc::new(store(&etcd.address()).await)
    })
    .await;
    ran("conformance of the metadata store");
    Ok(())
}

#[tokio::test]
async fn keys_versions_and_leases_are_etcds_own() -> Result<()> {
    let Some(etcd) = etcd()? else { return Ok(()) };
    let (store, mut raw) = (store(&etcd.address()).await, raw(&etcd).await);
    let lease = store.grant_lease(TTL).await?;
    let first =
        store.put_ephemeral("/ledgers/available/b1:3181", bytes("x"), Expect::Missing, lease.id()).await?;
    let second = store.put("/ledgers/available/b1:3181", bytes("y"), Expect::Version(first)).await?;
    store.put_ephemeral("/e", bytes("\u{0}"), Expect::Any, lease.id()).await?;
    let found = raw.get("/ledgers/available/b1:3181", None).await?.take_kvs();
    assert_eq!((found[0].value(), found[0].version(), found[0].lease()), (&b"y"[..], 2, 0));
    let revisions = [found[0].create_revision(), found[0].mod_revision()].map(|n| Version(n as u64));
    assert_eq!(revisions, [first, second]);
    let found = raw.get("/e", None).await?.take_kvs();
    assert_eq!((found[0].value(), found[0].version(), found[0].lease()), (&b"\0"[..], 1, lease.id().0));
    assert_eq!(raw.lease_client().time_to_live(lease.id().0, None).await?.granted_ttl(), 10);

    // What others write without our rules is read as it is.
    raw.put("/odd//key/", "1", None).await?;
    raw.put("/odd", "1", None).await?;
    let put = raw.put("/odd", "2", None).await?;
    let revision = put.header().map(|header| Version(header.revision() as u64));
    assert_eq!(store.get("/odd").await?.map(|value| value.version), revision);
    let below: Vec<_> = store.scan("/odd", None, 10).await?.into_iter().map(|(key, _)| key).collect();
    assert_eq!(below, ["/odd", "/odd//key/"]);
    ran("layout of keys");
    Ok(())
}

#[tokio::test]
async fn long_listings_are_complete_and_skip_what_lies_deep() -> Result<()> {
    let Some(etcd) = etcd()? else { return Ok(()) };
    let (store, mut raw) = (store(&etcd.address()).await, raw(&etcd).await);
    // More than a page of names, and more below one name than a page holds.
    let flat = (0..2_500).map(|number| format!("/d/{number:05}"));
    let deep = (0..2_500).map(|number| format!("/d/00007/x/{number:05}"));
    let mut keys: Vec<String> = flat.chain(deep).collect();
    for keys in keys.chunks(100) {
        let puts: Vec<_> = keys.iter().map(|key| etcd_client::TxnOp::put(key.as_str(), "v", None)).collect();
        raw.txn(etcd_client::Txn::new().and_then(puts)).await?;
    }
    let names: Vec<String> = (0..2_500).map(|number| format!("{number:05}")).collect();
    assert_eq!(store.children("/d").await?, names);
    assert_eq!(store.children("/d/00007").await?, ["x"]);
    keys.sort_unstable();
    let scanned: Vec<_> =
        store.scan("/d/", None, usize::MAX).await?.into_iter().map(|(key, _)| key).collect();
    assert_eq!(scanned, keys);
    let page: Vec<_> =
        store.scan("/d/", Some(&keys[3]), 200).await?.into_iter().map(|(key, _)| key).collect();
    assert_eq!(page, keys[4..204]);
    ran("long listings");
    Ok(())
}

#[tokio::test]
async fn what_etcd_will_never_take_is_refused_not_retried() -> Result<()> {
    let Some(etcd) = etcd()? else { return Ok(()) };
    let store = store(&etcd.address()).await;
    let op = |number| Op::Put {
        key: format!("/k{number}"),
        value: bytes("v"),
        expect: Expect::Missing,
        lease: None,
    };
    let refused = store.transact((0..129).map(op).collect()).await;
    assert!(matches!(refused, Err(MetadataError::Refused(_))), "{refused:?}");
    assert_eq!(store.transact((0..128).map(op).collect()).await?.len(), 128);
    let large = store.put("/large", vec![0; 1_600_000].into(), Expect::Any).await;
    assert!(matches!(&large, Err(MetadataError::Refused(text)) if text.contains("too large")), "{large:?}");
    ran("refusals");
    Ok(())
}

#[tokio::test]
async fn a_member_that_is_down_is_passed_over() -> Result<()> {
    let Some(etcd) = etcd()? else { return Ok(()) };
    let config = EtcdConfig::parse(&format!("etcd://127.0.0.1:1,{}", etcd.address()))?;
    let store = EtcdStore::connect(&config, clock()).await?;
    let mut watch = store.watch("/k");
    for number in 0..50 {
        store.put("/k", bytes("v"), Expect::Any).await?;
        let expected = if number == 0 { "+/k" } else { "/k" };
        assert_eq!(told(soon("an event", watch.next()).await), expected);
    }
    ran("a member down");
    Ok(())
}
