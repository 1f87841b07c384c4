//! One TCP connection: handshake, a reading task that routes frames, a writing task that sends whatever has queued.
//!
//! Called by: lookups, producers and consumers, which share connections.
//! Must never know: what a message contains.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use magnetar_common::Environment;
use magnetar_common::net::{ReadHalf, Stream, WriteHalf};
use magnetar_proto::pulsar::Command;
use magnetar_proto::pulsar::api::{CommandConnect, CommandConnected, CommandMessage, CommandPong};
use magnetar_proto::pulsar::frame::{self, Decoder, FRAME_PADDING, Frame, MAX_FRAME_SIZE, MAX_MESSAGE_SIZE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;

use super::ClientError;

/// The newest protocol version there is; the broker answers with the lower of both.
const PROTOCOL_VERSION: i32 = 21;
/// How long to wait for any answer; the official clients' default.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// What one read from the socket may bring.
const READ_BYTES: usize = 256 * 1024;

/// A frame for a producer.
#[derive(Debug)]
pub(super) enum ProducerEvent {
    Stored { sequence_id: u64 },
    Failed(ClientError),
}

/// A frame for a consumer.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) command: CommandMessage,
    pub(super) entry: Bytes,
}

/// A shared connection; it closes when the last clone is dropped.
#[derive(Clone)]
pub(super) struct Connection(Arc<Guard>);

struct Guard {
    shared: Arc<Shared>,
    reader: AbortHandle,
    writer: AbortHandle,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
    }
}

struct Shared {
    /// Encoded frames that the writing task has not taken yet. Bounded by its users: producers limit the messages
    /// they have in flight, all else is small and answered.
    outbox: Mutex<BytesMut>,
    wake_writer: Notify,
    routes: Mutex<Routes>,
    next_id: AtomicU64,
    max_message_bytes: usize,
}

/// Who waits for which frame. The channels hold at most what the broker may send: a receipt a message in flight, a
/// message a permit.
#[derive(Default)]
struct Routes {
    requests: HashMap<u64, oneshot::Sender<Result<Command, ClientError>>>,
    producers: HashMap<u64, mpsc::UnboundedSender<ProducerEvent>>,
    consumers: HashMap<u64, mpsc::UnboundedSender<Delivery>>,
    /// Set once, with the reason; nothing is added afterwards.
    closed: Option<ClientError>,
}

impl Connection {
    /// Dials `address` and completes the handshake.
    pub(super) async fn open(
        env: &Environment,
        address: &str,
        proxied_broker: Option<&str>,
    ) -> Result<Self, ClientError> {
        let refused = |reason: String| ClientError::Connect { address: address.to_owned(), reason };
        let connect = async {
            let Stream { mut reader, mut writer, .. } =
                env.network.connect(address).await.map_err(|error| refused(error.to_string()))?;
            let mut buffer = BytesMut::new();
            let connected = handshake(&mut reader, &mut writer, &mut buffer, proxied_broker).await?;
            Ok((reader, writer, buffer, connected))
        };
        let (reader, writer, buffer, connected) = tokio::time::timeout(ANSWER_TIMEOUT, connect)
            .await
            .unwrap_or_else(|_| Err(ClientError::Timeout(ANSWER_TIMEOUT.as_secs())))?;
        let announced = connected.max_message_size.and_then(|size| usize::try_from(size).ok());
        let shared = Arc::new(Shared {
            outbox: Mutex::default(),
            wake_writer: Notify::new(),
            routes: Mutex::default(),
            next_id: AtomicU64::new(1),
            max_message_bytes: announced.filter(|size| *size > 0).unwrap_or(MAX_MESSAGE_SIZE),
        });
        let reading = tokio::spawn(read_all(shared.clone(), reader, buffer));
        let writing = tokio::spawn(write_all(shared.clone(), writer));
        let guard = Guard { shared, reader: reading.abort_handle(), writer: writing.abort_handle() };
        Ok(Self(Arc::new(guard)))
    }

