//! What can go wrong with packet filter rules, told so that the reader knows what to do.

use std::io;

use crate::netlink::exchange::Failure;
use crate::netlink::reply::Malformed;
use crate::netns::NetnsError;

/// A request to nf_tables that failed. `Display` is one line; a `source` adds to it and is not repeated in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NftError {
    /// The kernel said no; nothing was changed.
    #[error("cannot {operation}: {}", refusal(*errno, text.as_deref(), culprit.as_deref()))]
    Refused {
        /// What was asked for: `add a rule to chain a in table inet b`.
        operation: String,
        /// The reason as a number, positive.
        errno: i32,
        /// The kernel's own words (extended acknowledgement), where it gives any.
        text: Option<String>,
        /// The part of the request that the kernel complained of: the name of a chain, a set or a kind of expression.
        culprit: Option<String>,
    },
    /// The rules are not those of the batch's generation any more; nothing was changed.
    #[error(
        "cannot change packet filter rules: somebody else has changed them meanwhile; read them again"
    )]
    Changed,
    /// A name, a comment or a key that the kernel would not accept, or would not take literally. No request was sent.
    #[error("`{what}` cannot be used in packet filter rules: {reason}")]
    Invalid {
        /// What was given.
        what: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The netlink socket could not be opened, written or read. For a change, whether it was made is unknown.
    #[error("cannot {operation}: cannot {step}")]
    Socket {
        /// What was asked for.
        operation: String,
        /// Which step failed.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The kernel's answer cannot be understood.
    #[error("cannot {operation}: the kernel's answer cannot be understood: {reason}")]
    Malformed {
        /// What was asked for.
        operation: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// A list changed each time while it was being read.
    #[error(
        "cannot {operation}: it changed during each of {attempts} attempts to read it; try again"
    )]
    Unsettled {
        /// What was asked for.
        operation: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The namespace to open the socket in cannot be entered.
    #[error("cannot use nf_tables in another network namespace")]
    Namespace {
        /// Why.
        #[from]
        source: NetnsError,
    },
}

impl NftError {
    /// The kernel's error number (positive), if there was one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Socket { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// Whether what was to be read, used or deleted is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { errno: libc::ENOENT, .. })
    }

    /// Whether what was to be made is there already.
    pub fn is_exists(&self) -> bool {
        matches!(self, Self::Refused { errno: libc::EEXIST, .. })
    }

    /// Whether what was to be deleted is still in use: a chain that a rule jumps to, a set that a rule asks.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Refused { errno: libc::EBUSY, .. })
    }

    /// Whether this kernel has no nf_tables at all.
    pub fn is_unsupported(&self) -> bool {
        // EINVAL: the kernel answers so to a request for a subsystem that it has not got.
        matches!(self.errno(), Some(libc::EPROTONOSUPPORT | libc::EOPNOTSUPP | libc::EINVAL))
    }

    pub(super) fn new(operation: &str, failure: Failure) -> Self {
        let operation = operation.to_owned();
        match failure {
            Failure::Refused(refusal) => {
                Self::Refused { operation, errno: refusal.errno, text: refusal.text, culprit: None }
            }
            Failure::Socket { step, source } => Self::Socket { operation, step, source },
            Failure::Malformed(reason) => Self::Malformed { operation, reason },
            Failure::Unsettled { attempts } => Self::Unsettled { operation, attempts },
        }
    }

    pub(super) fn malformed(operation: &str, error: Malformed) -> Self {
        Self::Malformed { operation: operation.to_owned(), reason: error.0 }
    }
}

/// The reason in words, the kernel's own words if any, and what to do about it.
fn refusal(errno: i32, text: Option<&str>, culprit: Option<&str>) -> String {
    let mut message = nix::errno::Errno::from_raw(errno).desc().to_string();
    if let Some(text) = text {
        message = format!("{message} ({})", text.trim_end_matches('.'));
    }
    if let Some(culprit) = culprit {
        message = format!("{message}, at `{culprit}`");
    }
    match hint(errno) {
        Some(hint) => format!("{message}; {hint}"),
        None => message,
    }
}

/// What to do about it, where that is obvious.
fn hint(errno: i32) -> Option<&'static str> {
    Some(match errno {
        libc::EPERM | libc::EACCES => {
            "this needs root (CAP_NET_ADMIN in that network namespace), and nobody else's program may own the table"
        }
        libc::ENOENT => {
            "there is no such table, chain, set, element or rule, or this kernel lacks a kind of expression (modprobe may add it)"
        }
        libc::EBUSY => "something still uses it",
        libc::EEXIST => "there is one already, of another form",
        libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP => {
            "this kernel does not have what it takes (CONFIG_NF_TABLES and its kin; modprobe may add it)"
        }
        libc::EMLINK => "chains lead in a circle, or too deep",
        _ => return None,
    })
}
