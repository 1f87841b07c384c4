//! BookKeeper's packets, entries and records: what was put in comes out, and noise is a value or an error.

use bytes::{Bytes, BytesMut};
use magnetar_proto::bookkeeper::entry::{BodyHeader, Digest, DigestType};
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::bookkeeper::v2::{
    Flags, Request, Response, decode_request, decode_response, encode_request, encode_response,
};
use magnetar_proto::bookkeeper::{BookieId, Code, v3};
use magnetar_proto::ids::EntryId;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use crate::strategies::{bytes, entry_id, ledger_id};

fn digest_type() -> impl Strategy<Value = DigestType> {
    prop_oneof![
        Just(DigestType::Crc32),
        Just(DigestType::Hmac),
        Just(DigestType::Crc32c),
        Just(DigestType::Dummy)
    ]
}

fn body_header() -> impl Strategy<Value = BodyHeader> {
    (ledger_id(), entry_id(), option::of(entry_id()), any::<u64>()).prop_map(
        |(ledger_id, entry_id, last_add_confirmed, length)| BodyHeader {
            ledger_id,
            entry_id,
            last_add_confirmed,
            length,
        },
    )
}

fn flags() -> impl Strategy<Value = Flags> {
    any::<(bool, bool, bool)>().prop_map(|(fencing, recovery_add, high_priority)| Flags {
        fencing,
        recovery_add,
        high_priority,
    })
}

fn request() -> impl Strategy<Value = Request> {
    let add = (any::<[u8; 20]>(), body_header(), bytes(60), flags()).prop_map(
        |(master_key, header, payload, flags)| {
            let sealed = Digest::new(DigestType::Crc32c, b"").seal(&header, &payload);
            Request::Add {
                master_key,
                body: [sealed.as_ref(), &payload].concat().into(),
                ledger_id: header.ledger_id,
                entry_id: header.entry_id,
                flags,
            }
        },
    );
    let read = (ledger_id(), option::of(entry_id()), flags(), any::<[u8; 20]>()).prop_map(
        |(ledger_id, entry_id, flags, key)| Request::Read {
            ledger_id,
            entry_id,
            flags,
            master_key: flags.fencing.then_some(key),
        },
    );
    let batch = (ledger_id(), entry_id(), any::<(i64, i32, i64, [u8; 20])>(), flags()).prop_map(
        |(ledger_id, first_entry, (request_id, max_count, max_size, key), flags)| Request::BatchRead {
            ledger_id,
            first_entry,
            request_id,
            max_count,
            max_size,
            flags,
            master_key: flags.fencing.then_some(key),
        },
    );
    prop_oneof![add, read, batch, bytes(50).prop_map(Request::Auth)]
}

fn code() -> impl Strategy<Value = Code> {
    prop_oneof![
        Just(Code::Ok),
        Just(Code::NoLedger),
        Just(Code::NoEntry),
        Just(Code::Io),
        Just(Code::Unauthorized),
        Just(Code::Fenced),
        Just(Code::TooManyRequests),
    ]
}

fn response() -> impl Strategy<Value = Response> {
    let add = (code(), ledger_id(), entry_id()).prop_map(|(code, ledger_id, entry_id)| Response::Add {
        code,
        ledger_id,
        entry_id,
    });
    let read = (code(), ledger_id(), option::of(entry_id()), bytes(60)).prop_map(
        |(code, ledger_id, entry_id, body)| Response::Read {
            code,
            ledger_id,
            entry_id,
            body: (code == Code::Ok).then_some(body),
        },
    );
    let batch = (code(), ledger_id(), entry_id(), any::<i64>(), vec(bytes(20), 0..4)).prop_map(
        |(code, ledger_id, first_entry, request_id, bodies)| Response::BatchRead {
            code,
            ledger_id,
            first_entry,
            request_id,
            bodies,
        },
    );
    prop_oneof![add, read, batch, bytes(50).prop_map(Response::Auth)]
}

