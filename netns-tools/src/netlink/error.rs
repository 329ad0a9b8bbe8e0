//! What can go wrong with a netlink request, told so that the reader knows what to do.

use std::fmt;
use std::io;

use super::exchange::Failure;
use crate::netns::NetnsError;

/// What was being done, and to what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// For example `add address`.
    pub operation: String,
    /// For example `10.0.0.1/24 on link 5`.
    pub object: String,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.operation)?;
        if self.object.is_empty() { Ok(()) } else { write!(f, " {}", self.object) }
    }
}

/// A netlink request that failed. `Display` is one line; a `source` adds to it and is not repeated in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetlinkError {
    /// The kernel said no.
    #[error("{action}: {}", refusal(*.errno, .text.as_deref(), .action.operation.as_str()))]
    Refused {
        /// What was asked for.
        action: Action,
        /// The reason as a number, positive: `libc::EEXIST` and the like.
        errno: i32,
        /// The kernel's own words (extended acknowledgement), where it gives any.
        text: Option<String>,
    },
    /// A VXLAN device cannot be made or set up beside another one.
    #[error(
        "{action}: VNI {vni} on UDP port {port} is not free: {owner}; remove that, or use another VNI or port"
    )]
    VxlanTaken {
        /// What was asked for.
        action: Action,
        /// `EEXIST`, or `EADDRINUSE` where the whole port is taken.
        errno: i32,
        /// The VNI asked for.
        vni: u32,
        /// The UDP port asked for.
        port: u16,
        /// Who has it, as half a sentence.
        owner: String,
    },
    /// A name that the kernel would not accept, or would not take literally. No request was sent.
    #[error("`{name}` cannot name a link: {reason}")]
    InvalidName {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The netlink socket could not be opened, written or read. For a change, whether it was made is unknown.
    #[error("{action}: cannot {step}")]
    Socket {
        /// What was asked for.
        action: Action,
        /// Which step failed.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The kernel's answer cannot be understood.
    #[error("{action}: the kernel's answer cannot be understood: {reason}")]
    Malformed {
        /// What was asked for.
        action: Action,
        /// What is wrong with the answer.
        reason: String,
    },
    /// A list changed each time while it was being read.
    #[error("{action}: it changed during each of {attempts} attempts to read it; try again")]
    Unsettled {
        /// What was asked for.
        action: Action,
        /// How often it was tried.
        attempts: u32,
    },
    /// The namespace to open the socket in cannot be entered.
    #[error("cannot open a netlink socket in another network namespace")]
    Namespace {
        /// Why.
        #[from]
        source: NetnsError,
    },
}

impl NetlinkError {
    /// The kernel's error number (positive), if there was one: from its refusal or from the socket.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { errno, .. } | Self::VxlanTaken { errno, .. } => Some(*errno),
            Self::Socket { source, .. }
            | Self::Namespace { source: NetnsError::System { source, .. } } => {
                source.raw_os_error()
            }
            Self::InvalidName { .. }
            | Self::Malformed { .. }
            | Self::Unsettled { .. }
            | Self::Namespace { .. } => None,
        }
    }

    /// Whether what was to be made is there already (`EEXIST`).
    pub fn is_exists(&self) -> bool {
        matches!(
            self,
            Self::Refused { errno: libc::EEXIST, .. }
                | Self::VxlanTaken { errno: libc::EEXIST, .. }
        )
    }

    /// Whether what was to be changed or deleted is not there. Links answer `ENODEV`, addresses `EADDRNOTAVAIL`, routes
    /// `ESRCH`, and some kernels `ENOENT`. A teardown counts this as success.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                errno: libc::ENODEV | libc::EADDRNOTAVAIL | libc::ESRCH | libc::ENOENT,
                ..
            }
        )
    }

    pub(crate) fn new(action: Action, failure: Failure) -> Self {
        match failure {
            Failure::Refused(r) => Self::Refused { action, errno: r.errno, text: r.text },
            Failure::Socket { step, source } => Self::Socket { action, step, source },
            Failure::Malformed(reason) => Self::Malformed { action, reason },
            Failure::Unsettled { attempts } => Self::Unsettled { action, attempts },
        }
    }
}

