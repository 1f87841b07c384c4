//! Calls of this broker to the HTTP port of another one: what it cannot do itself because the other owns the bundle.
//!
//! Must never follow redirects or repeat a call: the caller knows whether it may.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use magnetar_common::Environment;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// For one call: unloading a bundle takes seconds when its bookies are slow.
const PATIENCE: Duration = Duration::from_secs(20);
/// Statistics of a topic with many clients.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Another broker's answer.
#[derive(Debug)]
pub struct PeerAnswer {
    pub status: u16,
    pub body: Vec<u8>,
    location: Option<String>,
}

impl PeerAnswer {
    /// For a redirect: `http://host:port` and the path to go on with.
    pub fn location(&self) -> Option<(String, String)> {
        let location = self.location.as_ref().filter(|_| (300..400).contains(&self.status))?;
        let path = location.strip_prefix("http://")?.find('/')? + "http://".len();
        Some((location[..path].to_owned(), location[path..].to_owned()))
    }
}

/// Makes one call. `path` is absolute and encoded as it is to stand in the request.
pub async fn call(
    environment: &Environment,
    http_url: &str,
    method: &str,
    path: &str,
    body: &[u8],
) -> io::Result<PeerAnswer> {
    let host = http_url.strip_prefix("http://").unwrap_or(http_url).trim_end_matches('/');
    let exchange = async {
        let mut stream = environment.network.connect(host).await?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.writer.write_all(head.as_bytes()).await?;
        stream.writer.write_all(body).await?;
        stream.writer.flush().await?;
        let mut answer = BytesMut::new();
        while stream.reader.read_buf(&mut answer).await? > 0 {
            if answer.len() > ANSWER_BYTES_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the other broker's answer is too long",
                ));
            }
        }
        parse(&answer)
    };
    tokio::select! {
        answer = exchange => answer,
        () = environment.clock.sleep(PATIENCE) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// An answer of our own HTTP port that ends with the connection.
fn parse(answer: &[u8]) -> io::Result<PeerAnswer> {
    let bad = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, format!("no HTTP answer: {reason}"));
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or_else(|| bad("it ends in its head"))?;
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| bad("its head is no text"))?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| bad("no status"))?;
    let fields: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(": ")).collect();
    let field =
        |name: &str| fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
    let chunked = field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
    let location = field("location").map(str::to_owned);
    let body = &answer[end + 4..];
    let body = if chunked { join_chunks(body).ok_or_else(|| bad("broken chunks"))? } else { body.to_vec() };
    Ok(PeerAnswer { status, body, location })
}

fn join_chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..line]).ok()?.split(';').next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        rest = &rest[line + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_body_are_understood_and_a_torn_one_is_an_error() {
        let plain = parse(b"HTTP/1.1 204 No Content\r\nx: y\r\n\r\n").expect("an answer");
        assert_eq!((plain.status, plain.body.as_slice()), (204, b"".as_slice()));
        let moved = parse(b"HTTP/1.1 307 x\r\nLocation: http://b:80/p?q\r\n\r\n").expect("an answer");
        assert_eq!(moved.location(), Some(("http://b:80".into(), "/p?q".into())));
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).expect("an answer").body, b"abcde");
        assert!(parse(&chunked[..chunked.len() - 10]).is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\n").is_err());
        assert!(parse(b"nonsense\r\n\r\n").is_err());
    }
}
