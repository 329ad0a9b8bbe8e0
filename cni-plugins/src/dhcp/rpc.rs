//! What plugin and daemon say to each other over the daemon's socket: one JSON document each way, then the connection ends.
//!
//! | `method` | fields | answer |
//! | --- | --- | --- |
//! | `allocate` | `attachment`, `netns`, `provide`, `request` | `{"lease": {…}}`, as soon as there is one |
//! | `check` | `attachment` | `{"lease": {…}}` |
//! | `release` | `attachment` | `{"released": 0}` or `1` |
//! | `collect` | `network`, `valid` | `{"released": N}` |
//! | `ping` | | `{"leases": N}` |
//!
//! An attachment is `{"container": "…", "network": "…", "ifname": "…"}`. Options are bytes in hexadecimal by their codes. Any
//! question can be answered by `{"error": {"code": …, "msg": "…", "details": "…"}}`, which the plugin passes on.
//!
//! The reference's daemon speaks Go's `net/rpc` instead (gob over HTTP). Either side recognises the other's counterpart and says
//! so; neither understands it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use cni::{Error, ErrorCode};
use serde::{Deserialize, Serialize};

use super::lease::{Lease, hex};
use super::message::Options;

/// The most that either side reads, in bytes: a GC names every attachment of a node.
pub const MOST: u64 = 4 << 20;

/// Who has a lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attachment {
    /// The container.
    pub container: String,
    /// The network's name.
    pub network: String,
    /// The interface in the container.
    pub ifname: String,
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.container, self.network, self.ifname)
    }
}

/// A question.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "lowercase")]
pub enum Question {
    /// Get a lease and look after it.
    Allocate(Allocate),
    /// Is there a lease?
    Check { attachment: Attachment },
    /// Give the lease back.
    Release { attachment: Attachment },
    /// Give back every lease of a network but these.
    Collect { network: String, valid: Vec<Attachment> },
    /// Is anybody there?
    Ping {},
}

/// What a lease is wanted for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocate {
    /// For whom.
    pub attachment: Attachment,
    /// The container's network namespace.
    pub netns: String,
    /// Options that servers are told.
    #[serde(with = "hex")]
    pub provide: Options,
    /// Options that servers are asked for.
    pub request: Vec<u8>,
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// There is this lease.
    Lease(Lease),
    /// So many leases were given back.
    Released(usize),
    /// So many leases are held.
    Leases(usize),
    /// It cannot be done.
    Error(Refusal),
}

/// An error on its way to the plugin.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refusal {
    code: u32,
    msg: String,
    details: String,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { code: error.code.code(), msg: error.msg, details: error.details }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code.into(), refusal.msg).with_details(refusal.details)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// Nobody listens.
    #[error("error dialing DHCP daemon: nobody answers on {path}")]
    Dial {
        /// The socket.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The connection broke, or no answer came in time.
    #[error("the DHCP daemon on {path} went away before it answered")]
    Broken {
        /// The socket.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It answered with something else.
    #[error("what answers on {path} is not heddle-cni dhcp-daemon")]
    Foreign {
        /// The socket.
        path: String,
        /// The beginning of what it said.
        #[source]
        said: Said,
    },
}

/// What somebody said.
#[derive(Debug, thiserror::Error)]
#[error("it said: {0}")]
pub struct Said(String);

impl RpcError {
    /// As the plugin's error: a passing condition, with the remedy.
    pub fn into_error(self, code: ErrorCode) -> Error {
        let remedy = match self {
            Self::Dial { .. } => {
                "start it (systemctl start heddle-cni-dhcp.socket, or heddle-cni dhcp-daemon), or name its socket in ipam.daemonSocketPath"
            }
            Self::Broken { .. } => "call again; the daemon's log says what happened",
            Self::Foreign { .. } => {
                "the reference's daemon serves the reference's plugin only: stop it and start heddle-cni dhcp-daemon, or name another socket in ipam.daemonSocketPath"
            }
        };
        let error = Error::from_source(code, &self);
        let details = format!("{}; {remedy}", error.details);
        Error { details, ..error }
    }
}

/// Asks the daemon. `patience`: how long to wait for an answer; `None`: until the daemon is through or gone.
pub fn ask(
    socket: &Path,
    question: &Question,
    patience: Option<Duration>,
) -> Result<Answer, RpcError> {
    let path = socket.display().to_string();
    let mut stream = UnixStream::connect(socket)
        .map_err(|source| RpcError::Dial { path: path.clone(), source })?;
    let said = exchange(&mut stream, question, patience)
        .map_err(|source| RpcError::Broken { path: path.clone(), source })?;
    serde_json::from_slice(&said).map_err(|_| {
        let beginning = String::from_utf8_lossy(&said[..said.len().min(200)]).trim().to_owned();
        RpcError::Foreign { path, said: Said(beginning) }
    })
}

fn exchange(
    stream: &mut UnixStream,
    question: &Question,
    patience: Option<Duration>,
) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(patience)?;
    stream.write_all(&serde_json::to_vec(question)?)?;
    stream.shutdown(Shutdown::Write)?;
    let mut said = Vec::new();
    stream.take(MOST).read_to_end(&mut said)?;
    if said.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(said) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_question_as_it_is_written() {
        let question = Question::Allocate(Allocate {
            attachment: Attachment {
                container: "c1".to_owned(),
                network: "net".to_owned(),
                ifname: "eth0".to_owned(),
            },
            netns: "/run/netns/x".to_owned(),
            provide: Options::from([(12, b"web".to_vec())]),
            request: vec![1, 3],
        });
        let json = serde_json::to_value(&question).unwrap();
        let expected = json!({
            "method": "allocate",
            "attachment": { "container": "c1", "network": "net", "ifname": "eth0" },
            "netns": "/run/netns/x", "provide": { "12": "776562" }, "request": [1, 3],
        });
        assert_eq!(json, expected);
        let Question::Allocate(read) = serde_json::from_value(json).unwrap() else {
            panic!("another question");
        };
        assert_eq!(read.provide[&12], b"web");
    }

    #[test]
    fn an_error_comes_through_whole() {
        let error = Error::new(ErrorCode::TryAgainLater, "no more tries").with_details("why");
        let json = serde_json::to_value(Answer::Error(error.clone().into())).unwrap();
        assert_eq!(
            json,
            json!({ "error": { "code": 11, "msg": "no more tries", "details": "why" } })
        );
        let Answer::Error(refusal) = serde_json::from_value(json).unwrap() else {
            panic!("another answer");
        };
        assert_eq!(Error::from(refusal), error);
    }
}
