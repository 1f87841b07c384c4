//! What passes from one owner of a managed ledger to the next, in one step of the metadata store each.

use super::test_cluster::{Cluster, NAME, append, payload, read_all};
use super::*;
use futures_util::FutureExt;
use magnetar_common::clock::ManualClock;
use magnetar_common::layout;
use magnetar_common::metadata::{Expect, WatchEvent};
use magnetar_proto::bookkeeper::paths::{ledger_path, parse_ledger_path};
use magnetar_proto::ids::LedgerId;
use std::collections::BTreeSet;
use std::time::Duration;

async fn open_with(cluster: &Cluster, env: MlEnv) -> Result<ManagedLedger, MlError> {
    let found = ManagedLedger::look(&cluster.env, NAME, true).await.unwrap();
    ManagedLedger::open_found(env, NAME, MlConfig::default(), found).await
}

async fn open_to_write(cluster: &Cluster) -> ManagedLedger {
    open_with(cluster, cluster.env.clone()).await.unwrap()
}

async fn record_version(cluster: &Cluster) -> u64 {
    cluster.env.metadata.get(&layout::managed_ledger(NAME)).await.unwrap().unwrap().version.0
}

async fn ledgers(cluster: &Cluster) -> BTreeSet<LedgerId> {
    let keys = cluster.env.metadata.scan("/ledgers/", None, usize::MAX).await.unwrap();
    keys.iter().filter_map(|(key, _)| parse_ledger_path(key)).collect()
}

fn listed(ml: &ManagedLedger) -> BTreeSet<LedgerId> {
    ml.ledgers().iter().map(|(id, _)| id).collect()
}

#[tokio::test]
async fn a_topic_changes_its_owner_by_a_write_of_the_old_one_and_one_of_the_new_one() {
    let cluster = Cluster::start().await;
    let mut first = open_to_write(&cluster).await;
    assert!(first.is_writable());
    let mut positions = append(&mut first, 0..3).await;
    let version = record_version(&cluster).await;
    let of_ledger = cluster.env.metadata.get(&ledger_path(*listed(&first).first().unwrap())).await.unwrap();
    assert_eq!(of_ledger.map(|value| value.version.0), Some(version), "made together with its first ledger");
    let mut changes = cluster.env.metadata.watch(&layout::managed_ledger(NAME));
    first.close().await.unwrap();
    let mut second = open_to_write(&cluster).await;
    assert!(second.is_writable());
    let mut count = 0;
    while let Some(Some(WatchEvent::Changed { .. })) = changes.next().now_or_never() {
        count += 1;
    }
    assert_eq!(count, 2);
    positions.extend(append(&mut second, 3..5).await);
    assert!(positions.is_sorted());
    let expected: Vec<_> =
        positions.iter().enumerate().map(|(number, position)| (*position, payload(number))).collect();
    assert_eq!(read_all(&second).await, expected);
    cluster.stop().await;
}

/// A cursor at the end of a topic stands behind its newest ledger, which goes if it stays empty.
#[tokio::test]
async fn a_ledger_that_was_made_and_deleted_since_the_look_leaves_no_room_for_a_lower_id() {
    let cluster = Cluster::start().await;
    let found = ManagedLedger::look(&cluster.env, NAME, true).await.unwrap();
    let between = open_to_write(&cluster).await;
    let (end, gone) = (between.latest(), *listed(&between).first().unwrap());
    between.close().await.unwrap();
    assert!(ledgers(&cluster).await.is_empty());
    let mut opened =
        ManagedLedger::open_found(cluster.env.clone(), NAME, MlConfig::default(), found).await.unwrap();
    let position = append(&mut opened, 0..1).await[0];
    assert!(position.ledger_id > gone);
    assert!(!end.covers(position), "the cursor would never give it to anybody");
    cluster.stop().await;
}

/// Its place in the list and the ledger go in one step, which may come between the two reads of the next owner.
#[tokio::test]
async fn an_empty_ledger_that_went_since_the_look_is_no_hindrance_and_one_that_is_only_missing_is() {
    let cluster = Cluster::start().await;
    let first = open_to_write(&cluster).await;
    let found = ManagedLedger::look(&cluster.env, NAME, true).await.unwrap();
    first.close().await.unwrap();
    let second =
        ManagedLedger::open_found(cluster.env.clone(), NAME, MlConfig::default(), found).await.unwrap();
    assert!(second.is_writable());
    let missing = *listed(&second).first().unwrap();
    cluster.env.ledgers.delete(missing).await.unwrap();
    let Err(error) = open_with(&cluster, cluster.env.clone()).await else { panic!("{missing} is gone") };
    assert!(matches!(error, MlError::Ledger(_)), "{error}");
    cluster.stop().await;
}

