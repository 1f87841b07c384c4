//! Who talks to whom, and what travels between them.

use magnetar_proto::bookkeeper::metadata_format::LedgerMetadata;
use magnetar_proto::bookkeeper::v2::{Request, Response};
use magnetar_proto::ids::{EntryId, LedgerId};
use std::rc::Rc;

/// Index of an actor: a writer, a recovery or a reader.
pub(super) type ActorId = usize;
/// Index of a bookie.
pub(super) type HostId = usize;
/// Number of a question; never used again.
pub(super) type CallId = u64;

/// Somebody who can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peer {
    Bookie(HostId),
    Store,
}

/// By what an actor knows its question again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    /// An entry for the bookie in a slot; a later bookie in the slot has a higher generation.
    Add { slot: usize, generation: u64, entry: EntryId },
    /// A question about an entry, or about the newest one.
    Ask { slot: usize, entry: Option<EntryId> },
    /// The store is asked for the record.
    Get,
    /// The store is asked to change the record.
    Put,
}

/// A record with its version.
#[derive(Clone, Debug)]
pub(super) struct Versioned {
    pub(super) record: LedgerMetadata,
    pub(super) version: u64,
}

/// A question to the metadata store.
#[derive(Clone, Debug)]
pub(super) enum StoreOp {
    Get(LedgerId),
    /// `None`: whatever is there.
    Put(LedgerId, Box<LedgerMetadata>, Option<u64>),
}

/// An answer of the metadata store.
#[derive(Clone, Debug)]
pub(super) enum StoreReply {
    Record(Box<Versioned>),
    Written(u64),
    Conflict,
}

/// What becomes of a question. `None`: no answer in time.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Bookie(Option<Response>),
    Store(Option<StoreReply>),
}

/// Something that happens.
pub(super) enum Event {
    AtBookie {
        host: HostId,
        call: CallId,
        request: Rc<Request>,
    },
    AtStore {
        call: CallId,
        op: StoreOp,
    },
    AtActor {
        call: CallId,
        reply: Reply,
    },
    /// The asker waits no longer.
    NoAnswer {
        call: CallId,
    },
    Timer {
        actor: ActorId,
        epoch: u64,
    },
    /// Of a bookie's life with this number; a later one has its own.
    Sync {
        host: HostId,
        life: u64,
    },
    Restart {
        host: HostId,
    },
    /// The clients learn whether the bookie is up.
    Register {
        host: HostId,
    },
    Fault,
    Heal,
    /// A partition ends.
    Join,
}
