//! A producer with the manners of the official clients, which keeps a record of everything it learns.
//!
//! It looks its topic up, publishes numbered messages at a steady rate, and after any trouble looks up again (after 100 ms,
//! doubling) and sends what has no receipt again, in order. Told the topic's next broker by CLOSE_PRODUCER it goes there at
//! once, without a lookup, as the Java, C++ and Go clients do (PIP-307). What must hold afterwards is checked by [`crate::checker`].

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use magnetar_common::clock::{Clock, SystemClock};
use magnetar_proto::pulsar::api::{
    CommandConnect, CommandLookupTopic, CommandProducer, CommandSend, MessageMetadata,
    command_lookup_topic_response::LookupType,
};
use magnetar_proto::pulsar::{Command, entry, frame};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// For one connection or answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Messages without a receipt; then the producer waits.
const WINDOW: usize = 1_000;
/// Each producer has a connection of its own.
const PRODUCER: u64 = 1;
const REDIRECTS_MAX: usize = 20;

/// What a producer knows of its topic.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Numbers with a receipt, in the order of the receipts, and when each came.
    pub receipts: Vec<(u64, Duration)>,
    /// Numbers sent at least once: 0 to this one exclusively.
    pub sent: u64,
    /// Why it had to start again, each time.
    pub troubles: Vec<(Duration, String)>,
}

impl Log {
    /// The longest time without a receipt that began or ended within the span.
    pub fn longest_gap(&self, from: Duration, to: Duration) -> Duration {
        let times: Vec<Duration> = self.receipts.iter().map(|(_, at)| *at).collect();
        let pairs = times.windows(2).filter(|pair| pair[1] >= from && pair[0] <= to);
        pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or(Duration::MAX)
    }
}

/// A running producer.
pub struct Publisher {
    pub topic: String,
    log: Arc<Mutex<Log>>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Publisher {
    /// Starts publishing `rate` messages a second; `addresses` are those of the service URL.
    pub fn start(clock: Arc<SystemClock>, addresses: Vec<String>, topic: String, rate: u32) -> Self {
        let (log, stop) = (Arc::<Mutex<Log>>::default(), Arc::<AtomicBool>::default());
        let state = State {
            clock,
            addresses,
            topic: topic.clone(),
            pause: Duration::from_secs(1) / rate,
            log: log.clone(),
            stop: stop.clone(),
            next: 0,
            unanswered: VecDeque::new(),
            epoch: 0,
            tries: 0,
            assigned: None,
        };
        Self { topic, log, stop, task: tokio::spawn(state.run()) }
    }

    /// What it knows so far.
    pub fn log(&self) -> Log {
        locked(&self.log).clone()
    }

    /// How many receipts came.
    pub fn receipts(&self) -> usize {
        locked(&self.log).receipts.len()
    }

    /// Sends no more, waits for the outstanding receipts, and gives the record.
    pub async fn finish(mut self) -> Result<Log> {
        self.stop.store(true, Ordering::Release);
        if tokio::time::timeout(ANSWER_MAX * 2, &mut self.task).await.is_err() {
            bail!("{} never got its last receipts: {:?}", self.topic, locked(&self.log).troubles.last());
        }
        Ok(self.log())
    }
}

fn locked(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().expect("a record")
}

struct State {
    clock: Arc<SystemClock>,
    addresses: Vec<String>,
    topic: String,
    pause: Duration,
    log: Arc<Mutex<Log>>,
    stop: Arc<AtomicBool>,
    next: u64,
    unanswered: VecDeque<u64>,
    epoch: u64,
    tries: usize,
    /// The next broker, as the last one told it.
    assigned: Option<String>,
}

impl State {
    async fn run(mut self) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let before = locked(&self.log).receipts.len();
            match self.publish().await {
                Ok(()) => return,
                Err(error) => locked(&self.log).troubles.push((self.clock.now(), format!("{error:#}"))),
            }
            self.tries += 1;
            if locked(&self.log).receipts.len() > before {
                backoff = BACKOFF_MIN;
            }
            if self.assigned.is_some() {
                continue;
            }
            self.clock.sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Ends well when it was told to stop and everything is answered.
    async fn publish(&mut self) -> Result<()> {
        let mut connection = match self.assigned.take() {
            Some(address) => Connection::connect(&address).await?,
            None => self.connect_to_owner().await?,
        };
        self.epoch += 1;
        let command = CommandProducer {
            topic: self.topic.clone(),
            producer_id: PRODUCER,
            request_id: 1,
            producer_name: Some(format!("publisher of {}", self.topic)),
            epoch: Some(self.epoch),
            ..Default::default()
        };
        connection.open_producer(command).await?;
        for number in &self.unanswered {
            connection.publish(PRODUCER, *number).await?;
        }
        let mut due = self.clock.now();
        loop {
            let stopping = self.stop.load(Ordering::Acquire);
            if stopping && self.unanswered.is_empty() {
                return Ok(());
            }
            let wait = due.saturating_sub(self.clock.now());
            let may_send = !stopping && self.unanswered.len() < WINDOW;
            let tick = if may_send { wait } else { ANSWER_MAX.min(Duration::from_millis(100)) };
            tokio::select! {
                frame = connection.receive() => self.on_frame(&mut connection, frame?.command).await?,
                () = self.clock.sleep(tick) => if may_send {
                    due += self.pause;
                    let number = self.next;
                    self.next += 1;
                    self.unanswered.push_back(number);
                    locked(&self.log).sent = self.next;
                    connection.publish(PRODUCER, number).await?;
                },
            }
        }
    }

