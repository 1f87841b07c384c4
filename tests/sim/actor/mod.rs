//! Those who use ledgers: each drives the machines of `magnetar_ledger::protocol` as the shells of that crate do, with
//! messages instead of sockets. What the shells decide by themselves is told again here, and nothing more.

mod reader;
mod reading;
mod recoverer;
mod writer;

pub(super) use reader::Reader;
pub(super) use recoverer::Recoverer;
pub(super) use writer::Writer;

use super::messages::{Reply, Tag};
use super::outside::Outside;
use bytes::{BufMut, Bytes, BytesMut};
use magnetar_ledger::protocol::recovery::{Answer, FoundEntry};
use magnetar_ledger::protocol::writer::{AddOutcome, PendingEntry};
use magnetar_proto::bookkeeper::entry::{BodyHeader, Digest, DigestType};
use magnetar_proto::bookkeeper::v2::{Flags, MasterKey, Request, Response};
use magnetar_proto::bookkeeper::{Code, master_key};
use magnetar_proto::ids::{EntryId, LedgerId};

/// Somebody who asks, and goes on with the answers.
pub(super) trait Actor {
    fn start(&mut self, outside: &mut Outside);
    /// Answers to questions of another epoch are not handed on.
    fn on_reply(&mut self, outside: &mut Outside, tag: Tag, reply: Reply);
    fn on_timer(&mut self, outside: &mut Outside);
    /// The process dies.
    fn die(&mut self, outside: &mut Outside);
    /// Nothing goes wrong any more: what must come to an end begins now.
    fn on_healed(&mut self, outside: &mut Outside);
    /// Counts what makes earlier questions meaningless.
    fn epoch(&self) -> u64;
    /// Whether the run may end as far as this actor is concerned.
    fn is_done(&self) -> bool;
    /// Recoveries begun.
    fn attempts(&self) -> u64 {
        0
    }
    fn describe(&self) -> String;
}

/// How the entries of a ledger are sent and checked.
struct Wire {
    ledger: LedgerId,
    digest: Digest,
    key: MasterKey,
}

impl Wire {
    fn new(ledger: LedgerId) -> Self {
        Self { ledger, digest: Digest::new(DigestType::Crc32c, b""), key: master_key(b"") }
    }

    fn add(&self, entry: &PendingEntry, flags: Flags) -> Request {
        let header = BodyHeader {
            ledger_id: self.ledger,
            entry_id: entry.id,
            last_add_confirmed: entry.last_add_confirmed,
            length: entry.length,
        };
        let mut body = BytesMut::new();
        body.put_slice(self.digest.seal(&header, &entry.payload).as_ref());
        body.put_slice(&entry.payload);
        let (ledger_id, entry_id) = (self.ledger, entry.id);
        Request::Add { master_key: self.key, body: body.freeze(), ledger_id, entry_id, flags }
    }

    fn read(&self, entry_id: Option<EntryId>, flags: Flags) -> Request {
        let master_key = flags.fencing.then_some(self.key);
        Request::Read { ledger_id: self.ledger, entry_id, flags, master_key }
    }

    /// What an answer to a read says.
    fn answer(&self, entry: Option<EntryId>, reply: Reply) -> Answer {
        match reply {
            Reply::Bookie(Some(Response::Read { code: Code::Ok, body: Some(body), .. })) => {
                match self.digest.open(body, self.ledger, entry) {
                    Ok((header, payload)) => Answer::Entry(FoundEntry {
                        id: header.entry_id,
                        last_add_confirmed: header.last_add_confirmed,
                        length: header.length,
                        payload,
                    }),
                    Err(_) => Answer::Unknown,
                }
            }
            Reply::Bookie(Some(Response::Read { code: Code::NoEntry | Code::NoLedger, .. })) => {
                Answer::Absent
            }
            _ => Answer::Unknown,
        }
    }
}

/// What an answer to an add says.
fn outcome_of(reply: &Reply) -> AddOutcome {
    match reply {
        Reply::Bookie(Some(Response::Add { code: Code::Ok, .. })) => AddOutcome::Stored,
        Reply::Bookie(Some(Response::Add { code: Code::Fenced, .. })) => AddOutcome::Fenced,
        Reply::Bookie(Some(Response::Add { code: Code::Unauthorized, .. })) => AddOutcome::Unauthorized,
        _ => AddOutcome::Failed,
    }
}

/// The payload in a stored body, `None` when it is not that entry's.
pub(super) fn payload_of(ledger: LedgerId, entry: EntryId, body: Bytes) -> Option<Bytes> {
    let opened = Digest::new(DigestType::Crc32c, b"").open(body, ledger, Some(entry));
    opened.ok().map(|(_, payload)| payload)
}
