//! Where etcd is and how to talk to it.

use std::path::PathBuf;
use std::time::Duration;

use crate::store::WatchLimits;

/// What is wrong with an address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AddressError {
    /// It begins with something else.
    #[error("the store {0:?} does not begin with etcd://; write etcd://host:port,host:port")]
    Scheme(String),
    /// One of its members.
    #[error(
        "{member:?} in the store {address:?} is not host:port; write etcd://host:port,host:port"
    )]
    Member {
        /// The whole.
        address: String,
        /// The part.
        member: String,
    },
}

/// The members (`host:port`) of `etcd://host:port,host:port`.
pub fn parse(address: &str) -> Result<Vec<String>, AddressError> {
    let members = address.strip_prefix("etcd://");
    let members = members.ok_or_else(|| AddressError::Scheme(address.into()))?;
    let members = members.strip_suffix('/').unwrap_or(members);
    let member = |member: &str| {
        let wrong = || AddressError::Member { address: address.into(), member: member.into() };
        is_member(member).then(|| member.to_owned()).ok_or_else(wrong)
    };
    members.split(',').map(member).collect()
}

fn is_member(member: &str) -> bool {
    let Some((host, port)) = member.rsplit_once(':') else { return false };
    let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    let foreign = |c: char| c.is_whitespace() || matches!(c, '/' | '@' | '?' | '#');
    let port = port.parse::<u16>().is_ok_and(|port| port > 0);
    port && !host.is_empty() && !bare_v6 && !host.contains(foreign)
}

/// Files (PEM) with which etcd and we prove who we are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EtcdTls {
    /// The certificates that sign etcd's.
    pub ca: Option<PathBuf>,
    /// Our certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What can be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdConfig {
    /// `host:port` of each member, as [`parse`] gives them.
    pub members: Vec<String>,
    /// Speak TLS.
    pub tls: Option<EtcdTls>,
    /// How long a request may take, with what is tried again.
    pub timeout: Duration,
    /// History that is older is forgotten; `None` leaves that to others.
    pub retention: Option<Duration>,
    /// How watchers are treated.
    pub watch: WatchLimits,
}

impl EtcdConfig {
    /// The members without TLS; requests may take ten seconds, history is kept for five minutes.
    pub fn new(members: Vec<String>) -> Self {
        let (timeout, retention) = (Duration::from_secs(10), Some(Duration::from_mins(5)));
        Self { members, tls: None, timeout, retention, watch: WatchLimits::default() }
    }

    /// The address again, for messages.
    pub fn place(&self) -> String {
        format!("etcd://{}", self.members.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_told_apart() {
        assert_eq!(parse("etcd://a:1"), Ok(vec!["a:1".into()]));
        let several = parse("etcd://10.0.0.1:2379,etcd-1.example:2379,[::1]:2379/");
        let expected = ["10.0.0.1:2379", "etcd-1.example:2379", "[::1]:2379"];
        assert_eq!(several, Ok(expected.map(str::to_owned).to_vec()));
        assert_eq!(EtcdConfig::new(several.expect("members")).place().matches(',').count(), 2);
    }

    #[test]
    fn what_is_no_address_is_told_with_the_part_that_is_wrong() {
        for address in ["a:1", "http://a:1", "etcd:a:1", ""] {
            assert_eq!(parse(address), Err(AddressError::Scheme(address.into())));
        }
        for member in
            ["", "a", "a:", ":1", "a:0", "a:65536", "a:b", "::1:2379", "a b:1", "u@a:1", "a:1/x"]
        {
            let address = format!("etcd://ok:1,{member}");
            let wrong = AddressError::Member { address: address.clone(), member: member.into() };
            assert_eq!(parse(&address), Err(wrong));
        }
    }
}
