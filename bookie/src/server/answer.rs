//! Reads, and answers of both protocol versions.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use magnetar_proto::bookkeeper::v3::{self, BkPacketHeader};
use magnetar_proto::bookkeeper::{Code, v2};
use magnetar_proto::ids::{EntryId, LedgerId};

use super::Shared;
use super::lane::Waiting;
use super::outbound::Queue;
use super::v3::response::{self, ToldLac};
use crate::cache::Span;
use crate::engine::{Lookup, Place, Turn};

/// Fixed part of a batch read's answer as clients count it, and what each entry adds to its own size.
const BATCH_FIXED_BYTES: usize = 36;
const BATCH_ENTRY_BYTES: usize = 4;

/// The most that one batch read answers, whatever the client allows. Upstream's default.
const BATCH_BYTES_MAX: usize = 5 << 20;

/// A whole answer.
pub(crate) enum Answer {
    V2(v2::Response),
    V3(Box<v3::Response>),
}

impl Answer {
    /// Whether it says yes.
    pub(super) fn is_ok(&self) -> bool {
        match self {
            Answer::V2(
                v2::Response::Add { code, .. }
                | v2::Response::Read { code, .. }
                | v2::Response::BatchRead { code, .. },
            ) => *code == Code::Ok,
            Answer::V2(v2::Response::Auth(_)) => true,
            Answer::V3(response) => response.status == Code::Ok.to_v3() as i32,
        }
    }

    /// Bytes of entries in the answer.
    pub(super) fn body_bytes(&self) -> usize {
        match self {
            Answer::V2(v2::Response::Read { body: Some(body), .. }) => body.len(),
            Answer::V2(v2::Response::BatchRead { bodies, .. }) => {
                bodies.iter().map(|body| BATCH_ENTRY_BYTES + body.len()).sum()
            }
            Answer::V2(_) => 0,
            Answer::V3(response) => {
                let read = response.read_response.as_ref().and_then(|read| read.body.as_ref());
                let last = response.read_lac_response.as_ref().and_then(|lac| lac.last_entry_body.as_ref());
                read.or(last).map_or(0, Bytes::len)
            }
        }
    }

    /// Appends the answer's frame; returns its size.
    pub(super) fn queue(self, queue: &mut Queue) -> usize {
        match self {
            Answer::V2(v2::Response::Read { code, ledger_id, entry_id, body: Some(body) }) => {
                let bytes = body.len();
                queue.push(|out| v2::encode_read_header(code, ledger_id, entry_id, bytes, out), Some(body))
            }
            Answer::V2(v2::Response::BatchRead { code, ledger_id, first_entry, request_id, bodies }) => {
                let bytes = bodies.iter().map(|body| BATCH_ENTRY_BYTES + body.len()).sum();
                let header = |out: &mut BytesMut| {
                    v2::encode_batch_read_header(code, ledger_id, first_entry, request_id, bytes, out);
                };
                let mut queued = queue.push(header, None);
                for body in bodies {
                    let size = u32::try_from(body.len()).expect("bodies are bounded by the frame limit");
                    queued += queue.push(|out| out.put_u32(size), Some(body));
                }
                queued
            }
            Answer::V2(response) => queue.push(|out| v2::encode_response(&response, out), None),
            Answer::V3(response) => queue.push(|out| v3::encode(&*response, out), None),
        }
    }
}

/// A read, with what its answer must repeat.
#[derive(Clone)]
pub(crate) enum ReadOp {
    V2One {
        ledger: LedgerId,
        entry: Option<EntryId>,
    },
    V2Batch {
        ledger: LedgerId,
        first: EntryId,
        request_id: i64,
        count_max: usize,
        bytes_max: usize,
    },
    V3One {
        header: BkPacketHeader,
        ledger: LedgerId,
        entry: Option<EntryId>,
        with_lac: bool,
    },
    /// What a reader that follows the log asks: the LAC, and the entry after the one it has if that is confirmed.
    V3Next {
        header: BkPacketHeader,
        ledger: LedgerId,
        after: Option<EntryId>,
        /// When the LAC moved beyond `after` while the read waited for that, in Unix milliseconds.
        lac_moved_ms: Option<u64>,
    },
    V3ReadLac {
        header: BkPacketHeader,
        ledger: LedgerId,
    },
}

/// Why a body is not there.
pub(super) enum Miss {
    Code(Code),
    /// Only the disk has it, and this view does not read disks.
    Disk,
}

/// Where bodies and facts come from.
pub(super) trait View {
    /// The body of an entry, or of the last one.
    fn fetch(&mut self, ledger: LedgerId, entry: Option<EntryId>) -> Result<Bytes, Miss>;
    fn last_add_confirmed(&mut self, ledger: LedgerId) -> Option<EntryId>;
    fn explicit_lac(&mut self, ledger: LedgerId) -> Option<Bytes>;
}

