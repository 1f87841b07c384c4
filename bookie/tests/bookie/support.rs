//! A bookie over files in memory, and a client that speaks frames over a real socket.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use magnetar_bookie::{Bookie, Config, StartError};
use magnetar_common::Environment;
use magnetar_common::clock::ManualClock;
use magnetar_common::metadata::{MemoryStore, SharedMetadata};
use magnetar_common::storage::{MemoryStorage, Unsynced};
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::bookkeeper::entry::{BodyHeader, Digest, DigestType};
use magnetar_proto::bookkeeper::frame::Decoder;
use magnetar_proto::bookkeeper::v2::{self, Flags};
use magnetar_proto::bookkeeper::v3;
use magnetar_proto::ids::{EntryId, LedgerId};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

pub(crate) const KEY: [u8; 20] = [1; 20];

/// A bookie's world, which outlives its process.
pub(crate) struct World {
    pub(crate) storage: MemoryStorage,
    pub(crate) metadata: SharedMetadata,
}

impl World {
    pub(crate) fn new() -> Self {
        World { storage: MemoryStorage::new(), metadata: Arc::new(MemoryStore::new()) }
    }

    pub(crate) fn config(&self) -> Config {
        let mut config = Config::new("/journal".into(), vec!["/ledgers".into()]);
        config.bookie_id = Some(BookieId::new("bookie-1").unwrap());
        // Files in memory copy themselves at each sync.
        config.segment_bytes = 1 << 20;
        config
    }

    pub(crate) async fn start(&self) -> Result<Bookie, StartError> {
        self.start_with(self.config()).await
    }

    pub(crate) async fn start_with(&self, config: Config) -> Result<Bookie, StartError> {
        Bookie::start(config, self.metadata.clone(), self.environment()).await
    }

    /// Starts a bookie whose time the test moves.
    pub(crate) async fn start_with_clock(&self, config: Config, clock: &Arc<ManualClock>) -> Bookie {
        let mut env = self.environment();
        env.clock = clock.clone();
        let bookie = Bookie::start(config, self.metadata.clone(), env).await.unwrap();
        // The background tasks have come to their timers.
        while clock.sleepers() < BACKGROUND_TIMERS {
            tokio::task::yield_now().await;
        }
        bookie
    }

    fn environment(&self) -> Environment {
        let mut env = Environment::system();
        env.storage = Arc::new(self.storage.clone());
        env
    }

    /// Ends a bookie as a power cut would: what was not synced is gone.
    pub(crate) fn power_cut(&mut self, bookie: Bookie) {
        self.storage = self.storage.crash(Unsynced::Lost);
        drop(bookie);
    }
}

/// Timers of a bookie that nobody talks to: of garbage collection, compaction, the scrubber and the look at the free
/// space.
pub(crate) const BACKGROUND_TIMERS: usize = 4;

/// Waits until so many timers run because of what clients did.
pub(crate) async fn timers(clock: &ManualClock, wanted: usize) {
    while clock.sleepers() < BACKGROUND_TIMERS + wanted {
        tokio::task::yield_now().await;
    }
}

/// One GET over a connection of its own: status and body.
pub(crate) async fn http_get(address: SocketAddr, path: &str) -> (u16, String) {
    http(address, "GET", path, "").await
}

/// One request over a connection of its own: status and body.
pub(crate) async fn http(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: bookie\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(!head.contains("chunked"), "{head}");
    (head[9..12].parse().unwrap(), body.to_owned())
}

/// What a client's bytes go through.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

pub(crate) struct Client {
    stream: Box<dyn Socket>,
    buffer: BytesMut,
    decoder: Decoder,
}

impl Client {
    pub(crate) async fn connect(bookie: &Bookie) -> Self {
        let stream = TcpStream::connect(bookie.local_addr()).await.unwrap();
        Client { stream: Box::new(stream), buffer: BytesMut::new(), decoder: Decoder::new(8 << 20) }
    }

    /// Goes on over TLS, after the bookie has agreed to.
    pub(crate) async fn encrypted(self, config: Arc<ClientConfig>) -> std::io::Result<Self> {
        assert!(self.buffer.is_empty(), "nothing comes between the agreement and the handshake");
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(config).connect(name, self.stream).await?;
        Ok(Client { stream: Box::new(stream), ..self })
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next frame; `None` when the bookie closed the connection.
    pub(crate) async fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.buffer).unwrap() {
                return Some(frame);
            }
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub(crate) async fn v2(&mut self, request: v2::Request) -> v2::Response {
        self.send_v2(&request).await;
        self.next_v2().await
    }

    pub(crate) async fn send_v2(&mut self, request: &v2::Request) {
        let mut out = BytesMut::new();
        v2::encode_request(request, &mut out);
        self.send(&out).await;
    }

    /// Sends to a bookie that may close the connection at once.
    pub(crate) async fn try_send_v2(&mut self, request: &v2::Request) {
        let mut out = BytesMut::new();
        v2::encode_request(request, &mut out);
        let _ = self.stream.write_all(&out).await;
    }

    pub(crate) async fn next_v2(&mut self) -> v2::Response {
        v2::decode_response(self.frame().await.expect("an answer")).unwrap()
    }

    pub(crate) async fn send_v3(&mut self, request: &v3::Request) {
        let mut out = BytesMut::new();
        v3::encode(request, &mut out);
        self.send(&out).await;
    }

    pub(crate) async fn v3(&mut self, request: v3::Request) -> v3::Response {
        self.send_v3(&request).await;
        v3::decode_response(self.frame().await.expect("an answer")).unwrap()
    }
}

/// An entry body as a writer makes it.
pub(crate) fn body(ledger: u64, entry: u64) -> Bytes {
    body_with(ledger, entry, format!("payload of {ledger}:{entry}").as_bytes())
}

pub(crate) fn body_with(ledger: u64, entry: u64, payload: &[u8]) -> Bytes {
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

pub(crate) fn add(ledger: u64, entry: u64) -> v2::Request {
    add_with(KEY, Flags::NONE, body(ledger, entry), ledger, entry)
}

pub(crate) fn add_with(
    master_key: [u8; 20],
    flags: Flags,
    body: Bytes,
    ledger: u64,
    entry: u64,
) -> v2::Request {
    v2::Request::Add { master_key, body, ledger_id: LedgerId(ledger), entry_id: EntryId(entry), flags }
}

pub(crate) fn read(ledger: u64, entry: Option<u64>) -> v2::Request {
    v2::Request::Read {
        ledger_id: LedgerId(ledger),
        entry_id: entry.map(EntryId),
        flags: Flags::NONE,
        master_key: None,
    }
}

pub(crate) fn fence(ledger: u64, entry: Option<u64>, key: Option<[u8; 20]>) -> v2::Request {
    let (ledger_id, entry_id) = (LedgerId(ledger), entry.map(EntryId));
    v2::Request::Read { ledger_id, entry_id, flags: Flags::RECOVERY_READ, master_key: key }
}
