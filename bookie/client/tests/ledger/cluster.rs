//! A few real bookies with the metadata store in memory, and what the tests do with ledgers over and over.

use crate::proxy::Proxy;
use bytes::{Bytes, BytesMut};
use magnetar_bookie::{Bookie, StartError, Welcome};
use magnetar_common::Environment;
use magnetar_common::metadata::{Expect, MemoryStore, SharedMetadata};
use magnetar_ledger::{Client, ClientConfig, Event, LedgerError, LedgerOptions, Writer};
use magnetar_proto::bookkeeper::entry::{BodyHeader, Digest, DigestType};
use magnetar_proto::bookkeeper::v2::{self, Flags, Request, Response};
use magnetar_proto::bookkeeper::{BookieId, Code, master_key};
use magnetar_proto::ids::{EntryId, LedgerId};
use std::collections::BTreeMap;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Configure = Box<dyn Fn(&mut magnetar_bookie::Config) + Send + Sync>;

pub(crate) struct Cluster {
    pub(crate) metadata: SharedMetadata,
    bookies: Vec<Option<Bookie>>,
    pub(crate) client: Client,
    configure: Configure,
    dir: TempDir,
}

impl Cluster {
    pub(crate) async fn start(count: usize) -> Self {
        Self::start_with(count, |_| ()).await
    }

    pub(crate) async fn start_with(
        count: usize,
        configure: impl Fn(&mut magnetar_bookie::Config) + Send + Sync + 'static,
    ) -> Self {
        let configure: Configure = Box::new(configure);
        let metadata: SharedMetadata = Arc::new(MemoryStore::new());
        let client = Self::client(&metadata).await;
        let dir = tempfile::tempdir().expect("a directory");
        let mut cluster = Self { metadata, bookies: Vec::new(), client, configure, dir };
        for number in 0..count {
            cluster.start_bookie(number).await;
        }
        cluster
    }

    /// Starts a bookie, over what it left when it was stopped; a new one with the next number.
    pub(crate) async fn start_bookie(&mut self, number: usize) {
        self.start_bookie_if(number, Box::new(|_| Box::pin(async { Ok(()) }))).await.expect("a bookie");
    }

    pub(crate) async fn start_bookie_if(
        &mut self,
        number: usize,
        welcome: Welcome,
    ) -> Result<(), StartError> {
        let path = self.dir.path().join(number.to_string());
        let mut config = magnetar_bookie::Config::new(path.join("journal"), vec![path.join("ledgers")]);
        config.bookie_id = Some(Self::id(number));
        (self.configure)(&mut config);
        let (metadata, env) = (self.metadata.clone(), Environment::system());
        let bookie = Bookie::start_if_welcome(config, metadata, env, welcome).await?;
        if number == self.bookies.len() {
            self.bookies.push(None);
        }
        self.bookies[number] = Some(bookie);
        Ok(())
    }

    /// Removes all that a stopped bookie has stored, and that the cluster knows it.
    pub(crate) async fn wipe(&self, number: usize) {
        std::fs::remove_dir_all(self.dir.path().join(number.to_string())).expect("its directories");
        let cookie = magnetar_common::layout::cookie(&Self::id(number));
        self.metadata.delete(&cookie, Expect::Any).await.expect("its cookie");
    }

    /// Changes a byte of the only place where a stopped bookie's entry logs hold these bytes.
    pub(crate) fn damage(&self, number: usize, bytes: &[u8]) {
        let dir = self.dir.path().join(number.to_string()).join("ledgers");
        for file in std::fs::read_dir(dir).expect("its directory") {
            let path = file.expect("a file").path();
            let mut content = std::fs::read(&path).expect("its content");
            if let Some(at) = content.windows(bytes.len()).position(|window| window == bytes) {
                content[at] ^= 1;
                std::fs::write(&path, content).expect("written");
                return;
            }
        }
        panic!("the bytes are nowhere");
    }

    pub(crate) fn id(number: usize) -> BookieId {
        BookieId::new(&format!("bookie-{number}")).expect("an id")
    }

    pub(crate) fn bookie(&self, number: usize) -> &Bookie {
        self.bookies[number].as_ref().expect("running")
    }

    pub(crate) async fn client(metadata: &SharedMetadata) -> Client {
        Self::client_with(metadata, ClientConfig::default()).await
    }

    pub(crate) async fn client_with(metadata: &SharedMetadata, config: ClientConfig) -> Client {
        Client::new(metadata.clone(), Environment::system(), config).await.expect("a client")
    }

    fn running(&self, id: &BookieId) -> &Bookie {
        self.bookies.iter().flatten().find(|bookie| bookie.id() == id).expect("running")
    }

