//! Managed ledgers over three real bookies.

use super::test_cluster::{Cluster, NAME, append, confirmed, payload, read_all, small_ledgers};
use super::test_store::Lost;
use super::*;
use futures_util::FutureExt;
use magnetar_common::layout;
use magnetar_proto::ids::Position;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn numbered(positions: &[Position]) -> Vec<(Position, bytes::Bytes)> {
    positions.iter().enumerate().map(|(number, position)| (*position, payload(number))).collect()
}

#[tokio::test]
async fn an_owner_that_vanished_loses_no_confirmed_entry() {
    let cluster = Cluster::start().await;
    let mut first = cluster.open(MlConfig::default()).await;
    let mut positions = append(&mut first, 0..50).await;
    drop(first);
    let mut second = cluster.open(MlConfig::default()).await;
    assert_eq!(second.last_confirmed(), positions.last().copied());
    positions.extend(append(&mut second, 50..60).await);
    assert!(positions.is_sorted());
    assert_eq!(read_all(&second).await, numbered(&positions));
    second.close().await.unwrap();
    let third = cluster.open(MlConfig::default()).await;
    assert_eq!(read_all(&third).await, numbered(&positions));
    cluster.stop().await;
}

#[tokio::test]
async fn rollover_keeps_order_and_next_may_be_dropped_at_any_time() {
    let cluster = Cluster::start().await;
    let mut ml = cluster.open(small_ledgers()).await;
    ml.make_writable().await.unwrap();
    let mut positions = Vec::new();
    let mut last = None;
    for number in 0..300 {
        positions.push(ml.append(payload(number)).unwrap());
        // Polled once and dropped: whatever was under way must go on the next time.
        if let Some(MlEvent::Confirmed { up_to }) = ml.next().now_or_never() {
            assert!(last < Some(up_to), "confirmations ascend");
            last = Some(up_to);
        }
        tokio::task::yield_now().await;
    }
    confirmed(&mut ml, *positions.last().unwrap()).await;
    assert!(ml.ledgers().len() > 1, "it has rolled over");
    assert!(positions.is_sorted_by(|a, b| a < b));
    assert_eq!(read_all(&ml).await, numbered(&positions));
    drop(ml);
    let reopened = cluster.open(small_ledgers()).await;
    assert_eq!(read_all(&reopened).await, numbered(&positions));
    assert_eq!(reopened.stats().entries, 300);
    cluster.stop().await;
}

#[tokio::test]
async fn an_older_owner_gets_nothing_confirmed() {
    let cluster = Cluster::start().await;
    let mut old = cluster.open(MlConfig::default()).await;
    let positions = append(&mut old, 0..5).await;
    let mut idle = cluster.open(MlConfig::default()).await;
    let new = cluster.open(MlConfig::default()).await;
    old.append(payload(99)).unwrap();
    let failed = loop {
        match old.next().await {
            MlEvent::Failed(error) => break error,
            MlEvent::Confirmed { .. } => panic!("confirmed after it was fenced"),
            _ => {}
        }
    };
    assert!(matches!(failed, MlError::Ledger(_)), "{failed}");
    assert_eq!(old.append(payload(100)).unwrap_err().reason, Refusal::Failed);
    assert!(matches!(idle.make_writable().await, Err(MlError::Fenced(_))), "it may not list a ledger");
    assert_eq!(read_all(&new).await, numbered(&positions));
    cluster.stop().await;
}

#[tokio::test]
async fn a_failed_managed_ledger_can_be_opened_anew() {
    let cluster = Cluster::start().await;
    let mut ml = cluster.open(MlConfig::default()).await;
    let mut positions = append(&mut ml, 0..5).await;
    drop(cluster.open(MlConfig::default()).await);
    ml.append(payload(99)).unwrap();
    while !matches!(ml.next().await, MlEvent::Failed(_)) {}
    ml.reopen().await.unwrap();
    positions.extend(append(&mut ml, 5..8).await);
    assert_eq!(read_all(&ml).await, numbered(&positions));
    cluster.stop().await;
}

#[tokio::test]
async fn trimmed_ledgers_are_deleted_and_the_rest_stays_readable() {
    let cluster = Cluster::start().await;
    let mut ml = cluster.open(small_ledgers()).await;
    let mut positions = Vec::new();
    for round in 0..4 {
        positions.extend(append(&mut ml, round * 10..(round + 1) * 10).await);
        while !matches!(ml.next().await, MlEvent::RolledOver { .. }) {}
    }
    let reader = ml.reader();
    let first = ml.ledgers().iter().next().unwrap().0;
    assert_eq!(ml.trim(Some(positions[5].into())), 0, "the first ledger is still needed");
    assert_eq!(ml.trim(Some(positions[25].into())), 2);
    assert_eq!(ml.ledgers().first_position(), Some(positions[20]));
    let read = reader.read(positions[0], 1, 100, positions[39]).await.unwrap();
    assert_eq!(read, [(positions[20], payload(20))]);
    ml.close().await.unwrap();
    assert!(!cluster.ledger_exists(first).await);
    let reopened = cluster.open(small_ledgers()).await;
    assert_eq!(read_all(&reopened).await, numbered(&positions)[20..]);
    cluster.stop().await;
}

