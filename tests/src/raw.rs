//! One bare connection to the broker: commands in, commands out, no retries and no reconnects.
//!
//! Official clients hide what a broker answers to bad input and cannot ask for acknowledgement receipts on every ack;
//! this one shows each frame as it comes.

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use magnetar_proto::pulsar::api::{
    CommandAck, CommandConnect, CommandFlow, CommandProducer, CommandSend, CommandSubscribe, MessageIdData,
    MessageMetadata, command_ack, command_subscribe,
};
use magnetar_proto::pulsar::{Command, entry, frame};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// An answer that has not come by then is missing.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A connection in blocking mode.
pub struct Connection {
    stream: TcpStream,
    received: BytesMut,
    decoder: frame::Decoder,
    next_request: u64,
    bytes_received: u64,
}

impl Connection {
    /// Opens TCP and sends nothing.
    pub fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        let decoder = frame::Decoder::new(frame::MAX_MESSAGE_SIZE + frame::FRAME_PADDING);
        Ok(Self { stream, received: BytesMut::new(), decoder, next_request: 1, bytes_received: 0 })
    }

    /// Opens TCP and shakes hands as a client of protocol version 21.
    pub fn connect(address: &str) -> Result<Self> {
        let mut connection = Self::open(address)?;
        connection.send(CommandConnect {
            client_version: "magnetar-tests".into(),
            protocol_version: Some(21),
            ..Default::default()
        })?;
        match connection.receive()?.command {
            Command::Connected(_) => Ok(connection),
            other => bail!("no CONNECTED but {other:?}"),
        }
    }

    /// A request id not used before on this connection.
    pub fn request_id(&mut self) -> u64 {
        self.next_request += 1;
        self.next_request
    }

    /// What has come on this handle so far.
    pub fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// Sends a simple frame.
    pub fn send(&mut self, command: impl Into<Command>) -> Result<()> {
        let mut out = BytesMut::new();
        frame::encode(command.into(), &mut out);
        self.send_bytes(&out)
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("write to the broker")
    }

    /// Sends one unbatched message.
    pub fn publish(&mut self, producer_id: u64, sequence_id: u64, payload: &[u8]) -> Result<()> {
        self.publish_all(producer_id, std::iter::once((metadata(sequence_id), payload)))
    }

    /// Sends unbatched messages in one write.
    pub fn publish_all(
        &mut self,
        producer_id: u64,
        messages: impl Iterator<Item = (MessageMetadata, impl AsRef<[u8]>)>,
    ) -> Result<()> {
        let mut out = BytesMut::new();
        for (metadata, payload) in messages {
            let entry = entry::build(&metadata, payload.as_ref());
            encode_send(producer_id, metadata.sequence_id, &entry, &mut out);
        }
        self.send_bytes(&out)
    }

    /// Sends headers and payload as they are.
    pub fn publish_entry(&mut self, producer_id: u64, sequence_id: u64, entry: Bytes) -> Result<()> {
        let mut out = BytesMut::new();
        encode_send(producer_id, sequence_id, &entry, &mut out);
        self.send_bytes(&out)
    }

    /// The next frame; an error when the broker has closed the connection.
    pub fn receive(&mut self) -> Result<frame::Frame> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.received)? {
                return Ok(frame);
            }
            let mut chunk = [0; 64 * 1024];
            let read = self.stream.read(&mut chunk).context("read from the broker")?;
            if read == 0 {
                bail!("closed by the broker");
            }
            self.bytes_received += read as u64;
            self.received.extend_from_slice(&chunk[..read]);
        }
    }

    /// The next frame that `wanted` takes; PINGs are answered and others skipped on the way.
    pub fn expect<T>(&mut self, mut wanted: impl FnMut(frame::Frame) -> Option<T>) -> Result<T> {
        loop {
            let frame = self.receive()?;
            if matches!(frame.command, Command::Ping(_)) {
                self.send(Command::Pong(Default::default()))?;
                continue;
            }
            if let Command::Error(error) = &frame.command {
                bail!("ERROR {} {}", error.error, error.message);
            }
            if let Some(value) = wanted(frame) {
                return Ok(value);
            }
        }
    }

    /// True when the broker closes the connection (after any frames it still sends).
    pub fn is_closed_by_broker(&mut self) -> bool {
        // Less than after which a broker asks a silent client whether it is there, and then closes as well.
        if self.stream.set_read_timeout(Some(Duration::from_secs(20))).is_err() {
            return false;
        }
        loop {
            if let Err(error) = self.receive() {
                let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
                return !matches!(kind, Some(ErrorKind::WouldBlock | ErrorKind::TimedOut));
            }
        }
    }

    /// PRODUCER, and waits for PRODUCER_SUCCESS.
    pub fn create_producer(&mut self, producer_id: u64, topic: &str) -> Result<()> {
        let request_id = self.request_id();
        let producer = CommandProducer { topic: topic.into(), producer_id, request_id, ..Default::default() };
        self.send(producer)?;
        self.expect(|frame| match frame.command {
            Command::ProducerSuccess(success) if success.request_id == request_id => Some(()),
            _ => None,
        })
    }

    /// SUBSCRIBE from the earliest message, and waits for SUCCESS.
    pub fn subscribe(
        &mut self,
        consumer_id: u64,
        topic: &str,
        subscription: &str,
        kind: command_subscribe::SubType,
    ) -> Result<()> {
        let request_id = self.request_id();
        self.send(CommandSubscribe {
            topic: topic.into(),
            subscription: subscription.into(),
            sub_type: kind as i32,
            consumer_id,
            request_id,
            initial_position: Some(command_subscribe::InitialPosition::Earliest as i32),
            ..Default::default()
        })?;
        self.expect(|frame| match frame.command {
            Command::Success(success) if success.request_id == request_id => Some(()),
            _ => None,
        })
    }

    /// FLOW.
    pub fn flow(&mut self, consumer_id: u64, permits: u32) -> Result<()> {
        self.send(Command::Flow(CommandFlow { consumer_id, message_permits: permits }))
    }

    /// ACK of one message that asks for a receipt; the request id is returned.
    pub fn ack_with_receipt(&mut self, consumer_id: u64, id: MessageIdData) -> Result<u64> {
        self.ack_each(consumer_id, std::iter::once(id)).map(|ids| ids.start)
    }

    /// An ACK of its own, with a receipt, for each of these messages, in one write; the request ids are returned.
    pub fn ack_each(
        &mut self,
        consumer_id: u64,
        ids: impl Iterator<Item = MessageIdData>,
    ) -> Result<std::ops::Range<u64>> {
        let (first, mut out) = (self.next_request + 1, BytesMut::new());
        for id in ids {
            let command = CommandAck {
                consumer_id,
                ack_type: command_ack::AckType::Individual as i32,
                message_id: vec![id],
                request_id: Some(self.request_id()),
                ..Default::default()
            };
            frame::encode(Command::Ack(command), &mut out);
        }
        self.send_bytes(&out)?;
        Ok(first..self.next_request + 1)
    }

    /// Ends the connection for every handle on it.
    pub fn shutdown(&self) -> Result<()> {
        self.stream.shutdown(std::net::Shutdown::Both).context("end the connection")
    }

    /// Another handle on the same socket, for a reader beside a writer.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self {
            stream: self.stream.try_clone()?,
            received: BytesMut::new(),
            decoder: frame::Decoder::new(frame::MAX_MESSAGE_SIZE + frame::FRAME_PADDING),
            next_request: self.next_request,
            bytes_received: 0,
        })
    }
}

/// Of message number n, which says that it was published n + 1 ms after 1970.
pub fn metadata(sequence_id: u64) -> MessageMetadata {
    let publish_time = 1 + sequence_id;
    MessageMetadata { producer_name: "raw".into(), sequence_id, publish_time, ..Default::default() }
}

fn encode_send(producer_id: u64, sequence_id: u64, entry: &[u8], out: &mut BytesMut) {
    let command = Command::Send(CommandSend { producer_id, sequence_id, ..Default::default() });
    frame::encode_with_payload(command, entry.len(), out);
    out.extend_from_slice(entry);
}