    /// Sends clients that connect from now on through a proxy.
    pub(crate) async fn proxy(&self, bookie: usize) -> Proxy {
        let id = self.bookies[bookie].as_ref().expect("running").id().clone();
        self.proxy_before(&id).await
    }

    pub(crate) async fn proxy_before(&self, bookie: &BookieId) -> Proxy {
        Proxy::before(bookie, self.running(bookie).local_addr(), &self.metadata).await
    }

    /// Gives a bookie another copy of an entry, of the same length, whose digest is wrong.
    pub(crate) async fn overwrite(&self, bookie: &BookieId, ledger: LedgerId, entry: u64) {
        let mut socket =
            tokio::net::TcpStream::connect(self.running(bookie).local_addr()).await.expect("a connection");
        let header =
            BodyHeader { ledger_id: ledger, entry_id: EntryId(entry), last_add_confirmed: None, length: 1 };
        let payload = payload(entry);
        let sealed = Digest::new(DigestType::Crc32c, b"").seal(&header, b"something else");
        let mut out = BytesMut::new();
        let key = master_key(b"");
        v2::encode_add_header(&key, Flags::RECOVERY_WRITE, sealed.as_ref(), payload.len(), &mut out);
        out.extend_from_slice(&payload);
        socket.write_all(&out).await.expect("sent");
        let mut answer = vec![0; socket.read_u32().await.expect("an answer") as usize];
        socket.read_exact(&mut answer).await.expect("all of it");
        let answer = v2::decode_response(answer.into()).expect("an answer to an add");
        assert!(matches!(answer, Response::Add { code: Code::Ok, .. }), "{answer:?}");
    }

    pub(crate) async fn stop(&mut self, bookie: usize) {
        self.bookies[bookie].take().expect("running").shutdown().await.expect("a clean end");
    }

    /// Whether one bookie has an entry, asked past the client.
    pub(crate) async fn holds(&self, bookie: usize, ledger: LedgerId, entry: u64) -> bool {
        let address = self.bookies[bookie].as_ref().expect("running").local_addr();
        let mut socket = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let mut out = BytesMut::new();
        let entry_id = Some(EntryId(entry));
        let read = Request::Read { ledger_id: ledger, entry_id, flags: Flags::NONE, master_key: None };
        v2::encode_request(&read, &mut out);
        socket.write_all(&out).await.expect("sent");
        let mut answer = vec![0; socket.read_u32().await.expect("an answer") as usize];
        socket.read_exact(&mut answer).await.expect("all of it");
        let answer = v2::decode_response(answer.into()).expect("an answer to a read");
        matches!(answer, Response::Read { code: Code::Ok, .. })
    }

    /// Stops the bookie in the first slot of the last segment; gives its number.
    pub(crate) async fn stop_first_of(&mut self, writer: &Writer) -> usize {
        let record = self.client.metadata(writer.id()).await.expect("metadata");
        let id = record.last_segment().1[0].clone();
        let of_ensemble = |bookie: &Option<Bookie>| bookie.as_ref().is_some_and(|bookie| *bookie.id() == id);
        let index = self.bookies.iter().position(of_ensemble).expect("a member");
        self.stop(index).await;
        index
    }
}

pub(crate) fn options() -> LedgerOptions {
    LedgerOptions {
        ensemble: 3,
        write_quorum: 3,
        ack_quorum: 2,
        password: Bytes::new(),
        custom: BTreeMap::new(),
    }
}

pub(crate) fn payload(number: u64) -> Bytes {
    Bytes::from(format!("entry {number}"))
}

pub(crate) async fn append(writer: &mut Writer, numbers: std::ops::Range<u64>) {
    for number in numbers.clone() {
        assert_eq!(writer.append(payload(number)).expect("open"), EntryId(number));
    }
    confirmed(writer, numbers.end - 1).await;
}

pub(crate) async fn confirmed(writer: &mut Writer, last: u64) {
    loop {
        match writer.next().await {
            Event::Confirmed { last: confirmed } if confirmed.0 >= last => return,
            Event::Confirmed { .. } => {}
            Event::Failed(error) => panic!("{error}"),
        }
    }
}

pub(crate) async fn failure(writer: &mut Writer) -> LedgerError {
    loop {
        if let Event::Failed(error) = writer.next().await {
            return error;
        }
    }
}

pub(crate) async fn read_all(reader: &magnetar_ledger::Reader, last: u64) -> Vec<Bytes> {
    let mut all = Vec::new();
    while all.len() as u64 <= last {
        let entries = reader.read(EntryId(all.len() as u64), EntryId(last), 1 << 20).await.expect("entries");
        for (id, payload) in entries {
            assert_eq!(id.0, all.len() as u64);
            all.push(payload);
        }
    }
    all
}

pub(crate) fn payloads(count: u64) -> Vec<Bytes> {
    (0..count).map(payload).collect()
}