/// Memory only, under the engine's lock.
impl<T: Send + 'static> View for Turn<'_, T> {
    fn fetch(&mut self, ledger: LedgerId, entry: Option<EntryId>) -> Result<Bytes, Miss> {
        match self.lookup_counted(ledger, entry) {
            Lookup::Here(body) => Ok(body),
            Lookup::OnDisk(_) => Err(Miss::Disk),
            absent => Err(Miss::Code(absence(&absent))),
        }
    }

    fn last_add_confirmed(&mut self, ledger: LedgerId) -> Option<EntryId> {
        Turn::last_add_confirmed(self, ledger)
    }

    fn explicit_lac(&mut self, ledger: LedgerId) -> Option<Bytes> {
        Turn::explicit_lac(self, ledger)
    }
}

/// The code for an entry that is not there. What cannot be said for sure is never an absence.
pub(super) fn absence(lookup: &Lookup) -> Code {
    match lookup {
        Lookup::NoEntry => Code::NoEntry,
        Lookup::NoLedger => Code::NoLedger,
        Lookup::Unknown | Lookup::Here(_) | Lookup::OnDisk(_) => Code::Io,
    }
}

/// Reads disks; for a blocking thread.
struct DiskView<'a> {
    shared: &'a Shared,
    /// The entry after the one being read is asked for too.
    reads_on: bool,
    /// What was read last, likely to hold the next entry too; and the entry before which no later log has newer copies.
    span: Option<(Arc<Span>, EntryId)>,
}

impl DiskView<'_> {
    fn read(&mut self, ledger: LedgerId, place: &Place) -> Result<Bytes, Miss> {
        let metrics = self.shared.engine.metrics();
        let begun = metrics.now();
        let span = self.shared.engine.read(place, self.reads_on);
        metrics.storage.read_log.ended(metrics.now() - begun, &span);
        let span = span.map_err(|error| {
            tracing::error!(%ledger, entry = %place.entry(), %error, "cannot read an entry");
            Miss::Code(Code::Io)
        })?;
        let body = span.body(ledger, place.entry()).ok_or(Miss::Code(Code::Io));
        self.span = Some((span, place.stretch_end()));
        body
    }
}

impl View for DiskView<'_> {
    fn fetch(&mut self, ledger: LedgerId, entry: Option<EntryId>) -> Result<Bytes, Miss> {
        if let Some(((span, end), entry)) = self.span.as_ref().zip(entry)
            && entry < *end
            && let Some(body) = span.body(ledger, entry)
        {
            return Ok(body);
        }
        let found = self.shared.engine.turn().lookup(ledger, entry);
        match found {
            Lookup::Here(body) => Ok(body),
            Lookup::OnDisk(place) => self.read(ledger, &place),
            absent => Err(Miss::Code(absence(&absent))),
        }
    }

    fn last_add_confirmed(&mut self, ledger: LedgerId) -> Option<EntryId> {
        self.shared.engine.turn().last_add_confirmed(ledger)
    }

    fn explicit_lac(&mut self, ledger: LedgerId) -> Option<Bytes> {
        self.shared.engine.turn().explicit_lac(ledger)
    }
}

/// Answers the first of `reads` until the answers have `bytes_max` bytes of entries. Blocks.
pub(super) fn answer_from_disk(
    shared: &Shared,
    reads: &mut VecDeque<Waiting>,
    bytes_max: usize,
    is_closed: impl Fn() -> bool,
) -> Vec<Answer> {
    let mut view = DiskView { shared, reads_on: false, span: None };
    let metrics = shared.engine.metrics();
    let (mut answers, mut bytes) = (Vec::new(), 0);
    while bytes < bytes_max && !is_closed() {
        let Some(Waiting { read, asked, since }) = reads.pop_front() else { break };
        view.reads_on = reads_on(&read, reads.front().map(|waiting| &waiting.read));
        if let Ok(answer) = read.answer(&mut view) {
            metrics.server.ended(asked, answer.is_ok(), metrics.now() - since);
            bytes += answer.body_bytes();
            answers.push(answer);
        }
    }
    metrics.server.read_bytes.add(bytes as u64);
    answers
}

/// Whether `read`, or `read` and the `next` one, are for several entries in a row.
fn reads_on(read: &ReadOp, next: Option<&ReadOp>) -> bool {
    match (read, next) {
        (
            ReadOp::V2One { ledger, entry: Some(entry) },
            Some(ReadOp::V2One { ledger: same, entry: Some(next) }),
        ) => ledger == same && entry.next() == *next,
        (ReadOp::V2Batch { count_max, .. }, _) => *count_max > 1,
        _ => false,
    }
}

impl ReadOp {
    /// The answer when nothing may be read.
    pub(super) fn refuse(&self, code: Code) -> Option<Answer> {
        self.answer(&mut Refusal(code)).ok()
    }