    /// False once the connection has ended.
    pub(super) fn is_open(&self) -> bool {
        self.0.shared.routes().closed.is_none()
    }

    /// Why the connection ended, if it has.
    pub(super) fn closed(&self) -> Option<ClientError> {
        self.0.shared.routes().closed.clone()
    }

    /// The broker's limit for metadata and payload of a message.
    pub(super) fn max_message_bytes(&self) -> usize {
        self.0.shared.max_message_bytes
    }

    /// A number unique on this connection, for requests, producers and consumers.
    pub(super) fn next_id(&self) -> u64 {
        self.0.shared.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Queues a command without waiting.
    pub(super) fn send(&self, command: Command) {
        self.0.shared.queue(|out| frame::encode(command, out));
    }

    /// Queues a command with a message behind it, without waiting.
    pub(super) fn send_with_payload(&self, command: Command, payload: &[u8]) {
        self.0.shared.queue(|out| {
            frame::encode_with_payload(command, payload.len(), out);
            out.extend_from_slice(payload);
        });
    }

    /// Sends what `build` makes of a request id, and waits for its answer. An ERROR becomes an error here.
    pub(super) async fn request(&self, build: impl FnOnce(u64) -> Command) -> Result<Command, ClientError> {
        let request_id = self.next_id();
        let (answer, answered) = oneshot::channel();
        {
            let mut routes = self.0.shared.routes();
            if let Some(reason) = &routes.closed {
                return Err(reason.clone());
            }
            routes.requests.insert(request_id, answer);
        }
        self.send(build(request_id));
        match tokio::time::timeout(ANSWER_TIMEOUT, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_dropped)) => Err(ClientError::Lost("it was closed".into())),
            Err(_elapsed) => {
                self.0.shared.routes().requests.remove(&request_id);
                Err(ClientError::Timeout(ANSWER_TIMEOUT.as_secs()))
            }
        }
    }

    /// Receives receipts and errors of producer `id` from now on; the channel ends when the broker closes it.
    pub(super) fn register_producer(&self, id: u64) -> mpsc::UnboundedReceiver<ProducerEvent> {
        let (events, receiver) = mpsc::unbounded_channel();
        self.0.shared.routes().producers.insert(id, events);
        receiver
    }

    /// Receives messages for consumer `id` from now on; the channel ends when the broker closes it.
    pub(super) fn register_consumer(&self, id: u64) -> mpsc::UnboundedReceiver<Delivery> {
        let (deliveries, receiver) = mpsc::unbounded_channel();
        self.0.shared.routes().consumers.insert(id, deliveries);
        receiver
    }
}

impl Shared {
    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self, append: impl FnOnce(&mut BytesMut)) {
        append(&mut self.outbox.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake_writer.notify_one();
    }

    /// Ends everything that waits on this connection.
    fn close(&self, reason: ClientError) {
        let mut routes = self.routes();
        routes.closed.get_or_insert(reason.clone());
        for (_, answer) in routes.requests.drain() {
            let _ = answer.send(Err(reason.clone()));
        }
        routes.producers.clear();
        routes.consumers.clear();
    }

    fn handle(&self, Frame { command, payload }: Frame) -> Result<(), ClientError> {
        let mut routes = self.routes();
        match command {
            Command::SendReceipt(receipt) => {
                routes.tell_producer(
                    receipt.producer_id,
                    ProducerEvent::Stored { sequence_id: receipt.sequence_id },
                );
            }
            Command::SendError(refused) => {
                let error = ClientError::refused(refused.error, refused.message);
                routes.tell_producer(refused.producer_id, ProducerEvent::Failed(error));
            }
            Command::Message(message) => {
                let entry =
                    payload.ok_or_else(|| ClientError::Protocol("MESSAGE without a message".into()))?;
                if let Some(consumer) = routes.consumers.get(&message.consumer_id) {
                    let _ = consumer.send(Delivery { command: message, entry });
                }
            }
            Command::Ping(_) => {
                drop(routes);
                self.queue(|out| frame::encode(Command::Pong(CommandPong {}), out));
            }
            Command::CloseProducer(close) => drop(routes.producers.remove(&close.producer_id)),
            Command::CloseConsumer(close) => drop(routes.consumers.remove(&close.consumer_id)),
            Command::Error(refused) => {
                let error = ClientError::refused(refused.error, refused.message);
                routes.answer(refused.request_id, Err(error));
            }
            other => {
                if let Some(request_id) = answered_request(&other) {
                    routes.answer(request_id, Ok(other));
                }
            }
        }
        Ok(())
    }
}

