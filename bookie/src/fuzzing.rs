//! The request decoder, for tests that feed it noise. Not part of the crate's interface: it may change at any time.

use bytes::BufMut;

use crate::server::Inbound;

/// What a connection would have made of some bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Requests understood.
    pub requests: usize,
    /// Why the connection would have been closed.
    pub error: Option<String>,
}

/// Feeds a connection's decoder with `pieces`, as reads of a socket bring them, and drops each read's requests.
pub fn decode<'a>(frame_bytes_max: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let mut inbound = Inbound::new(frame_bytes_max);
    let mut decoded = Decoded::default();
    for mut piece in pieces {
        while !piece.is_empty() {
            let space = inbound.space();
            let bytes = piece.len().min(space.capacity() - space.len());
            space.put_slice(&piece[..bytes]);
            piece = &piece[bytes..];
            let mut batch = Vec::new();
            loop {
                match inbound.next() {
                    Ok(Some(request)) => batch.push(request),
                    Ok(None) => break,
                    Err(error) => {
                        decoded.requests += batch.len();
                        decoded.error = Some(error.to_string());
                        return decoded;
                    }
                }
            }
            decoded.requests += batch.len();
        }
    }
    decoded
}
