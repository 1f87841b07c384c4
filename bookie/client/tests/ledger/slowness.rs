//! Bookies that are slow, and a metadata store that is silent: what a writer does, and what it bounds.

use crate::cluster::{Cluster, append, confirmed, options, payload, payloads, read_all};
use crate::proxy::ADD;
use crate::silent::Silent;
use bytes::Bytes;
use magnetar_common::Environment;
use magnetar_ledger::protocol::slow_bookies::SlowConfig;
use magnetar_ledger::{Client, ClientConfig, Event, LedgerError, LedgerOptions, Writer};
use magnetar_proto::bookkeeper::BookieId;
use std::time::Duration;

/// As the default, but quick to judge and quick to forgive.
fn quick() -> ClientConfig {
    let slow = SlowConfig {
        windows: 2,
        probe_pause: Duration::from_millis(100),
        verdict_pause: Duration::from_millis(100),
        ..SlowConfig::default()
    };
    ClientConfig { slow, ..ClientConfig::default() }
}

async fn ensemble(client: &Client, writer: &Writer) -> Vec<BookieId> {
    client.metadata(writer.id()).await.expect("metadata").last_segment().1.to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_bookie_is_replaced_and_comes_back_once_it_is_quick_again() {
    let cluster = Cluster::start(4).await;
    let slow = BookieId::new("bookie-0").expect("an id");
    let proxy = cluster.proxy_before(&slow).await;
    proxy.faults.delay(ADD, Duration::from_secs(2));
    let client = Cluster::client_with(&cluster.metadata, quick()).await;
    let mut number = 0;
    let mut writer = loop {
        let mut candidate = client.create(options()).await.expect("a ledger");
        if ensemble(&client, &candidate).await.contains(&slow) {
            append(&mut candidate, 0..1).await;
            number += 1;
            break candidate;
        }
    };
    while ensemble(&client, &writer).await.contains(&slow) {
        append(&mut writer, number..number + 1).await;
        number += 1;
    }
    append(&mut writer, number..number + 10).await;
    assert_eq!(read_all(&writer.reader(), number + 9).await, payloads(number + 10));
    // New ledgers do without it, too.
    let other = client.create(options()).await.expect("a ledger");
    assert!(!ensemble(&client, &other).await.contains(&slow));
    proxy.faults.delay(ADD, Duration::ZERO);
    while !ensemble(&client, &client.create(options()).await.expect("a ledger")).await.contains(&slow) {
        append(&mut writer, number + 10..number + 11).await;
        number += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_hanging_bookie_holds_on_to_is_bounded_and_stops_nobody() {
    let cluster = Cluster::start(3).await;
    let victim = BookieId::new("bookie-1").expect("an id");
    let proxy = cluster.proxy_before(&victim).await;
    proxy.faults.delay(ADD, Duration::from_secs(3600));
    let lag = 1 << 20;
    let config = ClientConfig { lag_bytes_max: lag, ..quick() };
    let client = Cluster::client_with(&cluster.metadata, config).await;
    let mut writer = client.create(options()).await.expect("a ledger");
    let entry = Bytes::from(vec![1; 64 << 10]);
    for number in 0..64 {
        writer.append(entry.clone()).expect("open");
        confirmed(&mut writer, number).await;
        assert!(writer.unanswered_bytes() <= lag + entry.len(), "{}", writer.unanswered_bytes());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_goes_on_without_a_failed_bookie_while_the_metadata_store_is_silent() {
    let mut cluster = Cluster::start(4).await;
    let store = Silent::over(&cluster.metadata);
    let client =
        Client::new(store.clone(), Environment::system(), ClientConfig::default()).await.expect("a client");
    let mut writer = client.create(options()).await.expect("a ledger");
    append(&mut writer, 0..10).await;
    store.silence();
    cluster.stop_first_of(&writer).await;
    append(&mut writer, 10..100).await;
    assert_eq!(ensemble(&cluster.client, &writer).await.len(), 3);
    assert_eq!(cluster.client.metadata(writer.id()).await.expect("metadata").segments.len(), 1);
    // Once it answers again, the bookie is replaced without anybody's doing.
    store.speak();
    let mut number = 100;
    while cluster.client.metadata(writer.id()).await.expect("metadata").segments.len() < 2 {
        append(&mut writer, number..number + 1).await;
        number += 1;
    }
    assert_eq!(read_all(&writer.reader(), number - 1).await, payloads(number));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adds_wait_for_a_change_that_cannot_be_recorded_up_to_a_bound_and_go_on_by_themselves() {
    let mut cluster = Cluster::start(4).await;
    let store = Silent::over(&cluster.metadata);
    let config = ClientConfig { ledger_bytes_max: 1_000, ..ClientConfig::default() };
    let client = Client::new(store.clone(), Environment::system(), config).await.expect("a client");
    let two = LedgerOptions { ensemble: 2, write_quorum: 2, ack_quorum: 2, ..options() };
    let mut writer = client.create(two).await.expect("a ledger");
    append(&mut writer, 0..10).await;
    store.silence();
    // Every entry needs both bookies.
    cluster.stop_first_of(&writer).await;
    let mut number = 10;
    let refused = loop {
        match writer.append(payload(number)) {
            Ok(_) => number += 1,
            Err(refused) => {
                // The writer learns of its metadata only when it is polled.
                match &refused.error {
                    LedgerError::Busy { awaiting_metadata: false, .. } => {
                        let next = tokio::time::timeout(Duration::from_millis(10), writer.next()).await;
                        assert!(next.is_err(), "{next:?}");
                    }
                    _ => break refused,
                }
            }
        }
    };
    let LedgerError::Busy { in_flight_bytes, awaiting_metadata: true, .. } = refused.error else {
        panic!("{}", refused.error)
    };
    assert_eq!(refused.payload, payload(number), "it is given back");
    assert!((900..=1_000).contains(&in_flight_bytes), "{in_flight_bytes}");
    store.speak();
    loop {
        match writer.next().await {
            Event::Confirmed { last } if last.0 == number - 1 => break,
            Event::Confirmed { .. } => {}
            Event::Failed(error) => panic!("{error}"),
        }
    }
    append(&mut writer, number..number + 10).await;
    assert_eq!(read_all(&writer.reader(), number + 9).await, payloads(number + 10));
}
