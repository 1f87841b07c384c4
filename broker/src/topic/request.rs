//! What the protocol layer asks of a topic: commands parsed once, sentinels of the wire resolved.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use magnetar_common::budget::Ticket;
use magnetar_proto::ids::{EntryId, LedgerId, Position};
use magnetar_proto::pulsar::api;

use crate::dispatch::Routing;
use crate::protocol::outbound::{ConnectionId, Outbound};

/// A producer: its id is unique within its connection only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ProducerKey {
    pub connection: ConnectionId,
    pub producer_id: u64,
}

/// A consumer: its id is unique within its connection only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConsumerKey {
    pub connection: ConnectionId,
    pub consumer_id: u64,
}

/// Who else may publish (PIP-68).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AccessMode {
    #[default]
    Shared,
    Exclusive,
    WaitForExclusive,
    ExclusiveWithFencing,
}

impl AccessMode {
    pub fn name(self) -> &'static str {
        match self {
            AccessMode::Shared => "Shared",
            AccessMode::Exclusive => "Exclusive",
            AccessMode::WaitForExclusive => "WaitForExclusive",
            AccessMode::ExclusiveWithFencing => "ExclusiveWithFencing",
        }
    }
}

impl From<api::ProducerAccessMode> for AccessMode {
    fn from(mode: api::ProducerAccessMode) -> Self {
        match mode {
            api::ProducerAccessMode::Shared => AccessMode::Shared,
            api::ProducerAccessMode::Exclusive => AccessMode::Exclusive,
            api::ProducerAccessMode::WaitForExclusive => AccessMode::WaitForExclusive,
            api::ProducerAccessMode::ExclusiveWithFencing => AccessMode::ExclusiveWithFencing,
        }
    }
}

/// Answers the client whose request succeeded. The topic calls it before it sends that client anything that rests on the
/// answer: some clients take a CLOSE_CONSUMER that comes before SUCCESS for one of nobody's, and wait for ever.
pub struct Welcome<T>(Option<Box<Say<T>>>);

type Say<T> = dyn FnOnce(&T) + Send + Sync;

impl<T> Welcome<T> {
    pub fn new(answer: impl FnOnce(&T) + Send + Sync + 'static) -> Self {
        Welcome(Some(Box::new(answer)))
    }

    pub(crate) fn say(self, answer: &T) {
        if let Some(say) = self.0 {
            say(answer);
        }
    }
}

/// Nobody is answered but who waits for the request's end.
impl<T> Default for Welcome<T> {
    fn default() -> Self {
        Welcome(None)
    }
}

/// A PRODUCER command.
pub struct AddProducer {
    pub key: ProducerKey,
    /// Answers to a producer that waits for exclusive access carry it: the topic itself sends the second
    /// PRODUCER_SUCCESS (or the ERROR) with this id once the wait is over.
    pub request_id: u64,
    /// `None` or empty: the topic makes one up.
    pub name: Option<String>,
    /// Rises by one at each reconnect of the client.
    pub epoch: u64,
    pub access_mode: AccessMode,
    /// Epoch this producer had before it reconnected.
    pub topic_epoch: Option<u64>,
    pub user_provided_name: bool,
    /// It will encrypt what it sends.
    pub encrypted: bool,
    pub metadata: BTreeMap<String, String>,
    /// Schema version to answer with; empty without schema.
    pub schema_version: Bytes,
    /// Durable subscription to create at the earliest position first.
    pub initial_subscription: Option<String>,
    pub outbound: Outbound,
    pub welcome: Welcome<ProducerReady>,
}

/// What PRODUCER_SUCCESS says.
#[derive(Clone, Debug)]
pub struct ProducerReady {
    pub name: String,
    /// −1: deduplication is off, the client numbers from 0.
    pub last_sequence_id: i64,
    pub topic_epoch: Option<u64>,
    pub schema_version: Bytes,
    /// False: waits for exclusive access; see [`AddProducer::request_id`].
    pub ready: bool,
}

/// A SEND command whose checksum was verified.
pub struct Publish {
    pub key: ProducerKey,
    pub sequence_id: u64,
    pub highest_sequence_id: Option<u64>,
    /// From the command. What is stored counts by its own metadata.
    pub num_messages: u32,
    pub is_chunk: bool,
    /// From 0x0e01 to the end of the frame: stored and delivered unchanged.
    pub headers_and_payload: Bytes,
    /// The bytes' share of the publish budget; given back once the entry is durable or refused.
    pub ticket: Ticket,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SubscriptionType {
    Exclusive,
    Shared,
    Failover,
    KeyShared,
}

impl SubscriptionType {
    /// As the REST API spells it.
    pub fn name(self) -> &'static str {
        match self {
            SubscriptionType::Exclusive => "Exclusive",
            SubscriptionType::Shared => "Shared",
            SubscriptionType::Failover => "Failover",
            SubscriptionType::KeyShared => "Key_Shared",
        }
    }

