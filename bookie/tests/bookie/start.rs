//! When a bookie starts, when it refuses to, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use crate::support::*;
use magnetar_bookie::{Bookie, Config, FatalError, IdentityError, StartError};
use magnetar_common::Environment;
use magnetar_common::bookies::BookieDirectory;
use magnetar_common::clock::ManualClock;
use magnetar_common::layout;
use magnetar_common::metadata::{Expect, MemoryStore, SharedMetadata};
use magnetar_common::storage::Storage;
use magnetar_proto::bookkeeper::v2::Response;
use magnetar_proto::bookkeeper::{BookieId, Code, paths};
use magnetar_proto::ids::LedgerId;

fn identity_error(result: Result<Bookie, StartError>) -> IdentityError {
    match result.err() {
        Some(StartError::Identity(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_bookie_is_announced_while_it_serves() {
    let world = World::new();
    let bookie = world.start().await.unwrap();
    let mut directory = BookieDirectory::follow(world.metadata.clone()).await.unwrap();
    assert_eq!(directory.resolve(bookie.id()), Some(bookie.local_addr().to_string()));
    bookie.shutdown().await.unwrap();
    while directory.now().writable().next().is_some() {
        directory.changed().await;
    }
}

#[tokio::test]
async fn a_lost_lease_is_replaced() {
    let mut world = World::new();
    let store = Arc::new(MemoryStore::new());
    world.metadata = store.clone();
    let bookie = world.start().await.unwrap();
    let key = layout::bookie(bookie.id());
    let first = world.metadata.get(&key).await.unwrap().unwrap().lease.unwrap();
    let mut watch = world.metadata.watch(&key);
    store.expire(first);
    loop {
        match world.metadata.get(&key).await.unwrap() {
            Some(value) if value.lease != Some(first) => break,
            _ => drop(watch.next().await),
        }
    }
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn without_a_configured_id_the_directories_keep_the_first_one() {
    let world = World::new();
    let config = || Config { bookie_id: None, ..world.config() };
    let bookie = world.start_with(config()).await.unwrap();
    let id = bookie.id().clone();
    assert_eq!(id.as_str(), bookie.local_addr().to_string());
    bookie.shutdown().await.unwrap();
    let bookie = world.start_with(config()).await.unwrap();
    assert_eq!(*bookie.id(), id);
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_directory_in_use_is_refused() {
    let world = World::new();
    let _bookie = world.start().await.unwrap();
    assert!(matches!(identity_error(world.start().await), IdentityError::InUse { .. }));
}

#[tokio::test]
async fn another_bookies_directory_is_refused() {
    let world = World::new();
    world.start().await.unwrap().shutdown().await.unwrap();
    let other = Config { bookie_id: Some(BookieId::new("other").unwrap()), ..world.config() };
    assert!(matches!(identity_error(world.start_with(other).await), IdentityError::WrongBookie { .. }));
}

#[tokio::test]
async fn a_known_bookie_with_empty_directories_is_refused() {
    let world = World::new();
    world.start().await.unwrap().shutdown().await.unwrap();
    let wiped = World { metadata: world.metadata.clone(), ..World::new() };
    assert!(matches!(identity_error(wiped.start().await), IdentityError::DataLost { .. }));

    let config = Config { ledger_dirs: vec!["/other".into()], ..world.config() };
    assert!(matches!(identity_error(world.start_with(config).await), IdentityError::Missing { .. }));
}

#[tokio::test]
async fn an_impostor_is_refused() {
    let world = World::new();
    world.start().await.unwrap().shutdown().await.unwrap();
    let other = World::new();
    other.start().await.unwrap().shutdown().await.unwrap();
    let impostor = World { metadata: world.metadata.clone(), ..other };
    assert!(matches!(identity_error(impostor.start().await), IdentityError::Impostor { .. }));
}

#[tokio::test]
async fn data_unknown_to_the_metadata_store_is_refused_but_a_first_start_cut_short_goes_on() {
    let world = World::new();
    world.start().await.unwrap().shutdown().await.unwrap();
    let cookie = layout::cookie(&BookieId::new("bookie-1").unwrap());
    world.metadata.delete(&cookie, Expect::Any).await.unwrap();
    assert!(matches!(identity_error(world.start().await), IdentityError::UnknownToCluster { .. }));

    for dir in ["/journal", "/ledgers"] {
        for name in world.storage.list(dir.as_ref()).unwrap() {
            if !name.ends_with(".identity") && name != "LOCK" {
                world.storage.remove(&std::path::Path::new(dir).join(name)).unwrap();
            }
        }
    }
    world.storage.remove("/ledgers/ledgers-0.identity".as_ref()).unwrap();
    world.start().await.unwrap().shutdown().await.unwrap();
    world.start().await.unwrap().shutdown().await.unwrap();
}

#[tokio::test]
async fn a_newer_format_a_damaged_stamp_and_a_foreign_directory_are_refused() {
    let world = World::new();
    world.start().await.unwrap().shutdown().await.unwrap();
    let path = std::path::Path::new("/journal/journal.identity");
    let stamp = String::from_utf8(world.storage.read(path).unwrap()).unwrap();
    world.storage.overwrite(path, stamp.replace("format 1", "format 2").as_bytes()).unwrap();
    assert!(matches!(identity_error(world.start().await), IdentityError::Newer { version: 2, .. }));
    world.storage.overwrite(path, b"nonsense").unwrap();
    assert!(matches!(identity_error(world.start().await), IdentityError::Damaged { .. }));

    let world = World::new();
    world.storage.create_dir_all("/journal".as_ref()).unwrap();
    world.storage.create("/journal/photo.jpg".as_ref()).unwrap();
    assert!(matches!(identity_error(world.start().await), IdentityError::NotOurs { .. }));
}

#[tokio::test]
async fn a_directory_without_write_permission_is_named() {
    // Root may write everywhere, except where nobody may.
    let config = Config::new("/proc/bookie".into(), vec!["/proc/bookie".into()]);
    let metadata: SharedMetadata = Arc::new(MemoryStore::new());
    let error = Bookie::start(config, metadata, Environment::system()).await.err().unwrap().to_string();
    assert!(error.contains("/proc/bookie"), "{error}");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let world = World::new();
    let bookie = world.start().await.unwrap();
    let config = Config { bind: bookie.local_addr(), ..world.config() };
    let error = world.start_with(config).await.err().unwrap();
    assert!(matches!(error, StartError::Bind(_)), "{error}");
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_answered_and_the_failure_is_told() {
    let world = World::new();
    let bookie = world.start().await.unwrap();
    let mut client = Client::connect(&bookie).await;
    client.v2(add(1, 0)).await;
    world.storage.fail_syncs("/journal".as_ref());
    client.send_v2(&add(1, 1)).await;
    assert_eq!(client.frame().await, None, "closed without an answer");
    assert!(matches!(bookie.failed().await, FatalError::Journal(_)));
    assert!(bookie.shutdown().await.is_err());
}

#[tokio::test]
async fn a_corrupt_log_entry_is_an_error_and_its_neighbours_are_served() {
    let world = World::new();
    let bookie = world.start().await.unwrap();
    let mut client = Client::connect(&bookie).await;
    for entry in 0..3 {
        client.v2(add(1, entry)).await;
    }
    bookie.shutdown().await.unwrap();
    let log = std::path::Path::new("/ledgers/0000000000000001.elog");
    let mut bytes = world.storage.read(log).unwrap();
    let payload = b"payload of 1:1";
    let at = bytes.windows(payload.len()).position(|window| window == payload).unwrap();
    bytes[at] ^= 1;
    world.storage.overwrite(log, &bytes).unwrap();

    let bookie = world.start().await.unwrap();
    let mut client = Client::connect(&bookie).await;
    for (entry, code) in [(0, Code::Ok), (1, Code::Io), (2, Code::Ok)] {
        let Response::Read { code: found, .. } = client.v2(read(1, Some(entry))).await else {
            panic!("a read")
        };
        assert_eq!(found, code, "entry {entry}");
    }
}

#[tokio::test]
async fn a_deleted_ledger_is_dropped_after_two_looks_and_a_listed_one_never() {
    let world = World::new();
    let clock = ManualClock::new();
    let config = world.config();
    let interval = config.gc_interval;
    // Its first look is over.
    let bookie = world.start_with_clock(config, &clock).await;
    let mut client = Client::connect(&bookie).await;
    client.v2(add(1, 0)).await;
    client.v2(add(2, 0)).await;
    let path = paths::ledger_path(LedgerId(1));
    world.metadata.put(&path, bytes::Bytes::from_static(b"metadata"), Expect::Missing).await.unwrap();

    let code = async |client: &mut Client, ledger| match client.v2(read(ledger, Some(0))).await {
        Response::Read { code, .. } => code,
        other => panic!("{other:?}"),
    };
    clock.advance(interval);
    assert_eq!(code(&mut client, 2).await, Code::Ok, "one look is no proof");
    let dropped = async {
        while code(&mut client, 2).await == Code::Ok {
            clock.advance(Duration::from_secs(1));
        }
    };
    tokio::time::timeout(Duration::from_secs(60), dropped).await.expect("it is dropped");
    assert_eq!(code(&mut client, 2).await, Code::NoLedger);
    assert_eq!(code(&mut client, 1).await, Code::Ok);
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_bookie_short_of_space_is_announced_read_only_and_comes_back_by_itself() {
    let world = World::new();
    let config = Config { space_interval: Duration::from_millis(5), ..world.config() };
    let bookie = world.start_with(config.clone()).await.unwrap();
    let mut client = Client::connect(&bookie).await;
    assert!(matches!(client.v2(add(1, 0)).await, Response::Add { code: Code::Ok, .. }));
    let mut directory = BookieDirectory::follow(world.metadata.clone()).await.unwrap();

    world.storage.set_free(1000);
    while directory.now().writable().next().is_some() || directory.now().read_only().next().is_none() {
        directory.changed().await;
    }
    assert!(bookie.mode().is_read_only());
    assert!(matches!(client.v2(add(1, 1)).await, Response::Add { code: Code::ReadOnly, .. }));
    assert!(matches!(client.v2(read(1, Some(0))).await, Response::Read { code: Code::Ok, .. }));

    world.storage.set_free(2 * config.free_bytes_min);
    while directory.now().writable().next().is_none() || directory.now().read_only().next().is_some() {
        directory.changed().await;
    }
    assert!(matches!(client.v2(add(1, 1)).await, Response::Add { code: Code::Ok, .. }));
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_bookie_starts_without_a_ledger_directory_that_is_gone_but_not_with_an_empty_one() {
    let world = World::new();
    let config = Config { ledger_dirs: vec!["/ledgers".into(), "/ledgers-1".into()], ..world.config() };
    world.start_with(config.clone()).await.unwrap().shutdown().await.unwrap();
    let without = World { metadata: world.metadata.clone(), ..World::new() };
    for dir in ["/journal", "/ledgers"].map(std::path::Path::new) {
        without.storage.create_dir_all(dir).unwrap();
        for name in world.storage.list(dir).unwrap() {
            let file = without.storage.create(&dir.join(&name)).unwrap();
            file.write_all_at(&world.storage.read(&dir.join(&name)).unwrap(), 0).unwrap();
        }
    }
    let bookie = without.start_with(config.clone()).await.unwrap();
    let mut client = Client::connect(&bookie).await;
    assert!(matches!(client.v2(add(1, 0)).await, Response::Add { code: Code::Ok, .. }));
    bookie.shutdown().await.unwrap();

    without.storage.create_dir_all("/ledgers-1".as_ref()).unwrap();
    let error = identity_error(without.start_with(config).await);
    assert!(matches!(error, IdentityError::Missing { .. }));
}
