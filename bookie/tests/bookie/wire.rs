//! A bookie as its clients see it: both protocol versions over a real socket, restarts, and misbehaviour.

use crate::support::*;
use magnetar_proto::bookkeeper::Code;
use magnetar_proto::bookkeeper::v2::{Flags, Request, Response};
use magnetar_proto::bookkeeper::v3::{
    self, AddRequest, ForceLedgerRequest, GetBookieInfoRequest, GetListOfEntriesOfLedgerRequest,
    OperationType, ReadLacRequest, ReadRequest, WriteLacRequest, read_request, request_header,
};
use magnetar_proto::ids::{EntryId, LedgerId};
use prost::Message;

fn added(code: Code, ledger: u64, entry: u64) -> Response {
    Response::Add { code, ledger_id: LedgerId(ledger), entry_id: EntryId(entry) }
}

fn found(ledger: u64, entry: u64) -> Response {
    let (ledger_id, entry_id) = (LedgerId(ledger), Some(EntryId(entry)));
    Response::Read { code: Code::Ok, ledger_id, entry_id, body: Some(body(ledger, entry)) }
}

fn last(ledger: u64, entry: u64) -> Response {
    Response::Read {
        code: Code::Ok,
        ledger_id: LedgerId(ledger),
        entry_id: None,
        body: Some(body(ledger, entry)),
    }
}

fn absent(code: Code, ledger: u64, entry: Option<u64>) -> Response {
    Response::Read { code, ledger_id: LedgerId(ledger), entry_id: entry.map(EntryId), body: None }
}

