//! Frames and entries of Pulsar, byte by byte.

use bytes::{Bytes, BytesMut};
use magnetar_proto::checksum::crc32;
use magnetar_proto::pulsar::api::*;
use magnetar_proto::pulsar::frame::{Decoder, FrameError, MAX_FRAME_SIZE, encode, encode_with_payload};
use magnetar_proto::pulsar::{Command, batch, entry, message};

use crate::hex;

/// producer "p", sequence 2, publish time 3; payload "hi".
const MESSAGE: &str = "0e01 41955213 00000007 0a0170 1002 1803 6869";

fn position(ledger_id: u64, entry_id: u64) -> MessageIdData {
    MessageIdData { ledger_id, entry_id, ..Default::default() }
}

fn simple_frames() -> Vec<(&'static str, Command)> {
    vec![
        ("00000009 00000005 0812 9201 00", CommandPing {}.into()),
        ("00000009 00000005 0813 9a01 00", CommandPong {}.into()),
        (
            "0000000d 00000009 080b 5a05 0803 10e807",
            CommandFlow { consumer_id: 3, message_permits: 1000 }.into(),
        ),
        (
            "00000012 0000000e 080a 520a 0803 1000 1a04 0805 1000",
            CommandAck { consumer_id: 3, message_id: vec![position(5, 0)], ..Default::default() }.into(),
        ),
        (
            "00000012 0000000e 0807 3a0a 0801 1002 1a04 0805 1000",
            CommandSendReceipt {
                producer_id: 1,
                sequence_id: 2,
                message_id: Some(position(5, 0)),
                highest_sequence_id: None,
            }
            .into(),
        ),
        (
            // A duplicate is answered with both ids -1, which an unsigned varint writes in ten bytes.
            "00000024 00000020 0807 3a1c 0801 1002 1a16 08ffffffffffffffffff01 10ffffffffffffffffff01",
            CommandSendReceipt {
                producer_id: 1,
                sequence_id: 2,
                message_id: Some(position(u64::MAX, u64::MAX)),
                highest_sequence_id: None,
            }
            .into(),
        ),
        (
            "00000014 00000010 0802 120c 0a04 74657374 2015 2a02 7878",
            CommandConnect {
                client_version: "test".into(),
                protocol_version: Some(21),
                auth_method_name: Some("xx".into()),
                ..Default::default()
            }
            .into(),
        ),
        (
            "00000012 0000000e 080d 6a0a 08ffffffffffffffff7f",
            CommandSuccess { request_id: (1 << 63) - 1, schema: None }.into(),
        ),
    ]
}

#[test]
fn simple_frames_are_these_bytes() {
    for (bytes, command) in simple_frames() {
        let mut out = BytesMut::new();
        encode(command.clone(), &mut out);
        assert_eq!(out[..], hex(bytes), "{command:?}");

        let frame = Decoder::new(MAX_FRAME_SIZE).decode(&mut out).unwrap().unwrap();
        assert_eq!(frame.command, command);
        assert_eq!(frame.payload, None);
        assert!(out.is_empty());
    }
}

#[test]
fn a_send_carries_its_message_unchanged() {
    let message = hex(MESSAGE);
    let header = hex("00000021 0000000a 0806 3206 0801 1002 1801");
    let command = CommandSend { producer_id: 1, sequence_id: 2, num_messages: Some(1), ..Default::default() };

    let mut out = BytesMut::new();
    encode_with_payload(command.clone().into(), message.len(), &mut out);
    assert_eq!(out[..], header);

    out.extend_from_slice(&message);
    let frame = Decoder::new(MAX_FRAME_SIZE).decode(&mut out).unwrap().unwrap();
    assert_eq!(frame.command, command.into());
    assert_eq!(frame.payload.unwrap()[..], message);
}

#[test]
fn a_message_carries_its_entry_unchanged() {
    let command = CommandMessage { consumer_id: 3, message_id: position(5, 0), ..Default::default() };
    let mut out = BytesMut::new();
    encode_with_payload(command.into(), 19, &mut out);
    assert_eq!(out[..], hex("00000023 0000000c 0809 4a08 0803 1204 0805 1000"));
}

#[test]
fn a_built_message_is_these_bytes() {
    let metadata =
        MessageMetadata { producer_name: "p".into(), sequence_id: 2, publish_time: 3, ..Default::default() };
    let built = entry::build(&metadata, b"hi");
    assert_eq!(built[..], hex(MESSAGE));
    assert_eq!(entry::verify_checksum(&built), Ok(()));
}

