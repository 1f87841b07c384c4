//! The requests that one read of the socket brought, applied to the engine in one turn.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use magnetar_proto::bookkeeper::Code;
use magnetar_proto::bookkeeper::v2::encode_response;
use magnetar_proto::bookkeeper::v3::{self, BkPacketHeader, Response};
use magnetar_proto::ids::{EntryId, LedgerId};
use tokio::sync::OwnedSemaphorePermit;

use super::admission::Admission;
use super::answer::{Answer, ReadOp, absence};
use super::durable::Durable;
use super::lane::Waiting;
use super::parking::{LongPoll, Parked};
use super::tally::Tally;
use super::v3::{availability, response};
use super::{Peer, Shared, v2};
use crate::engine::{Add, ENTRY_OVERHEAD_BYTES, Refused, Turn};
use crate::metrics::Asked;

/// Bytes of adds applied in one turn: a longer batch would hold the engine's lock longer than others should wait.
const TURN_BYTES: usize = 1 << 20;

/// Requests applied in one turn, for the same reason; and the smallest requests take far more memory than their bytes.
const TURN_REQUESTS: usize = 1024;

/// A request, apart from how it was written.
pub(crate) enum Request {
    Add {
        add: Add,
        wire: Wire,
    },
    Read {
        read: ReadOp,
        ledger: LedgerId,
        fence: Fence,
    },
    LongPoll(LongPoll),
    WriteLac {
        header: BkPacketHeader,
        ledger: LedgerId,
        master_key: [u8; 20],
        last_add_confirmed: Option<EntryId>,
        body: Bytes,
    },
    Entries {
        header: BkPacketHeader,
        ledger: LedgerId,
    },
    /// About the bookie's disks.
    Info {
        header: BkPacketHeader,
        /// Bits of what is asked for.
        requested: i64,
    },
    /// The connection is to go on encrypted.
    StartTls {
        header: BkPacketHeader,
    },
    /// To be answered once everything before it is durable.
    Force {
        answer: Response,
    },
    Ready(Answer),
}

/// How an add is answered.
pub(crate) enum Wire {
    V2,
    V3(BkPacketHeader),
}

/// Whether a read fences its ledger first.
pub(crate) enum Fence {
    No,
    With([u8; 20]),
    /// Asked for without proof of knowing the ledger's password.
    WithoutKey,
}

pub(super) struct Batch {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    requests: Vec<Request>,
    /// Room that the adds among them need.
    add_bytes: usize,
}

impl Batch {
    pub(super) fn new(shared: Arc<Shared>, peer: Arc<Peer>) -> Self {
        Batch { shared, peer, requests: Vec::new(), add_bytes: 0 }
    }

    pub(super) fn push(&mut self, request: Request) {
        let request = match request {
            // Asks the file system, so not under the engine's lock.
            Request::Info { header, requested } => {
                Request::Ready(super::v3::info(&self.shared, &header, requested))
            }
            // Not the first request, or not configured.
            Request::StartTls { header } => Request::Ready(response::no_tls(&header)),
            request => request,
        };
        if let Request::Add { add, .. } = &request {
            self.add_bytes += add.body.len() + ENTRY_OVERHEAD_BYTES;
        }
        self.requests.push(request);
    }

    /// No more should be applied in one turn.
    pub(super) fn is_full(&self) -> bool {
        self.add_bytes >= TURN_BYTES || self.requests.len() >= TURN_REQUESTS
    }

    /// Applies the requests in order, and empties the batch; false when it was empty. Waits for room in the write cache.
    pub(super) async fn apply(&mut self) -> bool {
        if self.requests.is_empty() {
            return false;
        }
        let received = self.shared.engine.metrics().now();
        let adds = self.add_bytes > 0;
        let room = match self.add_bytes {
            0 => None,
            bytes => self.shared.engine.room(bytes).await,
        };
        self.add_bytes = 0;
        let requests = std::mem::take(&mut self.requests);
        self.take_turn(requests, room, adds, received);
        true
    }

    fn take_turn(
        &mut self,
        requests: Vec<Request>,
        room: Option<OwnedSemaphorePermit>,
        adds: bool,
        received: Duration,
    ) {
        let metrics = self.shared.engine.metrics();
        let mut effects = Effects::new(&self.shared, &self.peer, Tally::new(received, metrics.now()));
        let mut turn = self.shared.engine.turn();
        if adds && room.is_none() {
            turn.refuse_adds();
        }
        for request in requests {
            effects.handle(&mut turn, request);
        }
        let Effects { now, admission, on_disk, frames, fenced_reads, parked, owed, tally, .. } = effects;
        tally.answered(metrics);
        let token = (!frames.is_empty() || !fenced_reads.is_empty()).then(|| {
            self.peer.outbound.owe(owed);
            Durable { peer: self.peer.clone(), frames, reads: fenced_reads, owed, tally }
        });
        turn.finish(room, token);
        if !parked.is_empty() {
            self.peer.parking.wait(&self.shared, &self.peer, parked);
        }
        if !on_disk.is_empty() {
            self.peer.lane.push(on_disk);
        }
        if !now.is_empty() {
            self.peer.outbound.push(now, admission.ticket());
            self.peer.outbound.wake();
        }
    }
}

