//! Why a metadata operation did not happen.

/// A variant for each way a caller would act.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// An expectation did not hold: read again and decide anew.
    #[error("{key} was changed by somebody else; read it again")]
    Conflict {
        /// The first key whose expectation failed.
        key: String,
    },
    /// The key to delete does not exist.
    #[error("{key} does not exist")]
    NotFound {
        /// The key.
        key: String,
    },
    /// The lease has ended: grant a new one and re-create what depends on it.
    #[error("the metadata lease has ended")]
    LeaseLost,
    /// The key is not a path: it must start with '/', and have no empty component.
    #[error("{0:?} is not a metadata key: it must be a path like /a/b")]
    InvalidKey(String),
    /// The store cannot be reached or cannot write; whether a write happened is unknown.
    #[error("metadata store: {0}")]
    Unavailable(String),
    /// The store will not do this however often it is asked: a missing right, or more than it takes. Nothing was written.
    #[error("the metadata store refuses: {0}")]
    Refused(String),
    /// The store's own records cannot be understood.
    #[error("metadata store is damaged: {0}")]
    Corrupt(String),
}
