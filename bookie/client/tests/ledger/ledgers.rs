//! Writing, reading, closing, recovering, fencing and deleting.

use crate::cluster::{Cluster, append, failure, options, payload, payloads, read_all};
use magnetar_ledger::LedgerError;
use magnetar_proto::ids::EntryId;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_entries_are_read_back_before_and_after_closing() {
    let cluster = Cluster::start(3).await;
    let mut writer = cluster.client.create(options()).await.expect("a ledger");
    append(&mut writer, 0..10_000).await;
    let id = writer.id();
    assert_eq!(read_all(&writer.reader(), 9_999).await, payloads(10_000));
    let closed = writer.close().await.expect("closed");
    assert_eq!(closed.last_entry, Some(EntryId(9_999)));
    let reader = Cluster::client(&cluster.metadata).await.open(id, b"").await.expect("a reader");
    assert_eq!((reader.last_entry(), reader.length()), (closed.last_entry, closed.length));
    assert_eq!(read_all(&reader, 9_999).await, payloads(10_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_whose_writer_vanished_is_recovered_with_everything_acknowledged() {
    let cluster = Cluster::start(3).await;
    let mut writer = cluster.client.create(options()).await.expect("a ledger");
    append(&mut writer, 0..500).await;
    let id = writer.id();
    for number in 500..520 {
        writer.append(payload(number)).expect("open");
    }
    drop(writer);
    let reader = cluster.client.recover(id, b"").await.expect("recovered");
    let last = reader.last_entry().expect("entries").0;
    assert!((499..520).contains(&last), "{last}");
    assert_eq!(read_all(&reader, last).await, payloads(last + 1));
    assert_eq!(reader.length(), payloads(last + 1).iter().map(|payload| payload.len() as u64).sum::<u64>());
    let again = cluster.client.recover(id, b"").await.expect("idempotent");
    assert_eq!(again.last_entry(), reader.last_entry());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_writer_is_fenced_by_a_recovery_and_never_acknowledged_again() {
    let cluster = Cluster::start(3).await;
    let mut writer = cluster.client.create(options()).await.expect("a ledger");
    append(&mut writer, 0..10).await;
    let other = Cluster::client(&cluster.metadata).await;
    let reader = other.recover(writer.id(), b"").await.expect("recovered");
    assert_eq!(reader.last_entry(), Some(EntryId(9)));
    let id = writer.id();
    writer.append(payload(10)).expect("it does not know yet");
    assert_eq!(failure(&mut writer).await, LedgerError::Fenced(id));
    assert!(writer.append(payload(11)).is_err());
    // Both agree about the end, so closing it there is no contradiction.
    assert_eq!(writer.close().await.map(|closed| closed.last_entry), Ok(Some(EntryId(9))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_one_of_three_bookies_gone_writing_reading_and_recovery_go_on() {
    let mut cluster = Cluster::start(3).await;
    let mut writer = cluster.client.create(options()).await.expect("a ledger");
    append(&mut writer, 0..100).await;
    cluster.stop_first_of(&writer).await;
    append(&mut writer, 100..200).await;
    assert_eq!(read_all(&writer.reader(), 199).await, payloads(200));
    let id = writer.id();
    drop(writer);
    let reader = cluster.client.recover(id, b"").await.expect("recovered");
    assert_eq!(read_all(&reader, 199).await, payloads(200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spare_bookie_takes_the_place_of_a_failed_one() {
    let mut cluster = Cluster::start(4).await;
    let mut writer = cluster.client.create(options()).await.expect("a ledger");
    append(&mut writer, 0..100).await;
    let before = cluster.client.metadata(writer.id()).await.expect("metadata");
    cluster.stop_first_of(&writer).await;
    append(&mut writer, 100..200).await;
    // The change may follow the acknowledgements of the two that are left.
    let mut number = 200;
    while cluster.client.metadata(writer.id()).await.expect("metadata").segments.len() < 2 {
        append(&mut writer, number..number + 1).await;
        number += 1;
    }
    let after = cluster.client.metadata(writer.id()).await.expect("metadata");
    assert_ne!(after.last_segment().1[0], before.last_segment().1[0]);
    let id = writer.id();
    assert_eq!(writer.close().await.expect("closed").last_entry, Some(EntryId(number - 1)));
    let reader = cluster.client.open(id, b"").await.expect("a reader");
    assert_eq!(read_all(&reader, number - 1).await, payloads(number));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_two_of_three_bookies_gone_nothing_is_acknowledged() {
    let mut cluster = Cluster::start(3).await;
    let mut writer = cluster.client.create(options()).await.expect("a ledger");
    append(&mut writer, 0..10).await;
    cluster.stop(0).await;
    cluster.stop(1).await;
    writer.append(payload(10)).expect("open");
    assert!(matches!(failure(&mut writer).await, LedgerError::NotEnoughBookies { .. }));
    assert!(matches!(
        cluster.client.recover(writer.id(), b"").await.err(),
        Some(LedgerError::NotEnoughBookies { .. })
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_deleted_and_foreign_ledgers_are_told_apart() {
    let cluster = Cluster::start(3).await;
    let writer = cluster.client.create(options()).await.expect("a ledger");
    let id = writer.id();
    drop(writer);
    assert_eq!(cluster.client.recover(id, b"other").await.err(), Some(LedgerError::Unauthorized(id)));
    let reader = cluster.client.recover(id, b"").await.expect("recovered");
    assert_eq!((reader.last_entry(), reader.length()), (None, 0));
    cluster.client.delete(id).await.expect("deleted");
    assert_eq!(cluster.client.delete(id).await, Err(LedgerError::NoSuchLedger(id)));
    assert_eq!(cluster.client.open(id, b"").await.err(), Some(LedgerError::NoSuchLedger(id)));
}
