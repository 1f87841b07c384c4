//! A TCP proxy that a test can cut or make swallow answers: the network between two processes, in the test's hand.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Passes everything on.
    Open,
    /// Passes requests on, and keeps what is answered to itself.
    Mute,
    /// Ends every connection, at once after accepting it.
    Cut,
}

/// A running proxy. Ends with the runtime.
#[derive(Clone, Debug)]
pub struct Proxy {
    address: SocketAddr,
    mode: Arc<watch::Sender<Mode>>,
}

impl Proxy {
    /// Listens on a free port and passes connections on to `target`.
    pub async fn start(target: String) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let proxy = Self { address: listener.local_addr()?, mode: Arc::new(watch::Sender::new(Mode::Open)) };
        let mode = proxy.mode.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_on(client, target.clone(), mode.subscribe()));
            }
        });
        Ok(proxy)
    }

    /// `host:port` to connect to.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Changes what happens from now on, to connections that there are as well.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Returns when every connection has ended; new ones end at once until another mode is set.
    pub async fn cut(&self) {
        self.set(Mode::Cut);
        self.mode.closed().await;
    }
}

async fn pass_on(client: TcpStream, target: String, mut mode: watch::Receiver<Mode>) {
    if *mode.borrow_and_update() == Mode::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (requests_mode, answers_mode) = (mode.clone(), mode.clone());
    let cut = async {
        // An error means that the test has ended.
        let _ = mode.wait_for(|mode| *mode == Mode::Cut).await;
    };
    tokio::select! {
        () = copy(from_client, to_server, requests_mode, false) => {}
        () = copy(from_server, to_client, answers_mode, true) => {}
        () = cut => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mode: watch::Receiver<Mode>, answers: bool) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let muted = answers && *mode.borrow() == Mode::Mute;
        if !muted && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
