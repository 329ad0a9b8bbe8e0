//! The ways to one other node.

use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::Local;
use crate::overlay::cluster::{Claim, Cluster, Refusal};
use crate::overlay::desired::{Route, Way};
use crate::overlay::node::{Announcement, Backend, NodeRecord, Vtep, overlaps};

/// Another node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The ways to its pods, by destination.
    pub routes: Vec<Route>,
    /// Why there is no way to its pods, or to those of one family.
    pub problems: Vec<Unreachable>,
}

/// Why there is no way to a node's pods.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// Its agent has not written its annotation yet.
    #[error("announces nothing yet; does heddle-agent run there, with the overlay?")]
    Silent,
    /// Its Node object has mistakes.
    #[error("{0}")]
    Mistake(String),
    /// Nothing gave it one yet.
    #[error(
        "has no pod CIDR; the cluster's controller manager gives one (--allocate-node-cidrs), or the Node's spec.podCIDRs"
    )]
    NoPodCidr,
    /// Another node has what it claims.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// Traffic to pods here would leave.
    #[error("its pod CIDR {theirs} overlaps {ours} of this node")]
    OurPods {
        /// The peer's.
        theirs: IpNetwork,
        /// Of this node.
        ours: IpNetwork,
    },
    /// The tunnel's own packets would go into the tunnel.
    #[error("its pod CIDR {theirs} contains {address}, by which nodes speak to each other")]
    CoversUnderlay {
        /// The peer's.
        theirs: IpNetwork,
        /// A node's.
        address: IpAddr,
    },
    /// Nothing outside of the cluster could be reached any more.
    #[error("its pod CIDR {theirs} contains {gateway}, the gateway of this node's default route")]
    CoversGateway {
        /// The peer's.
        theirs: IpNetwork,
        /// Of this node.
        gateway: IpAddr,
    },
    /// One tunnels and the other does not.
    #[error("its backend is {theirs}, ours is {ours}")]
    Backends {
        /// The peer's.
        theirs: Backend,
        /// Of this node.
        ours: Backend,
    },
    /// They would not hear each other.
    #[error("VNI {theirs}, ours is {ours}")]
    Vni {
        /// The peer's.
        theirs: u32,
        /// Of this node.
        ours: u32,
    },
    /// They would not hear each other.
    #[error("VXLAN port {theirs}, ours is {ours}")]
    Port {
        /// The peer's.
        theirs: u16,
        /// Of this node.
        ours: u16,
    },
    /// Neither can send to the other.
    #[error(
        "no address of a common family: for pods of {cidr} it has {theirs}, this node has {ours}"
    )]
    NoCommonFamily {
        /// The pods.
        cidr: IpNetwork,
        /// The peer's addresses.
        theirs: String,
        /// Of this node.
        ours: String,
    },
    /// Something is in the way of this node's device, which this node tells by itself.
    #[error("can be reached by {0} only, which is not there; the problems of this node say why")]
    NoDevice(Arc<str>),
    /// A gateway must be on the link.
    #[error(
        "{address} is not on the same network as this node's {ours}, which host-gw needs; auto or vxlan does not"
    )]
    OtherNetwork {
        /// The peer's.
        address: IpAddr,
        /// Of this node.
        ours: IpNetwork,
    },
    /// Two nodes with one address.
    #[error("its address {0} is this node's")]
    OurAddress(IpAddr),
    /// Two nodes with one Ethernet address.
    #[error("its VTEP MAC {0} is this node's; was its machine cloned with its state directory?")]
    OurMac(netns_tools::MacAddr),
    /// IPv6 needs more.
    #[error(
        "pods' IPv6 needs 1280 bytes, and the tunnel over {device} has room for {mtu}; give this node's link to it an MTU of at least {needed}"
    )]
    Narrow {
        /// The device.
        device: Arc<str>,
        /// Its MTU.
        mtu: u32,
        /// What the link under it needs.
        needed: u32,
    },
}

