//! UDP flows that go on to where a port no longer leads: the kernel translates only a flow's first packet by the rules.

use std::net::IpAddr;

use netns_tools::cause::one_line;
use netns_tools::conntrack::{Conntrack, Filter, UDP};
use netns_tools::iptables::Family;

use super::conf::{Mapping, Protocol};

/// What is to be forgotten: flows to a UDP port of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale {
    /// The flows' family.
    pub family: Family,
    /// The host's address, if the port is mapped on one only.
    pub to: Option<IpAddr>,
    /// The host's port.
    pub port: u16,
}

/// What mappings make stale.
pub fn of_mappings(mappings: &[Mapping], families: &[Family]) -> Vec<Stale> {
    let udp = mappings.iter().filter(|mapping| mapping.protocol == Protocol::Udp);
    udp.flat_map(|mapping| {
        families.iter().filter(|family| mapping.is_for(**family)).map(|family| Stale {
            family: *family,
            to: mapping.destination(),
            port: mapping.host_port,
        })
    })
    .collect()
}

/// Forgets them. That it failed is told to the reader of standard error only, as in the reference: the rules are right, and
/// the flows end by themselves.
pub fn forget(stale: &[Stale]) {
    if stale.is_empty() {
        return;
    }
    let mut conntrack = match Conntrack::open() {
        Ok(conntrack) => conntrack,
        Err(error) => return complain(&error),
    };
    for one in stale {
        let mut filter = Filter::new(one.family).protocol(UDP).port(one.port);
        if let Some(ip) = one.to {
            filter = filter.to(ip);
        }
        if let Err(error) = conntrack.forget(&filter) {
            complain(&error);
        }
    }
}

fn complain(error: &netns_tools::NetlinkError) {
    eprintln!("stale UDP flows were not forgotten: {}", one_line(error));
}
