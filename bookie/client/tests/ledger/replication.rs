//! Lost copies made again, over real bookies and the metadata store in memory.

use crate::cluster::{Cluster, append, options, payloads, read_all};
use crate::silent::Silent;
use magnetar_common::Environment;
use magnetar_common::clock::{Clock, ManualClock, SystemClock};
use magnetar_common::layout;
use magnetar_common::metadata::{Expect, SharedMetadata};
use magnetar_ledger::replication::{AutoRecovery, Damaged, Settings, drain, rejoin, status};
use magnetar_ledger::{Client, ClientConfig, LedgerOptions};
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::bookkeeper::paths::ledger_path;
use magnetar_proto::bookkeeper::underreplication::{Mark, mark_path};
use magnetar_proto::ids::LedgerId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Nobody waits for anybody.
fn impatient() -> Settings {
    Settings {
        lost_bookie_delay: Duration::ZERO,
        open_ledger_grace: Duration::ZERO,
        integrity_interval: Duration::ZERO,
        ..Settings::default()
    }
}

async fn recovering(cluster: &Cluster, number: usize, settings: Settings) -> AutoRecovery {
    let client = Cluster::client(&cluster.metadata).await;
    AutoRecovery::start(client, Cluster::id(number), settings, undamaged()).await.expect("started")
}

fn undamaged() -> Damaged {
    Box::new(Vec::new)
}

/// Asks until the answer is `true`.
async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let clock = SystemClock::default();
    let asking = async {
        while !holds().await {
            clock.sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(300), asking).await.unwrap_or_else(|_| panic!("never: {what}"));
}

async fn written(cluster: &Cluster, options: LedgerOptions, count: u64) -> LedgerId {
    let mut writer = cluster.client.create(options).await.expect("a ledger");
    if count > 0 {
        append(&mut writer, 0..count).await;
    }
    let ledger = writer.id();
    writer.close().await.expect("closed");
    ledger
}

async fn names(cluster: &Cluster, ledger: LedgerId, bookie: &BookieId) -> bool {
    let record = cluster.client.metadata(ledger).await.expect("metadata");
    record.segments.values().any(|ensemble| ensemble.contains(bookie))
}

async fn is_marked(metadata: &SharedMetadata, ledger: LedgerId) -> bool {
    let status = status(metadata).await.expect("the status");
    status.marked.iter().any(|(marked, _)| *marked == ledger)
}

/// Every bookie that the record says has an entry has it, or gets it: an entry is acknowledged before its last copy is there.
async fn assert_complete(cluster: &Cluster, ledger: LedgerId) -> LedgerMetadata {
    let record = cluster.client.metadata(ledger).await.expect("metadata");
    let LedgerState::Closed { last_entry, .. } = record.state else { panic!("not closed: {record:?}") };
    let (size, copies) = (u64::from(record.ensemble_size), u64::from(record.write_quorum));
    for entry in 0..last_entry.map_or(0, |last| last.0 + 1) {
        let ensemble = record.ensemble_of(magnetar_proto::ids::EntryId(entry));
        for slot in (entry..entry + copies).map(|slot| (slot % size) as usize) {
            let number: usize = ensemble[slot].as_str()["bookie-".len()..].parse().expect("a number");
            until("every copy", async || cluster.holds(number, ledger, entry).await).await;
        }
    }
    record
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_bookie_held_is_copied_and_abandoned_ledgers_are_closed() {
    let mut cluster = Cluster::start(3).await;
    let striped = LedgerOptions { write_quorum: 2, ..options() };
    let full = written(&cluster, options(), 150).await;
    let striped = written(&cluster, striped, 40).await;
    let empty = written(&cluster, options(), 0).await;
    // Its last segment has fewer bookies than it should, and no writer that could change that.
    let mut abandoned = cluster.client.create(options()).await.expect("a ledger");
    append(&mut abandoned, 0..20).await;
    let ledgers = [full, striped, empty, abandoned.id()];
    drop(abandoned);
    let recovery = recovering(&cluster, 1, impatient()).await;
    let other = recovering(&cluster, 2, impatient()).await;
    cluster.stop(0).await;
    let lost = Cluster::id(0);
    until("marked", async || is_marked(&cluster.metadata, full).await).await;
    assert!(names(&cluster, full, &lost).await, "there is nobody to take its place");
    cluster.start_bookie(3).await;
    for ledger in ledgers {
        until("replaced", async || !names(&cluster, ledger, &lost).await).await;
        until("unmarked", async || !is_marked(&cluster.metadata, ledger).await).await;
        assert_complete(&cluster, ledger).await;
    }
    for (ledger, count) in [(full, 150), (striped, 40), (ledgers[3], 20)] {
        let reader = cluster.client.open(ledger, b"").await.expect("closed");
        assert_eq!(reader.last_entry().map(|last| last.0 + 1), Some(count));
        assert_eq!(read_all(&reader, count - 1).await, payloads(count));
    }
    let text = recovery.metrics().render() + &other.metrics().render();
    assert!(text.contains("auditor_is_leader 1") && text.contains("auditor_is_leader 0"), "{text}");
    recovery.stop().await;
    other.stop().await;
}

/// Recovery took the ledger from its writer, which then found too few bookies for another one and stopped, although two of three
/// had been enough for it to go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_keeps_its_ledger_until_there_are_bookies_for_the_next() {
    let mut cluster = Cluster::start(3).await;
    let mut writer = cluster.client.create(options()).await.expect("a ledger");
    let ledger = writer.id();
    append(&mut writer, 0..10).await;
    cluster.stop(0).await;
    let recovery = recovering(&cluster, 1, impatient()).await;
    let put_off = async || recovery.metrics().render().contains("replication_worker_ledgers_waiting 1");
    until("put off", put_off).await;
    append(&mut writer, 10..20).await;
    let record = cluster.client.metadata(ledger).await.expect("metadata");
    assert_eq!(record.state, LedgerState::Open);

    drop(writer);
    cluster.start_bookie(3).await;
    until("closed and copied", async || !names(&cluster, ledger, &Cluster::id(0)).await).await;
    assert_complete(&cluster, ledger).await;
    recovery.stop().await;
}

