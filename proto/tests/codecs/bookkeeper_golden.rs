//! Packets, digests and records of BookKeeper: ledger 1, entry 0, no LAC, length 5, payload "hello", empty password.

use bytes::{Bytes, BytesMut};
use magnetar_proto::bookkeeper::entry::{BodyHeader, Digest, DigestMismatch, DigestType, Sealed};
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerMetadataError, LedgerState};
use magnetar_proto::bookkeeper::v2::{
    Flags, PacketError, Request, Response, decode_request, decode_response, encode_add_header,
    encode_request, encode_response,
};
use magnetar_proto::bookkeeper::{BookieId, Code, frame, master_key, v3};
use magnetar_proto::ids::{EntryId, LedgerId};

use crate::hex;

const LEDGER: LedgerId = LedgerId(1);
const ENTRY: EntryId = EntryId(0);
const PAYLOAD: &[u8] = b"hello";
const EMPTY_KEY: &str = "850bf1071c5e3d8c24235676f8816ae0cbe2f14f";
const BODY_HEADER: &str = "0000000000000001 0000000000000000 ffffffffffffffff 0000000000000005";

fn header() -> BodyHeader {
    BodyHeader { ledger_id: LEDGER, entry_id: ENTRY, last_add_confirmed: None, length: 5 }
}

fn seal(digest_type: DigestType) -> Sealed {
    Digest::new(digest_type, b"").seal(&header(), PAYLOAD)
}

fn body() -> Bytes {
    [seal(DigestType::Crc32c).as_ref(), PAYLOAD].concat().into()
}

fn whole_frame(bytes: &str) -> Bytes {
    let mut buf = BytesMut::from(&hex(bytes)[..]);
    let body = frame::Decoder::new(frame::MAX_FRAME_SIZE).decode(&mut buf).unwrap().unwrap();
    assert!(buf.is_empty());
    body
}

#[test]
fn master_keys_are_these_bytes() {
    assert_eq!(master_key(b"")[..], hex(EMPTY_KEY));
    assert_eq!(master_key(b"secret")[..], hex("e793cbc379107648537183605cd361d3bb789a39"));
}

#[test]
fn every_digest_is_these_bytes_and_opens() {
    let cases = [
        (DigestType::Crc32c, "e3a5f74d"),
        (DigestType::Crc32, "0000000030a56872"),
        (DigestType::Hmac, "00107b7f219e26462e04e16e6e7a7f41e046e090"),
        (DigestType::Dummy, ""),
    ];
    for (digest_type, digest) in cases {
        let sealed = seal(digest_type);
        assert_eq!(sealed.as_ref(), [hex(BODY_HEADER), hex(digest)].concat(), "{digest_type:?}");
        let body = Bytes::from([sealed.as_ref(), PAYLOAD].concat());
        let opened = Digest::new(digest_type, b"").open(body, LEDGER, Some(ENTRY));
        assert_eq!(opened, Ok((header(), Bytes::from_static(PAYLOAD))));
    }
}

#[test]
fn the_entry_of_another_is_not_opened() {
    let digest = Digest::new(DigestType::Crc32c, b"");
    assert_eq!(digest.open(body(), LedgerId(2), Some(ENTRY)), Err(DigestMismatch::OtherEntry));
    assert_eq!(digest.open(body(), LEDGER, Some(EntryId(1))), Err(DigestMismatch::OtherEntry));
    assert!(digest.open(body(), LEDGER, None).is_ok());
    assert_eq!(digest.open(body().slice(..35), LEDGER, None), Err(DigestMismatch::TooShort(35)));
    let other_password = Digest::new(DigestType::Hmac, b"other");
    let sealed = Bytes::copy_from_slice(seal(DigestType::Hmac).as_ref());
    assert_eq!(other_password.open(sealed, LEDGER, None), Err(DigestMismatch::Digest));
}

#[test]
fn an_explicit_lac_is_these_bytes() {
    let digest = Digest::new(DigestType::Crc32c, b"");
    let blob = digest.seal_lac(LEDGER, EntryId(7));
    assert_eq!(blob[..], hex("0000000000000001 0000000000000007 62842849"));
    assert_eq!(digest.open_lac(&blob, LEDGER), Ok(Some(EntryId(7))));
    assert_eq!(digest.open_lac(&blob, LedgerId(2)), Err(DigestMismatch::OtherEntry));
}

