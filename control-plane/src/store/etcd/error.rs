//! What etcd's refusals mean.

use etcd_client::Error;
use tonic::{Code, ConnectError};

use crate::store::StoreError;

/// What an error of a request means for whoever made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The revision was compacted.
    Compacted,
    /// The revision is in the future.
    Future,
    /// A read may be tried again, perhaps with another member.
    Transient,
    /// It would fail again.
    Final,
}

/// Judges an error. The messages are those of etcd's `rpctypes`, which its own clients compare too.
pub fn meaning(error: &Error) -> Meaning {
    match error {
        Error::GRpcStatus(status) => match status.code() {
            Code::OutOfRange if status.message().contains("compacted") => Meaning::Compacted,
            Code::OutOfRange if status.message().contains("future revision") => Meaning::Future,
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::Internal
            | Code::Aborted => Meaning::Transient,
            _ => Meaning::Final,
        },
        Error::IoError(_) | Error::TransportError(_) | Error::WatchError(_) => Meaning::Transient,
        _ => Meaning::Final,
    }
}

/// Whether a request certainly did not reach etcd, because there was no connection to send it on: a member that is away is tried again
/// and again, and the request at hand learns that it is still away.
pub fn never_sent(error: &Error) -> bool {
    let Error::GRpcStatus(status) = error else { return false };
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Etcd in its own words.
pub fn unavailable(place: &str, error: &Error) -> StoreError {
    let reason = match error {
        Error::GRpcStatus(status) => format!("{} ({:?})", status.message(), status.code()),
        error => error.to_string(),
    };
    StoreError::Unavailable { reason: format!("{place}: {reason}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: Code, message: &str) -> Error {
        Error::GRpcStatus(tonic::Status::new(code, message))
    }

    #[test]
    fn only_a_request_without_a_connection_was_never_sent() {
        let refused = ConnectError("connection refused".into());
        assert!(never_sent(&Error::GRpcStatus(tonic::Status::from_error(Box::new(refused)))));
        let lost = std::io::Error::other("connection reset");
        assert!(!never_sent(&Error::GRpcStatus(tonic::Status::from_error(Box::new(lost)))));
        assert!(!never_sent(&status(Code::Unavailable, "tcp connect error")));
    }

    #[test]
    fn refusals_of_revisions_are_told_from_failures() {
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        let future = "etcdserver: mvcc: required revision is a future revision";
        assert_eq!(meaning(&status(Code::OutOfRange, compacted)), Meaning::Compacted);
        assert_eq!(meaning(&status(Code::OutOfRange, future)), Meaning::Future);
        assert_eq!(
            meaning(&status(Code::Unavailable, "etcdserver: no leader")),
            Meaning::Transient
        );
        let large = "etcdserver: request is too large";
        assert_eq!(meaning(&status(Code::InvalidArgument, large)), Meaning::Final);
        assert_eq!(meaning(&Error::InvalidArgs("x".into())), Meaning::Final);
    }
}
