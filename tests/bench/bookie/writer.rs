//! A connection that adds entries as fast as its window lets it, at next to no cost of its own.
//!
//! Frames are laid out once; an add writes its ids into the next one and hands the kernel the slice. Entries carry no
//! digest (BookKeeper's type `DUMMY`): a bookie never looks at it. Called by: the measurements, inside one thread.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BytesMut};
use magnetar_proto::bookkeeper::entry::{BodyHeader, Digest, DigestType, HEADER_BYTES, MASTER_KEY_BYTES};
use magnetar_proto::bookkeeper::v2::{Flags, encode_add_header};
use magnetar_proto::ids::{EntryId, LedgerId};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Every ledger's key.
const KEY: [u8; MASTER_KEY_BYTES] = [7; MASTER_KEY_BYTES];

/// Bytes of frames laid out: what one system call hands over at most.
const FRAMES_BYTES: usize = 512 << 10;

/// Length prefix and packet header, then the key: what stands before an entry's body.
const BODY_AT: usize = 4 + 4 + MASTER_KEY_BYTES;

/// Length of an answer, with its prefix; and what it begins with when all is well.
const ANSWER_BYTES: usize = 28;
const GOOD: [u8; 12] = [0, 0, 0, 24, 2, 1, 0, 0, 0, 0, 0, 0];

/// Bytes of an entry's body around its payload.
pub(super) const BODY_OVERHEAD: usize = HEADER_BYTES;

/// Gets told of each answered add when it was sent.
pub(super) trait Answered {
    fn answered(&mut self, sent: Instant, now: Instant);
}

struct Ledger {
    id: LedgerId,
    next: u64,
    answered: u64,
    sent: VecDeque<Instant>,
}

pub(super) struct Writer {
    stream: TcpStream,
    ledgers: Vec<Ledger>,
    /// Which of `ledgers` get an entry one after the other, over and over; and whose turn it is.
    order: Vec<usize>,
    turn: usize,
    in_flight: usize,
    window: usize,
    frames: Vec<u8>,
    frame_bytes: usize,
    /// `written..ready` of `frames` is to be written.
    ready: usize,
    written: usize,
    answers: BytesMut,
    spins: bool,
}

