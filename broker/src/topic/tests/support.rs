//! A cluster in the process, and peers that stand for connections.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use magnetar_bookie::{Bookie, Config};
use magnetar_common::Environment;
use magnetar_common::budget::ByteBudget;
use magnetar_common::clock::ManualClock;
use magnetar_common::layout;
use magnetar_common::metadata::{MemoryStore, SharedMetadata};
use magnetar_ledger::{Client, ClientConfig};
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::ids::{EntryId, LedgerId, Position};
use magnetar_proto::pulsar::frame::{Decoder, MAX_FRAME_SIZE};
use magnetar_proto::pulsar::{Command, api, entry};
use tempfile::TempDir;

use crate::managed_ledger::{MlConfig, MlEnv};
use crate::policies::{Fixed, TopicPolicies};
use crate::protocol::frames::Part;
use crate::protocol::outbound::{ClientInfo, ConnectionId, Outbound, Queued};
use crate::topic::*;

/// Longest wait for something that must come; a test that runs into it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) const TOPIC: &str = "persistent://public/default/t";

/// There is no other topic.
struct Nowhere;

impl StoreElsewhere for Nowhere {
    fn store(
        &self,
        topic: magnetar_common::topic_name::TopicName,
        _: Bytes,
    ) -> futures_util::future::BoxFuture<'static, Result<(), String>> {
        Box::pin(std::future::ready(Err(format!("there is no topic {topic} in this test"))))
    }
}

pub(super) struct World {
    pub env: TopicEnv,
    pub clock: Arc<ManualClock>,
    bookies: Vec<Bookie>,
    _dir: TempDir,
}

impl World {
    /// Time of the topics stands still until the test moves it; bookies and ledgers live in real time.
    pub(super) async fn start() -> World {
        let dir = tempfile::tempdir().unwrap();
        let metadata: SharedMetadata = Arc::new(MemoryStore::new());
        let mut bookies = Vec::new();
        for n in 0..3 {
            let path = dir.path().join(n.to_string());
            let mut config = Config::new(path.join("journal"), vec![path.join("ledgers")]);
            config.bookie_id = Some(BookieId::new(&format!("bookie-{n}")).unwrap());
            bookies.push(Bookie::start(config, metadata.clone(), Environment::system()).await.unwrap());
        }
        let ledgers = Client::new(metadata.clone(), Environment::system(), ClientConfig::default()).await;
        let clock = ManualClock::new();
        let environment = Environment { clock: clock.clone(), ..Environment::system() };
        let (ledgers, random) = (ledgers.unwrap(), environment.random.clone());
        let env = TopicEnv {
            managed_ledgers: MlEnv { ledgers, metadata, clock: clock.clone(), random },
            config: MlConfig::default(),
            environment,
            limits: TopicLimits::default(),
            names: Arc::new(ProducerNames::new("test-0")),
            broker: "broker".into(),
            policies: Arc::new(Fixed(TopicPolicies::default())),
            tail_budget: Arc::new(TailBudget::new(1 << 30)),
            compactions: Arc::new(tokio::sync::Semaphore::new(1)),
            elsewhere: Arc::new(Nowhere),
        };
        World { env, clock, bookies, _dir: dir }
    }

    pub(super) async fn topic(&self) -> Handle {
        self.named(TOPIC).await
    }

    pub(super) async fn named(&self, name: &str) -> Handle {
        open(self.env.clone(), name.parse().unwrap(), false).await.unwrap()
    }

    /// Lets no bookie take entries, or all of them; returns when all have announced it.
    pub(super) async fn set_read_only(&self, read_only: bool) {
        self.bookies.iter().for_each(|bookie| bookie.set_read_only(read_only));
        let metadata = &self.env.managed_ledgers.metadata;
        let announced = async || metadata.children(layout::BOOKIES_READ_ONLY).await.unwrap().len();
        let expected = if read_only { self.bookies.len() } else { 0 };
        until("the bookies announce it", async || announced().await == expected).await;
    }

    /// Closes the topic and loads it again.
    pub(super) async fn reload(&self, handle: &Handle) -> Handle {
        handle.close(CloseReason::Unload).await.unwrap();
        handle.closed().await;
        self.topic().await
    }
}

/// Waits until the topic is as wanted, looking again whenever its task and its timers had their turn.
pub(super) async fn until<F: Future<Output = bool>>(what: &str, mut wanted: impl FnMut() -> F) {
    let waiting = async {
        while !wanted().await {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "never: {what}");
}

/// One connection to one topic.
pub(super) struct Peer {
    pub outbound: Outbound,
    pub topic: Handle,
    queued: VecDeque<Queued>,
    received: VecDeque<(Command, Bytes)>,
    sent: u64,
}

/// A message as a client sees it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Received {
    pub consumer: u64,
    pub position: Position,
    pub text: String,
    pub redeliveries: u32,
    pub ack_set: Vec<i64>,
    pub epoch: Option<u64>,
}