    /// One consumer at a time receives.
    pub(crate) fn is_single(self) -> bool {
        matches!(self, SubscriptionType::Exclusive | SubscriptionType::Failover)
    }
}

impl From<api::command_subscribe::SubType> for SubscriptionType {
    fn from(kind: api::command_subscribe::SubType) -> Self {
        match kind {
            api::command_subscribe::SubType::Exclusive => SubscriptionType::Exclusive,
            api::command_subscribe::SubType::Shared => SubscriptionType::Shared,
            api::command_subscribe::SubType::Failover => SubscriptionType::Failover,
            api::command_subscribe::SubType::KeyShared => SubscriptionType::KeyShared,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum InitialPosition {
    #[default]
    Latest,
    Earliest,
}

/// A message id as a place to start from: that entry is the first to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StartPosition {
    Earliest,
    Latest,
    At {
        position: Position,
        /// Batch indexes to deliver of that entry (bit set = deliver); empty: all.
        ack_set: Vec<u64>,
    },
}

impl StartPosition {
    /// Reads an id off the wire. 'Latest' is decided by the ledger alone: some clients cannot send the full entry id.
    /// A chunked message starts at its first chunk.
    pub fn from_wire(id: &api::MessageIdData) -> StartPosition {
        let first = id.first_chunk_message_id.as_deref().unwrap_or(id);
        if first.ledger_id == i64::MAX as u64 {
            return StartPosition::Latest;
        }
        match LedgerId::from_wire(first.ledger_id as i64) {
            None => StartPosition::Earliest,
            Some(ledger_id) => StartPosition::At {
                position: Position {
                    ledger_id,
                    entry_id: EntryId::from_wire(first.entry_id as i64).unwrap_or(EntryId::ZERO),
                },
                ack_set: id.ack_set.iter().map(|word| *word as u64).collect(),
            },
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeySharedPolicy {
    pub routing: Routing,
    /// Inclusive; STICKY only.
    pub ranges: Vec<(u32, u32)>,
    pub out_of_order: bool,
}

impl Default for KeySharedPolicy {
    fn default() -> Self {
        KeySharedPolicy { routing: Routing::AutoSplit, ranges: Vec::new(), out_of_order: false }
    }
}

/// A SUBSCRIBE command.
pub struct Subscribe {
    pub key: ConsumerKey,
    pub subscription: String,
    pub kind: SubscriptionType,
    /// `None` or empty: the topic makes one up.
    pub consumer_name: Option<String>,
    pub priority: i32,
    /// False: a reader; its cursor lives in memory until its last consumer leaves.
    pub durable: bool,
    /// First entry to send; non-durable only.
    pub start: Option<StartPosition>,
    /// Start that long ago; first creation only.
    pub rollback: Option<Duration>,
    pub initial_position: InitialPosition,
    pub read_compacted: bool,
    pub key_shared: KeySharedPolicy,
    pub metadata: BTreeMap<String, String>,
    /// Stored when the subscription is created.
    pub properties: BTreeMap<String, String>,
    pub consumer_epoch: Option<u64>,
    /// A missing durable subscription may be created; otherwise `SubscriptionNotFound`.
    pub create_missing: bool,
    pub outbound: Outbound,
    pub welcome: Welcome<()>,
}

/// Where a SEEK goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SeekTarget {
    Id(StartPosition),
    /// First entry published at or after it, in ms since 1970.
    PublishTime(u64),
}

/// Answer to GET_LAST_MESSAGE_ID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LastMessageId {
    /// `None`: nothing readable; (−1, −1) on the wire.
    pub position: Option<Position>,
    /// Last index of a batch, −1 for a single message or nothing.
    pub batch_index: i32,
    pub partition: i32,
    /// Mark-delete position of the consumer's subscription; entry `None` = before the ledger's first.
    pub mark_delete: (LedgerId, Option<EntryId>),
}

/// An entry looked at by the admin API.
#[derive(Clone, Debug)]
pub struct PeekedEntry {
    pub position: Position,
    /// From 0x0e01 on.
    pub headers_and_payload: Bytes,
}

/// Why a topic is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// Moves elsewhere or leaves memory: clients reconnect.
    Unload,
    /// Data and cursors are deleted too. Refused (`InUse`) with producers or consumers connected unless forced.
    Delete { force: bool },
    /// The process ends.
    Shutdown,
}

/// Names are shared between tables, stats and outgoing commands.
pub(crate) type Name = Arc<str>;
