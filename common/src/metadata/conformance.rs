//! What every store must do, run by the tests of each implementation.

use super::{Expect, MetadataError, MetadataStore, Op, SharedMetadata, Version, WatchEvent};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

const TTL: Duration = Duration::from_secs(10);

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn put(key: &str, value: &'static str, expect: Expect) -> Op {
    Op::Put { key: key.into(), value: bytes(value), expect, lease: None }
}

fn conflict<T>(key: &str) -> super::Result<T> {
    Err(MetadataError::Conflict { key: key.into() })
}

/// Runs every check, each on a store of its own.
///
/// # Panics
/// When the store does not conform.
pub async fn run_all<S: MetadataStore>(make: impl AsyncFn() -> Arc<S>) {
    no_two_changes_have_the_same_version(make().await).await;
    who_knew_a_key_before_it_was_made_anew_cannot_change_it(make().await).await;
    expectations_are_kept(make().await).await;
    keys_are_paths(make().await).await;
    children_and_scans_are_sorted_and_complete(make().await).await;
    a_transaction_is_all_or_nothing(make().await).await;
    sequences_never_repeat(make().await).await;
    watches_tell_changes_in_order(make().await).await;
    a_watch_left_unread_ends_in_a_resync(make().await).await;
    ephemeral_keys_end_with_their_lease(make().await).await;
    a_put_without_a_lease_makes_an_ephemeral_key_persistent(make().await).await;
    revoking_a_lease_returns_once_its_keys_are_gone(make().await).await;
    one_of_many_writers_wins(make().await).await;
}

async fn no_two_changes_have_the_same_version(store: SharedMetadata) {
    assert_eq!(store.get("/a").await, Ok(None));
    let first = store.put("/a", bytes("1"), Expect::Any).await.expect("put");
    let second = store.put("/a", bytes("2"), Expect::Any).await.expect("put");
    let value = store.get("/a").await.expect("get").expect("a value");
    assert_eq!((value.bytes, value.version, value.lease), (bytes("2"), second, None));
    let listed = store.scan("/a", None, 10).await.expect("scan");
    assert_eq!(listed.iter().map(|(_, value)| value.version).collect::<Vec<_>>(), [second]);
    assert_eq!(store.delete("/a", Expect::Any).await, Ok(()));
    assert_eq!(store.get("/a").await, Ok(None));
    let third = store.put("/a", bytes("3"), Expect::Missing).await.expect("put");
    assert!(first < second && second < third, "{first:?} {second:?} {third:?}");
}

/// A broker that slept through the deletion of a topic and its new beginning holds the version of a list of ledgers that is
/// gone; were versions counted for each key, it could write that list over the new one.
async fn who_knew_a_key_before_it_was_made_anew_cannot_change_it(store: SharedMetadata) {
    let mut known = Vec::new();
    for value in ["1", "2", "3"] {
        known.push(store.put("/a", bytes(value), Expect::Any).await.expect("put"));
    }
    store.delete("/a", Expect::Any).await.expect("delete");
    for value in ["4", "5", "6"] {
        store.put("/a", bytes(value), Expect::Any).await.expect("put");
        for version in &known {
            assert_eq!(store.put("/a", bytes("old"), Expect::Version(*version)).await, conflict("/a"));
        }
    }
}

async fn expectations_are_kept(store: SharedMetadata) {
    for impossible in [0, 1, u64::MAX] {
        let refused = store.put("/a", bytes("1"), Expect::Version(Version(impossible))).await;
        assert_eq!(refused, conflict("/a"));
    }
    let first = store.put("/a", bytes("1"), Expect::Missing).await.expect("put");
    assert_eq!(store.put("/a", bytes("2"), Expect::Missing).await, conflict("/a"));
    let second = store.put("/a", bytes("2"), Expect::Version(first)).await.expect("put");
    assert_eq!(store.put("/a", bytes("2"), Expect::Version(first)).await, conflict("/a"));
    assert_eq!(store.delete("/a", Expect::Version(first)).await, conflict("/a"));
    assert_eq!(store.delete("/b", Expect::Any).await, Err(MetadataError::NotFound { key: "/b".into() }));
    assert_eq!(store.delete("/a", Expect::Version(second)).await, Ok(()));
    assert_eq!(store.delete("/a", Expect::Version(second)).await, conflict("/a"));
}

