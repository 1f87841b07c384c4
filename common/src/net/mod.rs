//! The network behind one trait: TCP now, QUIC beside it later; and TLS over any of its streams.

pub mod tls;

use futures_util::future::BoxFuture;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// The reading half of a connection.
pub type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
/// The writing half of a connection. Dropping it closes that direction.
pub type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// An established connection in two halves, which wait for each other at most within TLS.
pub struct Stream {
    /// What the peer sends.
    pub reader: ReadHalf,
    /// What goes to the peer; vectored writes reach the socket as such.
    pub writer: WriteHalf,
    /// The peer's address, for logs and statistics.
    pub peer: String,
}

/// A way to reach others and to be reached.
pub trait Network: Send + Sync + 'static {
    /// Connects to `host:port`. Cancel-safe; no timeout of its own.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>>;
    /// Listens on `address`; port 0 takes any free one.
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Listener>, BindError>>;
}

/// An open port.
pub trait Listener: Send + Sync {
    /// The next connection. Cancel-safe. An error is about one connection attempt, or the process's limits: the caller
    /// pauses and goes on.
    fn accept(&self) -> BoxFuture<'_, io::Result<Stream>>;
    /// The address listened on, with the real port.
    fn local_addr(&self) -> SocketAddr;
}

/// A port could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; {}", advice(source))]
pub struct BindError {
    /// The address asked for.
    pub address: SocketAddr,
    /// Why not.
    pub source: io::Error,
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "stop what uses the port, or choose another one (0 takes any free port)",
        io::ErrorKind::PermissionDenied => {
            "choose a port from 1024 on, or give the process the right to use this one"
        }
        io::ErrorKind::AddrNotAvailable => "bind to an address of this machine, or to 0.0.0.0",
        _ => "check the address",
    }
}

/// TCP with TCP_NODELAY.
#[derive(Debug, Default, Clone, Copy)]
pub struct TcpNetwork;

/// Connections that the kernel completes before they are accepted; a burst of reconnecting clients fits.
const BACKLOG: i32 = 1024;

impl Network for TcpNetwork {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move { stream(TcpStream::connect(address).await?) })
    }

    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Listener>, BindError>> {
        Box::pin(async move {
            let listen = || -> io::Result<TcpAccept> {
                let domain = socket2::Domain::for_address(address);
                let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
                // A restart must not wait for connections of the last run to leave TIME_WAIT.
                socket.set_reuse_address(true)?;
                socket.set_nonblocking(true)?;
                socket.bind(&address.into())?;
                socket.listen(BACKLOG)?;
                let listener = TcpListener::from_std(socket.into())?;
                let local = listener.local_addr()?;
                Ok(TcpAccept { listener, local })
            };
            let listener = listen().map_err(|source| BindError { address, source })?;
            Ok(Box::new(listener) as Box<dyn Listener>)
        })
    }
}

struct TcpAccept {
    listener: TcpListener,
    local: SocketAddr,
}

impl Listener for TcpAccept {
    fn accept(&self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move {
            let (tcp, _) = self.listener.accept().await?;
            stream(tcp)
        })
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

fn stream(tcp: TcpStream) -> io::Result<Stream> {
    tcp.set_nodelay(true)?;
    let peer = tcp.peer_addr()?.to_string();
    let (reader, writer) = tcp.into_split();
    Ok(Stream { reader: Box::new(reader), writer: Box::new(writer), peer })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_says_what_to_do() {
        let address = "127.0.0.1:0".parse().expect("an address");
        let first = TcpNetwork.bind(address).await.expect("a free port");
        let error = TcpNetwork.bind(first.local_addr()).await.err().expect("the port is taken");
        let text = error.to_string();
        assert!(
            text.contains(&first.local_addr().to_string()) && text.contains("choose another one"),
            "{text}"
        );
    }
}