#[tokio::test]
async fn v2_adds_are_answered_and_read_back() {
    let world = World::new();
    let bookie = world.start().await.unwrap();
    let mut client = Client::connect(&bookie).await;
    for entry in 0..3 {
        assert_eq!(client.v2(add(1, entry)).await, added(Code::Ok, 1, entry));
    }
    assert_eq!(client.v2(read(1, Some(1))).await, found(1, 1));
    assert_eq!(client.v2(read(1, None)).await, last(1, 2));
    assert_eq!(client.v2(read(1, Some(3))).await, absent(Code::NoEntry, 1, Some(3)));
    assert_eq!(client.v2(read(2, Some(0))).await, absent(Code::NoLedger, 2, Some(0)));
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn pipelined_adds_are_answered_in_order_and_survive_a_crash_and_a_clean_restart() {
    let mut world = World::new();
    let mut bookie = world.start().await.unwrap();
    for round in 0..4u64 {
        let mut client = Client::connect(&bookie).await;
        for entry in round * 100..(round + 1) * 100 {
            client.send_v2(&add(1, entry)).await;
        }
        for entry in round * 100..(round + 1) * 100 {
            assert_eq!(client.next_v2().await, added(Code::Ok, 1, entry));
        }
        if round % 2 == 0 {
            world.power_cut(bookie);
        } else {
            bookie.shutdown().await.unwrap();
        }
        bookie = world.start().await.unwrap();
        let mut client = Client::connect(&bookie).await;
        for entry in 0..(round + 1) * 100 {
            client.send_v2(&read(1, Some(entry))).await;
        }
        for _ in 0..(round + 1) * 100 {
            // Answers from memory may overtake those from disk.
            let Response::Read { code: Code::Ok, entry_id: Some(entry), body: Some(bytes), .. } =
                client.next_v2().await
            else {
                panic!("every acknowledged entry is there")
            };
            assert_eq!(bytes, body(1, entry.0));
        }
    }
}

#[tokio::test]
async fn a_fence_survives_a_crash_and_refuses_ordinary_adds_only() {
    let mut world = World::new();
    let bookie = world.start().await.unwrap();
    let mut client = Client::connect(&bookie).await;
    client.v2(add(1, 0)).await;
    assert_eq!(client.v2(fence(1, None, Some(KEY))).await, last(1, 0));
    // The fence of a ledger that this bookie never saw counts as well, although the answer is negative.
    assert_eq!(client.v2(fence(2, None, Some(KEY))).await, absent(Code::NoEntry, 2, None));
    world.power_cut(bookie);

    let bookie = world.start().await.unwrap();
    let mut client = Client::connect(&bookie).await;
    assert_eq!(client.v2(add(1, 1)).await, added(Code::Fenced, 1, 1));
    assert_eq!(client.v2(add(2, 0)).await, added(Code::Fenced, 2, 0));
    let recovery = add_with(KEY, Flags::RECOVERY_WRITE, body(1, 1), 1, 1);
    assert_eq!(client.v2(recovery).await, added(Code::Ok, 1, 1));
    assert_eq!(client.v2(fence(1, Some(1), Some(KEY))).await, found(1, 1));
    assert_eq!(client.v2(fence(1, Some(2), Some(KEY))).await, absent(Code::NoEntry, 1, Some(2)));
}

#[tokio::test]
async fn a_wrong_or_missing_master_key_is_refused() {
    let world = World::new();
    let bookie = world.start().await.unwrap();
    let mut client = Client::connect(&bookie).await;
    client.v2(add(1, 0)).await;
    let wrong = add_with([9; 20], Flags::NONE, body(1, 1), 1, 1);
    assert_eq!(client.v2(wrong).await, added(Code::Unauthorized, 1, 1));
    assert_eq!(client.v2(fence(1, None, Some([9; 20]))).await, absent(Code::Unauthorized, 1, None));
    assert_eq!(client.v2(fence(1, None, None)).await, absent(Code::Unauthorized, 1, None));
    assert_eq!(client.v2(add(1, 1)).await, added(Code::Ok, 1, 1));
}

#[tokio::test]
async fn a_wrong_master_key_is_refused_in_version_3_too() {
    let world = World::new();
    let bookie = world.start().await.unwrap();
    let mut client = Client::connect(&bookie).await;
    let wrong = bytes::Bytes::from_static(&[9; 20]);
    let add = |key: &bytes::Bytes, entry| v3::Request {
        header: request_header(OperationType::AddEntry, 1),
        add_request: Some(AddRequest {
            ledger_id: 1,
            entry_id: entry,
            master_key: key.clone(),
            body: body(1, entry as u64),
            ..Default::default()
        }),
        ..Default::default()
    };
    assert_eq!(client.v3(add(&bytes::Bytes::from_static(&KEY), 0)).await.status, 0);
    let unauthorized = Code::Unauthorized.to_v3() as i32;
    let response = client.v3(add(&wrong, 1)).await;
    assert_eq!((response.status, response.add_response.unwrap().status), (unauthorized, unauthorized));
    for key in [Some(wrong), Some(bytes::Bytes::from_static(b"short")), None] {
        let fence = ReadRequest {
            ledger_id: 1,
            entry_id: -1,
            master_key: key,
            flag: Some(read_request::Flag::FenceLedger as i32),
            ..Default::default()
        };
        let header = request_header(OperationType::ReadEntry, 1);
        let response =
            client.v3(v3::Request { header, read_request: Some(fence), ..Default::default() }).await;
        assert_eq!(response.read_response.unwrap().status, unauthorized);
    }
    // None of them fenced it.
    assert_eq!(client.v3(add(&bytes::Bytes::from_static(&KEY), 1)).await.status, 0);
}

/// Clients with an authentication plugin send this first; the answer lets them go on.
#[tokio::test]
async fn authentication_is_answered_although_there_is_no_plugin() {
    let world = World::new();
    let bookie = world.start().await.unwrap();
    let asked = v3::AuthMessage { auth_plugin_name: "sasl".into(), payload: b"token".as_slice().into() };
    let mut client = Client::connect(&bookie).await;
    let header = request_header(OperationType::Auth, 3);
    let response =
        client.v3(v3::Request { header, auth_request: Some(asked.clone()), ..Default::default() }).await;
    let answered = response.auth_response.unwrap();
    assert_eq!((response.status, response.header.txn_id), (0, 3));
    assert_eq!((answered.auth_plugin_name.as_str(), answered.payload.len()), ("AuthDisabledPlugin", 0));

    let mut client = Client::connect(&bookie).await;
    let Response::Auth(message) = client.v2(Request::Auth(asked.encode_to_vec().into())).await else {
        panic!("an answer of the same kind")
    };
    assert_eq!(v3::AuthMessage::decode(message).unwrap(), answered);
    assert_eq!(client.v2(add(1, 0)).await, added(Code::Ok, 1, 0));
}

#[tokio::test]
async fn a_frame_over_the_limit_closes_its_connection() {
    let world = World::new();
    let mut config = world.config();
    config.frame_bytes_max = 1 << 16;
    let bookie = world.start_with(config).await.unwrap();
    let mut client = Client::connect(&bookie).await;
    // Header, key, and the entry's own header and digest stand before the payload.
    let around = 4 + 20 + 32 + 4;
    let fits = body_with(1, 0, &vec![1; (1 << 16) - around]);
    assert_eq!(client.v2(add_with(KEY, Flags::NONE, fits, 1, 0)).await, added(Code::Ok, 1, 0));
    let too_long = body_with(1, 1, &vec![1; (1 << 16) - around + 1]);
    client.try_send_v2(&add_with(KEY, Flags::NONE, too_long, 1, 1)).await;
    assert_eq!(client.frame().await, None);
}

#[tokio::test]
async fn batch_read_sends_consecutive_entries_within_its_limits() {
    let world = World::new();
    let bookie = world.start().await.unwrap();
    let mut client = Client::connect(&bookie).await;
    for entry in [0, 1, 2, 3, 5] {
        client.v2(add(1, entry)).await;
    }
    bookie.shutdown().await.unwrap();
    let bookie = world.start().await.unwrap();
    let mut client = Client::connect(&bookie).await;
    client.v2(add(1, 4)).await;
    let mut batch = async |first: u64, max_count: i32, max_size: i64| {
        let request = Request::BatchRead {
            ledger_id: LedgerId(1),
            first_entry: EntryId(first),
            request_id: 77,
            max_count,
            max_size,
            flags: Flags::NONE,
            master_key: None,
        };
        let Response::BatchRead { code, request_id: 77, bodies, .. } = client.v2(request).await else {
            panic!("the answer names its request")
        };
        (code, bodies)
    };
    assert_eq!(batch(1, 2, 1 << 20).await, (Code::Ok, vec![body(1, 1), body(1, 2)]));
    let all: Vec<_> = (0..6).map(|entry| body(1, entry)).collect();
    assert_eq!(batch(0, 0, 1 << 20).await, (Code::Ok, all));
    assert_eq!(batch(2, 0, 1).await, (Code::Ok, vec![body(1, 2)]));
    assert_eq!(batch(6, 0, 1 << 20).await, (Code::NoEntry, vec![]));
}

#[tokio::test]
async fn v3_speaks_every_operation() {
    let world = World::new();
    let bookie = world.start().await.unwrap();
    let mut client = Client::connect(&bookie).await;
    let request = |operation| v3::Request { header: request_header(operation, 5), ..Default::default() };
    let key = bytes::Bytes::copy_from_slice(&KEY);

    let response = client
        .v3(v3::Request {
            add_request: Some(AddRequest {
                ledger_id: 1,
                entry_id: 3,
                master_key: key.clone(),
                body: body(1, 3),
                ..Default::default()
            }),
            ..request(OperationType::AddEntry)
        })
        .await;
    assert_eq!((response.status, response.header.txn_id), (0, 5));
    assert_eq!(response.add_response.unwrap().entry_id, 3);

    let read = |entry_id, flag: Option<read_request::Flag>| v3::Request {
        read_request: Some(ReadRequest {
            ledger_id: 1,
            entry_id,
            master_key: Some(key.clone()),
            flag: flag.map(|flag| flag as i32),
            previous_lac: Some(1),
            ..Default::default()
        }),
        ..request(OperationType::ReadEntry)
    };
    let response = client.v3(read(3, None)).await.read_response.unwrap();
    assert_eq!((response.body, response.max_lac), (Some(body(1, 3)), Some(2)));
    let response = client.v3(read(-1, Some(read_request::Flag::EntryPiggyback))).await.read_response.unwrap();
    assert_eq!((response.status, response.body, response.max_lac), (0, None, Some(2)));
    let response = client.v3(read(3, Some(read_request::Flag::EntryPiggyback))).await;
    assert_eq!(response.status, Code::BadRequest.to_v3() as i32);
    let response = client.v3(read(-1, Some(read_request::Flag::FenceLedger))).await.read_response.unwrap();
    assert_eq!((response.entry_id, response.body, response.max_lac), (-1, Some(body(1, 3)), None));

    let blob = bytes::Bytes::from_static(b"sixteen bytes and a digest");
    let write_lac = WriteLacRequest { ledger_id: 1, lac: 3, master_key: key.clone(), body: blob.clone() };
    let response = client
        .v3(v3::Request { write_lac_request: Some(write_lac), ..request(OperationType::WriteLac) })
        .await;
    assert_eq!(response.write_lac_response.unwrap().status, 0);
    let read_lac = Some(ReadLacRequest { ledger_id: 1 });
    let response =
        client.v3(v3::Request { read_lac_request: read_lac, ..request(OperationType::ReadLac) }).await;
    let response = response.read_lac_response.unwrap();
    assert_eq!((response.lac_body, response.last_entry_body), (Some(blob), Some(body(1, 3))));

    let force = Some(ForceLedgerRequest { ledger_id: 1 });
    let response =
        client.v3(v3::Request { force_ledger_request: force, ..request(OperationType::ForceLedger) }).await;
    assert_eq!(response.force_ledger_response.unwrap().status, 0);
    let info = Some(GetBookieInfoRequest { requested: Some(3) });
    let response = client
        .v3(v3::Request { get_bookie_info_request: info, ..request(OperationType::GetBookieInfo) })
        .await;
    assert!(response.get_bookie_info_response.unwrap().total_disk_capacity.is_some());
    let list = Some(GetListOfEntriesOfLedgerRequest { ledger_id: 1 });
    let operation = OperationType::GetListOfEntriesOfLedger;
    let response =
        client.v3(v3::Request { get_list_of_entries_of_ledger_request: list, ..request(operation) }).await;
    let list = response.get_list_of_entries_of_ledger_response.unwrap();
    assert_eq!(list.availability_of_entries_of_ledger.unwrap().len(), 64 + 24);

    let response = client.v3(request(OperationType::RangeReadEntry)).await;
    assert_eq!(response.status, Code::BadRequest.to_v3() as i32);
}

#[tokio::test]
async fn both_versions_are_served_on_one_port_and_switch_once() {
    let world = World::new();
    let bookie = world.start().await.unwrap();
    let mut client = Client::connect(&bookie).await;
    // A client that asks for TLS first does so in V3, whatever it speaks afterwards.
    let tls = v3::Request { header: request_header(OperationType::StartTls, 1), ..Default::default() };
    assert_eq!(client.v3(tls).await.status, Code::BadRequest.to_v3() as i32);
    assert_eq!(client.v2(add(1, 0)).await, added(Code::Ok, 1, 0));
}

#[tokio::test]
async fn garbage_closes_its_connection_and_harms_nobody_else() {
    let world = World::new();
    let bookie = world.start().await.unwrap();
    let mut good = Client::connect(&bookie).await;
    good.v2(add(1, 0)).await;
    let unknown_opcode = [0, 0, 0, 4, 2, 9, 0, 0];
    let bad_frames: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 64],
        &[0, 0, 0, 0],
        &unknown_opcode,
        &[0, 0, 0, 3, 2, 1, 0],
        &[0, 0, 0, 2, 0x0a, 0xff],
    ];
    for bad in bad_frames {
        let mut client = Client::connect(&bookie).await;
        client.send(bad).await;
        assert_eq!(client.frame().await, None, "{bad:?}");
    }
    assert_eq!(good.v2(add(1, 1)).await, added(Code::Ok, 1, 1));
}

