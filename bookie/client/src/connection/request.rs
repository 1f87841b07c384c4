//! What is asked of a bookie, and the way back to whoever asked.

use crate::protocol::writer::AddOutcome;
use bytes::{Bytes, BytesMut};
use magnetar_proto::bookkeeper::Code;
use magnetar_proto::bookkeeper::v2::{self, Flags, MasterKey, Request};
use magnetar_proto::ids::{EntryId, LedgerId};
use std::collections::VecDeque;
use tokio::sync::{mpsc, oneshot};

/// What a pending entry takes besides its payload: its head, and its place in queues and tables.
pub(crate) const ENTRY_OVERHEAD: usize = 256;

/// How an add ended, on its way back to the ledger's writer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddDone {
    /// The slot and the generation of its bookie that it was sent to.
    pub(crate) slot: usize,
    pub(crate) generation: u64,
    pub(crate) entry: EntryId,
    pub(crate) payload_bytes: usize,
    pub(crate) outcome: AddOutcome,
}

/// An add on its way out.
pub(crate) struct Add {
    pub(crate) ledger: LedgerId,
    pub(crate) entry: EntryId,
    /// Everything before the payload, encoded: shared by all bookies of the write set.
    pub(crate) head: Bytes,
    pub(crate) payload: Bytes,
    pub(crate) reply: AddReply,
}

/// Where an add's outcome goes. Exactly one arrives: dropping it unanswered says that the add failed.
pub(crate) struct AddReply {
    to: Option<mpsc::UnboundedSender<AddDone>>,
    /// What is sent, but for the outcome.
    done: AddDone,
}

impl AddReply {
    pub(crate) fn new(
        to: mpsc::UnboundedSender<AddDone>,
        slot: usize,
        generation: u64,
        entry: EntryId,
        payload_bytes: usize,
    ) -> Self {
        let done = AddDone { slot, generation, entry, payload_bytes, outcome: AddOutcome::Failed };
        Self { to: Some(to), done }
    }

    pub(super) fn answer(mut self, outcome: AddOutcome) {
        self.send(outcome);
    }

    fn send(&mut self, outcome: AddOutcome) {
        if let Some(to) = self.to.take() {
            // A writer that is gone needs no answer.
            let _ = to.send(AddDone { outcome, ..self.done });
        }
    }
}

impl Drop for AddReply {
    fn drop(&mut self) {
        self.send(AddOutcome::Failed);
    }
}

/// The answer to a read: a code with the body if it is [`Code::Ok`], or `None` when there was no answer.
pub(crate) type ReadAnswer = Option<(Code, Option<Bytes>)>;

/// The answer to a batch read: a code with consecutive bodies if it is [`Code::Ok`], or `None` when there was no answer.
pub(crate) type BatchAnswer = Option<(Code, Vec<Bytes>)>;

/// A read on its way out. Dropping it unanswered says that there was no answer.
pub(super) struct Read {
    pub(super) ledger: LedgerId,
    pub(super) entry: Option<EntryId>,
    pub(super) flags: Flags,
    pub(super) key: Option<MasterKey>,
    pub(super) reply: oneshot::Sender<ReadAnswer>,
}

/// A batch read on its way out. Dropping it unanswered says that there was no answer.
pub(super) struct BatchRead {
    pub(super) ledger: LedgerId,
    pub(super) first: EntryId,
    pub(super) count: i32,
    pub(super) bytes: i64,
    /// Unlike any other's on its connection.
    pub(super) id: i64,
    pub(super) reply: oneshot::Sender<BatchAnswer>,
}

pub(super) enum Outgoing {
    Add(Add),
    Read(Read),
    BatchRead(BatchRead),
}

/// What ties an answer to its request: but for batch reads, protocol version 2 has no request ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Add(LedgerId, EntryId),
    Read(LedgerId, Option<EntryId>),
    BatchRead(i64),
}

impl Outgoing {
    pub(super) fn key(&self) -> Key {
        match self {
            Outgoing::Add(add) => Key::Add(add.ledger, add.entry),
            Outgoing::Read(read) => Key::Read(read.ledger, read.entry),
            Outgoing::BatchRead(read) => Key::BatchRead(read.id),
        }
    }

    /// What it counts as unanswered.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Outgoing::Add(add) => add.payload.len() + ENTRY_OVERHEAD,
            Outgoing::Read(_) | Outgoing::BatchRead(_) => 0,
        }
    }

    /// Appends the slices to be written. Those of an add share its head and its payload: neither is copied.
    pub(super) fn encode(&self, slices: &mut VecDeque<Bytes>) {
        let request = match self {
            Outgoing::Add(add) => {
                slices.push_back(add.head.clone());
                if !add.payload.is_empty() {
                    slices.push_back(add.payload.clone());
                }
                return;
            }
            Outgoing::Read(read) => Request::Read {
                ledger_id: read.ledger,
                entry_id: read.entry,
                flags: read.flags,
                master_key: read.key,
            },
            Outgoing::BatchRead(read) => Request::BatchRead {
                ledger_id: read.ledger,
                first_entry: read.first,
                request_id: read.id,
                max_count: read.count,
                max_size: read.bytes,
                flags: Flags::NONE,
                master_key: None,
            },
        };
        let mut out = BytesMut::new();
        v2::encode_request(&request, &mut out);
        slices.push_back(out.freeze());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_that_is_written_to_the_socket_is_the_callers_own_memory() {
        let payload = Bytes::from(vec![7; 100_000]);
        let (to, _done) = mpsc::unbounded_channel();
        let mut slices = VecDeque::new();
        for slot in 0..3 {
            let add = Add {
                ledger: LedgerId(1),
                entry: EntryId(1),
                head: Bytes::from_static(b"head"),
                payload: payload.clone(),
                reply: AddReply::new(to.clone(), slot, 0, EntryId(1), payload.len()),
            };
            Outgoing::Add(add).encode(&mut slices);
        }
        let written: Vec<_> = slices.iter().filter(|slice| slice.len() == payload.len()).collect();
        assert_eq!(written.len(), 3);
        assert!(written.iter().all(|slice| slice.as_ptr() == payload.as_ptr()));
    }
}
