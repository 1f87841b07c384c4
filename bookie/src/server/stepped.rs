//! One request at a time without sockets, tasks or waiting: the rules of [`super::batch`] for a simulation.
//!
//! What is parsed, looked up and answered is done by the same code as for a connection; only the order of the steps is
//! told again here: yes to an add, and any answer to a fencing read, are owed until the journal is durable.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use magnetar_proto::bookkeeper::Code;
use magnetar_proto::bookkeeper::v2::Response;
use magnetar_proto::ids::{EntryId, LedgerId};

use super::answer::{Answer, Miss, ReadOp, View, absence};
use super::batch::{Fence, Request, code};
use super::v2;
use crate::engine::{ENTRY_OVERHEAD_BYTES, Engine, Lookup};

/// What becomes of a request.
pub(crate) enum Taken {
    Answered(Response),
    /// To be [paid](Owed::pay) when the token that was submitted completes.
    Owed(Owed),
    /// Not a request that a simulated client sends.
    Unsupported,
}

/// An answer that waits for the journal.
pub(crate) struct Owed(Debt);

enum Debt {
    Added(Response),
    Read(ReadOp),
}

impl Owed {
    /// The answer, now that the journal is durable.
    pub(crate) fn pay<T: Send + 'static>(self, engine: &Arc<Engine<T>>) -> Option<Response> {
        match self.0 {
            Debt::Added(response) => Some(response),
            Debt::Read(read) => answer(engine, &read),
        }
    }
}

/// Applies the request in `frame`. What it leads to is submitted with `token`.
pub(crate) fn take<T: Send + 'static>(engine: &Arc<Engine<T>>, frame: Bytes, token: T) -> Taken {
    match v2::parse(frame) {
        Ok(Request::Add { add, .. }) => {
            let room = engine.room(add.body.len() + ENTRY_OVERHEAD_BYTES).now_or_never().flatten();
            let (ledger, entry) = (add.ledger, add.entry);
            let mut turn = engine.turn();
            if room.is_none() {
                turn.refuse_adds();
            }
            let added = turn.add(add);
            turn.finish(room, added.is_ok().then_some(token));
            match added {
                Ok(()) => Taken::Owed(Owed(Debt::Added(v2::added(ledger, entry, Code::Ok)))),
                Err(refused) => Taken::Answered(v2::added(ledger, entry, code(refused))),
            }
        }
        Ok(Request::Read { read, ledger, fence: Fence::With(key) }) => {
            let mut turn = engine.turn();
            let fenced = turn.fence(ledger, &key);
            turn.finish(None, (fenced == Ok(false)).then_some(token));
            match fenced {
                Ok(true) => answered(answer(engine, &read)),
                Ok(false) => Taken::Owed(Owed(Debt::Read(read))),
                Err(refused) => answered(v2_only(read.refuse(code(refused)))),
            }
        }
        Ok(Request::Read { read, fence: Fence::No, .. }) => answered(answer(engine, &read)),
        Ok(_) | Err(_) => Taken::Unsupported,
    }
}

fn answered(response: Option<Response>) -> Taken {
    response.map_or(Taken::Unsupported, Taken::Answered)
}

fn answer<T: Send + 'static>(engine: &Arc<Engine<T>>, read: &ReadOp) -> Option<Response> {
    v2_only(read.answer(&mut Everything(engine)).ok())
}

fn v2_only(answer: Option<Answer>) -> Option<Response> {
    match answer {
        Some(Answer::V2(response)) => Some(response),
        Some(Answer::V3(_)) | None => None,
    }
}

/// Memory and disk.
struct Everything<'a, T>(&'a Arc<Engine<T>>);

impl<T: Send + 'static> View for Everything<'_, T> {
    fn fetch(&mut self, ledger: LedgerId, entry: Option<EntryId>) -> Result<Bytes, Miss> {
        let found = self.0.turn().lookup(ledger, entry);
        match found {
            Lookup::Here(body) => Ok(body),
            Lookup::OnDisk(place) => {
                let span = self.0.read(&place, false).map_err(|_| Miss::Code(Code::Io))?;
                span.body(ledger, place.entry()).ok_or(Miss::Code(Code::Io))
            }
            absent => Err(Miss::Code(absence(&absent))),
        }
    }

    fn last_add_confirmed(&mut self, ledger: LedgerId) -> Option<EntryId> {
        self.0.turn().last_add_confirmed(ledger)
    }

    fn explicit_lac(&mut self, ledger: LedgerId) -> Option<Bytes> {
        self.0.turn().explicit_lac(ledger)
    }
}