/// The ways to `node`, and why there are none. `mtu`: of this many bytes packets are known to arrive there.
pub(super) fn plan(local: &Local, cluster: &Cluster, node: &NodeRecord, mtu: Option<u32>) -> Peer {
    let mut peer = Peer::default();
    peer.problems.extend(node.mistakes.iter().cloned().map(Unreachable::Mistake));
    if local.settings.backend == Backend::None {
        return peer;
    }
    if node.pod_cidrs.is_empty() {
        peer.problems.push(Unreachable::NoPodCidr);
    }
    let Some(theirs) = &node.announced else {
        if node.mistakes.is_empty() {
            peer.problems.push(Unreachable::Silent);
        }
        return peer;
    };
    for cidr in &node.pod_cidrs {
        let ends = Ends { local, cluster, node, theirs, cidr: *cidr };
        match ends.route(mtu) {
            Ok(route) => peer.routes.extend(route),
            // both families mostly fail for one reason
            Err(problem) if peer.problems.contains(&problem) => {}
            Err(problem) => peer.problems.push(problem),
        }
    }
    peer.routes.shrink_to_fit();
    peer.problems.shrink_to_fit();
    peer
}

/// This node, another, and one of its pod CIDRs.
#[derive(Clone, Copy)]
struct Ends<'a> {
    local: &'a Local,
    cluster: &'a Cluster,
    node: &'a NodeRecord,
    theirs: &'a Announcement,
    cidr: IpNetwork,
}

