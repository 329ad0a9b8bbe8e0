//! CHECK: every difference between what ADD answered and what the kernel says.
//!
//! [`Attachment`] is for the plugins that make veth pairs, the rest for all that make or change an interface.

use cni::plugin::Call;
use cni::{CniResult, Error, ErrorCode, Interface};
use netns_tools::Link;

use crate::code;
use crate::interface::Observed;

/// The result of ADD, which CHECK cannot do without.
pub fn promised<'a>(call: &'a Call<'_>) -> Result<&'a CniResult, Error> {
    call.conf.prev_result.as_ref().ok_or_else(|| {
        Error::new(ErrorCode::InvalidConfig, "Required prevResult missing").with_details(
            "CHECK compares with the result of ADD: the runtime must pass it as prevResult",
        )
    })
}

/// The answer to CHECK.
pub fn answer(ifname: &str, differences: &[String]) -> Result<(), Error> {
    if differences.is_empty() {
        return Ok(());
    }
    let msg = format!("interface {ifname:?} is not as ADD left it");
    Err(Error::new(code::DRIFT, msg).with_details(differences.join("; ")))
}

/// An attachment, as it was promised and as it is looked for.
pub struct Attachment<'a> {
    /// What ADD answered.
    pub prev: &'a CniResult,
    /// The interface in the container.
    pub ifname: &'a str,
    /// The path of the container's namespace.
    pub sandbox: &'a str,
}

impl Attachment<'_> {
    /// The container's end: that it is there, of the right kind, with its MAC address, addresses and routes. Returns it if
    /// there is more to be said of it.
    pub fn container_end<'s>(
        &self,
        seen: &'s Observed,
        found: &mut Vec<String>,
    ) -> Option<&'s Link> {
        let (prev, ifname) = (self.prev, self.ifname);
        let inside = prev.interfaces.iter().find(|i| i.name == ifname && !i.sandbox.is_empty());
        match (inside, &seen.link) {
            (None, _) => found.push(format!("prevResult has no interface {ifname:?} in a sandbox")),
            (Some(promised), _) if promised.sandbox != self.sandbox => found.push(format!(
                "Sandbox in prevResult {} doesn't match configured netns: {}",
                promised.sandbox, self.sandbox
            )),
            (Some(_), None) => found.push(format!("{ifname:?} is missing in the container")),
            (Some(promised), Some(link)) => {
                kind(link, "veth", found);
                mac(promised, link, found);
                return Some(link);
            }
        }
        None
    }

    /// The host's end: the container's peer must be a promised interface of the host. Returns it.
    pub fn host_end<'s>(
        &self,
        host: &'s [Link],
        container: &Link,
        found: &mut Vec<String>,
    ) -> Option<&'s Link> {
        let peer = host.iter().find(|link| {
            Some(link.index) == container.peer_index && link.peer_index == Some(container.index)
        });
        let Some(peer) = peer else {
            found.push(format!("the peer of {:?} is not in the host's namespace", container.name));
            return None;
        };
        let mut on_host = self.prev.interfaces.iter().filter(|i| i.sandbox.is_empty());
        match on_host.find(|i| i.name == peer.name) {
            None => found.push(format!("prevResult does not name the host's end {:?}", peer.name)),
            Some(promised) => mac(promised, peer, found),
        }
        kind(peer, "veth", found);
        Some(peer)
    }
}

/// Of what kind it is.
pub fn kind(link: &Link, kind: &str, found: &mut Vec<String>) {
    if link.kind.as_deref() != Some(kind) {
        found.push(format!("{:?} is not a {kind}", link.name));
    }
}

/// Without a MAC address in the result there is nothing to compare.
pub fn mac(promised: &Interface, link: &Link, found: &mut Vec<String>) {
    let mac = link.mac.map_or(String::new(), |mac| mac.to_string());
    if !promised.mac.is_empty() && !promised.mac.eq_ignore_ascii_case(&mac) {
        found.push(format!("{:?} has MAC address {mac}, not {}", link.name, promised.mac));
    }
}

/// The MTU that the configuration asks for, if any.
pub fn mtu(wanted: Option<u32>, link: &Link, found: &mut Vec<String>) {
    if let Some(wanted) = wanted.filter(|wanted| *wanted != link.mtu) {
        found.push(format!("{:?} has an MTU of {}, not {wanted}", link.name, link.mtu));
    }
}