/// They stayed until something else happened to the topic.
#[tokio::test]
async fn what_could_leave_while_other_ledgers_were_leaving_is_told_when_those_are_gone() {
    let cluster = Cluster::start().await;
    let mut ml = cluster.open(small_ledgers()).await;
    let mut positions = Vec::new();
    for round in 0..4 {
        positions.extend(append(&mut ml, round * 10..(round + 1) * 10).await);
        while !matches!(ml.next().await, MlEvent::RolledOver { .. }) {}
    }
    assert_eq!(ml.trim(Some(positions[15].into())), 1);
    assert_eq!(ml.trim(Some(positions[25].into())), 0, "not yet");
    let told = async { while !matches!(ml.next().await, MlEvent::Trimmable) {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), told).await.expect("told");
    assert_eq!(ml.trim(Some(positions[25].into())), 1);
    cluster.stop().await;
}

/// They stayed for ever: nobody knows of a ledger that no list names.
#[tokio::test]
async fn a_topic_whose_deletion_was_not_answered_leaves_no_ledgers() {
    let cluster = Cluster::start().await;
    let store = Arc::new(Lost {
        store: cluster.env.metadata.clone(),
        left: AtomicUsize::new(usize::MAX),
        applies: true,
    });
    let env = MlEnv { metadata: store.clone(), ..cluster.env.clone() };
    let mut ml = ManagedLedger::open(env, NAME, small_ledgers()).await.unwrap();
    append(&mut ml, 0..3).await;
    let ledger = ml.ledgers().iter().next().unwrap().0;
    store.left.store(0, Ordering::Release);
    ml.delete().await.unwrap();
    assert!(!cluster.ledger_exists(ledger).await);
    cluster.stop().await;
}

#[tokio::test]
async fn a_clean_close_leaves_nothing_to_recover_and_no_empty_ledger() {
    let cluster = Cluster::start().await;
    let mut ml = cluster.open(MlConfig::default()).await;
    ml.make_writable().await.unwrap();
    let empty = ml.ledgers().iter().next().unwrap().0;
    ml.close().await.unwrap();
    assert!(!cluster.ledger_exists(empty).await);
    let mut ml = cluster.open(MlConfig::default()).await;
    assert!(ml.ledgers().is_empty());
    append(&mut ml, 0..3).await;
    ml.close().await.unwrap();
    let ml = cluster.open(MlConfig::default()).await;
    let states: Vec<LedgerState> = ml.ledgers().iter().map(|(_, info)| info.state).collect();
    assert!(matches!(states[..], [LedgerState::Closed { entries: 3, size: 21, .. }]), "{states:?}");
    cluster.stop().await;
}

#[tokio::test]
async fn a_terminated_topic_takes_no_appends_again_and_keeps_its_properties() {
    let cluster = Cluster::start().await;
    let mut ml = cluster.open(MlConfig::default()).await;
    ml.set_property(TOPIC_EPOCH_PROPERTY, "7").await.unwrap();
    let positions = append(&mut ml, 0..3).await;
    let unconfirmed = ml.append(payload(3)).unwrap();
    assert_eq!(ml.terminate().await.unwrap(), unconfirmed.into());
    assert_eq!(ml.append(payload(4)).unwrap_err().reason, Refusal::Terminated);
    drop(ml);
    let mut ml = cluster.open(MlConfig::default()).await;
    assert_eq!(ml.property(TOPIC_EPOCH_PROPERTY), Some("7"));
    assert_eq!(ml.terminated(), Some(unconfirmed.into()));
    assert_eq!(ml.append(payload(4)).unwrap_err().reason, Refusal::Terminated);
    assert_eq!(read_all(&ml).await.len(), positions.len() + 1);
    cluster.stop().await;
}

#[tokio::test]
async fn a_deleted_topic_leaves_neither_record_nor_ledgers() {
    let cluster = Cluster::start().await;
    let mut ml = cluster.open(small_ledgers()).await;
    append(&mut ml, 0..25).await;
    let ledgers: Vec<_> = ml.ledgers().iter().map(|(id, _)| id).collect();
    ml.delete().await.unwrap();
    assert!(!exists(&cluster.env.metadata, NAME).await.unwrap());
    assert_eq!(cluster.env.metadata.get(&layout::managed_ledger(NAME)).await.unwrap(), None);
    for id in ledgers {
        assert!(!cluster.ledger_exists(id).await);
    }
    cluster.stop().await;
}