/// What the requests of a turn lead to.
struct Effects<'a> {
    shared: &'a Shared,
    peer: &'a Peer,
    /// Answers that wait for nothing.
    now: Vec<Answer>,
    admission: Admission<'a>,
    /// Reads that only the disk can answer, or that must wait until other answers are sent.
    on_disk: Vec<Waiting>,
    /// Answers for when the turn is durable.
    frames: BytesMut,
    fenced_reads: Vec<Waiting>,
    /// Reads that wait for news.
    parked: Vec<Parked>,
    /// Bytes of the adds that wait for that.
    owed: usize,
    tally: Tally,
}

impl<'a> Effects<'a> {
    fn new(shared: &'a Shared, peer: &'a Peer, tally: Tally) -> Self {
        Effects {
            shared,
            peer,
            now: Vec::new(),
            admission: Admission::new(&shared.answer_bytes, &peer.outbound),
            on_disk: Vec::new(),
            frames: BytesMut::new(),
            fenced_reads: Vec::new(),
            parked: Vec::new(),
            owed: 0,
            tally,
        }
    }

    /// An answer that waits for nothing.
    fn answer(&mut self, asked: Asked, answer: Answer) {
        self.tally.now(asked, &answer);
        self.now.push(answer);
    }

    fn handle(&mut self, turn: &mut Turn<'_, Durable>, request: Request) {
        match request {
            Request::Add { add, wire } => self.add(turn, add, wire),
            Request::Read { read, ledger, fence } => self.read(turn, read, ledger, fence),
            Request::LongPoll(poll) => {
                let ledger = poll.ledger;
                match self.peer.parking.enter(self.shared, turn, poll) {
                    Ok(parked) => self.parked.push(parked),
                    Err(read) => self.read(turn, read, ledger, Fence::No),
                }
            }
            Request::WriteLac { header, ledger, master_key, last_add_confirmed, body } => {
                self.owed += body.len();
                match turn.write_lac(ledger, &master_key, last_add_confirmed, body) {
                    Ok(()) => {
                        self.tally.when_durable(Asked::WriteLac);
                        v3::encode(&response::lac_written(&header, Code::Ok, ledger), &mut self.frames);
                    }
                    Err(refused) => {
                        let response = response::lac_written(&header, code(refused), ledger);
                        self.answer(Asked::WriteLac, Answer::V3(Box::new(response)));
                    }
                }
            }
            Request::Entries { header, ledger } => {
                let answer = match turn.entries(ledger) {
                    Ok(entries) => {
                        response::entries(&header, Code::Ok, ledger, Some(availability::encode(&entries)))
                    }
                    Err(absent) => response::entries(&header, absence(&absent), ledger, None),
                };
                self.answer(Asked::ListEntries, answer);
            }
            Request::Force { answer } => {
                self.tally.when_durable(Asked::Force);
                v3::encode(&answer, &mut self.frames);
            }
            Request::Info { .. } | Request::StartTls { .. } => unreachable!("made ready when it was pushed"),
            Request::Ready(answer) => self.now.push(answer),
        }
    }

    fn add(&mut self, turn: &mut Turn<'_, Durable>, add: Add, wire: Wire) {
        let (ledger, entry, bytes, recovery) = (add.ledger, add.entry, add.body.len(), add.recovery);
        let result = turn.add(add);
        let code = result.map_or_else(code, |()| Code::Ok);
        self.tally.add(code == Code::Ok, recovery, bytes);
        match (code, wire) {
            (Code::Ok, wire) => {
                self.owed += bytes;
                match wire {
                    Wire::V2 => encode_response(&v2::added(ledger, entry, code), &mut self.frames),
                    Wire::V3(header) => {
                        v3::encode(&response::added(&header, code, ledger, entry), &mut self.frames)
                    }
                }
            }
            (code, Wire::V2) => self.now.push(Answer::V2(v2::added(ledger, entry, code))),
            (code, Wire::V3(header)) => {
                self.now.push(Answer::V3(Box::new(response::added(&header, code, ledger, entry))));
            }
        }
    }

    fn read(&mut self, turn: &mut Turn<'_, Durable>, read: ReadOp, ledger: LedgerId, fence: Fence) {
        let durable = match &fence {
            Fence::No => Ok(true),
            Fence::WithoutKey => Err(Code::Unauthorized),
            Fence::With(key) => turn.fence(ledger, key).map_err(code),
        };
        let asked = match (&fence, &read) {
            (Fence::With(_) | Fence::WithoutKey, _) => Asked::Fence,
            (Fence::No, ReadOp::V3ReadLac { .. }) => Asked::ReadLac,
            (Fence::No, _) => Asked::Read,
        };
        match durable {
            Ok(true) => match read.answer(turn) {
                Ok(answer) if self.admission.admits(answer.body_bytes()) => self.answer(asked, answer),
                _ => self.on_disk.push(self.tally.waiting(read, asked)),
            },
            Ok(false) => self.fenced_reads.push(self.tally.waiting(read, asked)),
            Err(code) => {
                if let Some(answer) = read.refuse(code) {
                    self.answer(asked, answer);
                }
            }
        }
    }
}

pub(super) fn code(refused: Refused) -> Code {
    match refused {
        Refused::Fenced => Code::Fenced,
        Refused::WrongMasterKey => Code::Unauthorized,
        Refused::ReadOnly => Code::ReadOnly,
    }
}