    async fn on_frame(&mut self, connection: &mut Connection, command: Command) -> Result<()> {
        match command {
            Command::SendReceipt(receipt) => match self.unanswered.front() {
                Some(first) if *first == receipt.sequence_id => {
                    self.unanswered.pop_front();
                    locked(&self.log).receipts.push((receipt.sequence_id, self.clock.now()));
                }
                // For what was sent twice.
                Some(first) if *first > receipt.sequence_id => {}
                first => bail!("a receipt for {} where {first:?} is next", receipt.sequence_id),
            },
            Command::SendError(error) => bail!("SEND_ERROR {}", error.message),
            Command::CloseProducer(close) => {
                let next = close.assigned_broker_service_url;
                self.assigned = next.map(|url| url.trim_start_matches("pulsar://").to_owned());
                bail!("CLOSE_PRODUCER, next {:?}", self.assigned);
            }
            Command::Ping(_) => connection.send(Command::Pong(Default::default())).await?,
            _ => {}
        }
        Ok(())
    }

    async fn connect_to_owner(&self) -> Result<Connection> {
        let mut address = self.addresses[self.tries % self.addresses.len()].clone();
        let mut authoritative = false;
        for _ in 0..REDIRECTS_MAX {
            let mut connection = Connection::connect(&address).await?;
            let (owner, kind, decided) = connection.lookup(&self.topic, authoritative).await?;
            if kind == LookupType::Connect {
                return if owner == address { Ok(connection) } else { Connection::connect(&owner).await };
            }
            (address, authoritative) = (owner, decided);
        }
        bail!("redirected in circles")
    }
}

/// One connection, with a limit for every step.
pub struct Connection {
    stream: TcpStream,
    received: BytesMut,
    decoder: frame::Decoder,
}

impl Connection {
    /// Connects and shakes hands.
    pub async fn connect(address: &str) -> Result<Self> {
        let stream = tokio::time::timeout(ANSWER_MAX, TcpStream::connect(address)).await;
        let stream = stream.context("connect")?.with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        let decoder = frame::Decoder::new(frame::MAX_MESSAGE_SIZE + frame::FRAME_PADDING);
        let mut connection = Self { stream, received: BytesMut::new(), decoder };
        let connect = CommandConnect {
            client_version: "magnetar-tests".into(),
            protocol_version: Some(21),
            ..Default::default()
        };
        connection.send(connect).await?;
        match connection.receive().await?.command {
            Command::Connected(_) => Ok(connection),
            other => bail!("no CONNECTED but {other:?}"),
        }
    }

    /// One lookup: `host:port`, whether to connect there or to ask there, and what to say then.
    pub async fn lookup(&mut self, topic: &str, authoritative: bool) -> Result<(String, LookupType, bool)> {
        self.send(CommandLookupTopic {
            topic: topic.to_owned(),
            request_id: 1,
            authoritative: Some(authoritative),
            ..Default::default()
        })
        .await?;
        loop {
            match self.receive().await?.command {
                Command::LookupTopicResponse(answer) => {
                    if answer.response() == LookupType::Failed {
                        bail!("lookup: {}", answer.message());
                    }
                    let url = answer.broker_service_url().trim_start_matches("pulsar://").to_owned();
                    return Ok((url, answer.response(), answer.authoritative()));
                }
                Command::Ping(_) => self.send(Command::Pong(Default::default())).await?,
                _ => {}
            }
        }
    }

    /// Sends a simple frame.
    pub async fn send(&mut self, command: impl Into<Command>) -> Result<()> {
        let mut out = BytesMut::new();
        frame::encode(command.into(), &mut out);
        self.stream.write_all(&out).await.context("write to the broker")
    }

    /// PRODUCER, and waits for PRODUCER_SUCCESS.
    pub async fn open_producer(&mut self, command: CommandProducer) -> Result<()> {
        self.send(command).await?;
        loop {
            match self.receive().await?.command {
                Command::ProducerSuccess(_) => return Ok(()),
                Command::Error(error) => bail!("PRODUCER: {}", error.message),
                Command::Ping(_) => self.send(Command::Pong(Default::default())).await?,
                _ => {}
            }
        }
    }

    /// Sends the message of this number.
    pub async fn publish(&mut self, producer_id: u64, number: u64) -> Result<()> {
        let metadata = MessageMetadata {
            producer_name: "publisher".into(),
            sequence_id: number,
            publish_time: 1,
            ..Default::default()
        };
        let entry: Bytes = entry::build(&metadata, &number.to_be_bytes());
        let mut out = BytesMut::new();
        let command = Command::Send(CommandSend { producer_id, sequence_id: number, ..Default::default() });
        frame::encode_with_payload(command, entry.len(), &mut out);
        out.extend_from_slice(&entry);
        self.stream.write_all(&out).await.context("write to the broker")
    }

    /// The next frame. Cancel-safe.
    pub async fn receive(&mut self) -> Result<frame::Frame> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.received)? {
                return Ok(frame);
            }
            let read = tokio::time::timeout(ANSWER_MAX, self.stream.read_buf(&mut self.received)).await;
            if read.context("the broker is silent")?.context("read from the broker")? == 0 {
                bail!("closed by the broker");
            }
        }
    }
}