#[test]
fn requests_are_these_bytes() {
    let master_key = master_key(b"");
    let cases = [
        (
            format!("00000041 02010000 {EMPTY_KEY} {BODY_HEADER} e3a5f74d 68656c6c6f"),
            Request::Add { master_key, body: body(), ledger_id: LEDGER, entry_id: ENTRY, flags: Flags::NONE },
        ),
        (
            "00000014 02020000 0000000000000001 0000000000000000".into(),
            Request::Read { ledger_id: LEDGER, entry_id: Some(ENTRY), flags: Flags::NONE, master_key: None },
        ),
        (
            format!("00000028 02020001 0000000000000001 ffffffffffffffff {EMPTY_KEY}"),
            Request::Read {
                ledger_id: LEDGER,
                entry_id: None,
                flags: Flags { fencing: true, ..Flags::NONE },
                master_key: Some(master_key),
            },
        ),
        (
            format!("00000028 02020005 0000000000000001 0000000000000000 {EMPTY_KEY}"),
            Request::Read {
                ledger_id: LEDGER,
                entry_id: Some(ENTRY),
                flags: Flags::RECOVERY_READ,
                master_key: Some(master_key),
            },
        ),
        (
            "00000028 02070000 0000000000000001 0000000000000000 0000000000000009 00000064 0000000000001000"
                .into(),
            Request::BatchRead {
                ledger_id: LEDGER,
                first_entry: ENTRY,
                request_id: 9,
                max_count: 100,
                max_size: 4096,
                flags: Flags::NONE,
                master_key: None,
            },
        ),
    ];
    for (bytes, request) in cases {
        let mut out = BytesMut::new();
        encode_request(&request, &mut out);
        assert_eq!(out[..], hex(&bytes), "{request:?}");
        assert_eq!(decode_request(whole_frame(&bytes)), Ok(request));
    }
}

#[test]
fn an_add_can_be_sent_as_header_and_payload() {
    let sealed = seal(DigestType::Crc32c);
    let mut out = BytesMut::new();
    encode_add_header(&master_key(b""), Flags::RECOVERY_WRITE, sealed.as_ref(), PAYLOAD.len(), &mut out);
    assert_eq!(out[..], hex(&format!("00000041 02010006 {EMPTY_KEY} {BODY_HEADER} e3a5f74d")));
}

#[test]
fn responses_are_these_bytes() {
    let cases = [
        (
            "00000018 02010000 00000000 0000000000000001 0000000000000000",
            Response::Add { code: Code::Ok, ledger_id: LEDGER, entry_id: ENTRY },
        ),
        (
            "00000018 02010000 00000068 0000000000000001 0000000000000000",
            Response::Add { code: Code::Fenced, ledger_id: LEDGER, entry_id: ENTRY },
        ),
        (
            "00000018 02020000 00000002 0000000000000001 ffffffffffffffff",
            Response::Read { code: Code::NoEntry, ledger_id: LEDGER, entry_id: None, body: None },
        ),
        (
            "0000001a 02020000 00000000 0000000000000001 0000000000000000 6869",
            Response::Read {
                code: Code::Ok,
                ledger_id: LEDGER,
                entry_id: Some(ENTRY),
                body: Some(Bytes::from_static(b"hi")),
            },
        ),
        (
            "0000002b 02070000 00000000 0000000000000001 0000000000000000 0000000000000009 \
             00000002 6869 00000001 21",
            Response::BatchRead {
                code: Code::Ok,
                ledger_id: LEDGER,
                first_entry: ENTRY,
                request_id: 9,
                bodies: vec![Bytes::from_static(b"hi"), Bytes::from_static(b"!")],
            },
        ),
    ];
    for (bytes, response) in cases {
        let mut out = BytesMut::new();
        encode_response(&response, &mut out);
        assert_eq!(out[..], hex(bytes), "{response:?}");
        assert_eq!(decode_response(whole_frame(bytes)), Ok(response));
    }
}

#[test]
fn what_is_not_version_2_is_told_apart() {
    let packet = |bytes: &str| Bytes::from(hex(bytes));
    assert_eq!(decode_request(packet("02040000")), Err(PacketError::UnknownOpcode(4)));
    assert_eq!(decode_request(packet("03010000")), Err(PacketError::Version(3)));
    assert_eq!(frame::Protocol::of(&hex("02010000")), Some(frame::Protocol::V2));
    assert_eq!(frame::Protocol::of(&hex("0a06")), Some(frame::Protocol::V3));
    assert_eq!(frame::Protocol::of(&hex("47455420")), None);
}

/// A negative entry id marks the journal's own records: an add with one must never reach it.
#[test]
fn an_add_with_a_negative_id_is_refused() {
    for ids in ["0000000000000001 fffffffffffff000", "ffffffffffffffff 0000000000000000"] {
        let packet = hex(&format!("02010000 {EMPTY_KEY} {ids} ffffffffffffffff 0000000000000005 e3a5f74d"));
        assert!(matches!(decode_request(packet.into()), Err(PacketError::Malformed(_))));
    }
}