impl Peer {
    pub(super) fn new(topic: &Handle) -> Peer {
        Peer::of(topic, "Pulsar-Java-v4.0.0")
    }

    pub(super) fn of(topic: &Handle, version: &str) -> Peer {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let connection = ConnectionId(NEXT.fetch_add(1, Ordering::Relaxed));
        let outbound = Outbound::new(connection, "peer");
        outbound.set_client(ClientInfo { version: version.into(), protocol: 20, ..ClientInfo::default() });
        Peer { outbound, topic: topic.clone(), queued: VecDeque::new(), received: VecDeque::new(), sent: 0 }
    }

    pub(super) fn producer(&self, producer_id: u64) -> ProducerKey {
        ProducerKey { connection: self.outbound.connection(), producer_id }
    }

    pub(super) fn consumer(&self, consumer_id: u64) -> ConsumerKey {
        ConsumerKey { connection: self.outbound.connection(), consumer_id }
    }

    pub(super) fn add_producer(&self, producer_id: u64) -> AddProducer {
        AddProducer {
            key: self.producer(producer_id),
            request_id: 1_000 + producer_id,
            name: None,
            epoch: 0,
            access_mode: AccessMode::Shared,
            topic_epoch: None,
            user_provided_name: false,
            encrypted: false,
            metadata: BTreeMap::new(),
            schema_version: Bytes::new(),
            initial_subscription: None,
            outbound: self.outbound.clone(),
            welcome: Welcome::default(),
        }
    }

    /// With producer 0.
    pub(super) async fn producing(topic: &Handle) -> Peer {
        let peer = Peer::new(topic);
        topic.add_producer(peer.add_producer(0)).await.unwrap();
        peer
    }

    pub(super) fn subscribe(
        &self,
        consumer_id: u64,
        subscription: &str,
        kind: SubscriptionType,
    ) -> Subscribe {
        Subscribe {
            key: self.consumer(consumer_id),
            subscription: subscription.into(),
            kind,
            consumer_name: Some(format!("consumer-{consumer_id}")),
            priority: 0,
            durable: true,
            start: None,
            rollback: None,
            initial_position: InitialPosition::Earliest,
            read_compacted: false,
            key_shared: KeySharedPolicy::default(),
            metadata: BTreeMap::new(),
            properties: BTreeMap::new(),
            consumer_epoch: None,
            create_missing: true,
            outbound: self.outbound.clone(),
            welcome: Welcome::default(),
        }
    }

    /// With consumer 0 on subscription `s` and a thousand permits.
    pub(super) async fn consuming(topic: &Handle, kind: SubscriptionType) -> Peer {
        let peer = Peer::new(topic);
        peer.join(0, "s", kind, 1_000).await;
        peer
    }

    pub(super) async fn join(&self, id: u64, subscription: &str, kind: SubscriptionType, permits: u32) {
        self.topic.subscribe(self.subscribe(id, subscription, kind)).await.unwrap();
        self.topic.flow(self.consumer(id), permits);
    }

    /// Publishes by producer 0 without waiting; numbers count up from 0.
    pub(super) fn send(&mut self, text: &str) {
        self.send_with(text, api::MessageMetadata::default());
    }

    pub(super) fn send_with(&mut self, text: &str, metadata: api::MessageMetadata) {
        let metadata = api::MessageMetadata {
            producer_name: "p".into(),
            sequence_id: self.sent,
            publish_time: metadata.publish_time.max(1),
            ..metadata
        };
        self.topic.publish(Publish {
            key: self.producer(0),
            sequence_id: self.sent,
            highest_sequence_id: None,
            num_messages: 1,
            is_chunk: false,
            headers_and_payload: entry::build(&metadata, text.as_bytes()),
            ticket: ByteBudget::new(1 << 20).try_acquire(1).unwrap(),
        });
        self.sent += 1;
    }

    /// Publishes and waits for all receipts; answers the positions.
    pub(super) async fn send_all<T: AsRef<str>>(
        &mut self,
        texts: impl IntoIterator<Item = T>,
    ) -> Vec<Position> {
        let texts: Vec<T> = texts.into_iter().collect();
        texts.iter().for_each(|text| self.send(text.as_ref()));
        self.receipts(texts.len()).await
    }

    pub(super) async fn receipts(&mut self, n: usize) -> Vec<Position> {
        let mut positions = Vec::new();
        while positions.len() < n {
            let (command, _) = self.next().await;
            let Command::SendReceipt(receipt) = command else { panic!("a receipt, not {command:?}") };
            positions.push(position(&receipt.message_id.unwrap()));
        }
        positions
    }