    /// The LAC moved while the read waited: its client is told when, as upstream's `LongPollReadEntryProcessorV3` does,
    /// and measures by it how long news take to arrive.
    pub(super) fn lac_moved(&mut self, unix_ms: u64) {
        if let ReadOp::V3Next { lac_moved_ms, .. } = self {
            *lac_moved_ms = Some(unix_ms);
        }
    }

    /// The answer from what `view` can see; `Err` when it takes a view that reads disks.
    pub(super) fn answer(&self, view: &mut dyn View) -> Result<Answer, NeedsDisk> {
        match self {
            ReadOp::V2One { ledger, entry } => {
                let (code, body) = split(view.fetch(*ledger, *entry))?;
                Ok(Answer::V2(v2::Response::Read { code, ledger_id: *ledger, entry_id: *entry, body }))
            }
            ReadOp::V2Batch { ledger, first, request_id, count_max, bytes_max } => {
                let (code, bodies) =
                    batch(view, *ledger, *first, *count_max, (*bytes_max).min(BATCH_BYTES_MAX))?;
                let (ledger_id, first_entry, request_id) = (*ledger, *first, *request_id);
                Ok(Answer::V2(v2::Response::BatchRead { code, ledger_id, first_entry, request_id, bodies }))
            }
            ReadOp::V3One { header, ledger, entry, with_lac } => {
                let (code, body) = split(view.fetch(*ledger, *entry))?;
                let lac = with_lac.then(|| view.last_add_confirmed(*ledger)).filter(|_| code == Code::Ok);
                let lac = lac.map(ToldLac::from);
                Ok(response::read(header, code, *ledger, EntryId::option_to_wire(*entry), body, lac))
            }
            ReadOp::V3Next { header, ledger, after, lac_moved_ms } => {
                let lac = view.last_add_confirmed(*ledger);
                let next = after.map_or(EntryId::ZERO, EntryId::next);
                if lac < Some(next) {
                    // Tells an unknown ledger from one that has nothing new.
                    let (code, _) = split(view.fetch(*ledger, None))?;
                    let code = if code == Code::NoEntry { Code::Ok } else { code };
                    return Ok(response::read(
                        header,
                        code,
                        *ledger,
                        EntryId::NONE_ON_WIRE,
                        None,
                        Some(lac.into()),
                    ));
                }
                let (code, body) = split(view.fetch(*ledger, Some(next)))?;
                // Striping: the next entry may have its copies on other bookies.
                let code = if code == Code::NoEntry { Code::Ok } else { code };
                let entry = if body.is_some() { next.to_wire() } else { EntryId::NONE_ON_WIRE };
                let lac = ToldLac { lac, moved_ms: *lac_moved_ms };
                Ok(response::read(header, code, *ledger, entry, body, Some(lac)))
            }
            ReadOp::V3ReadLac { header, ledger } => {
                let (code, last_entry) = split(view.fetch(*ledger, None))?;
                let lac_body = view.explicit_lac(*ledger);
                let code = if lac_body.is_some() && code == Code::NoEntry { Code::Ok } else { code };
                Ok(response::read_lac(header, code, *ledger, lac_body, last_entry))
            }
        }
    }
}

/// The read must go to the lane.
pub(super) struct NeedsDisk;

fn split(fetched: Result<Bytes, Miss>) -> Result<(Code, Option<Bytes>), NeedsDisk> {
    match fetched {
        Ok(body) => Ok((Code::Ok, Some(body))),
        Err(Miss::Code(code)) => Ok((code, None)),
        Err(Miss::Disk) => Err(NeedsDisk),
    }
}

/// Consecutive entries from `first` up to the first missing one or a limit; the first is sent whatever its size.
fn batch(
    view: &mut dyn View,
    ledger: LedgerId,
    first: EntryId,
    count_max: usize,
    bytes_max: usize,
) -> Result<(Code, Vec<Bytes>), NeedsDisk> {
    let mut bodies: Vec<Bytes> = Vec::new();
    let mut bytes = BATCH_FIXED_BYTES;
    let mut entry = first;
    while bodies.len() < count_max {
        let body = match split(view.fetch(ledger, Some(entry)))? {
            (_, Some(body)) => body,
            (code, None) if bodies.is_empty() => return Ok((code, bodies)),
            _ => break,
        };
        bytes += BATCH_ENTRY_BYTES + body.len();
        if bytes > bytes_max && !bodies.is_empty() {
            break;
        }
        bodies.push(body);
        entry = entry.next();
    }
    Ok((Code::Ok, bodies))
}

/// Sees nothing but the reason why a read is refused.
struct Refusal(Code);

impl View for Refusal {
    fn fetch(&mut self, _: LedgerId, _: Option<EntryId>) -> Result<Bytes, Miss> {
        Err(Miss::Code(self.0))
    }

    fn last_add_confirmed(&mut self, _: LedgerId) -> Option<EntryId> {
        None
    }

    fn explicit_lac(&mut self, _: LedgerId) -> Option<Bytes> {
        None
    }
}