#[test]
fn a_fencing_read_without_a_key_reaches_the_bookie() {
    let request = decode_request(hex("02020001 0000000000000001 ffffffffffffffff").into()).unwrap();
    assert!(matches!(request, Request::Read { master_key: None, flags: Flags { fencing: true, .. }, .. }));
}

#[test]
fn a_version_3_request_is_these_bytes() {
    let request = v3::Request {
        header: v3::request_header(v3::OperationType::ReadEntry, 5),
        read_request: Some(v3::ReadRequest { ledger_id: 1, entry_id: -1, ..Default::default() }),
        ..Default::default()
    };
    let bytes = "00000018 0a06 0803 1001 1805 a206 0d 0801 10ffffffffffffffffff01";
    let mut out = BytesMut::new();
    v3::encode(&request, &mut out);
    assert_eq!(out[..], hex(bytes));
    assert_eq!(v3::decode_request(whole_frame(bytes)), Ok(request));
}

fn closed_ledger() -> LedgerMetadata {
    LedgerMetadata {
        ensemble_size: 1,
        write_quorum: 1,
        ack_quorum: 1,
        state: LedgerState::Closed { last_entry: Some(EntryId(9)), length: 70 },
        segments: [(EntryId::ZERO, vec![BookieId::new("bk:3181").unwrap()])].into(),
        digest: DigestType::Crc32c,
        password: Bytes::new(),
        ctime_ms: Some(3),
        custom: [("a".to_owned(), Bytes::from_static(b"b"))].into(),
        c_token: Some(4),
    }
}

/// "BookieMetadataFormatVersion\t3\n", length, then the fields in the order of their numbers.
const CLOSED_LEDGER: &str = "426f6f6b69654d65746164617461466f726d617456657273696f6e 09 33 0a 29 \
    0801 1001 1846 2009 2803 320b 0a07626b3a33313831 1000 3803 4200 4801 5003 5a06 0a0161 120162 6004";

#[test]
fn a_ledgers_metadata_is_these_bytes() {
    assert_eq!(closed_ledger().encode()[..], hex(CLOSED_LEDGER));
    assert_eq!(LedgerMetadata::decode(&hex(CLOSED_LEDGER)), Ok(closed_ledger()));
}

#[test]
fn an_open_ledgers_metadata_has_neither_end_nor_length() {
    let open = LedgerMetadata { state: LedgerState::Open, ..closed_ledger() };
    let record = open.encode();
    assert!(record.windows(13).any(|bytes| bytes == hex("1800 20ffffffffffffffffff01")));
    assert_eq!(LedgerMetadata::decode(&record), Ok(open));
}

#[test]
fn metadata_that_breaks_a_rule_is_refused() {
    let bookie = || BookieId::new("bk:3181").unwrap();
    let broken = [
        LedgerMetadata { ack_quorum: 2, ..closed_ledger() },
        LedgerMetadata { ack_quorum: 0, ..closed_ledger() },
        LedgerMetadata { write_quorum: 2, ..closed_ledger() },
        LedgerMetadata { segments: [].into(), ..closed_ledger() },
        LedgerMetadata { segments: [(EntryId(1), vec![bookie()])].into(), ..closed_ledger() },
        LedgerMetadata { segments: [(EntryId(0), vec![bookie(), bookie()])].into(), ..closed_ledger() },
    ];
    for metadata in broken {
        let result = LedgerMetadata::decode(&metadata.encode());
        assert!(matches!(result, Err(LedgerMetadataError::Invalid(_))), "{metadata:?}");
    }
}

#[test]
fn text_metadata_of_old_is_named_as_such() {
    let record = b"BookieMetadataFormatVersion\t2\nquorumSize: 2\n";
    assert_eq!(LedgerMetadata::decode(record), Err(LedgerMetadataError::UnsupportedVersion("2".into())));
}

#[test]
fn the_ensemble_of_an_entry_is_that_of_its_segment() {
    let bookie = |name: &str| BookieId::new(name).unwrap();
    let segments = [(EntryId(0), vec![bookie("a")]), (EntryId(5), vec![bookie("b")])].into();
    let metadata = LedgerMetadata { segments, ..closed_ledger() };
    assert_eq!(metadata.ensemble_of(EntryId(4)), [bookie("a")]);
    assert_eq!(metadata.ensemble_of(EntryId(5)), [bookie("b")]);
    assert_eq!(metadata.last_segment(), (EntryId(5), &[bookie("b")][..]));
}
