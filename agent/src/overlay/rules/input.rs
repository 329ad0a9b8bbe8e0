//! What the rules depend on, as plain data, and what of it is wrong.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::RuleError;

/// What the rules depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleInput {
    /// The pod CIDRs of this node. The gateway form (`10.244.1.1/24`) is as good as the network.
    pub local: Vec<IpNetwork>,
    /// All pod CIDRs of the cluster: the configured networks, and nodes' CIDRs that lie outside of them. Those of this node need
    /// not be among them.
    pub pods: Vec<IpNetwork>,
    /// More destinations that pods reach under their own addresses (`overlay.no_masquerade`).
    pub not_masqueraded: Vec<IpNetwork>,
    /// Whether what pods send elsewhere leaves under this node's address (`overlay.masquerade`).
    pub masquerade: bool,
    /// The tunnel; `None`: packets travel as they are (host-gw).
    pub tunnel: Option<Tunnel>,
    /// The addresses of all nodes on the underlay, of both families, as their tunnels send from them. This node's own may be among
    /// them.
    pub nodes: BTreeSet<IpAddr>,
    /// There may be more nodes than these: addresses that are in force stay.
    pub partial: bool,
    /// The names of the links that lead to other nodes.
    pub underlay: Vec<String>,
    /// Whether a node to which this one sends through the tunnel may answer directly: backend `auto` here, or other backends there.
    pub direct: bool,
}

/// This node's end of the tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The UDP port.
    pub port: u16,
    /// The names of the VXLAN devices.
    pub devices: Vec<String>,
    /// The UDP port where probes are answered inside of the tunnel; `None`: they are not.
    pub probe_port: Option<u16>,
}

/// The longest name of a link, in bytes (`IFNAMSIZ` less the end).
const MAX_LINK_NAME: usize = 15;

impl RuleInput {
    /// Looks for what no rule can be made of. What one Node object says of itself is not among it: see [`Self::refused_nodes`].
    pub(super) fn check(&self) -> Result<(), RuleError> {
        let wrong = |field, value: String, reason| Err(RuleError::Input { field, value, reason });
        for (field, ranges) in [("local", &self.local), ("pods", &self.pods)] {
            if let Some(range) = ranges.iter().find(|range| range.prefix() == 0) {
                let reason = "all addresses cannot be pods'; give the network's real range";
                return wrong(field, range.to_string(), reason);
            }
        }
        let Some(tunnel) = &self.tunnel else { return Ok(()) };
        if tunnel.port == 0 || tunnel.probe_port == Some(0) {
            return wrong("tunnel.port", "0".to_owned(), "a UDP port is 1 to 65535");
        }
        if tunnel.probe_port == Some(tunnel.port) {
            let reason = "the tunnel has this port; choose another overlay.probe_port";
            return wrong("tunnel.probe_port", tunnel.port.to_string(), reason);
        }
        let sound = |name: &str| {
            !name.is_empty()
                && name.len() <= MAX_LINK_NAME
                && !name.contains(|c: char| c.is_whitespace() || c == '/' || c == '"')
                && !matches!(name, "." | ".." | "all" | "default")
        };
        match tunnel.devices.iter().chain(&self.underlay).find(|name| !sound(name)) {
            Some(name) => wrong("devices", name.clone(), "a link has no such name"),
            None => Ok(()),
        }
    }

    /// Addresses that no node can have, in words. They are left out instead of stopping everything: one Node object with nonsense in it
    /// must not keep the others' from being written.
    pub(super) fn refused_nodes(&self) -> Vec<String> {
        let refused = self.nodes.iter().filter(|address| !is_sound(**address));
        refused
            .map(|address| {
                format!("{address} is no address that a node can have; correct the Node object that announces it")
            })
            .collect()
    }

    /// The addresses that datagrams of the tunnel may come from.
    pub(super) fn senders(&self) -> BTreeSet<IpAddr> {
        self.nodes.iter().copied().filter_map(sender).collect()
    }

    /// Destinations that are pods, in both families.
    pub(super) fn all_pods(&self) -> impl Iterator<Item = IpNetwork> {
        self.pods.iter().chain(&self.local).copied()
    }

    /// Destinations that pods reach under their own addresses.
    pub(super) fn inside(&self) -> impl Iterator<Item = IpNetwork> {
        self.all_pods().chain(self.not_masqueraded.iter().copied())
    }
}

/// The address as the kernel sees it in a datagram; `None`: no node has it.
pub(super) fn sender(address: IpAddr) -> Option<IpAddr> {
    is_sound(address).then(|| address.to_canonical())
}

fn is_sound(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast)
}
