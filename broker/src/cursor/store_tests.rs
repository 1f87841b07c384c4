//! Durable cursors over three real bookies.

use super::*;
use crate::managed_ledger::test_cluster::{Cluster, NAME, append, small_ledgers};
use crate::managed_ledger::{LedgerInfo, LedgerList, LedgerState, MlConfig};
use futures_util::FutureExt;
use magnetar_proto::ids::{EntryId, LedgerId, Position};
use std::collections::BTreeMap;

fn properties() -> BTreeMap<String, String> {
    BTreeMap::from([("key".to_owned(), "value".to_owned())])
}

async fn create(cluster: &Cluster, cursor: &Cursor) -> CursorStore {
    let config = MlConfig::default();
    CursorStore::create(&cluster.env, &config, NAME, "sub/1", cursor.snapshot(), properties()).await.unwrap()
}

async fn recover(cluster: &Cluster, list: &LedgerList) -> (CursorStore, Cursor) {
    let recovered = CursorStore::recover(&cluster.env, &MlConfig::default(), NAME, "sub/1", None, list).await;
    let (store, cursor, kept) = recovered.unwrap();
    assert_eq!(kept, properties());
    (store, cursor)
}

async fn names(cluster: &Cluster) -> Vec<String> {
    let found = CursorStore::list(&cluster.env, NAME).await.unwrap();
    found.into_iter().map(|cursor| cursor.name).collect()
}

/// Thirty entries in several ledgers.
async fn topic(cluster: &Cluster) -> (LedgerList, Vec<Position>) {
    let mut ml = cluster.open(small_ledgers()).await;
    let positions = append(&mut ml, 0..30).await;
    let list = ml.ledgers().clone();
    ml.close().await.unwrap();
    (list, positions)
}

#[tokio::test]
async fn a_cursor_is_durable_when_it_is_created() {
    let cluster = Cluster::start().await;
    let (list, positions) = topic(&cluster).await;
    let cursor = Cursor::new(positions[3].into());
    drop(create(&cluster, &cursor).await);
    assert_eq!(names(&cluster).await, ["sub/1"]);
    assert_eq!(recover(&cluster, &list).await.1, cursor);
    let config = MlConfig::default();
    let again = CursorStore::create(&cluster.env, &config, NAME, "sub/1", cursor.snapshot(), properties());
    assert!(matches!(again.await, Err(CursorError::Exists(_))));
    cluster.stop().await;
}

#[tokio::test]
async fn an_owner_that_vanished_loses_no_persisted_acknowledgement() {
    let cluster = Cluster::start().await;
    let (list, positions) = topic(&cluster).await;
    let mut cursor = Cursor::new(list.earliest());
    let mut store = create(&cluster, &cursor).await;
    for number in [0, 1, 5, 17, 29] {
        assert!(cursor.ack(positions[number], &list));
        cursor.ack_batch(positions[number + 1 - number / 29], &[0b10], 2, &list);
        store.persist(cursor.snapshot()).await.unwrap();
    }
    drop(store);
    let (mut store, mut recovered) = recover(&cluster, &list).await;
    assert_eq!(recovered, cursor);
    recovered.ack_cumulative(positions[20], None, &list);
    store.persist(recovered.snapshot()).await.unwrap();
    drop(store);
    assert_eq!(recover(&cluster, &list).await.1, recovered);
    cluster.stop().await;
}

#[tokio::test]
async fn an_older_owner_makes_nothing_durable() {
    let cluster = Cluster::start().await;
    let (list, positions) = topic(&cluster).await;
    let mut cursor = Cursor::new(list.earliest());
    let idle = create(&cluster, &cursor).await;
    let mut old = recover(&cluster, &list).await.0;
    old.persist(cursor.snapshot()).await.unwrap();
    let mut new = recover(&cluster, &list).await.0;
    cursor.ack(positions[0], &list);
    assert!(old.persist(cursor.snapshot()).await.unwrap_err().is_final());
    for older in [old, idle] {
        assert!(matches!(older.close(cursor.snapshot()).await, Err(CursorError::Fenced(_))));
    }
    new.persist(Cursor::new(positions[9].into()).snapshot()).await.unwrap();
    assert_eq!(recover(&cluster, &list).await.1.mark_delete(), positions[9].into());
    cluster.stop().await;
}

