//! Upgrading a new connection to TLS, as BookKeeper does it: asked for in clear with one request of version 3, also by a
//! client that speaks version 2 afterwards. It must never go on in clear when it was told to use TLS.

use bytes::BytesMut;
use magnetar_common::net::Stream;
use magnetar_common::net::tls::TlsClient;
use magnetar_proto::bookkeeper::frame;
use magnetar_proto::bookkeeper::v3::{self, OperationType, Request, StartTlsRequest, StatusCode};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The only request of version 3 on the connection.
const TXN_ID: u64 = 0;
/// The answer has some dozen bytes.
const ANSWER_BYTES_MAX: usize = 4 * 1024;

/// Asks for TLS and does the handshake. `address` is `host:port`: the certificate must be for that host. No timeout of its
/// own.
pub(super) async fn start(mut stream: Stream, address: &str, tls: &TlsClient) -> io::Result<Stream> {
    let request = Request {
        header: v3::request_header(OperationType::StartTls, TXN_ID),
        start_tls_request: Some(StartTlsRequest {}),
        ..Request::default()
    };
    let mut out = BytesMut::new();
    v3::encode(&request, &mut out);
    stream.writer.write_all(&out).await?;
    stream.writer.flush().await?;
    let mut decoder = frame::Decoder::new(ANSWER_BYTES_MAX);
    let mut buffer = BytesMut::new();
    let answer = loop {
        if let Some(answer) = decoder.decode(&mut buffer).map_err(io::Error::other)? {
            break v3::decode_response(answer).map_err(io::Error::other)?;
        }
        if stream.reader.read_buf(&mut buffer).await? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "closed by the bookie when asked for TLS",
            ));
        }
    };
    if answer.status != StatusCode::Eok as i32 {
        return Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            "the bookie offers no TLS: give it a certificate, or use no TLS towards bookies",
        ));
    }
    // The bookie is silent until we begin the handshake: whatever came behind its answer is not from it.
    if !buffer.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "bytes in clear behind the answer to START_TLS",
        ));
    }
    tls.connect(stream, address).await
}
