//! A blocking client of BookKeeper's protocol, version 2: one connection, requests and answers as they come.

use anyhow::{Context, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use magnetar_proto::bookkeeper::code::Code;
use magnetar_proto::bookkeeper::entry::{BodyHeader, Digest, DigestType};
use magnetar_proto::bookkeeper::frame::Decoder;
use magnetar_proto::bookkeeper::v2::{Flags, Request, Response, decode_response, encode_request};
use magnetar_proto::ids::{EntryId, LedgerId};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The key of every ledger.
const KEY: [u8; 20] = [7; 20];

/// Longer than any answer takes, also of a debug build on a busy machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

const FRAME_BYTES_MAX: usize = 8 << 20;

/// See the module.
pub struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
    decoder: Decoder,
}

impl Connection {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        Ok(Self { stream, buffer: BytesMut::new(), decoder: Decoder::new(FRAME_BYTES_MAX) })
    }

    /// Sends requests, without waiting for answers.
    pub fn send(&mut self, requests: &[Request]) -> Result<()> {
        let mut out = BytesMut::new();
        requests.iter().for_each(|request| encode_request(request, &mut out));
        Ok(self.stream.write_all(&out)?)
    }

    /// The next answer.
    pub fn receive(&mut self) -> Result<Response> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.buffer)? {
                return Ok(decode_response(frame)?);
            }
            let mut piece = [0; 64 << 10];
            let read = self.stream.read(&mut piece)?;
            ensure!(read > 0, "the bookie closed the connection");
            self.buffer.extend_from_slice(&piece[..read]);
        }
    }

    /// Sends one request and waits for its answer.
    pub fn ask(&mut self, request: Request) -> Result<Response> {
        self.send(&[request])?;
        self.receive()
    }

    /// An entry's body, or why it cannot be had.
    pub fn read(&mut self, ledger: u64, entry: u64) -> Result<Result<Bytes, Code>> {
        match self.ask(read(ledger, Some(entry), Flags::NONE))? {
            Response::Read { code: Code::Ok, body, .. } => Ok(Ok(body.context("a body")?)),
            Response::Read { code, .. } => Ok(Err(code)),
            other => anyhow::bail!("{other:?} answers a read"),
        }
    }
}

/// The body of an entry: its header with a CRC32C, and `payload`.
pub fn body(ledger: u64, entry: u64, payload: &[u8]) -> Bytes {
    let header = BodyHeader {
        ledger_id: LedgerId(ledger),
        entry_id: EntryId(entry),
        last_add_confirmed: entry.checked_sub(1).map(EntryId),
        length: payload.len() as u64,
    };
    let mut out = BytesMut::from(Digest::new(DigestType::Crc32c, b"").seal(&header, payload).as_ref());
    out.put_slice(payload);
    out.freeze()
}

/// An ordinary add of [`body`].
pub fn add(ledger: u64, entry: u64, payload: &[u8]) -> Request {
    Request::Add {
        master_key: KEY,
        body: body(ledger, entry, payload),
        ledger_id: LedgerId(ledger),
        entry_id: EntryId(entry),
        flags: Flags::NONE,
    }
}

/// A read; [`Flags::RECOVERY_READ`] fences.
pub fn read(ledger: u64, entry: Option<u64>, flags: Flags) -> Request {
    let (ledger_id, entry_id) = (LedgerId(ledger), entry.map(EntryId));
    Request::Read { ledger_id, entry_id, flags, master_key: flags.fencing.then_some(KEY) }
}