async fn ledger_of(cluster: &Cluster) -> Option<LedgerId> {
    let key = magnetar_common::layout::cursor(NAME, "sub/1");
    head::Head::decode(&cluster.env.metadata.get(&key).await.unwrap().unwrap().bytes).unwrap().ledger
}

#[tokio::test]
async fn a_cursors_ledger_is_there_exactly_as_long_as_the_head_names_it() {
    for applied in [false, true] {
        let cluster = Cluster::start().await;
        let (list, positions) = topic(&cluster).await;
        let (env, config) = (cluster.env_lost_after(2, applied), MlConfig::default());
        let mut cursor = Cursor::new(list.earliest());
        let created = CursorStore::create(&env, &config, NAME, "sub/1", cursor.snapshot(), properties());
        let mut store = created.await.unwrap();
        cursor.ack(positions[4], &list);
        store.persist(cursor.snapshot()).await.unwrap();
        let used = ledger_of(&cluster).await.expect("a ledger");
        // It would try again, but its owner is gone.
        assert!(store.close(cursor.snapshot()).now_or_never().is_none());
        assert_eq!(ledger_of(&cluster).await, Some(used).filter(|_| !applied));
        assert_eq!(cluster.ledger_exists(used).await, !applied);
        assert_eq!(recover(&cluster, &list).await.1, cursor);
        assert!(!cluster.ledger_exists(used).await);
        cluster.stop().await;
    }
}

#[tokio::test]
async fn a_cursor_closes_although_its_ledger_is_gone() {
    let cluster = Cluster::start().await;
    let (list, positions) = topic(&cluster).await;
    let mut cursor = Cursor::new(list.earliest());
    let mut store = create(&cluster, &cursor).await;
    cursor.ack(positions[4], &list);
    store.persist(cursor.snapshot()).await.unwrap();
    cluster.env.ledgers.delete(ledger_of(&cluster).await.expect("a ledger")).await.unwrap();
    store.close(cursor.snapshot()).await.unwrap();
    assert_eq!(ledger_of(&cluster).await, None);
    assert_eq!(recover(&cluster, &list).await.1, cursor);
    cluster.stop().await;
}

