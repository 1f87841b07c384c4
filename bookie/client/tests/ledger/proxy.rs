//! A bookie's network gone wrong: stands between the clients and one bookie, and does to requests what a test says.

use magnetar_common::bookies::{ServiceInfo, register};
use magnetar_common::clock::{Clock, SystemClock};
use magnetar_common::metadata::{Lease, SharedMetadata};
use magnetar_proto::bookkeeper::BookieId;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Opcodes of protocol version 2.
pub(crate) const ADD: u8 = 1;
pub(crate) const READ: u8 = 2;
pub(crate) const BATCH_READ: u8 = 7;

/// What happens to requests.
#[derive(Default)]
pub(crate) struct Faults {
    /// Milliseconds before a request is passed on, by its opcode.
    delays_ms: [AtomicU64; 8],
    /// The opcode that ends the connection, as for an old bookie that does not know it; 0 is none.
    unknown: AtomicU64,
    /// How many requests came, by opcode.
    seen: [AtomicU64; 8],
}

impl Faults {
    pub(crate) fn delay(&self, opcode: u8, by: Duration) {
        let ms = u64::try_from(by.as_millis()).expect("short");
        self.delays_ms[usize::from(opcode)].store(ms, Ordering::SeqCst);
    }

    pub(crate) fn close_on(&self, opcode: u8) {
        self.unknown.store(u64::from(opcode), Ordering::SeqCst);
    }

    pub(crate) fn seen(&self, opcode: u8) -> u64 {
        self.seen[usize::from(opcode)].load(Ordering::SeqCst)
    }
}

/// Registered in the bookie's place for as long as this lives.
pub(crate) struct Proxy {
    pub(crate) faults: Arc<Faults>,
    _lease: Lease,
}

impl Proxy {
    /// Sends the clients of `bookie`, which serves at `target`, through a proxy.
    pub(crate) async fn before(bookie: &BookieId, target: SocketAddr, metadata: &SharedMetadata) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let faults = Arc::new(Faults::default());
        let shared = faults.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, target, shared.clone()));
            }
        });
        let lease = metadata.grant_lease(Duration::from_secs(3600)).await.expect("a lease");
        let info = ServiceInfo { host: "127.0.0.1".into(), port, tls: false, rack: None };
        register(metadata, bookie, &info, lease.id()).await.expect("registered");
        Self { faults, _lease: lease }
    }
}

async fn serve(client: TcpStream, target: SocketAddr, faults: Arc<Faults>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    client.set_nodelay(true).expect("a socket");
    let ((from_client, mut to_client), (mut from_server, to_server)) =
        (client.into_split(), server.into_split());
    tokio::select! {
        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
        _ = requests(from_client, to_server, faults) => {}
    }
}

/// Requests stay in order; each waits for its own delay, not for those before it.
async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    faults: Arc<Faults>,
) -> std::io::Result<()> {
    let clock = SystemClock::default();
    let mut waiting: BTreeMap<(Duration, u64), Vec<u8>> = BTreeMap::new();
    let mut number = 0;
    let mut latest = Duration::ZERO;
    let mut head = [0; 8];
    let mut filled = 0;
    loop {
        let now = clock.now();
        while let Some(due) = waiting.first_entry().filter(|first| first.key().0 <= now) {
            to.write_all(&due.remove()).await?;
        }
        let due = waiting.first_key_value().map(|((at, _), _)| at.saturating_sub(now));
        let sleep = async {
            match due {
                Some(due) => clock.sleep(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep => {}
            // `read` is cancel-safe where `read_exact` is not.
            count = from.read(&mut head[filled..]) => {
                let count = count?;
                if count == 0 {
                    return Ok(());
                }
                filled += count;
                if filled < head.len() {
                    continue;
                }
                filled = 0;
                let rest = u32::from_be_bytes(head[..4].try_into().expect("four")) as usize - 4;
                let mut frame = head.to_vec();
                frame.resize(head.len() + rest, 0);
                from.read_exact(&mut frame[head.len()..]).await?;
                let opcode = usize::from(head[5]).min(7);
                faults.seen[opcode].fetch_add(1, Ordering::SeqCst);
                if faults.unknown.load(Ordering::SeqCst) == opcode as u64 {
                    return Ok(());
                }
                let delay = Duration::from_millis(faults.delays_ms[opcode].load(Ordering::SeqCst));
                latest = latest.max(clock.now() + delay);
                waiting.insert((latest, number), frame);
                number += 1;
            }
        }
    }
}
