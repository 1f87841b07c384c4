//! Bookies and the metadata store at their worst.

use crate::cluster::{Cluster, append, confirmed, options, payload, payloads, read_all};
use crate::silent::Silent;
use magnetar_common::Environment;
use magnetar_ledger::{Client, ClientConfig, LedgerOptions, Writer};
use magnetar_proto::ids::EntryId;
use std::time::Duration;

/// Every entry on every bookie of the ensemble before it is acknowledged.
fn all_of_two() -> LedgerOptions {
    LedgerOptions { ensemble: 2, write_quorum: 2, ack_quorum: 2, ..options() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_replaces_a_bookie_without_which_no_ack_quorum_is_left() {
    let mut cluster = Cluster::start(3).await;
    let mut writer = cluster.client.create(all_of_two()).await.expect("a ledger");
    append(&mut writer, 0..100).await;
    // More entries than are confirmed: the recovery has something to write again.
    for number in 100..150 {
        writer.append(payload(number)).expect("open");
    }
    let other = Cluster::client(&cluster.metadata).await;
    let before = other.metadata(writer.id()).await.expect("metadata");
    cluster.stop_first_of(&writer).await;
    let id = writer.id();
    drop(writer);
    let reader = other.recover(id, b"").await.expect("recovered");
    let last = reader.last_entry().expect("entries").0;
    assert!((99..150).contains(&last), "{last}");
    assert_eq!(read_all(&reader, last).await, payloads(last + 1));
    let after = other.metadata(id).await.expect("metadata");
    assert!(last == 99 || after.last_segment().1 != before.last_segment().1, "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bookie_that_comes_back_serves_its_slot_again_but_not_what_it_missed() {
    let mut cluster = Cluster::start(3).await;
    let mut writer = cluster.client.create(options()).await.expect("a ledger");
    append(&mut writer, 0..50).await;
    let away = cluster.stop_first_of(&writer).await;
    append(&mut writer, 50..100).await;
    cluster.start_bookie(away).await;
    append(&mut writer, 100..150).await;
    // Once it is reconnected, it can carry the ack quorum while another is away.
    let mut number = 150;
    while !cluster.holds(away, writer.id(), number - 1).await {
        append(&mut writer, number..number + 1).await;
        number += 1;
    }
    assert!(!cluster.holds(away, writer.id(), 75).await);
    cluster.stop((away + 1) % 3).await;
    append(&mut writer, number..number + 50).await;
    assert_eq!(read_all(&writer.reader(), number + 49).await, payloads(number + 50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_is_being_written_can_be_read_up_to_its_last_add_confirmed() {
    let cluster = Cluster::start(3).await;
    let mut writer = cluster.client.create(options()).await.expect("a ledger");
    let id = writer.id();
    let other = Cluster::client(&cluster.metadata).await;
    assert_eq!(other.open(id, b"").await.expect("a reader").last_entry(), None);
    append(&mut writer, 0..100).await;
    assert_eq!(writer.reader().last_entry(), Some(EntryId(99)));
    // Only the entry after it tells the bookies what has been confirmed.
    append(&mut writer, 100..101).await;
    let reader = other.open(id, b"").await.expect("a reader");
    let last = reader.last_entry().expect("entries").0;
    assert!(last >= 99, "{last}");
    assert_eq!(read_all(&reader, last).await, payloads(last + 1));
    append(&mut writer, 101..110).await;
}

/// Stops a bookie of the ensemble, and comes back when the change of the ensemble has reached the store, whose answer is
/// lost. Gives the number of the next entry.
async fn leave_a_change_in_doubt(cluster: &mut Cluster, store: &Silent, writer: &mut Writer) -> u64 {
    append(writer, 0..10).await;
    store.lose_answers_of_writes();
    cluster.stop_first_of(writer).await;
    let mut number = 10;
    loop {
        writer.append(payload(number)).expect("open");
        number += 1;
        tokio::select! {
            () = store.lost_answer.notified() => return number,
            _ = writer.next() => {}
        }
    }
}

/// Once the store answers again, everything up to `last` is confirmed and found.
async fn is_resolved(cluster: &Cluster, store: &Silent, mut writer: Writer, last: u64) {
    store.speak();
    append(&mut writer, last + 1..last + 2).await;
    let record = cluster.client.metadata(writer.id()).await.expect("metadata");
    assert_eq!(record.segments.len(), 2, "recorded once");
    assert_eq!(read_all(&writer.reader(), last + 1).await, payloads(last + 2));
    let recovered = cluster.client.recover(writer.id(), b"").await.expect("recovered");
    assert_eq!(recovered.last_entry(), Some(EntryId(last + 1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_needs_a_new_bookie_is_acknowledged_while_its_place_is_in_doubt() {
    let mut cluster = Cluster::start(4).await;
    let store = Silent::over(&cluster.metadata);
    let client = Client::new(store.clone(), Environment::system(), ClientConfig::default()).await;
    let mut writer = client.expect("a client").create(all_of_two()).await.expect("a ledger");
    let number = leave_a_change_in_doubt(&mut cluster, &store, &mut writer).await;
    let before = writer.last_add_confirmed();
    writer.append(payload(number)).expect("open");
    // The bookies that are left answer within this time, many times over.
    let event = tokio::time::timeout(Duration::from_millis(300), writer.next()).await;
    assert_eq!(event.ok(), None, "while the ensemble is in doubt");
    assert_eq!(writer.last_add_confirmed(), before);
    is_resolved(&cluster, &store, writer, number).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_bookies_that_stay_go_on_while_the_place_of_the_third_is_in_doubt() {
    let mut cluster = Cluster::start(4).await;
    let store = Silent::over(&cluster.metadata);
    let client = Client::new(store.clone(), Environment::system(), ClientConfig::default()).await;
    let mut writer = client.expect("a client").create(options()).await.expect("a ledger");
    let number = leave_a_change_in_doubt(&mut cluster, &store, &mut writer).await;
    writer.append(payload(number)).expect("open");
    confirmed(&mut writer, number).await;
    assert!(writer.in_flight_bytes() > 0, "the third gets it as well, once its place is known");
    is_resolved(&cluster, &store, writer, number).await;
}