#[tokio::test]
async fn a_clean_close_folds_a_small_state_into_the_head_and_keeps_a_large_one_in_its_ledger() {
    let cluster = Cluster::start().await;
    let (list, positions) = topic(&cluster).await;
    let mut cursor = Cursor::new(list.earliest());
    let mut store = create(&cluster, &cursor).await;
    cursor.ack(positions[4], &list);
    store.persist(cursor.snapshot()).await.unwrap();
    let used = ledger_of(&cluster).await.expect("a ledger");
    store.close(cursor.snapshot()).await.unwrap();
    assert_eq!(ledger_of(&cluster).await, None);
    assert!(!cluster.ledger_exists(used).await);

    // An Apache broker that took over delivered batches again that were half acknowledged in the head.
    let (store, mut cursor) = recover(&cluster, &list).await;
    cursor.ack_batch(positions[6], &[0b10], 2, &list);
    store.close(cursor.snapshot()).await.unwrap();
    assert!(ledger_of(&cluster).await.is_some());
    assert_eq!(recover(&cluster, &list).await.1, cursor);

    let (mut store, mut cursor) = recover(&cluster, &list).await;
    cursor.set_properties((0..5000).map(|number| (format!("property {number}"), number)).collect());
    store.persist(cursor.snapshot()).await.unwrap();
    store.close(cursor.snapshot()).await.unwrap();
    assert!(ledger_of(&cluster).await.is_some());
    for _ in 0..2 {
        assert_eq!(recover(&cluster, &list).await.1, cursor);
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_deleted_cursor_is_gone_with_its_ledger() {
    let cluster = Cluster::start().await;
    let (list, _) = topic(&cluster).await;
    let cursor = Cursor::new(list.earliest());
    let mut store = create(&cluster, &cursor).await;
    store.persist(cursor.snapshot()).await.unwrap();
    store.delete().await.unwrap();
    assert_eq!(names(&cluster).await, Vec::<String>::new());
    let mut store = create(&cluster, &cursor).await;
    store.persist(cursor.snapshot()).await.unwrap();
    for _ in 0..2 {
        CursorStore::remove(&cluster.env, &MlConfig::default(), NAME, "sub/1").await.unwrap();
    }
    assert_eq!(names(&cluster).await, Vec::<String>::new());
    cluster.stop().await;
}

/// A subscription that acknowledged every other one of two million entries, and one message of each of 1 000 batches.
fn a_million_holes() -> (LedgerList, Cursor) {
    let state = LedgerState::Closed { entries: 2_000_000, size: 1, closed_at_ms: 1 };
    let list = LedgerList::new(BTreeMap::from([(LedgerId(1_000), LedgerInfo::new(state))]));
    let mut cursor = Cursor::new(list.earliest());
    for number in 0..1_000_000 {
        assert!(cursor.ack(Position::new(LedgerId(1_000), EntryId(2 * number + 1)), &list));
    }
    for number in 0..1_000 {
        let batch = Position::new(LedgerId(1_000), EntryId(2_000 * number));
        assert_eq!(cursor.ack_batch(batch, &[0b10], 2, &list), AckOutcome::Partly { newly: 1 });
    }
    (list, cursor)
}

#[tokio::test]
async fn a_million_holes_survive_twenty_owners_that_vanish() {
    let cluster = Cluster::start().await;
    let (list, mut cursor) = a_million_holes();
    let mut store = create(&cluster, &Cursor::new(list.earliest())).await;
    for owner in 0..20 {
        let batch = Position::new(LedgerId(1_000), EntryId(2_000 * owner + 2));
        cursor.ack_batch(batch, &[0b1], 2, &list);
        cursor.ack(Position::new(LedgerId(1_000), EntryId(2_000 * owner + 4)), &list);
        store.persist(cursor.snapshot()).await.unwrap();
        drop(store);
        let (next, recovered) = recover(&cluster, &list).await;
        assert!(recovered == cursor, "owner {owner} lost an acknowledgement");
        store = next;
    }
    assert_eq!(cursor.individually_acked(), 1_000_020);
    cluster.stop().await;
}

#[tokio::test]
async fn a_state_larger_than_an_entry_survives_and_a_torn_write_of_it_is_passed_over() {
    let cluster = Cluster::start().await;
    let (list, mut cursor) = a_million_holes();
    for number in 0..90_000 {
        let batch = Position::new(LedgerId(1_000), EntryId(2 * number));
        cursor.ack_batch(batch, &[u64::MAX - 1, 1], 65, &list);
    }
    let mut store = create(&cluster, &cursor).await;
    assert!(store.persist(cursor.snapshot()).await.unwrap() > 2 << 20);
    drop(store);
    let (mut store, recovered) = recover(&cluster, &list).await;
    assert!(recovered == cursor);
    store.persist(cursor.snapshot()).await.unwrap();
    store.append_torn(cursor.snapshot()).await;
    drop(store);
    let (store, recovered) = recover(&cluster, &list).await;
    assert!(recovered == cursor);
    store.close(recovered.snapshot()).await.unwrap();
    assert!(recover(&cluster, &list).await.1 == cursor);
    cluster.stop().await;
}

#[tokio::test]
async fn a_cursor_that_was_written_after_it_was_listed_is_recovered_as_it_is() {
    let cluster = Cluster::start().await;
    let (list, positions) = topic(&cluster).await;
    let cursor = Cursor::new(positions[3].into());
    let mut store = create(&cluster, &cursor).await;
    let listed = CursorStore::list(&cluster.env, NAME).await.unwrap().pop();
    let later = Cursor::new(positions[9].into());
    store.persist(later.snapshot()).await.unwrap();
    let config = MlConfig::default();
    let recovered = CursorStore::recover(&cluster.env, &config, NAME, "sub/1", listed, &list).await;
    assert_eq!(recovered.unwrap().1, later);
    cluster.stop().await;
}