impl Writer {
    /// Adds of `payload_bytes` each go to the ledgers of `order` one after the other, over and over; the ledgers are new
    /// ones, and may stand there more than once. At most `window` adds are unanswered.
    pub(super) async fn connect(
        address: SocketAddr,
        order: impl IntoIterator<Item = u64>,
        payload_bytes: usize,
        window: usize,
    ) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut ledgers: Vec<Ledger> = Vec::new();
        let mut place = |id| {
            ledgers.iter().position(|ledger| ledger.id.0 == id).unwrap_or_else(|| {
                ledgers.push(Ledger { id: LedgerId(id), next: 0, answered: 0, sent: VecDeque::new() });
                ledgers.len() - 1
            })
        };
        let order = order.into_iter().map(&mut place).collect::<Vec<_>>();
        let frame = frame(payload_bytes);
        let count = (FRAMES_BYTES / frame.len()).clamp(1, window);
        Ok(Self {
            stream,
            ledgers,
            order,
            turn: 0,
            in_flight: 0,
            window,
            frame_bytes: frame.len(),
            frames: frame.repeat(count),
            ready: 0,
            written: 0,
            answers: BytesMut::with_capacity(64 << 10),
            spins: false,
        })
    }

    /// From now on asks the kernel for answers over and over instead of sleeping until there is one.
    pub(super) fn spin(&mut self) {
        self.spins = true;
    }

    /// Entries of a ledger that were answered.
    pub(super) fn answered(&self, ledger: u64) -> u64 {
        self.ledgers.iter().find(|known| known.id.0 == ledger).map_or(0, |known| known.answered)
    }

    /// Entries of all ledgers that were answered.
    pub(super) fn answered_in_all(&self) -> u64 {
        self.ledgers.iter().map(|ledger| ledger.answered).sum()
    }

    /// Adds while `more` says so (asked before each group of frames), then waits for the last answers.
    pub(super) async fn run(
        &mut self,
        mut more: impl FnMut() -> bool,
        told: &mut impl Answered,
    ) -> Result<()> {
        loop {
            let going_on = more();
            if self.written == self.ready && going_on {
                self.fill();
            }
            if self.in_flight == 0 && !going_on {
                return Ok(());
            }
            let progress = self.write()? | self.read(told)?;
            if !progress && self.spins {
                // With nothing else to run, this asks the kernel what is ready and comes back at once.
                tokio::task::yield_now().await;
            } else if !progress {
                let to_write = self.written < self.ready;
                let interest =
                    if to_write { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
                self.stream.ready(interest).await?;
            }
        }
    }

    /// Sends without ever reading an answer, until the peer takes no more for good or `more` says stop.
    pub(super) async fn run_deaf(&mut self, mut more: impl FnMut() -> bool) -> Result<()> {
        while more() {
            if self.written == self.ready {
                self.fill();
            }
            if !self.write()? {
                let writable = self.stream.writable();
                // Asked again now and then: a peer that takes no more never becomes writable.
                let _ = tokio::time::timeout(std::time::Duration::from_millis(50), writable).await;
            }
        }
        Ok(())
    }

    /// Makes as many frames ready as the window and the buffer take.
    #[expect(clippy::disallowed_methods, reason = "a bench measures the real time")]
    fn fill(&mut self) {
        let count = (self.frames.len() / self.frame_bytes).min(self.window - self.in_flight);
        let now = Instant::now();
        for frame in self.frames.chunks_exact_mut(self.frame_bytes).take(count) {
            let ledger = &mut self.ledgers[self.order[self.turn]];
            self.turn = if self.turn + 1 == self.order.len() { 0 } else { self.turn + 1 };
            let last_add_confirmed = ledger.answered.wrapping_sub(1);
            let payload_bytes = (self.frame_bytes - BODY_AT - HEADER_BYTES) as u64;
            let length = (ledger.next + 1) * payload_bytes;
            let fields = [ledger.id.0, ledger.next, last_add_confirmed, length];
            for (at, field) in frame[BODY_AT..].chunks_exact_mut(8).zip(fields) {
                at.copy_from_slice(&field.to_be_bytes());
            }
            ledger.next += 1;
            ledger.sent.push_back(now);
        }
        self.in_flight += count;
        (self.written, self.ready) = (0, count * self.frame_bytes);
    }

    fn write(&mut self) -> Result<bool> {
        if self.written == self.ready {
            return Ok(false);
        }
        match self.stream.try_write(&self.frames[self.written..self.ready]) {
            Ok(bytes) => {
                self.written += bytes;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error).context("send adds"),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a bench measures the real time")]
    fn read(&mut self, told: &mut impl Answered) -> Result<bool> {
        self.answers.reserve(16 << 10);
        match self.stream.try_read_buf(&mut self.answers) {
            Ok(0) => bail!("the bookie closed the connection"),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error).context("read answers"),
        }
        let now = Instant::now();
        while self.answers.len() >= ANSWER_BYTES {
            let mut answer = self.answers.split_to(ANSWER_BYTES);
            ensure!(answer[..GOOD.len()] == GOOD, "an add was refused: {answer:02x?}");
            answer.advance(GOOD.len());
            let (ledger, entry) = (answer.get_u64(), answer.get_u64());
            let ledger =
                self.ledgers.iter_mut().find(|known| known.id.0 == ledger).context("a foreign answer")?;
            ensure!(entry == ledger.answered, "answers of a ledger come in the order of its adds");
            ledger.answered += 1;
            self.in_flight -= 1;
            let sent = ledger.sent.pop_front().context("an answer to nothing")?;
            told.answered(sent, now);
        }
        Ok(true)
    }
}

/// A whole add of an entry with this much payload, its ids still to be set.
fn frame(payload_bytes: usize) -> Vec<u8> {
    let payload = incompressible(payload_bytes);
    let header =
        BodyHeader { ledger_id: LedgerId(0), entry_id: EntryId(0), last_add_confirmed: None, length: 0 };
    let head = Digest::new(DigestType::Dummy, b"").seal(&header, &payload);
    let mut frame = BytesMut::new();
    encode_add_header(&KEY, Flags::NONE, head.as_ref(), payload.len(), &mut frame);
    frame.extend_from_slice(&payload);
    frame.to_vec()
}

/// Bytes that no disk or file system makes smaller.
fn incompressible(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..count).map(|_| next()).collect()
}