async fn keys_are_paths(store: SharedMetadata) {
    for key in ["", "/", "a", "/a/", "/a//b"] {
        let refused = store.put(key, bytes("1"), Expect::Any).await;
        assert!(matches!(refused, Err(MetadataError::InvalidKey(_))), "{key:?}: {refused:?}");
    }
}

async fn children_and_scans_are_sorted_and_complete(store: SharedMetadata) {
    for key in ["/d/b", "/d/a/x", "/d/a/y/z", "/d/a", "/d/a-b", "/d/a.c/x", "/dd/x", "/d0"] {
        store.put(key, bytes("1"), Expect::Missing).await.expect("put");
    }
    assert_eq!(store.children("/d").await, Ok(["a", "a-b", "a.c", "b"].map(String::from).to_vec()));
    assert_eq!(store.children("/d/a").await, Ok(["x", "y"].map(String::from).to_vec()));
    assert_eq!(store.children("/d/b").await, Ok(Vec::new()));
    assert_eq!(store.children("/none").await, Ok(Vec::new()));
    let mut all = Vec::new();
    loop {
        let page = store.scan("/d/", all.last().map(String::as_str), 2).await.expect("scan");
        if page.is_empty() {
            break;
        }
        all.extend(page.into_iter().map(|(key, _)| key));
    }
    assert_eq!(all, ["/d/a", "/d/a-b", "/d/a.c/x", "/d/a/x", "/d/a/y/z", "/d/b"]);
}

async fn a_transaction_is_all_or_nothing(store: SharedMetadata) {
    let version = store.put("/a", bytes("1"), Expect::Missing).await.expect("put");
    let refused =
        store.transact(vec![put("/b", "1", Expect::Missing), put("/a", "2", Expect::Missing)]).await;
    assert_eq!(refused, conflict("/a"));
    assert_eq!(store.get("/b").await, Ok(None));
    let check = Op::Check { key: "/a".into(), expect: Expect::Version(version) };
    let delete = Op::Delete { key: "/a".into(), expect: Expect::Any };
    let done = store.transact(vec![put("/b", "1", Expect::Missing), check]).await;
    assert_eq!(done, Ok(vec![Some(version_of(&store, "/b").await), None]));
    let done = store.transact(vec![delete, put("/c", "1", Expect::Any)]).await;
    assert_eq!(done, Ok(vec![None, Some(version_of(&store, "/c").await)]));
    assert_eq!(store.get("/a").await, Ok(None));
    let twice = store.transact(vec![put("/x", "1", Expect::Any), put("/x", "2", Expect::Any)]).await;
    assert!(matches!(twice, Err(MetadataError::InvalidKey(_))), "{twice:?}");
}

async fn sequences_never_repeat(store: SharedMetadata) {
    for number in 0..3 {
        assert_eq!(store.next_sequence("/ids").await, Ok(number));
    }
}

async fn watches_tell_changes_in_order(store: SharedMetadata) {
    let mut watch = store.watch("/w/");
    store.put("/other", bytes("1"), Expect::Any).await.expect("put");
    let first = store.put("/w/a", bytes("1"), Expect::Any).await.expect("put");
    let second = store.put("/w/a", bytes("2"), Expect::Any).await.expect("put");
    store.delete("/w/a", Expect::Any).await.expect("delete");
    let third = store.put("/w/a", bytes("3"), Expect::Any).await.expect("put");
    let changed = |version, created| WatchEvent::Changed { key: "/w/a".into(), version, created };
    assert_eq!(watch.next().await, Some(changed(first, true)));
    assert_eq!(watch.next().await, Some(changed(second, false)));
    assert_eq!(watch.next().await, Some(WatchEvent::Deleted { key: "/w/a".into() }));
    assert_eq!(watch.next().await, Some(changed(third, true)));
}

