//! What kube-proxy's IPVS mode leaves, removed with take-over once our rules are in force: its chains, and the interface that made every
//! cluster address one of this host. Its virtual servers are told, not removed: that needs `ipvsadm`, and where somebody else balances
//! with IPVS they may not be kube-proxy's.

use netns_tools::iptables::{Family, Iptables};
use netns_tools::netlink::{Netlink, NetlinkError};

use super::Predecessor;
use crate::proxy::backend::BackendError;
use crate::proxy::iptables::{IPVS_CHAINS, IptablesBackend};

/// The interface that holds the addresses of services, and its kind.
const INTERFACE: &str = "kube-ipvs0";
const KIND: &str = "dummy";
/// The virtual servers of the calling thread's network namespace.
const SERVERS: &str = "/proc/thread-self/net/ip_vs";

/// The chains of one family.
pub struct IpvsChains {
    pub family: Family,
}

impl Predecessor for IpvsChains {
    fn name(&self) -> &'static str {
        "the chains of kube-proxy's IPVS mode"
    }

    fn remove(&mut self) -> Result<(), BackendError> {
        for variant in Iptables::holders(self.family, &IPVS_CHAINS) {
            IptablesBackend::of(variant).remove_ipvs()?;
        }
        Ok(())
    }
}

/// The interface and the virtual servers. Of both families, and looked at with IPv4.
pub struct IpvsServers {
    pub family: Family,
}

impl Predecessor for IpvsServers {
    fn name(&self) -> &'static str {
        "the virtual servers of kube-proxy's IPVS mode"
    }

    fn remove(&mut self) -> Result<(), BackendError> {
        if self.family == Family::V6 {
            return Ok(());
        }
        let problem = |error: NetlinkError| {
            BackendError::Host(format!("{INTERFACE}: {}", netns_tools::cause::one_line(&error)))
        };
        remove_interface(KIND).map_err(problem)?;
        // a kernel without IPVS has no such file, and nothing to tell
        match virtual_servers(&std::fs::read_to_string(SERVERS).unwrap_or_default()) {
            0 => Ok(()),
            count => Err(BackendError::Host(format!(
                "IPVS still has {count} virtual servers, which may answer for services in our rules' place; if they are kube-proxy's: \
                 `ipvsadm --clear`, and `ipset destroy` for the sets KUBE-*"
            ))),
        }
    }
}

/// An interface of that name that is of another kind is nobody's that we know.
fn remove_interface(kind: &str) -> Result<(), NetlinkError> {
    let mut netlink = Netlink::open()?;
    match netlink.link(INTERFACE)? {
        Some(link) if link.kind.as_deref() == Some(kind) => {
            tracing::info!(
                interface = INTERFACE,
                "removing the interface of kube-proxy's IPVS mode"
            );
            netlink.delete_link(link.index)
        }
        _ => Ok(()),
    }
}

/// How many the kernel lists.
fn virtual_servers(list: &str) -> usize {
    let is_server =
        |line: &&str| ["TCP ", "UDP ", "SCTP ", "FWM "].iter().any(|kind| line.starts_with(kind));
    list.lines().filter(is_server).count()
}

#[cfg(test)]
mod tests {
    use netns_tools::testing::TestNetns;

    use super::*;

    #[test]
    fn virtual_servers_are_counted() {
        let head = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward \
                    Weight ActiveConn InActConn\n";
        assert_eq!((virtual_servers(""), virtual_servers(head)), (0, 0));
        let two = format!(
            "{head}TCP  0A600001:01BB rr\n  -> C0A80001:192B      Masq    1      0          0\nUDP  0A60000A:0035 rr\n"
        );
        assert_eq!(virtual_servers(&two), 2);
    }

    /// A bridge stands for the dummy interface, which not every kernel has.
    #[test]
    fn the_interface_goes_if_it_is_of_its_kind() {
        let ns = TestNetns::new("ipvs");
        let is_there = || ns.netlink().link(INTERFACE).unwrap().is_some();
        let remove = |family| ns.run(|| IpvsServers { family }.remove().unwrap());
        remove(Family::V4);
        ns.cmd(&["ip", "link", "add", INTERFACE, "type", "bridge"]);
        remove(Family::V4);
        remove(Family::V6);
        assert!(is_there(), "it is none of kube-proxy's");
        ns.run(|| remove_interface("bridge").unwrap());
        assert!(!is_there());
        ns.run(|| remove_interface("bridge").unwrap());
    }
}