#[tokio::test]
async fn what_came_before_a_bad_frame_is_still_stored() {
    let world = World::new();
    let bookie = world.start().await.unwrap();
    let mut client = Client::connect(&bookie).await;
    let mut bytes = bytes::BytesMut::new();
    magnetar_proto::bookkeeper::v2::encode_request(&add(1, 0), &mut bytes);
    bytes.extend_from_slice(&[0xff; 8]);
    client.send(&bytes).await;
    while client.frame().await.is_some() {}
    let mut client = Client::connect(&bookie).await;
    assert_eq!(client.v2(read(1, Some(0))).await, found(1, 0));
}

#[tokio::test]
async fn large_entries_and_a_small_cache_push_back_but_lose_nothing() {
    let world = World::new();
    let mut config = world.config();
    config.frame_bytes_max = 1 << 20;
    config.write_cache_bytes = 4 << 20;
    config.segment_bytes = 2 << 20;
    config.journal_bytes = 8 << 20;
    let bookie = world.start_with(config.clone()).await.unwrap();
    let mut client = Client::connect(&bookie).await;
    let large = |entry: u64| body_with(1, entry, &vec![entry as u8; 900_000]);
    for entry in 0..40 {
        let answer = client.v2(add_with(KEY, Flags::NONE, large(entry), 1, entry)).await;
        assert_eq!(answer, added(Code::Ok, 1, entry));
    }
    for entry in 0..40 {
        let Response::Read { body: Some(found), .. } = client.v2(read(1, Some(entry))).await else {
            panic!("entry {entry} is missing")
        };
        assert!(found == large(entry));
    }
    bookie.shutdown().await.unwrap();
}
