//! What can go wrong between the client and a broker.
//!
//! Called by: every part of the client; users print it.
//! Must never know: what the user was doing.

use magnetar_proto::pulsar::api::ServerError;

/// One failure; each text is a single line. None is retried by the client itself.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The service URL cannot be used.
    #[error("service URL {url}: {reason}")]
    Url { url: String, reason: &'static str },
    /// No TCP connection.
    #[error("connection to {address}: {reason}: is the broker running there?")]
    Connect { address: String, reason: String },
    /// The connection ended; what was in flight may or may not have been stored.
    #[error("connection to the broker lost: {0}")]
    Lost(String),
    /// The broker took the producer or consumer away.
    #[error("closed by the broker: {0}")]
    Closed(String),
    /// The broker said no.
    #[error("refused by the broker: {} ({message})", error.as_str_name())]
    Refused { error: ServerError, message: String },
    /// No answer in time.
    #[error("no answer from the broker within {0} s")]
    Timeout(u64),
    /// A message above the broker's limit.
    #[error("a message of {size} bytes is larger than the broker's limit of {max}")]
    TooLarge { size: usize, max: usize },
    /// The broker said something that makes no sense.
    #[error("protocol violation: {0}")]
    Protocol(String),
}

impl ClientError {
    /// From the wire's error code and text.
    pub(super) fn refused(code: i32, message: String) -> Self {
        let error = ServerError::try_from(code).unwrap_or(ServerError::UnknownError);
        Self::Refused { error, message }
    }
}
