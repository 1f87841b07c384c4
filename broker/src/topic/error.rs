//! Why a topic refused a request.

use std::fmt;

use crate::protocol::outbound::Outbound;

/// The connection that stands in the way of a newcomer. Its peer may be dead without anybody having noticed: the
/// protocol layer probes it, and repeats the request if that connection is gone.
#[derive(Clone)]
pub struct Holder(pub Outbound);

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Holder")
    }
}

/// A variant exists where a client reacts differently; see `protocol::errors` for the wire codes.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TopicError {
    /// The name is taken, or an exclusive producer is connected.
    #[error("{message}")]
    ProducerBusy { message: String, holder: Option<Holder> },
    /// Exclusive access was lost or is refused for good.
    #[error("{0}")]
    ProducerFenced(String),
    /// An exclusive subscription is taken, or the subscription has consumers of another type.
    #[error("{message}")]
    ConsumerBusy { message: String, holder: Option<Holder> },
    /// Key_Shared ranges or modes do not go together.
    #[error("{0}")]
    ConsumerAssign(String),
    /// Closing, closed, or a seek is under way: look up again and retry.
    #[error("{0}")]
    NotReady(String),
    /// The topic was terminated: nothing can be published any more.
    #[error("topic is terminated")]
    Terminated,
    #[error("topic not found")]
    NotFound,
    #[error("subscription '{0}' not found")]
    SubscriptionNotFound(String),
    /// Creating something that is there already.
    #[error("{0} exists already")]
    Exists(String),
    #[error("consumer not found")]
    ConsumerNotFound,
    /// The backlog is larger or older than it may be. `hold`: the producer waits and tries again by itself.
    #[error("{message}")]
    BacklogFull { message: String, hold: bool },
    /// This can never work on this topic or subscription.
    #[error("{0}")]
    NotAllowed(String),
    /// The request itself makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Has producers, consumers or subscriptions which the operation must not take away.
    #[error("{0}")]
    InUse(String),
    /// Ledgers could not be read or written.
    #[error("storage: {0}")]
    Persistence(String),
    /// The metadata store failed.
    #[error("metadata: {0}")]
    Metadata(String),
}

impl TopicError {
    pub(crate) fn closed() -> Self {
        TopicError::NotReady("topic is being unloaded, look it up again".into())
    }
}
