//! What a failed call says: about the call, the credentials or the connection.

use std::error::Error as _;

use etcd_client::Error;
use tonic::{Code, Status};

use crate::call::innermost;

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The call's own: etcd is there, and said no to what was asked.
    Refused,
    /// User, password or token.
    Credentials,
    /// The member's, or the way to it.
    Connection,
}

/// Words of etcd that are about credentials under a code that says only "invalid argument".
const ABOUT_CREDENTIALS: [&str; 3] =
    ["authentication failed", "user name is empty", "revision of auth store is old"];

// === impl Fault ===

impl Fault {
    /// Whose fault `error` is.
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::GRpcStatus(status) => Self::of_status(status),
            _ => Self::Connection,
        }
    }

    fn of_status(status: &Status) -> Self {
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => Self::Credentials,
            Code::InvalidArgument
                if ABOUT_CREDENTIALS.iter().any(|words| status.message().contains(words)) =>
            {
                Self::Credentials
            }
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::NotFound
            | Code::AlreadyExists
            | Code::ResourceExhausted
            | Code::Unimplemented => Self::Refused,
            _ => Self::Connection,
        }
    }
}

/// The innermost cause in plain words, with a hint where one helps.
pub(super) fn reason(error: &Error) -> String {
    // The client's error type hides its sources.
    let text = match error {
        Error::GRpcStatus(status) => match status.source() {
            Some(source) => innermost(source),
            None => status.message().to_owned(),
        },
        Error::TransportError(error) => innermost(error),
        other => innermost(other),
    };
    hinted(text)
}

/// `text`, naming the settings to look at when it is about certificates.
pub(super) fn hinted(text: String) -> String {
    if text.to_lowercase().contains("certificate") {
        return format!("{text} (see deployment.etcd.tls: ca, cert and key, sni, verify)");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: Status) -> Fault {
        Fault::of(&Error::GRpcStatus(status))
    }

    #[test]
    fn tells_a_refused_call_from_refused_credentials_and_from_a_dead_member() {
        let wrong = "etcdserver: authentication failed, invalid user ID or password";
        for (status, fault) in [
            (Status::unavailable("etcdserver: no leader"), Fault::Connection),
            (Status::unauthenticated("etcdserver: invalid auth token"), Fault::Credentials),
            (Status::permission_denied("etcdserver: permission denied"), Fault::Credentials),
            (Status::invalid_argument(wrong), Fault::Credentials),
            (Status::invalid_argument("etcdserver: key is not provided"), Fault::Refused),
            (Status::out_of_range("required revision has been compacted"), Fault::Refused),
            (Status::resource_exhausted("database space exceeded"), Fault::Refused),
        ] {
            let said = format!("{status:?}");
            assert_eq!(check(status), fault, "{said}");
        }
    }
}