#[tokio::test]
async fn an_id_that_somebody_took_is_replaced() {
    let cluster = Cluster::start().await;
    let found = ManagedLedger::look(&cluster.env, NAME, true).await.unwrap();
    // The next id is that of the ledger to be made, plus one.
    let next = cluster.env.ledgers.new_id().await.unwrap();
    let taken = LedgerId(next.0 - 1);
    let options = MlConfig::default().ledger_options("another", None);
    assert!(cluster.env.ledgers.create_as(taken, options).await.unwrap().is_some());
    let mut opened =
        ManagedLedger::open_found(cluster.env.clone(), NAME, MlConfig::default(), found).await.unwrap();
    assert!(append(&mut opened, 0..1).await[0].ledger_id > next);
    cluster.stop().await;
}

#[tokio::test]
async fn a_terminated_topic_is_opened_without_a_ledger_to_write_to() {
    let cluster = Cluster::start().await;
    let mut ended = open_to_write(&cluster).await;
    append(&mut ended, 0..1).await;
    ended.terminate().await.unwrap();
    ended.close().await.unwrap();
    let before = ledgers(&cluster).await;
    assert!(!open_to_write(&cluster).await.is_writable());
    assert_eq!(ledgers(&cluster).await, before);
    cluster.stop().await;
}

/// The crash is put before and behind every write of an owner that opens the topic, writes to it, and hands it on.
#[tokio::test]
async fn wherever_an_owner_crashes_every_ledger_is_listed_and_every_listed_one_is_there() {
    let cluster = Cluster::start().await;
    let mut written = 0;
    for (crash, applies) in (0..4).flat_map(|crash| [(crash, false), (crash, true)]) {
        let env = cluster.env_lost_after(crash, applies);
        if let Ok(mut owner) = open_with(&cluster, env).await {
            if applies {
                append(&mut owner, written..written + 2).await;
                written += 2;
            }
            // Whether it hears of its own end makes no difference.
            let _ = owner.close().await;
        }
        let next = cluster.open(MlConfig::default()).await;
        assert_eq!(listed(&next), ledgers(&cluster).await, "crash {crash}, applied {applies}");
        assert_eq!(read_all(&next).await.len(), written);
        drop(next);
    }
    assert!(written > 2, "some of them wrote");
    cluster.stop().await;
}

#[tokio::test]
async fn a_ledger_whose_record_was_changed_meanwhile_is_closed_step_by_step() {
    let cluster = Cluster::start().await;
    let mut ml = open_to_write(&cluster).await;
    let positions = append(&mut ml, 0..3).await;
    let key = ledger_path(positions[0].ledger_id);
    let found = cluster.env.metadata.get(&key).await.unwrap().unwrap();
    cluster.env.metadata.put(&key, found.bytes, Expect::Version(found.version)).await.unwrap();
    ml.close().await.unwrap();
    let next = cluster.open(MlConfig::default()).await;
    let states: Vec<LedgerState> = next.ledgers().iter().map(|(_, info)| info.state).collect();
    assert!(matches!(states[..], [LedgerState::Closed { entries: 3, .. }]), "{states:?}");
    cluster.stop().await;
}

/// With equal bytes it could not be told whose write it was: the old owner took the new one's version for that of its own
/// write, and fenced it with the next.
#[tokio::test]
async fn a_write_whose_answer_is_lost_is_not_taken_for_that_of_the_next_owner() {
    let cluster = Cluster::start().await;
    let to_read = async |env: MlEnv| {
        let found = ManagedLedger::look(&cluster.env, NAME, false).await.unwrap();
        ManagedLedger::open_found(env, NAME, MlConfig::default(), found).await.unwrap()
    };
    let clock = ManualClock::new();
    let mut old = to_read(MlEnv { clock: clock.clone(), ..cluster.env_lost_after(1, true) }).await;
    let before = record_version(&cluster).await;
    let write = tokio::spawn(async move { old.set_property("a", "b").await });
    while record_version(&cluster).await == before {
        tokio::task::yield_now().await;
    }
    let mut new = to_read(cluster.env.clone()).await;
    let version = record_version(&cluster).await;
    // It tries again after a pause that may not have begun yet.
    while !write.is_finished() {
        clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    let outcome = write.await.unwrap();
    assert!(matches!(outcome, Err(MlError::Fenced(_))), "{outcome:?}");
    assert_eq!(record_version(&cluster).await, version);
    new.set_property("c", "d").await.unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn an_owner_that_was_overtaken_changes_nothing_when_it_closes() {
    let cluster = Cluster::start().await;
    let mut old = open_to_write(&cluster).await;
    append(&mut old, 0..3).await;
    let new = open_to_write(&cluster).await;
    let version = record_version(&cluster).await;
    assert!(old.close().await.is_err());
    assert_eq!(record_version(&cluster).await, version);
    assert_eq!(read_all(&new).await.len(), 3);
    cluster.stop().await;
}
