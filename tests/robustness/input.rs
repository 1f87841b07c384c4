//! What a client must not send.

use anyhow::{Context, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use magnetar_proto::pulsar::api::{CommandPing, MessageMetadata, ServerError};
use magnetar_proto::pulsar::{Command, entry, frame};
use magnetar_tests::process::Standalone;
use magnetar_tests::raw::Connection;
use magnetar_tests::wait;
use std::time::Duration;
use tempfile::TempDir;

const TOPIC: &str = "persistent://public/default/bad-input";
const LOG_LIMIT: Duration = Duration::from_secs(30);

/// A standalone, and a well-behaved producer that must not notice anything.
struct Fixture {
    process: Standalone,
    bystander: Connection,
    sequence_id: u64,
    _data: TempDir,
}

impl Fixture {
    fn new() -> Result<Self> {
        let data = tempfile::tempdir()?;
        let process = Standalone::start(data.path())?;
        let mut bystander = Connection::connect(&process.broker_address())?;
        bystander.create_producer(1, TOPIC)?;
        Ok(Self { process, bystander, sequence_id: 0, _data: data })
    }

    fn connect(&self) -> Result<Connection> {
        Connection::connect(&self.process.broker_address())
    }

    /// The bystander publishes and gets its receipt.
    fn bystander_works(&mut self) -> Result<()> {
        let sequence_id = self.sequence_id;
        self.sequence_id += 1;
        self.bystander.publish(1, sequence_id, b"undisturbed")?;
        self.bystander.expect(|frame| match frame.command {
            Command::SendReceipt(receipt) if receipt.sequence_id == sequence_id => Some(()),
            _ => None,
        })
    }

    /// Waits until exactly one warning more than `before` is logged.
    fn one_more_warning(&self, before: usize) -> Result<String> {
        let warnings = || -> Vec<String> {
            self.process
                .log()
                .into_iter()
                .filter(|line| line.contains("WARN") || line.contains("ERROR"))
                .collect()
        };
        let lines =
            wait::until("a log line", LOG_LIMIT, || Some(warnings()).filter(|lines| lines.len() > before));
        ensure!(lines.len() == before + 1, "more than one line: {lines:#?}");
        lines.last().cloned().context("a line")
    }

    fn warnings(&self) -> usize {
        self.process.log().iter().filter(|line| line.contains("WARN") || line.contains("ERROR")).count()
    }
}

fn ping_frame() -> BytesMut {
    let mut out = BytesMut::new();
    frame::encode(Command::Ping(CommandPing {}), &mut out);
    out
}

#[test]
fn input_that_breaks_the_framing_closes_that_connection_only() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let too_long = (u32::try_from(frame::MAX_MESSAGE_SIZE + frame::FRAME_PADDING)? + 1).to_be_bytes();
    let command_past_end = {
        let mut bytes = ping_frame();
        bytes[4..8].copy_from_slice(&1000_u32.to_be_bytes());
        bytes
    };
    let unknown_command = {
        let mut bytes = BytesMut::new();
        bytes.put_u32(7);
        bytes.put_u32(3);
        bytes.put_slice(&[0x08, 0xe7, 0x07]);
        bytes
    };
    let cases: [(&str, Bytes); 4] = [
        ("a frame longer than the limit", Bytes::copy_from_slice(&too_long)),
        (
            "garbage",
            Bytes::from_static(&[
                0x00, 0x00, 0x00, 0x10, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9,
            ]),
        ),
        ("a command that runs past its frame", command_past_end.freeze()),
        ("an unknown command", unknown_command.freeze()),
    ];
    for (what, bytes) in cases {
        let before = fixture.warnings();
        let mut connection = fixture.connect()?;
        connection.send_bytes(&bytes)?;
        ensure!(connection.is_closed_by_broker(), "{what}: not closed");
        let line = fixture.one_more_warning(before).context(what)?;
        ensure!(line.contains("127.0.0.1"), "{what}: the line names no peer: {line}");
        fixture.bystander_works().context(what)?;
    }
    Ok(())
}

#[test]
fn bytes_that_are_no_pulsar_at_all_close_the_connection() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let before = fixture.warnings();
    let mut connection = Connection::open(&fixture.process.broker_address())?;
    connection.send_bytes(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    ensure!(connection.is_closed_by_broker());
    fixture.one_more_warning(before)?;
    fixture.bystander_works()
}

#[test]
fn a_command_before_connect_closes_the_connection() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let before = fixture.warnings();
    let mut connection = Connection::open(&fixture.process.broker_address())?;
    connection.send_bytes(&ping_frame())?;
    let _ = connection.create_producer(1, TOPIC);
    ensure!(connection.is_closed_by_broker());
    fixture.one_more_warning(before)?;
    fixture.bystander_works()
}

#[test]
fn a_send_before_its_producer_closes_the_connection() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let before = fixture.warnings();
    let mut connection = fixture.connect()?;
    connection.publish(7, 0, b"nobody's")?;
    ensure!(connection.is_closed_by_broker());
    fixture.one_more_warning(before)?;
    fixture.bystander_works()
}

#[test]
fn a_wrong_checksum_is_answered_with_checksum_error_and_the_producer_goes_on() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let before = fixture.warnings();
    let mut connection = fixture.connect()?;
    connection.create_producer(1, TOPIC)?;
    let metadata =
        MessageMetadata { producer_name: "p".into(), sequence_id: 0, publish_time: 1, ..Default::default() };
    let mut broken = BytesMut::from(entry::build(&metadata, b"payload").as_ref());
    let last = broken.len() - 1;
    broken[last] ^= 1;
    connection.publish_entry(1, 0, broken.freeze())?;
    let code = connection.expect(|frame| match frame.command {
        Command::SendError(error) => Some(error.error),
        _ => None,
    })?;
    ensure!(code == ServerError::ChecksumError as i32, "code {code}");
    fixture.one_more_warning(before)?;
    connection.publish(1, 1, b"good")?;
    connection.expect(|frame| match frame.command {
        Command::SendReceipt(receipt) if receipt.sequence_id == 1 => Some(()),
        _ => None,
    })?;
    fixture.bystander_works()
}

#[test]
fn a_name_that_is_no_topic_is_refused_with_invalid_topic_name() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let mut connection = fixture.connect()?;
    for name in ["persistent://a", "ftp://public/default/x", "persistent://public/default/"] {
        let error = connection.create_producer(1, name).expect_err("refused");
        ensure!(
            error.to_string().contains(&format!("ERROR {}", ServerError::InvalidTopicName as i32)),
            "{name}: {error}"
        );
    }
    fixture.bystander_works()
}
