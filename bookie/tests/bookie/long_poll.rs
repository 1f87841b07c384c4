//! Reads that wait until there is news of a ledger.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use magnetar_bookie::Bookie;
use magnetar_common::clock::{Clock, ManualClock};
use magnetar_proto::bookkeeper::v3::{
    self, OperationType, ReadRequest, ReadResponse, WriteLacRequest, read_request, request_header,
};
use magnetar_proto::bookkeeper::{Code, v2};

use crate::support::*;

const WAIT_MS: i64 = 5_000;

/// Entries 0 and 1 of ledger 1 are there, so that its LAC is 0.
async fn start(world: &World) -> (Bookie, Arc<ManualClock>, Client) {
    let clock = ManualClock::new();
    let bookie = world.start_with_clock(world.config(), &clock).await;
    let mut writer = Client::connect(&bookie).await;
    for entry in 0..2 {
        writer.v2(add(1, entry)).await;
    }
    (bookie, clock, writer)
}

fn poll(previous_lac: i64, entry: Option<i64>) -> v3::Request {
    let read = ReadRequest {
        ledger_id: 1,
        entry_id: entry.unwrap_or(-1),
        previous_lac: Some(previous_lac),
        time_out: Some(WAIT_MS),
        flag: entry.is_none().then_some(read_request::Flag::EntryPiggyback as i32),
        ..Default::default()
    };
    let header = request_header(OperationType::ReadEntry, 9);
    v3::Request { header, read_request: Some(read), ..Default::default() }
}

async fn answer(client: &mut Client) -> ReadResponse {
    let frame = client.frame().await.expect("an answer");
    v3::decode_response(frame).unwrap().read_response.unwrap()
}

/// A client whose read waits.
async fn waiting(bookie: &Bookie, clock: &ManualClock, request: v3::Request) -> Client {
    let mut client = Client::connect(bookie).await;
    client.send_v3(&request).await;
    timers(clock, 1).await;
    client
}

#[tokio::test]
async fn a_poll_ends_with_the_add_that_confirms_the_next_entry() {
    let world = World::new();
    let (bookie, clock, mut writer) = start(&world).await;
    let mut reader = waiting(&bookie, &clock, poll(0, None)).await;
    // Another ledger's news are not for it.
    writer.v2(add(2, 5)).await;
    assert_eq!(clock.sleepers(), BACKGROUND_TIMERS + 1);
    writer.v2(add(1, 2)).await;
    let found = answer(&mut reader).await;
    assert_eq!((found.status, found.entry_id, found.max_lac), (0, 1, Some(1)));
    assert_eq!(found.body, Some(body(1, 1)));
    assert_eq!(found.lac_update_timestamp, Some(clock.unix_ms() as i64), "when it moved");
    // What is known already is told at once, and what an ordinary read asks for too; neither saw the LAC move.
    let found = reader.v3(poll(0, None)).await.read_response.unwrap();
    assert_eq!((found.entry_id, found.max_lac), (1, Some(1)));
    assert_eq!(found.lac_update_timestamp, None);
    let found = reader.v3(poll(0, Some(2))).await.read_response.unwrap();
    assert_eq!((found.body, found.max_lac), (Some(body(1, 2)), Some(1)));
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_poll_without_news_ends_when_its_time_is_over() {
    let world = World::new();
    let (bookie, clock, _) = start(&world).await;
    let mut reader = waiting(&bookie, &clock, poll(0, None)).await;
    clock.advance(Duration::from_millis(WAIT_MS as u64));
    let found = answer(&mut reader).await;
    assert_eq!((found.status, found.body, found.max_lac), (0, None, Some(0)));
    assert_eq!(found.lac_update_timestamp, None);
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn fences_and_explicit_lacs_end_polls() {
    let world = World::new();
    let (bookie, clock, mut writer) = start(&world).await;
    let mut reader = waiting(&bookie, &clock, poll(0, None)).await;
    let mut client = Client::connect(&bookie).await;
    let key = bytes::Bytes::from_static(&KEY);
    let lac = WriteLacRequest { ledger_id: 1, lac: 1, master_key: key, body: b"blob".as_slice().into() };
    let header = request_header(OperationType::WriteLac, 1);
    client.v3(v3::Request { header, write_lac_request: Some(lac), ..Default::default() }).await;
    let found = answer(&mut reader).await;
    assert_eq!((found.max_lac, found.lac_update_timestamp), (Some(1), Some(clock.unix_ms() as i64)));

    let mut reader = waiting(&bookie, &clock, poll(1, None)).await;
    writer.v2(fence(1, None, Some(KEY))).await;
    let found = answer(&mut reader).await;
    assert_eq!((found.max_lac, found.lac_update_timestamp), (Some(1), None), "a fence moves no LAC");
    // A fenced ledger has no more news.
    assert_eq!(reader.v3(poll(1, None)).await.read_response.unwrap().max_lac, Some(1));
    let mut unknown = poll(1, None);
    unknown.read_request.as_mut().unwrap().ledger_id = 77;
    assert_eq!(reader.v3(unknown).await.status, Code::NoLedger.to_v3() as i32);
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn polls_are_bounded_and_end_with_their_connection() {
    const PLACES: usize = 1024;
    let world = World::new();
    let (bookie, clock, mut writer) = start(&world).await;
    let mut reader = Client::connect(&bookie).await;
    let mut polls = BytesMut::new();
    for _ in 0..PLACES + 10 {
        v3::encode(&poll(0, None), &mut polls);
    }
    reader.send(&polls).await;
    // There is no place for ten of them.
    for _ in 0..10 {
        assert_eq!(answer(&mut reader).await.max_lac, Some(0));
    }
    timers(&clock, PLACES).await;
    drop(reader);
    while clock.sleepers() > BACKGROUND_TIMERS {
        tokio::task::yield_now().await;
    }
    assert!(matches!(writer.v2(add(1, 2)).await, v2::Response::Add { code: Code::Ok, .. }));
    // A bookie that stops waits for nobody.
    let _reader = waiting(&bookie, &clock, poll(1, None)).await;
    bookie.shutdown().await.unwrap();
}