#[test]
fn a_changed_bit_fails_the_checksum_wherever_it_is_covered() {
    let message = hex(MESSAGE);
    for index in 2..message.len() {
        let mut changed = message.clone();
        changed[index] ^= 1;
        assert!(entry::verify_checksum(&changed).is_err(), "byte {index}");
    }
}

#[test]
fn an_entry_without_a_checksum_passes() {
    let message = hex("00000007 0a0170 1002 1803 6869");
    assert_eq!(entry::verify_checksum(&message), Ok(()));
    let parts = entry::split(&message.into()).unwrap();
    assert_eq!((parts.checksum, &parts.payload[..]), (None, &b"hi"[..]));
}

#[test]
fn broker_metadata_comes_off_in_front() {
    let metadata = BrokerEntryMetadata { broker_timestamp: Some(7), index: Some(300) };
    let prefix = entry::broker_metadata_prefix(&metadata);
    assert_eq!(prefix[..], hex("0e02 00000005 0807 10ac02"));

    let stored = Bytes::from([&prefix[..], &hex(MESSAGE)].concat());
    let parts = entry::split(&stored).unwrap();
    assert_eq!(parts.broker_metadata, Some(metadata));
    assert_eq!(parts.headers_and_payload[..], hex(MESSAGE));
    assert_eq!(parts.checksum, Some(0x4195_5213));
    assert_eq!(parts.payload[..], *b"hi");
    assert_eq!(entry::headers_and_payload(&stored).unwrap(), parts.headers_and_payload);
    assert_eq!(message::summarize_entry(&stored).unwrap().sequence_id, 2);
}

#[test]
fn a_batch_of_one_is_a_batch() {
    let stored =
        Bytes::from(hex("0e01 a779a5f0 00000009 0a0170 1002 1803 5801 00000002 1802 6869 00000002 1800"));
    assert_eq!(entry::verify_checksum(&stored), Ok(()));
    let summary = message::summarize_entry(&stored).unwrap();
    assert_eq!((summary.is_batch, summary.num_messages), (true, 1));

    let payload = entry::split(&stored).unwrap().payload;
    let payloads: Vec<Bytes> = batch::decode(payload, 2).map(|message| message.unwrap().1).collect();
    assert_eq!(payloads, [&b"hi"[..], b""]);
}

#[test]
fn a_batch_shorter_than_announced_ends_in_one_error() {
    let results: Vec<_> = batch::decode(Bytes::from(hex("00000002 1802 6869")), 5).collect();
    assert_eq!(results.len(), 2);
    assert!(results[0].is_ok() && results[1].is_err());
}

#[test]
fn a_command_of_a_later_protocol_is_named() {
    let mut buf = BytesMut::from(&hex("00000006 00000002 0846")[..]);
    assert_eq!(Decoder::new(MAX_FRAME_SIZE).decode(&mut buf), Err(FrameError::UnknownCommand(70)));
}

#[test]
fn contradictory_frames_are_malformed() {
    for bytes in [
        "00000000",                       // no room for the command's length
        "00000004 00000001",              // command longer than the frame
        "00000004 00000000",              // no command
        "00000006 00000002 0812",         // type without body
        "00000009 00000005 0813 9201 00", // PONG's type, PING's body
    ] {
        let mut buf = BytesMut::from(&hex(bytes)[..]);
        let result = Decoder::new(MAX_FRAME_SIZE).decode(&mut buf);
        assert!(matches!(result, Err(FrameError::Malformed(_))), "{bytes}: {result:?}");
    }
}

#[test]
fn an_untrusted_peer_cannot_send_a_huge_command() {
    let ids = vec![position(1, 1); 100];
    let mut buf = BytesMut::new();
    encode(CommandAck { message_id: ids, ..Default::default() }.into(), &mut buf);
    let mut decoder = Decoder::new(MAX_FRAME_SIZE).with_max_command(256);
    assert!(matches!(decoder.decode(&mut buf), Err(FrameError::TooLarge(_))));
}

#[test]
fn topics_hash_to_their_bundles_as_upstream() {
    assert_eq!(crc32(b"persistent://public/default/my-topic"), 0x2bad_45f7);
    assert_eq!(crc32(b"persistent://public/default/my-topic-partition-0"), 0x3d4b_4235);
}