impl Ends<'_> {
    /// `Ok(None)`: something else sees to it.
    fn route(&self, mtu: Option<u32>) -> Result<Option<Route>, Unreachable> {
        let (ours, theirs) = (self.local.settings.backend, self.theirs.backend);
        if theirs == Backend::None {
            return Err(Unreachable::Backends { theirs, ours });
        }
        self.check_cidr()?;
        let direct = self.direct();
        let (way, most) = match direct {
            Ok(found) if ours.routes() && theirs.routes() => found,
            _ if ours.tunnels() && theirs.tunnels() => self.tunnel()?,
            Err(problem) if ours.routes() && theirs.routes() => return Err(problem),
            _ => return Err(Unreachable::Backends { theirs, ours }),
        };
        // IPv6 takes no less (RFC 8200, section 5); that it does not arrive is told by who found it out
        let least = if self.cidr.is_ipv6() { super::MTU_MIN_IPV6 } else { super::MTU_MIN_IPV4 };
        let mtu = mtu.map(|mtu| mtu.max(least)).filter(|mtu| *mtu < most);
        Ok(Some(Route { destination: self.cidr, way, mtu }))
    }

    fn check_cidr(&self) -> Result<(), Unreachable> {
        let theirs = self.cidr;
        if let Some(ours) = self.local.pod_cidrs.iter().find(|ours| overlaps(theirs, **ours)) {
            return Err(Unreachable::OurPods { theirs, ours: *ours });
        }
        self.check_claim(Claim::PodCidr(theirs))?;
        let ours = self.local.underlays.iter().map(|underlay| underlay.address.ip());
        let ends = self.theirs.vteps.iter().map(|vtep| vtep.address);
        let mut nodes = ours.chain(self.theirs.addresses.iter().copied()).chain(ends);
        if let Some(address) = nodes.find(|address| theirs.contains(*address)) {
            return Err(Unreachable::CoversUnderlay { theirs, address });
        }
        let mut gateways = self.local.underlays.iter().filter_map(|underlay| underlay.gateway);
        match gateways.find(|gateway| theirs.contains(*gateway)) {
            Some(gateway) => Err(Unreachable::CoversGateway { theirs, gateway }),
            None => Ok(()),
        }
    }

    fn check_claim(&self, claim: Claim) -> Result<(), Unreachable> {
        match self.cluster.refusal(&self.node.name, claim) {
            Some(refusal) => Err(Unreachable::Refused(Box::new(refusal))),
            None => Ok(()),
        }
    }

    fn check_address(&self, address: IpAddr) -> Result<(), Unreachable> {
        if self.local.underlays.iter().any(|ours| ours.address.ip() == address) {
            return Err(Unreachable::OurAddress(address));
        }
        self.check_claim(Claim::Address(address))
    }

    /// By the node itself as the gateway. Both ends ask the same question of the same values, so that both send directly or neither
    /// does: where only one did, the other's filter of reverse paths (`rp_filter=1`) would drop.
    fn direct(&self) -> Result<(Way, u32), Unreachable> {
        let ipv4 = self.cidr.is_ipv4();
        let addresses = &self.theirs.addresses;
        let gateway = addresses.iter().copied().find(|address| address.is_ipv4() == ipv4);
        let (Some(gateway), Some(underlay)) = (gateway, self.local.underlay(ipv4)) else {
            return Err(self.no_common_family());
        };
        let ours = underlay.address;
        self.check_address(gateway)?;
        let mut networks = self.theirs.networks.iter().filter(|network| network.is_ipv4() == ipv4);
        if !ours.contains(gateway) || !networks.all(|network| network.contains(ours.ip())) {
            return Err(Unreachable::OtherNetwork { address: gateway, ours });
        }
        Ok((Way::Direct { gateway, link: underlay.link, source: ours.ip() }, underlay.mtu))
    }

    /// Through a VXLAN device, with what fits it.
    fn tunnel(&self) -> Result<(Way, u32), Unreachable> {
        let (settings, theirs) = (&self.local.settings, self.theirs);
        if theirs.vni != settings.vni {
            return Err(Unreachable::Vni { theirs: theirs.vni, ours: settings.vni });
        }
        if let Some(port) = theirs.port.filter(|port| *port != settings.port) {
            return Err(Unreachable::Port { theirs: port, ours: settings.port });
        }
        let vtep = self.common_vtep(self.local.usable_families()).ok_or_else(|| {
            let missing = self.local.missing.filter(|ipv4| self.common_vtep([*ipv4]).is_some());
            let by = |ipv4| Unreachable::NoDevice(self.local.device_name(ipv4).clone());
            missing.map_or_else(|| self.no_common_family(), by)
        })?;
        self.check_address(vtep.address)?;
        if vtep.mac == self.local.mac {
            return Err(Unreachable::OurMac(vtep.mac));
        }
        self.check_claim(Claim::Mac(vtep.mac))?;
        let ipv4 = vtep.address.is_ipv4();
        let (device, mtu) =
            (self.local.device_name(ipv4).clone(), self.local.device_mtu(ipv4).unwrap_or(0));
        if self.cidr.is_ipv6() && mtu < super::MTU_MIN_IPV6 {
            let needed = super::MTU_MIN_IPV6 + super::local::overhead(ipv4);
            return Err(Unreachable::Narrow { device, mtu, needed });
        }
        let gateway = self.cidr.network();
        let way = Way::Tunnel { device, gateway, mac: vtep.mac, remote: vtep.address };
        Ok((way, mtu))
    }

    /// Its end of the tunnel: over IPv4 if both can, else over IPv6; as flannel does, only over the pods' own family.
    fn common_vtep(&self, families: impl IntoIterator<Item = bool>) -> Option<&Vtep> {
        let flannel = self.local.settings.flannel;
        let usable = |ipv4: &bool| !flannel || *ipv4 == self.cidr.is_ipv4();
        let mut families = families.into_iter().filter(usable);
        families
            .find_map(|ipv4| self.theirs.vteps.iter().find(|vtep| vtep.address.is_ipv4() == ipv4))
    }

    fn no_common_family(&self) -> Unreachable {
        let list = |addresses: &mut dyn Iterator<Item = IpAddr>| {
            let all: Vec<_> = addresses.map(|address| address.to_string()).collect();
            if all.is_empty() { "none".into() } else { all.join(" and ") }
        };
        Unreachable::NoCommonFamily {
            cidr: self.cidr,
            theirs: list(&mut self.theirs.addresses.iter().copied()),
            ours: list(&mut self.local.underlays.iter().map(|underlay| underlay.address.ip())),
        }
    }
}