impl Routes {
    fn tell_producer(&self, id: u64, event: ProducerEvent) {
        if let Some(producer) = self.producers.get(&id) {
            let _ = producer.send(event);
        }
    }

    fn answer(&mut self, request_id: u64, answer: Result<Command, ClientError>) {
        if let Some(request) = self.requests.remove(&request_id) {
            let _ = request.send(answer);
        }
    }
}

/// The request that a command answers, for those that this client asks.
fn answered_request(command: &Command) -> Option<u64> {
    match command {
        Command::Success(answer) => Some(answer.request_id),
        Command::ProducerSuccess(answer) => Some(answer.request_id),
        Command::PartitionMetadataResponse(answer) => Some(answer.request_id),
        Command::LookupTopicResponse(answer) => Some(answer.request_id),
        _ => None,
    }
}

async fn handshake(
    reader: &mut ReadHalf,
    writer: &mut WriteHalf,
    buffer: &mut BytesMut,
    proxied_broker: Option<&str>,
) -> Result<CommandConnected, ClientError> {
    let lost = |error: std::io::Error| ClientError::Lost(error.to_string());
    let mut out = BytesMut::new();
    let connect = CommandConnect {
        client_version: concat!("magnetar-", env!("CARGO_PKG_VERSION")).to_owned(),
        protocol_version: Some(PROTOCOL_VERSION),
        proxy_to_broker_url: proxied_broker.map(str::to_owned),
        ..Default::default()
    };
    frame::encode(Command::Connect(Box::new(connect)), &mut out);
    writer.write_all(&out).await.map_err(lost)?;
    let mut decoder = Decoder::new(MAX_FRAME_SIZE);
    loop {
        match decoder.decode(buffer).map_err(|error| ClientError::Protocol(error.to_string()))? {
            Some(Frame { command: Command::Connected(connected), .. }) => return Ok(connected),
            Some(Frame { command: Command::Error(refused), .. }) => {
                return Err(ClientError::refused(refused.error, refused.message));
            }
            Some(_) => return Err(ClientError::Protocol("CONNECT was not answered by CONNECTED".into())),
            None if reader.read_buf(buffer).await.map_err(lost)? == 0 => {
                return Err(ClientError::Lost("the broker closed it during the handshake".into()));
            }
            None => {}
        }
    }
}

async fn read_all(shared: Arc<Shared>, mut reader: ReadHalf, mut buffer: BytesMut) {
    let mut decoder = Decoder::new(shared.max_message_bytes + FRAME_PADDING);
    let reason = loop {
        match decoder.decode(&mut buffer) {
            Ok(Some(frame)) => match shared.handle(frame) {
                Ok(()) => continue,
                Err(error) => break error,
            },
            Ok(None) => {}
            Err(error) => break ClientError::Protocol(error.to_string()),
        }
        buffer.reserve(READ_BYTES);
        match reader.read_buf(&mut buffer).await {
            Ok(0) => break ClientError::Lost("the broker closed it".into()),
            Ok(_) => {}
            Err(error) => break ClientError::Lost(error.to_string()),
        }
    };
    shared.close(reason);
}

async fn write_all(shared: Arc<Shared>, mut writer: WriteHalf) {
    let mut taken = BytesMut::new();
    loop {
        shared.wake_writer.notified().await;
        {
            let mut outbox = shared.outbox.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut *outbox, &mut taken);
        }
        if let Err(error) = writer.write_all(&taken).await {
            shared.close(ClientError::Lost(error.to_string()));
            return;
        }
        taken.clear();
    }
}
