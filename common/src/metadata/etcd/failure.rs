//! What an etcd error means: whether the same request may be sent again, and what the caller is told.

use super::super::error::MetadataError;
use etcd_client::Error;
use std::error::Error as _;
use tonic::{Code, Status};

/// Whether a request may be repeated after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It changes nothing, or doing it twice does no harm.
    Freely,
    /// Only when etcd certainly has not seen it.
    IfUnseen,
}

impl Repeat {
    /// Whether to try again after this error.
    pub(super) fn after(self, error: &Error) -> bool {
        match self {
            Repeat::Freely => unseen(error) || transient(error),
            Repeat::IfUnseen => unseen(error),
        }
    }
}

/// Texts with which a member turns a request away before it proposes it to the others.
const TURNED_AWAY: [&str; 2] = ["etcdserver: no leader", "etcdserver: too many requests"];

/// Whether the request certainly was not applied.
fn unseen(error: &Error) -> bool {
    let Error::GRpcStatus(status) = error else { return false };
    TURNED_AWAY.contains(&status.message()) || never_connected(status)
}

/// Whether there was no connection to send it over.
fn never_connected(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Whether another try may go better.
fn transient(error: &Error) -> bool {
    match error {
        Error::TransportError(_) | Error::IoError(_) => true,
        Error::GRpcStatus(status) => matches!(
            status.code(),
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal
        ),
        _ => false,
    }
}

/// What the caller is told.
pub(super) fn describe(error: Error) -> MetadataError {
    match error {
        Error::GRpcStatus(status) => from_status(&status),
        Error::TransportError(error) => MetadataError::Unavailable(format!("etcd: {}", causes(&error))),
        other => MetadataError::Unavailable(format!("etcd: {other}")),
    }
}

fn from_status(status: &Status) -> MetadataError {
    let text = format!("etcd: {}", message(status));
    match status.code() {
        Code::NotFound if status.message().contains("lease not found") => MetadataError::LeaseLost,
        Code::PermissionDenied
        | Code::Unauthenticated
        | Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::ResourceExhausted
        | Code::Unimplemented => MetadataError::Refused(text),
        _ => MetadataError::Unavailable(text),
    }
}

/// Whether etcd says that the revision asked for is gone.
pub(super) fn compacted(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status) if status.code() == Code::OutOfRange)
}

/// The message and, of a failed connection, the cause at the end of the chain, which is the one that helps.
fn message(status: &Status) -> String {
    let message = status.message().trim_start_matches("etcdserver: ");
    match status.source() {
        Some(error) => {
            let cause = causes(error);
            if message.contains(&cause) { message.to_owned() } else { format!("{message}: {cause}") }
        }
        None => message.to_owned(),
    }
}

/// The last cause.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: Code, message: &str) -> Error {
        Error::GRpcStatus(Status::new(code, message))
    }

    #[test]
    fn a_write_is_repeated_only_when_etcd_cannot_have_seen_it() {
        let lost = status(Code::Unavailable, "etcdserver: request timed out");
        assert!(Repeat::Freely.after(&lost) && !Repeat::IfUnseen.after(&lost));
        let turned_away = status(Code::Unavailable, "etcdserver: no leader");
        assert!(Repeat::IfUnseen.after(&turned_away));
        let unreachable = tonic::ConnectError(std::io::Error::other("refused").into());
        assert!(Repeat::IfUnseen.after(&Error::GRpcStatus(Status::from_error(unreachable.into()))));
        assert!(!Repeat::Freely.after(&status(Code::PermissionDenied, "etcdserver: permission denied")));
    }

    #[test]
    fn each_kind_of_refusal_is_told_apart() {
        let told = |code, message| describe(status(code, message));
        assert_eq!(told(Code::NotFound, "etcdserver: requested lease not found"), MetadataError::LeaseLost);
        let full = told(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded");
        assert_eq!(full, MetadataError::Refused("etcd: mvcc: database space exceeded".into()));
        let away = told(Code::Unavailable, "etcdserver: request timed out");
        assert_eq!(away, MetadataError::Unavailable("etcd: request timed out".into()));
    }
}