/// Only the bound and the announcement are promised, not how many events precede it. A store that is told of changes later
/// than it makes them may be so late that the watch is read before much has come: then there are more changes.
async fn a_watch_left_unread_ends_in_a_resync(store: SharedMetadata) {
    const CHANGES: usize = 3000;
    const ROUNDS: usize = 10;
    let (mut watch, mut witness) = (store.watch("/w/"), store.watch("/w/last"));
    let keys: Vec<_> = (0..CHANGES).map(|number| format!("/w/{number}")).collect();
    let mut resynced = false;
    for _ in 0..ROUNDS {
        let puts = keys.iter().map(|key| store.put(key, bytes("1"), Expect::Any));
        futures_util::future::try_join_all(puts).await.expect("puts");
        let last = store.put("/w/last", bytes("1"), Expect::Any).await.expect("put");
        let is_last =
            |event: &WatchEvent| matches!(event, WatchEvent::Changed { version, .. } if *version == last);
        while !is_last(&witness.next().await.expect("an event")) {}
        resynced = loop {
            match watch.next().await.expect("an event") {
                WatchEvent::Resync => break true,
                event if is_last(&event) => break false,
                _ => {}
            }
        };
        if resynced {
            break;
        }
    }
    assert!(resynced, "a watch must not buffer without bound");
    let listed = store.scan("/w/", None, CHANGES + 2).await.expect("scan");
    assert_eq!(listed.len(), CHANGES + 1, "listing after the resync shows all");
    let version = store.put("/w/0", bytes("2"), Expect::Any).await.expect("put");
    let later = WatchEvent::Changed { key: "/w/0".into(), version, created: false };
    // A store that is told of changes later than it makes them may have had to drop that one, too: then it says so again.
    loop {
        match watch.next().await.expect("an event") {
            event if event == later => break,
            WatchEvent::Resync if version_of(&store, "/w/0").await == version => break,
            _ => {}
        }
    }
}

async fn version_of(store: &SharedMetadata, key: &str) -> Version {
    store.get(key).await.expect("get").expect("a value").version
}

async fn a_put_without_a_lease_makes_an_ephemeral_key_persistent(store: SharedMetadata) {
    let lease = store.grant_lease(TTL).await.expect("a lease");
    store.put_ephemeral("/e/a", bytes("1"), Expect::Missing, lease.id()).await.expect("put");
    store.put_ephemeral("/e/b", bytes("1"), Expect::Missing, lease.id()).await.expect("put");
    store.put("/e/a", bytes("2"), Expect::Any).await.expect("put");
    lease.revoke().await;
    let kept = store.get("/e/a").await.expect("get").expect("the persistent value");
    assert_eq!((kept.bytes, kept.lease), (bytes("2"), None));
    assert_eq!(store.get("/e/b").await, Ok(None));
}

async fn revoking_a_lease_returns_once_its_keys_are_gone(store: SharedMetadata) {
    let (lease, other) = (store.grant_lease(TTL).await.expect("a"), store.grant_lease(TTL).await.expect("b"));
    store.put_ephemeral("/e/a", bytes("1"), Expect::Missing, lease.id()).await.expect("put");
    store.put_ephemeral("/e/b", bytes("1"), Expect::Missing, other.id()).await.expect("put");
    lease.revoke().await;
    assert_eq!(store.children("/e").await, Ok(vec!["b".to_owned()]));
}

async fn ephemeral_keys_end_with_their_lease(store: SharedMetadata) {
    let mut watch = store.watch("/e/");
    let lease = store.grant_lease(TTL).await.expect("a lease");
    let id = lease.id();
    store.put_ephemeral("/e/a", bytes("1"), Expect::Missing, id).await.expect("put");
    assert_eq!(store.get("/e/a").await.expect("get").and_then(|value| value.lease), Some(id));
    drop(lease);
    loop {
        match watch.next().await {
            Some(WatchEvent::Deleted { key }) if key == "/e/a" => break,
            Some(_) => {}
            None => panic!("the watch ended"),
        }
    }
    assert_eq!(store.get("/e/a").await, Ok(None));
    assert_eq!(store.put_ephemeral("/e/b", bytes("1"), Expect::Any, id).await, Err(MetadataError::LeaseLost));
}

async fn one_of_many_writers_wins(store: SharedMetadata) {
    let attempts = (0..20).map(|_| store.put("/race", bytes("1"), Expect::Missing));
    let outcomes = futures_util::future::join_all(attempts).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
}
