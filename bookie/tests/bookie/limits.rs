//! Clients that ask for more than their share: they wait or are given up, and nobody else notices.

use std::time::Duration;

use bytes::BytesMut;
use magnetar_common::clock::ManualClock;
use magnetar_proto::bookkeeper::Code;
use magnetar_proto::bookkeeper::v2::{self, Flags, Response};

use crate::support::*;

/// A little more than the bookie's patience.
const PATIENCE: Duration = Duration::from_secs(31);

const LARGE: usize = 900_000;

fn small_config(world: &World) -> magnetar_bookie::Config {
    let mut config = world.config();
    config.frame_bytes_max = 1 << 20;
    // Two large frames at a time.
    config.in_flight_bytes_max = 4 << 20;
    config
}

fn large_add(ledger: u64, entry: u64) -> v2::Request {
    add_with(KEY, Flags::NONE, body_with(ledger, entry, &vec![entry as u8; LARGE]), ledger, entry)
}

async fn stored(client: &mut Client, request: v2::Request) -> bool {
    matches!(client.v2(request).await, Response::Add { code: Code::Ok, .. })
}

#[tokio::test]
async fn a_client_that_never_finishes_its_frame_is_given_up_and_holds_up_large_frames_only() {
    let world = World::new();
    let clock = ManualClock::new();
    let bookie = world.start_with_clock(small_config(&world), &clock).await;
    let mut frame = BytesMut::new();
    v2::encode_request(&large_add(1, 0), &mut frame);
    let mut slow = [Client::connect(&bookie).await, Client::connect(&bookie).await];
    for client in &mut slow {
        client.send(&frame[..frame.len() / 2]).await;
    }
    timers(&clock, 2).await;
    let mut other = Client::connect(&bookie).await;
    assert!(stored(&mut other, add(2, 0)).await);
    let waiting = tokio::spawn(async move { stored(&mut other, large_add(2, 1)).await });
    clock.advance(PATIENCE);
    for client in &mut slow {
        assert_eq!(client.frame().await, None);
    }
    assert!(waiting.await.unwrap());
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn large_frames_of_many_clients_take_turns() {
    let world = World::new();
    let bookie = world.start_with(small_config(&world)).await.unwrap();
    let mut clients = tokio::task::JoinSet::new();
    for ledger in 0..12 {
        let mut client = Client::connect(&bookie).await;
        clients.spawn(async move {
            for entry in 0..3 {
                assert!(stored(&mut client, large_add(ledger, entry)).await);
            }
        });
    }
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_client_that_takes_no_answers_is_given_up_and_holds_up_nobody() {
    const READS: usize = 80;
    let world = World::new();
    let clock = ManualClock::new();
    let bookie = world.start_with_clock(small_config(&world), &clock).await;
    let mut stuck = Client::connect(&bookie).await;
    assert!(stored(&mut stuck, large_add(1, 0)).await);
    for _ in 0..READS {
        stuck.send_v2(&read(1, Some(0))).await;
    }
    timers(&clock, 1).await;
    let mut other = Client::connect(&bookie).await;
    assert!(stored(&mut other, add(2, 0)).await);
    clock.advance(PATIENCE);
    let mut answers = 0;
    while stuck.frame().await.is_some() {
        answers += 1;
    }
    assert!(answers < READS / 2, "{answers} answers were sent to a client that takes none");
    // What was held for it is free again.
    for _ in 0..2 {
        assert!(matches!(other.v2(read(1, Some(0))).await, Response::Read { code: Code::Ok, .. }));
    }
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_reader_of_more_than_the_budget_gets_everything() {
    let world = World::new();
    let bookie = world.start_with(small_config(&world)).await.unwrap();
    let mut client = Client::connect(&bookie).await;
    assert!(stored(&mut client, large_add(1, 0)).await);
    for _ in 0..30 {
        client.send_v2(&read(1, Some(0))).await;
    }
    for _ in 0..30 {
        assert!(matches!(client.next_v2().await, Response::Read { code: Code::Ok, .. }));
    }
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_until_another_one_leaves() {
    let world = World::new();
    let mut config = world.config();
    config.connections_max = 2;
    let bookie = world.start_with(config).await.unwrap();
    let (mut first, mut second) = (Client::connect(&bookie).await, Client::connect(&bookie).await);
    assert!(stored(&mut first, add(1, 0)).await && stored(&mut second, add(1, 1)).await);
    assert_eq!(Client::connect(&bookie).await.frame().await, None);
    drop(second);
    // The bookie learns of the departure when the socket tells it.
    loop {
        let mut third = Client::connect(&bookie).await;
        third.try_send_v2(&add(1, 2)).await;
        if third.frame().await.is_some() {
            break;
        }
    }
    assert!(stored(&mut first, add(1, 3)).await);
    bookie.shutdown().await.unwrap();
}