fn ledger_metadata() -> impl Strategy<Value = LedgerMetadata> {
    let state = prop_oneof![
        Just(LedgerState::Open),
        Just(LedgerState::InRecovery),
        (option::of(entry_id()), 0..=i64::MAX as u64)
            .prop_map(|(last_entry, length)| LedgerState::Closed { last_entry, length })
    ];
    let later_segments = vec(1..=i64::MAX as u64, 0..3);
    let rest = (digest_type(), bytes(20), any::<(Option<i64>, Option<i64>)>());
    let custom = btree_map(any::<String>(), bytes(10), 0..3);
    (1u32..=5, 1u32..=5, 1u32..=5, state, later_segments, rest, custom).prop_map(
        |(a, b, c, state, later_segments, (digest, password, (ctime_ms, c_token)), custom)| {
            let mut sizes = [a, b, c];
            sizes.sort_unstable();
            let [ack_quorum, write_quorum, ensemble_size] = sizes;
            let ensemble: Vec<BookieId> = (0..ensemble_size)
                .map(|slot| BookieId::new(&format!("bookie-{slot}:3181")).unwrap())
                .collect();
            let first_entries = std::iter::once(0).chain(later_segments);
            LedgerMetadata {
                ensemble_size,
                write_quorum,
                ack_quorum,
                state,
                segments: first_entries.map(|first| (EntryId(first), ensemble.clone())).collect(),
                digest,
                password,
                ctime_ms,
                custom,
                c_token,
            }
        },
    )
}

/// The frame without its length, which must be right.
fn unframed(mut frame: BytesMut) -> Bytes {
    let body = frame.split_off(4);
    assert_eq!(u32::from_be_bytes(frame[..].try_into().unwrap()) as usize, body.len());
    body.freeze()
}

proptest! {
    #[test]
    fn requests_decode_to_what_was_encoded(request in request()) {
        let mut out = BytesMut::new();
        encode_request(&request, &mut out);
        prop_assert_eq!(decode_request(unframed(out)), Ok(request));
    }

    #[test]
    fn responses_decode_to_what_was_encoded(response in response()) {
        let mut out = BytesMut::new();
        encode_response(&response, &mut out);
        prop_assert_eq!(decode_response(unframed(out)), Ok(response));
    }

    #[test]
    fn a_sealed_entry_opens_and_a_changed_one_does_not(
        digest_type in digest_type(),
        password in bytes(10),
        header in body_header(),
        payload in bytes(100),
        changed in any::<(prop::sample::Index, u8)>(),
    ) {
        let digest = Digest::new(digest_type, &password);
        let body = [digest.seal(&header, &payload).as_ref(), &payload].concat();
        let opened = digest.open(body.clone().into(), header.ledger_id, Some(header.entry_id));
        prop_assert_eq!(opened, Ok((header, payload)));

        let (index, mask) = (changed.0.index(body.len()), changed.1.max(1));
        let mut body = body;
        body[index] ^= mask;
        let opened = digest.open(body.into(), header.ledger_id, Some(header.entry_id));
        prop_assert!(opened.is_err() || digest_type == DigestType::Dummy);
    }

    #[test]
    fn ledger_metadata_decodes_to_what_was_encoded(metadata in ledger_metadata()) {
        prop_assert_eq!(metadata.validate(), Ok(()));
        prop_assert_eq!(LedgerMetadata::decode(&metadata.encode()), Ok(metadata));
    }

    #[test]
    fn version_3_messages_decode_to_what_was_encoded(ids in any::<(i64, i64, u64)>(), body in bytes(50)) {
        let request = v3::Request {
            header: v3::request_header(v3::OperationType::AddEntry, ids.2),
            add_request: Some(v3::AddRequest {
                ledger_id: ids.0,
                entry_id: ids.1,
                body,
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut out = BytesMut::new();
        v3::encode(&request, &mut out);
        prop_assert_eq!(v3::decode_request(unframed(out)), Ok(request));
    }

    #[test]
    fn any_bytes_are_a_value_or_an_error(noise in bytes(200), opcode in 0u8..9) {
        let packet = Bytes::from([&[2, opcode, 0, noise.len() as u8][..], &noise].concat());
        let _ = decode_request(packet.clone());
        let _ = decode_response(packet);
        let _ = decode_request(noise.clone());
        let _ = v3::decode_request(noise.clone());
        let _ = v3::decode_response(noise.clone());
        let _ = BodyHeader::decode(&noise);
        let _ = LedgerMetadata::decode(&noise);
        let _ = LedgerMetadata::decode(&[b"BookieMetadataFormatVersion\t3\n", &noise[..]].concat());
        for digest_type in [DigestType::Crc32, DigestType::Hmac, DigestType::Crc32c, DigestType::Dummy] {
            let digest = Digest::new(digest_type, b"");
            let _ = digest.open(noise.clone(), magnetar_proto::ids::LedgerId(0), None);
            let _ = digest.open_lac(&noise, magnetar_proto::ids::LedgerId(0));
        }
    }
}
