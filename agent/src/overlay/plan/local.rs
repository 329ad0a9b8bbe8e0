//! This node's side of every plan.

use std::fmt;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use netns_tools::MacAddr;

use super::{
    MTU_MIN_IPV4, MTU_MIN_IPV6, OVERHEAD_IPV4, OVERHEAD_IPV6, PlanError, Settings, Underlay,
};
use crate::overlay::desired::Device;
use crate::overlay::node::{Announcement, Backend, NodeRecord, Vtep};

/// All that does not depend on other nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    pub(super) settings: Settings,
    pub(super) name: String,
    pub(super) pod_cidrs: Vec<IpNetwork>,
    pub(super) mac: MacAddr,
    /// At most one of each family, IPv4 first.
    pub(super) underlays: Vec<Underlay>,
    /// Of the devices over IPv4 and IPv6: every route shares them.
    device_names: [Arc<str>; 2],
    /// The family of the underlay whose device is not there, though the other's is.
    pub(super) missing: Option<bool>,
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { settings, pod_cidrs, mac, underlays, .. } = self;
        let links: Vec<_> = underlays
            .iter()
            .map(|one| format!("{} on {} (MTU {})", one.address, one.name, one.mtu))
            .collect();
        let pods: Vec<_> = pod_cidrs.iter().map(ToString::to_string).collect();
        let backend = settings.backend;
        let (links, pods) = (links.join(", "), pods.join(", "));
        write!(
            f,
            "{backend} from {links} for pods {pods} with MTU {}, VTEP MAC {mac}",
            self.pod_mtu()
        )?;
        self.missing.map_or(Ok(()), |ipv4| write!(f, ", without {}", self.device_name(ipv4)))
    }
}

impl Local {
    /// `node` is this node's record, of which the name and the pod CIDRs count, `mac` is the Ethernet address of its devices, and of
    /// `underlays` the first of each family counts.
    pub fn new(
        settings: Settings,
        node: &NodeRecord,
        mac: MacAddr,
        underlays: &[Underlay],
    ) -> Result<Self, PlanError> {
        let (name, pod_cidrs) = (node.name.to_string(), node.pod_cidrs.clone());
        let of = |ipv4| underlays.iter().find(|one| one.address.is_ipv4() == ipv4).cloned();
        let underlays = [of(true), of(false)].into_iter().flatten().collect();
        let device_names =
            ["heddle", "heddle-v6"].map(|stem| format!("{stem}.{}", settings.vni).into());
        let local = Self { settings, name, pod_cidrs, mac, underlays, device_names, missing: None };
        local.check()?;
        Ok(local)
    }

    /// Where devices of these names are not there, nothing is sent by them and nobody is told to. They are still wanted. If there is none at
    /// all, it is as if they were there: nothing else can be planned with.
    #[must_use]
    pub fn without(mut self, devices: &[String]) -> Self {
        let families = self.tunnel_families();
        let is_missing =
            |ipv4: &bool| devices.iter().any(|name| **name == **self.device_name(*ipv4));
        let missing: Vec<_> = families.iter().copied().filter(is_missing).collect();
        self.missing = missing.first().copied().filter(|_| missing.len() < families.len());
        self
    }

    /// Its link and address of a family.
    pub(super) fn underlay(&self, ipv4: bool) -> Option<&Underlay> {
        self.underlays.iter().find(|underlay| underlay.address.is_ipv4() == ipv4)
    }

    fn check(&self) -> Result<(), PlanError> {
        if self.settings.backend == Backend::None {
            // something else routes
            return Ok(());
        }
        let (narrowest, overhead) = self.narrowest().ok_or(PlanError::NoAddress)?;
        let (wanted, underlay) = (self.settings.mtu, narrowest.mtu);
        let (most, link) = (underlay.saturating_sub(overhead), || narrowest.name.clone());
        if wanted > most {
            return Err(PlanError::TooLarge { link: link(), underlay, overhead, wanted, most });
        }
        // what is configured must do for all; what the link leaves may do for one family
        let least = if wanted > 0 && self.has_ipv6() {
            ("IPv6", MTU_MIN_IPV6)
        } else {
            ("IPv4", MTU_MIN_IPV4)
        };
        let (mtu, (family, least)) = (if wanted > 0 { wanted } else { most }, least);
        if mtu < least {
            return Err(PlanError::TooSmall { link: link(), mtu, family, least });
        }
        Ok(())
    }

    fn has_ipv6(&self) -> bool {
        self.pod_cidrs.iter().any(IpNetwork::is_ipv6)
    }

    /// What cannot be done for pods of this node, whatever the other nodes are, each with what to do. The rest works.
    pub fn problems(&self) -> Vec<String> {
        let narrow = self.narrowest().filter(|(underlay, overhead)| {
            self.has_ipv6() && underlay.mtu.saturating_sub(*overhead) < MTU_MIN_IPV6
        });
        let told = narrow.map(|(underlay, overhead)| {
            format!(
                "pods' IPv6 needs packets of {MTU_MIN_IPV6} bytes, and link {}, whose MTU is {}, has room for {}{}: IPv6 has no such way to other \
                 nodes, IPv4 has; give the link an MTU of at least {}",
                underlay.name,
                underlay.mtu,
                underlay.mtu.saturating_sub(overhead),
                if overhead > 0 { " in the tunnel" } else { "" },
                MTU_MIN_IPV6 + overhead
            )
        });
        told.into_iter().collect()
    }