    /// The next frame.
    pub(super) async fn next(&mut self) -> (Command, Bytes) {
        loop {
            if let Some(frame) = self.received.pop_front() {
                return frame;
            }
            let taken = tokio::time::timeout(PATIENCE, self.outbound.take(&mut self.queued)).await;
            taken.expect("a frame should have come").expect("the connection should be open");
            self.drain();
        }
    }

    fn drain(&mut self) {
        for frame in self.queued.drain(..) {
            if self.outbound.written(frame.cost()) {
                self.topic.writable(self.outbound.connection());
            }
            match frame {
                Queued::Frame { command, payload } => self.received.push_back((command, payload)),
                Queued::Part(part) => self.received.extend(frames(&part)),
            }
        }
    }

    /// The next message, passing over ACTIVE_CONSUMER_CHANGE.
    pub(super) async fn message(&mut self) -> Received {
        loop {
            match self.next().await {
                (Command::Message(message), bytes) => return received(&message, bytes),
                (Command::ActiveConsumerChange(_), _) => {}
                (other, _) => panic!("a message, not {other:?}"),
            }
        }
    }

    pub(super) async fn messages(&mut self, n: usize) -> Vec<Received> {
        let mut messages = Vec::new();
        while messages.len() < n {
            messages.push(self.message().await);
        }
        messages
    }

    pub(super) async fn texts(&mut self, n: usize) -> Vec<String> {
        self.messages(n).await.into_iter().map(|m| m.text).collect()
    }

    /// Everything the topic sent up to now: a request to the actor passes through the mailbox first.
    pub(super) async fn pending(&mut self) -> Vec<(Command, Bytes)> {
        self.topic.subscriptions().await.unwrap();
        self.pending_now().await
    }

    pub(super) async fn pending_now(&mut self) -> Vec<(Command, Bytes)> {
        if self.outbound.queued_bytes() > 0 {
            self.outbound.take(&mut self.queued).await.unwrap();
            self.drain();
        }
        self.received.drain(..).collect()
    }

    /// Acknowledges and waits until that is durable.
    pub(super) async fn ack(&mut self, consumer: u64, positions: &[Position]) {
        let ids = positions.iter().map(|p| id(*p)).collect();
        self.ack_with(consumer, api::command_ack::AckType::Individual, ids).await;
    }

    pub(super) async fn ack_with(
        &mut self,
        consumer: u64,
        kind: api::command_ack::AckType,
        ids: Vec<api::MessageIdData>,
    ) -> api::CommandAckResponse {
        self.topic.ack(
            self.consumer(consumer),
            api::CommandAck {
                consumer_id: consumer,
                ack_type: kind.into(),
                message_id: ids,
                request_id: Some(7),
                ..Default::default()
            },
            &self.outbound,
        );
        let mut others = VecDeque::new();
        loop {
            let (command, bytes) = self.next().await;
            if let Command::AckResponse(response) = command {
                assert_eq!((response.consumer_id, response.request_id), (consumer, Some(7)));
                others.extend(self.received.drain(..));
                self.received = others;
                return response;
            }
            others.push_back((command, bytes));
        }
    }
}

fn frames(part: &Part) -> Vec<(Command, Bytes)> {
    let (mut bytes, mut frames) = (part.to_bytes(), Vec::new());
    let mut decoder = Decoder::new(MAX_FRAME_SIZE);
    while let Some(frame) = decoder.decode(&mut bytes).unwrap() {
        frames.push((frame.command, frame.payload.unwrap_or_default()));
    }
    assert!(bytes.is_empty(), "a part is whole frames");
    frames
}

fn received(message: &api::CommandMessage, bytes: Bytes) -> Received {
    entry::verify_checksum(&bytes).unwrap();
    assert!(bytes.starts_with(&[0x0e, 0x01]), "every message carries its checksum");
    Received {
        consumer: message.consumer_id,
        position: position(&message.message_id),
        text: String::from_utf8(entry::split(&bytes).unwrap().payload.to_vec()).unwrap(),
        redeliveries: message.redelivery_count(),
        ack_set: message.ack_set.clone(),
        epoch: message.consumer_epoch,
    }
}

pub(super) fn position(id: &api::MessageIdData) -> Position {
    Position { ledger_id: LedgerId(id.ledger_id), entry_id: EntryId(id.entry_id) }
}

pub(super) fn id(position: Position) -> api::MessageIdData {
    api::MessageIdData {
        ledger_id: position.ledger_id.0,
        entry_id: position.entry_id.0,
        ..Default::default()
    }
}

pub(super) fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

pub(super) fn batch_of(n: i32) -> api::MessageMetadata {
    api::MessageMetadata { num_messages_in_batch: Some(n), ..Default::default() }
}

pub(super) fn keyed(key: &str) -> api::MessageMetadata {
    api::MessageMetadata { partition_key: Some(key.into()), ..Default::default() }
}