/// Asked, it would still say that it has everything: the mark went, and nobody looked at the ledger again for an hour.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bookie_that_left_unheard_and_still_answers_is_replaced() {
    let mut cluster = Cluster::start(3).await;
    let ledger = written(&cluster, options(), 20).await;
    let lost = Cluster::id(0);
    let deaf = Silent::over(&cluster.metadata);
    deaf.tell_nothing_of_bookies();
    cluster.start_bookie(3).await;
    let client = Cluster::client(&(deaf as SharedMetadata)).await;
    cluster.metadata.delete(&layout::bookie(&lost), Expect::Any).await.expect("unregistered");
    let mark = Mark { replicas: [lost.as_str().to_owned()].into(), ..Mark::default() };
    cluster.metadata.put(&mark_path(ledger), mark.encode().into(), Expect::Missing).await.expect("marked");
    let recovery =
        AutoRecovery::start(client, Cluster::id(1), impatient(), undamaged()).await.expect("started");
    until("unmarked", async || !is_marked(&cluster.metadata, ledger).await).await;
    until("it answers", async || cluster.holds(0, ledger, 7).await).await;
    assert!(!names(&cluster, ledger, &lost).await, "replaced");
    assert_complete(&cluster, ledger).await;
    recovery.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_can_give_stays_marked_until_its_bookie_is_back() {
    let mut cluster = Cluster::start(2).await;
    let one = LedgerOptions { ensemble: 1, write_quorum: 1, ack_quorum: 1, ..options() };
    let ledger = written(&cluster, one, 10).await;
    let before = cluster.client.metadata(ledger).await.expect("metadata");
    let holder = usize::from(before.last_segment().1[0] == Cluster::id(1));
    let recovery = recovering(&cluster, 1 - holder, impatient()).await;
    cluster.stop(holder).await;
    let tried = "replication_worker_NUM_ENTRIES_UNABLE_TO_READ_FOR_REPLICATION 0";
    until("tried", async || !recovery.metrics().render().contains(tried)).await;
    assert!(is_marked(&cluster.metadata, ledger).await);
    assert_eq!(cluster.client.metadata(ledger).await, Ok(before.clone()));
    cluster.start_bookie(holder).await;
    until("unmarked", async || !is_marked(&cluster.metadata, ledger).await).await;
    assert_eq!(cluster.client.metadata(ledger).await, Ok(before));
    let copies = "replication_worker_NUM_ENTRIES_WRITTEN 0";
    assert!(recovery.metrics().render().contains(copies), "it had everything");
    recovery.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_bookie_under_its_old_name_gets_back_what_it_lost_and_denies_nothing_before() {
    let mut cluster = Cluster::start(3).await;
    let closed = written(&cluster, options(), 30).await;
    let mut open = cluster.client.create(options()).await.expect("a ledger");
    append(&mut open, 0..30).await;
    let open_id = open.id();
    // The others have everything: an entry is acknowledged by two of the three.
    for (bookie, ledger) in [(1, closed), (2, closed), (1, open_id), (2, open_id)] {
        until("a copy", async || cluster.holds(bookie, ledger, 29).await).await;
    }
    cluster.stop(0).await;
    cluster.wipe(0).await;
    // Without the others nobody can tell what it held of the open ledger.
    cluster.stop(1).await;
    let client = Cluster::client(&cluster.metadata).await;
    let welcome = |client: Client| -> magnetar_bookie::Welcome {
        Box::new(move |id| {
            Box::pin(async move {
                rejoin::before_serving(&client, &id).await.map(drop).map_err(|error| error.to_string())
            })
        })
    };
    let refused = cluster.start_bookie_if(0, welcome(client)).await.expect_err("refused").to_string();
    assert!(refused.contains("under another name"), "{refused}");
    cluster.start_bookie(1).await;
    // The next start is another process: it knows nothing of connections that failed.
    let client = Cluster::client(&cluster.metadata).await;
    cluster.start_bookie_if(0, welcome(client)).await.expect("welcome");
    let record = cluster.client.metadata(open_id).await.expect("metadata");
    assert!(matches!(record.state, LedgerState::Closed { .. }), "before it could deny an entry");
    assert!(open.append(payloads(1).remove(0)).is_ok(), "the writer does not know yet");
    crate::cluster::failure(&mut open).await;

    let recovery = recovering(&cluster, 0, impatient()).await;
    for ledger in [closed, open_id] {
        until("unmarked", async || !is_marked(&cluster.metadata, ledger).await).await;
        let record = assert_complete(&cluster, ledger).await;
        assert!(record.segments.values().all(|ensemble| ensemble.contains(&Cluster::id(0))), "in its place");
        let reader = cluster.client.open(ledger, b"").await.expect("closed");
        assert_eq!(read_all(&reader, 29).await, payloads(30));
    }
    recovery.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bookie_is_emptied_while_it_serves() {
    let mut cluster = Cluster::start(4).await;
    let leaving = Cluster::id(0);
    let mut ledgers = Vec::new();
    for _ in 0..6 {
        ledgers.push(written(&cluster, options(), 20).await);
    }
    let recovery = recovering(&cluster, 0, impatient()).await;
    let clock = Environment::system().clock;
    drain::request(&cluster.metadata, &leaving).await.expect("asked");
    let mut draining = recovery.draining();
    draining.wait_for(|wanted| *wanted).await.expect("told");
    cluster.bookie(0).set_draining(true);
    until("empty", async || {
        drain::progress(&cluster.metadata, &clock, &leaving).await.expect("told").is_done()
    })
    .await;
    until("no marks", async || status(&cluster.metadata).await.expect("told").marked.is_empty()).await;
    for ledger in ledgers {
        assert_complete(&cluster, ledger).await;
    }
    let refused = drain::forget(&cluster.metadata, &clock, &leaving).await.expect_err("it runs");
    assert!(refused.to_string().contains("stop it first"), "{refused}");
    recovery.stop().await;
    cluster.stop(0).await;
    drain::forget(&cluster.metadata, &clock, &leaving).await.expect("forgotten");
    assert!(drain::draining(&cluster.metadata).await.expect("read").is_empty());
}

/// By its old record a reader could only say that nobody answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_from_before_finds_what_was_moved_when_its_old_bookies_are_gone() {
    let mut cluster = Cluster::start(2).await;
    let one = LedgerOptions { ensemble: 1, write_quorum: 1, ack_quorum: 1, ..options() };
    let ledger = written(&cluster, one, 20).await;
    let reader = cluster.client.open(ledger, b"").await.expect("closed");
    let record = cluster.client.metadata(ledger).await.expect("metadata");
    let holder = usize::from(record.last_segment().1[0] == Cluster::id(1));
    let recovery = recovering(&cluster, 1 - holder, impatient()).await;
    drain::request(&cluster.metadata, &Cluster::id(holder)).await.expect("asked");
    until("moved", async || !names(&cluster, ledger, &Cluster::id(holder)).await).await;
    recovery.stop().await;
    cluster.stop(holder).await;
    assert_eq!(read_all(&reader, 19).await, payloads(20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_names_a_bookie_without_the_entries_is_found_out() {
    let cluster = Cluster::start(4).await;
    let ledger = written(&cluster, options(), 25).await;
    let mut record = cluster.client.metadata(ledger).await.expect("metadata");
    let stranger = (0..4).find(|number| !record.last_segment().1.contains(&Cluster::id(*number)));
    let stranger = stranger.expect("three of four");
    record.segments.last_entry().expect("a segment").get_mut()[1] = Cluster::id(stranger);
    cluster.metadata.put(&ledger_path(ledger), record.encode(), Expect::Any).await.expect("put");
    assert!(!cluster.holds(stranger, ledger, 7).await);

    let clock = ManualClock::new();
    let env = Environment { clock: clock.clone(), ..Environment::system() };
    let client = Client::new(cluster.metadata.clone(), env, ClientConfig::default()).await.expect("a client");
    let settings = Settings { integrity_interval: Duration::from_secs(60), ..impatient() };
    let recovery =
        AutoRecovery::start(client, Cluster::id(stranger), settings, undamaged()).await.expect("started");
    until("copied", async || {
        clock.advance(Duration::from_millis(200));
        cluster.holds(stranger, ledger, 24).await
    })
    .await;
    until("unmarked", async || {
        clock.advance(Duration::from_millis(200));
        !is_marked(&cluster.metadata, ledger).await
    })
    .await;
    assert_eq!(assert_complete(&cluster, ledger).await, record);
    recovery.stop().await;
}

/// It counted as a ledger that lacks nothing, and nobody asked again for a day.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bookie_that_cannot_tell_what_it_holds_is_asked_again_soon() {
    let cluster = Cluster::start(4).await;
    let ledger = written(&cluster, options(), 25).await;
    let mut record = cluster.client.metadata(ledger).await.expect("metadata");
    let stranger = (0..4).find(|number| !record.last_segment().1.contains(&Cluster::id(*number)));
    let stranger = stranger.expect("three of four");
    record.segments.last_entry().expect("a segment").get_mut()[1] = Cluster::id(stranger);
    cluster.metadata.put(&ledger_path(ledger), record.encode(), Expect::Any).await.expect("put");
    let key = layout::bookie(&Cluster::id(stranger));
    let registration = cluster.metadata.get(&key).await.expect("read").expect("registered");
    cluster.metadata.delete(&key, Expect::Any).await.expect("its session has lapsed");

    let clock = ManualClock::new();
    let env = Environment { clock: clock.clone(), ..Environment::system() };
    let client = Client::new(cluster.metadata.clone(), env, ClientConfig::default()).await.expect("a client");
    // It does not count as lost meanwhile.
    let day = Duration::from_secs(24 * 3600);
    let settings = Settings { integrity_interval: day, lost_bookie_delay: day, ..Settings::default() };
    let recovery =
        AutoRecovery::start(client, Cluster::id(stranger), settings, undamaged()).await.expect("started");
    let checked = "bookie_integrity_LEDGERS_CHECKED 0\n";
    until("a check", async || {
        clock.advance(Duration::from_secs(1));
        !recovery.metrics().render().contains(checked)
    })
    .await;
    assert!(!is_marked(&cluster.metadata, ledger).await, "it may hold everything");
    let lease = registration.lease.expect("a session");
    cluster.metadata.put_ephemeral(&key, registration.bytes, Expect::Missing, lease).await.expect("put");
    until("copied", async || {
        clock.advance(Duration::from_millis(100));
        cluster.holds(stranger, ledger, 24).await
    })
    .await;
    recovery.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_a_bookie_finds_damaged_gets_a_good_copy_from_the_others() {
    let mut cluster = Cluster::start(3).await;
    let ledger = written(&cluster, options(), 30).await;
    until("every copy", async || cluster.holds(0, ledger, 17).await).await;
    cluster.stop(0).await;
    cluster.damage(0, b"entry 17");
    cluster.start_bookie(0).await;
    assert!(!cluster.holds(0, ledger, 17).await, "damaged");
    let entry = magnetar_proto::ids::EntryId(17);
    let copies = Arc::new(AtomicU64::new(1));
    let found = copies.clone();
    let damaged: Damaged = Box::new(move || {
        let copies = 0..found.load(Ordering::Relaxed);
        copies.map(|copy| (ledger, entry, copy)).chain([(LedgerId(77), entry, 0)]).collect()
    });
    let clock = ManualClock::new();
    let env = Environment { clock: clock.clone(), ..Environment::system() };
    let client = Client::new(cluster.metadata.clone(), env, ClientConfig::default()).await.expect("a client");
    let recovery = AutoRecovery::start(client, Cluster::id(0), impatient(), damaged).await.expect("started");
    until("a good copy", async || cluster.holds(0, ledger, 17).await).await;
    let mended = async |count: u64| {
        clock.advance(Duration::from_millis(100));
        recovery.metrics().render().contains(&format!("ENTRIES_MENDED {count}\n"))
    };
    until("told", async || mended(1).await).await;
    // The good copy lies on the same bad disk.
    copies.store(2, Ordering::Relaxed);
    until("mended again", async || mended(2).await).await;
    recovery.stop().await;
}
