//! Reading from bookies that are damaged, old or slow.

use crate::cluster::{Cluster, append, options, payload, payloads, read_all};
use crate::proxy::{BATCH_READ, READ};
use bytes::Bytes;
use magnetar_ledger::{ClientConfig, LedgerError, LedgerOptions};
use magnetar_proto::ids::EntryId;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_copy_is_reported_and_never_given() {
    let cluster = Cluster::start(3).await;
    let mut writer = cluster.client.create(options()).await.expect("a ledger");
    let id = writer.id();
    append(&mut writer, 0..200).await;
    writer.close().await.expect("closed");
    // On the bookie that is asked first, and on another one.
    let record = cluster.client.metadata(id).await.expect("metadata");
    let ensemble = record.last_segment().1.to_vec();
    let first = ensemble[usize::try_from(id.0 % 3).expect("small")].clone();
    let second = ensemble[usize::try_from((id.0 + 1) % 3).expect("small")].clone();
    // What is overwritten must be there: of two copies the later one counts.
    for bookie in 0..3 {
        while !cluster.holds(bookie, id, 199).await {
            tokio::task::yield_now().await;
        }
    }
    cluster.overwrite(&first, id, 77).await;
    cluster.overwrite(&first, id, 99).await;
    cluster.overwrite(&second, id, 99).await;
    let reader = cluster.client.open(id, b"").await.expect("a reader");
    assert_eq!(read_all(&reader, 199).await, payloads(200));
    let told = cluster.client.bad_replicas();
    let mut bad: Vec<_> = told.recent.iter().map(|bad| (bad.entry, bad.bookie.clone())).collect();
    bad.sort();
    let mut expected = vec![
        (Some(EntryId(77)), first.clone()),
        (Some(EntryId(99)), first.clone()),
        (Some(EntryId(99)), second.clone()),
    ];
    expected.sort();
    assert_eq!(bad, expected);
    assert!(told.total >= 3, "{told:?}");

    // With no good copy left, the error says so, and says nothing of absence.
    for bookie in &ensemble {
        cluster.overwrite(bookie, id, 5).await;
    }
    let reader = Cluster::client(&cluster.metadata).await.open(id, b"").await.expect("a reader");
    let error = reader.read(EntryId(5), EntryId(5), 1 << 20).await.err();
    assert!(matches!(error, Some(LedgerError::Unreadable { .. })), "{error:?}");
    assert_eq!(reader.read(EntryId(0), EntryId(9), 1 << 20).await.expect("those before it").len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_entries_come_with_one_request_and_one_by_one_from_a_bookie_that_knows_no_batches() {
    let cluster = Cluster::start(1).await;
    let proxy = cluster.proxy(0).await;
    let client = Cluster::client(&cluster.metadata).await;
    let one = LedgerOptions { ensemble: 1, write_quorum: 1, ack_quorum: 1, ..options() };
    let mut writer = client.create(one.clone()).await.expect("a ledger");
    append(&mut writer, 0..5_000).await;
    let reader = writer.reader();
    assert_eq!(read_all(&reader, 4_999).await, payloads(5_000));
    let (batches, singles) = (proxy.faults.seen(BATCH_READ), proxy.faults.seen(READ));
    assert!((1..10).contains(&batches) && singles == 0, "{batches} batches, {singles} singles");

    // Only the entry after them tells the bookie that they are confirmed.
    append(&mut writer, 5_000..5_001).await;
    // An old bookie closes the connection. A client that has not met it before finds out by itself, and its writer,
    // which has a connection of its own, notices nothing.
    proxy.faults.close_on(BATCH_READ);
    let other = Cluster::client(&cluster.metadata).await;
    let mut busy = other.create(one).await.expect("a ledger");
    append(&mut busy, 0..10).await;
    let reader = other.open(writer.id(), b"").await.expect("a reader");
    let last = reader.last_entry().expect("entries");
    assert_eq!(read_all(&reader, last.0).await, payloads(last.0 + 1));
    append(&mut busy, 10..20).await;
    assert_eq!(proxy.faults.seen(BATCH_READ), batches + 1, "asked once");
    assert!(proxy.faults.seen(READ) > last.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_replica_is_asked_when_the_first_takes_long() {
    let cluster = Cluster::start(3).await;
    let mut writer = cluster.client.create(options()).await.expect("a ledger");
    append(&mut writer, 0..100).await;
    let id = writer.id();
    let record = cluster.client.metadata(id).await.expect("metadata");
    let first = record.last_segment().1[usize::try_from(id.0 % 3).expect("small")].clone();
    let proxy = cluster.proxy_before(&first).await;
    let config = ClientConfig { read_ahead_bytes_max: 0, ..ClientConfig::default() };
    let client = Cluster::client_with(&cluster.metadata, config).await;
    writer.close().await.expect("closed");
    let reader = client.open(id, b"").await.expect("a reader");
    let read = async |entry: u64| reader.read(EntryId(entry), EntryId(entry), 1).await.expect("an entry");
    // So many that what is usual is known, and some second reads are allowed.
    for entry in (0..100).cycle().take(400) {
        read(entry).await;
    }
    let long = Duration::from_secs(3600);
    proxy.faults.delay(READ, long);
    for entry in 0..5 {
        assert_eq!(read(entry).await, [(EntryId(entry), payload(entry))]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_goes_on_finds_its_entries_loaded_within_the_budget() {
    let cluster = Cluster::start(1).await;
    let proxy = cluster.proxy(0).await;
    let client = Cluster::client(&cluster.metadata).await;
    let one = LedgerOptions { ensemble: 1, write_quorum: 1, ack_quorum: 1, ..options() };
    let mut writer = client.create(one).await.expect("a ledger");
    let entries: Vec<Bytes> = (0..64_u8).map(|number| Bytes::from(vec![number; 1_000])).collect();
    for entry in &entries {
        writer.append(entry.clone()).expect("open");
    }
    crate::cluster::confirmed(&mut writer, 63).await;
    let reader = writer.reader();
    let read = async |first: u64, bytes: usize| {
        let read = reader.read(EntryId(first), EntryId(63), bytes).await.expect("entries");
        assert!(read.iter().all(|(id, payload)| *payload == entries[usize::try_from(id.0).expect("small")]));
        read.len() as u64
    };
    assert_eq!(read(0, 8_000).await, 8);
    assert_eq!(proxy.faults.seen(BATCH_READ), 1, "the first read says nothing of the next");
    assert_eq!(read(8, 8_000).await, 8);
    // The entries from 16 on come by themselves.
    while proxy.faults.seen(BATCH_READ) < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(read(16, 4_000).await, 4);
    assert_eq!(read(20, 8_000).await, 4, "the rest of what was loaded");
    assert_eq!(read(50, 8_000).await, 8);
    assert_eq!(reader.read(EntryId(63), EntryId(63), 1).await.expect("the last").len(), 1);
}
