//! The HTTP port: metrics, probes and state.

use std::net::SocketAddr;

use magnetar_bookie::{Bookie, Config};
use magnetar_proto::bookkeeper::Code;
use magnetar_proto::bookkeeper::v2::{Flags, Response};

use crate::support::{Client, World, add, add_with, body, fence, http, http_get, read};

async fn start(world: &World) -> (Bookie, SocketAddr) {
    let config = Config { http: Some("127.0.0.1:0".parse().unwrap()), ..world.config() };
    let bookie = world.start_with(config).await.unwrap();
    let http = bookie.http_addr().expect("HTTP is served");
    (bookie, http)
}

/// The value of a sample, which must be there once.
async fn sample(address: SocketAddr, name: &str) -> f64 {
    let (status, text) = http_get(address, "/metrics").await;
    assert_eq!(status, 200);
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let mut values = samples.filter_map(|line| line.rsplit_once(' ').filter(|(found, _)| *found == name));
    let (_, value) = values.next().unwrap_or_else(|| panic!("{name} in {text}"));
    assert!(values.next().is_none(), "{name} twice");
    value.parse().unwrap()
}

fn counted(name: &str, success: bool) -> String {
    format!("{name}_count{{success=\"{success}\"}}")
}

#[tokio::test]
async fn requests_are_counted_exactly_once_by_their_outcome() {
    let world = World::new();
    let (bookie, http) = start(&world).await;
    let mut client = Client::connect(&bookie).await;
    for entry in 0..7 {
        client.v2(add(1, entry)).await;
    }
    let refused = client.v2(add_with([9; 20], Flags::NONE, body(1, 7), 1, 7)).await;
    assert!(matches!(refused, Response::Add { code: Code::Unauthorized, .. }));
    client.v2(read(1, Some(3))).await;
    client.v2(read(1, Some(99))).await;
    client.v2(fence(1, Some(6), Some([1; 20]))).await;

    let add = "bookkeeper_server_ADD_ENTRY_REQUEST";
    assert_eq!(sample(http, &counted(add, true)).await, 7.0);
    assert_eq!(sample(http, &counted(add, false)).await, 1.0);
    assert_eq!(sample(http, &counted("bookkeeper_server_ADD_ENTRY", true)).await, 7.0);
    let bytes: usize = (0..7).map(|entry| body(1, entry).len()).sum();
    assert_eq!(sample(http, "bookie_WRITE_BYTES").await, bytes as f64);
    let read = "bookkeeper_server_READ_ENTRY_REQUEST";
    assert_eq!(sample(http, &counted(read, true)).await, 1.0);
    assert_eq!(sample(http, &counted(read, false)).await, 1.0);
    assert_eq!(sample(http, &counted("bookkeeper_server_READ_ENTRY_FENCE_REQUEST", true)).await, 1.0);
    assert_eq!(sample(http, "bookie_READ_BYTES").await, (body(1, 3).len() + body(1, 6).len()) as f64);
    // The one that is not there, and neither of the two that are.
    assert_eq!(sample(http, "bookie_write_cache_misses").await, 1.0);
    assert_eq!(sample(http, "bookie_ledgers_count").await, 1.0);
    assert_eq!(sample(http, "bookie_entries_count").await, 7.0);
    assert_eq!(sample(http, "bookie_SERVER_STATUS").await, 1.0);
    let records = "bookie_journal_JOURNAL_FORCE_WRITE_BATCH_ENTRIES_sum{success=\"true\",journalIndex=\"0\"}";
    assert_eq!(sample(http, records).await, 9.0, "seven entries, a master key and a fence");
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn reads_of_entry_logs_are_counted_with_their_time() {
    let world = World::new();
    let (bookie, _) = start(&world).await;
    Client::connect(&bookie).await.v2(add(1, 0)).await;
    bookie.shutdown().await.unwrap();
    let (bookie, http) = start(&world).await;
    Client::connect(&bookie).await.v2(read(1, Some(0))).await;
    assert_eq!(sample(http, &counted("bookie_read_entrylog_time", true)).await, 1.0);
    assert_eq!(sample(http, &counted("bookkeeper_server_READ_ENTRY_REQUEST", true)).await, 1.0);
    assert_eq!(sample(http, "bookie_gc_ACTIVE_ENTRY_LOG_TOTAL").await, 1.0);
    assert_eq!(sample(http, "bookie_entries_count").await, 1.0);
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_state_is_told_as_upstream_tells_it() {
    let world = World::new();
    let (bookie, http) = start(&world).await;
    assert_eq!(http_get(http, "/heartbeat").await, (200, "OK\n".into()));
    assert_eq!(http_get(http, "/api/v1/bookie/is_ready").await, (200, "OK".into()));
    let (status, state) = http_get(http, "/api/v1/bookie/state").await;
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    let expected = serde_json::json!({
        "running": true, "readOnly": false, "shuttingDown": false, "availableForHighPriorityWrites": true,
    });
    assert_eq!((status, state), (200, expected));
    let path = "/api/v1/bookie/state/readonly";
    for wish in [r#"{"readOnly":true}"#, r#"{"readOnly":false}"#] {
        assert_eq!(self::http(http, "PUT", path, wish).await, (200, wish.into()));
        assert_eq!(http_get(http, path).await, (200, wish.into()));
    }
    assert_eq!(self::http(http, "PUT", path, "yes").await.0, 400);
    assert_eq!(self::http(http, "PUT", path, &" ".repeat(5000)).await.0, 413);
    let (status, triggered) = self::http(http, "PUT", "/api/v1/bookie/gc", "").await;
    assert_eq!((status, &*triggered), (200, r#""Triggered GC on BookieServer: bookie-1""#));
    let (_, gc) = http_get(http, "/api/v1/bookie/gc").await;
    assert!(gc.starts_with(r#"{"is_in_force_gc":""#), "{gc}");
    let (_, info) = http_get(http, "/api/v1/bookie/info").await;
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert!(info["freeSpace"].as_u64() <= info["totalSpace"].as_u64(), "{info}");
    assert_eq!(http_get(http, "/api/v1/nothing").await.0, 404);
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_bookie_that_failed_is_alive_but_not_ready() {
    let world = World::new();
    let (bookie, http) = start(&world).await;
    let mut client = Client::connect(&bookie).await;
    world.storage.fail_syncs("/journal".as_ref());
    client.send_v2(&add(1, 0)).await;
    bookie.failed().await;
    assert_eq!(http_get(http, "/heartbeat").await.0, 200);
    assert_eq!(http_get(http, "/api/v1/bookie/is_ready").await.0, 503);
    assert_eq!(sample(http, "bookie_SERVER_STATUS").await, -1.0);
    let sync = "bookie_journal_JOURNAL_SYNC_count{success=\"false\",journalIndex=\"0\"}";
    assert_eq!(sample(http, sync).await, 1.0);
}

#[tokio::test]
async fn shutdown_does_not_wait_for_idle_connections() {
    let world = World::new();
    let (bookie, address) = start(&world).await;
    assert_eq!(http(address, "PUT", "/heartbeat", "x").await.0, 405);
    let idle = tokio::net::TcpStream::connect(address).await.unwrap();
    bookie.shutdown().await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    drop(idle);
}
