//! Whatever a peer sends ends its own connection at most.

use bytes::{BufMut, Bytes, BytesMut};
use magnetar_proto::pulsar::frame::MAX_FRAME_SIZE;
use magnetar_proto::pulsar::{Command, api};
use proptest::prelude::*;

use super::peer::{Bench, Peer, connect};

/// Sends the bytes after the handshake of one connection; that one is closed, another one does not notice.
async fn closes_only_its_connection(bytes: &[u8]) {
    let bench = Bench::new().await;
    let mut bystander = bench.connect().await;
    let mut peer = bench.connect().await;
    peer.send_bytes(bytes).await;
    peer.closed().await;
    bystander.is_alive().await;
    assert_eq!(bench.service.connections.count(), 1);
}

#[tokio::test]
async fn a_frame_over_the_limit_closes_the_connection() {
    let mut bytes = BytesMut::new();
    bytes.put_u32(MAX_FRAME_SIZE as u32 + 1);
    closes_only_its_connection(&bytes).await;
}

#[tokio::test]
async fn garbage_closes_the_connection() {
    closes_only_its_connection(b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n").await;
    closes_only_its_connection(&[0, 0, 0, 8, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff]).await;
}

#[tokio::test]
async fn an_unknown_command_closes_the_connection() {
    // type = 99, and nothing else.
    closes_only_its_connection(&[0, 0, 0, 6, 0, 0, 0, 2, 0x08, 99]).await;
}

#[tokio::test]
async fn a_command_that_only_a_broker_sends_closes_the_connection() {
    let bench = Bench::new().await;
    let mut peer = bench.connect().await;
    peer.send(api::CommandSuccess { request_id: 1, schema: None }).await;
    peer.closed().await;
}

#[tokio::test]
async fn a_command_before_connect_closes_the_connection() {
    let bench = Bench::new().await;
    let mut peer = bench.dial();
    peer.send(api::CommandPing {}).await;
    peer.closed().await;
}

#[tokio::test]
async fn a_second_connect_closes_the_connection() {
    let bench = Bench::new().await;
    let mut peer = bench.connect().await;
    peer.send(connect(21)).await;
    peer.closed().await;
}

#[tokio::test]
async fn send_before_producer_closes_the_connection() {
    let bench = Bench::new().await;
    let mut peer = bench.connect().await;
    peer.send_with_payload(api::CommandSend::default(), Bytes::from_static(b"anything")).await;
    peer.closed().await;
}

#[tokio::test]
async fn send_without_a_message_closes_the_connection() {
    let bench = Bench::new().await;
    let mut peer = bench.connect().await;
    peer.send(api::CommandSend::default()).await;
    peer.closed().await;
}

#[tokio::test]
async fn a_silent_peer_is_pinged_and_then_given_up() {
    let bench = Bench::new().await;
    let mut peer = bench.connect().await;
    bench.clock.advance(bench.service.config.keep_alive);
    assert_eq!(peer.receive().await, Some(Command::Ping(api::CommandPing {})));
    peer.send(api::CommandPong {}).await;
    peer.is_alive().await;
    bench.clock.advance(bench.service.config.keep_alive);
    assert_eq!(peer.receive().await, Some(Command::Ping(api::CommandPing {})));
    bench.clock.advance(bench.service.config.keep_alive);
    peer.closed().await;
}

#[tokio::test]
async fn a_peer_that_does_not_connect_in_time_is_given_up() {
    let bench = Bench::new().await;
    let peer: Peer = bench.dial();
    while bench.clock.sleepers() == 0 {
        tokio::task::yield_now().await;
    }
    bench.clock.advance(bench.service.config.keep_alive);
    peer.closed().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any bytes at all: the task ends without a panic once the peer is gone.
    #[test]
    fn no_bytes_make_a_connection_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), shaken in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let bench = Bench::new().await;
            let mut peer = if shaken { bench.connect().await } else { bench.dial() };
            peer.send_bytes(&bytes).await;
            peer.hang_up().await;
        });
    }
}
