//! A connection that reads one ledger from its first entry to its last, with several requests under way.
//!
//! Called by: the measurement of cold reads. It checks each answer's code and ids, and must never look at payloads: that
//! would measure itself.

use std::io;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BytesMut};
use magnetar_proto::bookkeeper::v2::{Flags, Request, encode_request};
use magnetar_proto::ids::{EntryId, LedgerId};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Length prefix, packet header, code, ids.
const READ_HEAD: usize = 4 + 4 + 4 + 16;
/// The request id comes after that.
const BATCH_HEAD: usize = READ_HEAD + 8;
/// And this before each body of a batch.
const SIZE_BYTES: usize = 4;

/// How entries are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// READ, this many under way.
    One { window: u64 },
    /// BATCH_READ of so many entries, so many under way.
    Batch { entries: u64, window: u64 },
}

/// Reads entries `0..entries` of a ledger, each with a body of `body_bytes`; returns their bytes.
pub(super) async fn read_all(
    address: SocketAddr,
    ledger: u64,
    entries: u64,
    body_bytes: usize,
    by: By,
) -> Result<u64> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (step, window) = match by {
        By::One { window } => (1, window),
        By::Batch { entries, window } => (entries, window * entries),
    };
    let mut input = Input { buffer: BytesMut::with_capacity(4 << 20), bytes: 0, skip: 0, firsts: 0 };
    let mut requests = BytesMut::new();
    let (mut asked, mut answered) = (0, 0);
    while answered < entries || input.skip > 0 {
        while asked < entries && asked - answered < window && requests.len() < 64 << 10 {
            let count = step.min(entries - asked);
            encode_request(&request(by, ledger, asked, count, body_bytes), &mut requests);
            asked += count;
        }
        let mut progress = false;
        if !requests.is_empty() {
            match stream.try_write(&requests) {
                Ok(bytes) => {
                    requests.advance(bytes);
                    progress = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("ask for entries"),
            }
        }
        while input.fill(&stream)? {
            progress = true;
            while input.at_head(by) && answered < entries {
                answered += input.answer(by, ledger, entries, body_bytes)?;
            }
        }
        if !progress {
            let interest = if requests.is_empty() {
                Interest::READABLE
            } else {
                Interest::READABLE | Interest::WRITABLE
            };
            stream.ready(interest).await?;
        }
    }
    let firsts = (0..entries).step_by(step as usize).map(u128::from).sum::<u128>();
    ensure!(input.firsts == firsts, "each entry is answered once");
    Ok(input.bytes)
}

fn request(by: By, ledger: u64, first: u64, count: u64, body_bytes: usize) -> Request {
    let (ledger_id, flags, master_key) = (LedgerId(ledger), Flags::NONE, None);
    match by {
        By::One { .. } => Request::Read { ledger_id, entry_id: Some(EntryId(first)), flags, master_key },
        By::Batch { .. } => Request::BatchRead {
            ledger_id,
            first_entry: EntryId(first),
            request_id: first as i64,
            max_count: count as i32,
            max_size: (BATCH_HEAD + count as usize * (SIZE_BYTES + body_bytes)) as i64,
            flags,
            master_key,
        },
    }
}

struct Input {
    buffer: BytesMut,
    /// Bodies received.
    bytes: u64,
    /// Bytes of a body still to come, of no interest.
    skip: usize,
    /// Sum of the entry ids answered: answers may come in any order, but each only once.
    firsts: u128,
}

impl Input {
    /// Reads from the socket; false when nothing is there.
    fn fill(&mut self, stream: &TcpStream) -> Result<bool> {
        self.buffer.reserve(1 << 20);
        match stream.try_read_buf(&mut self.buffer) {
            Ok(0) => bail!("the bookie closed the connection"),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error).context("read answers"),
        }
    }

    /// Skips what is left of a body; true when a whole head of an answer is there.
    fn at_head(&mut self, by: By) -> bool {
        let skipped = self.skip.min(self.buffer.len());
        self.buffer.advance(skipped);
        self.skip -= skipped;
        self.skip == 0 && self.buffer.len() >= head_bytes(by)
    }

    /// Takes the head of an answer about one of `entries` entries, and checks it; returns how many it brings.
    fn answer(&mut self, by: By, ledger: u64, entries: u64, body_bytes: usize) -> Result<u64> {
        let mut head = &self.buffer[..head_bytes(by)];
        let length = head.get_u32() as usize;
        let (_, code) = (head.get_u32(), head.get_i32());
        let ids = (head.get_u64(), head.get_u64());
        ensure!(ids.0 == ledger && ids.1 < entries, "an answer about {ids:?}");
        ensure!(code == 0, "entry {} of ledger {ledger}: code {code}", ids.1);
        let (count, bodies) = match by {
            By::One { .. } => (1, body_bytes),
            By::Batch { entries: step, .. } => {
                let count = step.min(entries - ids.1);
                (count, count as usize * (SIZE_BYTES + body_bytes))
            }
        };
        ensure!(length + 4 == head_bytes(by) + bodies, "{count} entries from {} on: {length} bytes", ids.1);
        self.buffer.advance(head_bytes(by));
        self.skip = bodies;
        self.bytes += count * body_bytes as u64;
        self.firsts += u128::from(ids.1);
        Ok(count)
    }
}

fn head_bytes(by: By) -> usize {
    match by {
        By::One { .. } => READ_HEAD,
        By::Batch { .. } => BATCH_HEAD,
    }
}