    /// The link that leaves pods the least, and how much of its MTU the tunnel takes.
    ///
    /// Where a tunnel over IPv4 is possible it counts alone: the one over IPv6 is narrower, but this host itself tells pods so when a
    /// packet does not fit. flannel's way puts all pods' IPv6 there, so it counts then.
    fn narrowest(&self) -> Option<(&Underlay, u32)> {
        let families = self.tunnel_families();
        let count = if self.settings.flannel { families.len() } else { 1 };
        let over = |ipv4| self.underlay(ipv4).map(|underlay| (underlay, overhead(ipv4)));
        let left = |(underlay, overhead): &(&Underlay, u32)| underlay.mtu.saturating_sub(*overhead);
        let tunnel = families.into_iter().take(count).filter_map(over).min_by_key(left);
        tunnel.or_else(|| self.underlays.iter().map(|underlay| (underlay, 0)).min_by_key(left))
    }

    /// The MTU of pods' interfaces, in bytes. Never less than IPv6 needs where pods have it, or the kernel would take it away from them even
    /// for each other; what is larger than the way to another node, this host itself tells pods of.
    pub fn pod_mtu(&self) -> u32 {
        let least = if self.has_ipv6() { MTU_MIN_IPV6 } else { 0 };
        let left = |(underlay, overhead): (&Underlay, u32)| underlay.mtu.saturating_sub(overhead);
        let most = self.narrowest().map_or(0, |narrowest| left(narrowest).max(least));
        if self.settings.mtu == 0 { most } else { self.settings.mtu }
    }

    /// What this node is to announce.
    pub fn announcement(&self) -> Announcement {
        let vtep =
            |ipv4: bool| Some(Vtep { address: self.underlay(ipv4)?.address.ip(), mac: self.mac });
        let addresses = self.underlays.iter().map(|underlay| underlay.address);
        let networks = addresses.clone();
        Announcement {
            backend: self.settings.backend,
            vni: self.settings.vni,
            port: Some(self.settings.port),
            vteps: self.usable_families().filter_map(vtep).collect(),
            addresses: addresses.map(|address| address.ip()).collect(),
            networks: networks
                .filter_map(|net| IpNetwork::new(net.network(), net.prefix()).ok())
                .collect(),
            probe_port: self.settings.probe_port,
        }
    }

    /// The families of the underlay over which there is a tunnel, IPv4 (`true`) first.
    pub(super) fn tunnel_families(&self) -> Vec<bool> {
        let has_pods = |ipv4| self.pod_cidrs.iter().any(|cidr| cidr.is_ipv4() == ipv4);
        let wanted = |ipv4| !self.settings.flannel || has_pods(ipv4);
        let has = |ipv4: &bool| self.underlay(*ipv4).is_some() && wanted(*ipv4);
        [true, false].into_iter().filter(has).filter(|_| self.settings.backend.tunnels()).collect()
    }

    /// Those of them whose device is there.
    pub(super) fn usable_families(&self) -> impl Iterator<Item = bool> {
        self.tunnel_families().into_iter().filter(|ipv4| self.missing != Some(*ipv4))
    }

    /// The VXLAN devices that this node needs.
    pub fn devices(&self) -> Vec<Device> {
        self.tunnel_families().into_iter().filter_map(|ipv4| self.device(ipv4)).collect()
    }

    pub(super) fn device(&self, ipv4: bool) -> Option<Device> {
        let underlay = self.underlay(ipv4)?;
        let mtu = self.device_mtu(ipv4)?;
        Some(Device {
            name: self.device_name(ipv4).as_ref().into(),
            vni: self.settings.vni,
            port: self.settings.port,
            mac: self.mac,
            local: underlay.address.ip(),
            underlay: underlay.link,
            mtu,
            addresses: self.device_addresses(ipv4, mtu),
        })
    }

    /// Never more than the link takes: the kernel refuses it.
    pub(super) fn device_mtu(&self, ipv4: bool) -> Option<u32> {
        let most = self.underlay(ipv4)?.mtu.saturating_sub(overhead(ipv4));
        Some(if self.settings.mtu == 0 { most } else { most.min(self.settings.mtu) })
    }

    /// IPv6 needs 1280 bytes: on a narrower device the kernel refuses its addresses.
    fn device_addresses(&self, ipv4: bool, mtu: u32) -> Vec<IpNetwork> {
        let carried = self.pod_cidrs.iter().filter(|cidr| {
            let over = !self.settings.flannel || cidr.is_ipv4() == ipv4;
            over && (cidr.is_ipv4() || mtu >= MTU_MIN_IPV6)
        });
        carried.map(|cidr| IpNetwork::from(cidr.network())).collect()
    }

    /// `heddle.1`, `heddle-v6.1`.
    pub(super) fn device_name(&self, ipv4: bool) -> &Arc<str> {
        let [over_ipv4, over_ipv6] = &self.device_names;
        if ipv4 { over_ipv4 } else { over_ipv6 }
    }
}

/// Of the headers of a tunnel, by the family of the underlay.
pub(super) fn overhead(ipv4: bool) -> u32 {
    if ipv4 { OVERHEAD_IPV4 } else { OVERHEAD_IPV6 }
}