/// The reason in words, the kernel's own words if any, and what to do about it.
fn refusal(errno: i32, text: Option<&str>, operation: &str) -> String {
    let mut message = nix::errno::Errno::from_raw(errno).desc().to_string();
    if let Some(text) = text {
        message = format!("{message} ({})", text.trim_end_matches('.'));
    }
    match hint(errno, operation) {
        Some(hint) => format!("{message}; {hint}"),
        None => message,
    }
}

/// What to do about it, where that is obvious.
fn hint(errno: i32, operation: &str) -> Option<&'static str> {
    let about = |word: &str| operation.contains(word);
    Some(match errno {
        libc::EPERM | libc::EACCES => "this needs root (CAP_NET_ADMIN in that network namespace)",
        libc::EEXIST if about("veth") => "one of the two names is taken in its network namespace",
        libc::EEXIST if operation == "create vlan" => {
            "the parent has a link for this VLAN already, perhaps in another namespace, or the name is taken"
        }
        libc::EEXIST if about("address") => "the link has this address already",
        libc::EEXIST if about("route") => "there is such a route already",
        libc::EEXIST if about("nexthop") => "the number is taken in that network namespace",
        libc::EEXIST if about("neighbour") || about("forwarding entry") => "there is one already",
        libc::EEXIST => "the name is taken in that network namespace",
        libc::EOPNOTSUPP if about("VLAN") => {
            "this kernel's bridges cannot filter VLANs (CONFIG_BRIDGE_VLAN_FILTERING)"
        }
        libc::EOPNOTSUPP if about("create") => {
            "this kernel has no such kind of link (modprobe may add it)"
        }
        libc::ENETUNREACH | libc::EHOSTUNREACH if about("route") => {
            "no address on a link that is up leads to the gateway"
        }
        libc::ENETDOWN => "set the link up first",
        libc::EINVAL if operation == "create macvlan" => {
            "a macvlan in passthru mode must be the only one of its parent, and the MTU cannot exceed the parent's"
        }
        libc::EBUSY if about("create") => {
            "the parent is a port of a bridge or bond, or carries links of another kind"
        }
        libc::EBUSY if about("rename") => "set the link down first",
        libc::EBUSY if about("master") => "the link belongs to another master",
        libc::ELOOP if about("master") => "a bridge cannot be a port of a bridge",
        libc::EADDRNOTAVAIL if about("MAC") => "it must be a unicast address and not all zeros",
        libc::ENODEV => "there is no such link in that network namespace",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(operation: &'static str, object: &str, errno: i32, text: Option<&str>) -> String {
        NetlinkError::Refused {
            action: Action { operation: operation.into(), object: object.into() },
            errno,
            text: text.map(Into::into),
        }
        .to_string()
    }

    #[test]
    fn says_what_which_why_and_what_to_do() {
        let table = [
            (
                refused("create veth pair", "a/b", libc::EEXIST, None),
                "cannot create veth pair a/b: File exists; one of the two names is taken in its network namespace",
            ),
            (
                refused(
                    "add route",
                    "default via 10.9.9.9",
                    libc::ENETUNREACH,
                    Some("Nexthop has invalid gateway."),
                ),
                "cannot add route default via 10.9.9.9: Network is unreachable (Nexthop has invalid gateway); \
                 no address on a link that is up leads to the gateway",
            ),
            (
                refused(
                    "set MTU 7 of",
                    "link 3",
                    libc::EINVAL,
                    Some("mtu less than device minimum"),
                ),
                "cannot set MTU 7 of link 3: Invalid argument (mtu less than device minimum)",
            ),
            (
                refused("list links", "", libc::EPERM, None),
                "cannot list links: Operation not permitted; this needs root (CAP_NET_ADMIN in that network namespace)",
            ),
        ];
        for (got, want) in table {
            assert_eq!(got, want);
        }
    }

    #[test]
    fn knows_what_is_there_and_what_is_not() {
        let error = |errno| NetlinkError::Refused {
            action: Action { operation: "delete".into(), object: "x".into() },
            errno,
            text: None,
        };
        assert!(error(libc::EEXIST).is_exists() && !error(libc::EEXIST).is_not_found());
        for errno in [libc::ENODEV, libc::EADDRNOTAVAIL, libc::ESRCH, libc::ENOENT] {
            assert!(error(errno).is_not_found() && !error(errno).is_exists());
            assert_eq!(error(errno).errno(), Some(errno));
        }
        assert!(!error(libc::EPERM).is_not_found());
    }
}
