//! Names of chains, derived as kube-proxy derives them: anybody who knows a service knows its chains.

use std::net::SocketAddr;

use data_encoding::BASE32;
use sha2::{Digest, Sha256};

use crate::proxy::model::PortId;

/// What the names of the chains of one service or endpoint begin with. `KUBE-XLB-` is of kube-proxy before 1.24.
const OWN_PREFIXES: [&str; 6] =
    ["KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-EXT-", "KUBE-FW-", "KUBE-XLB-"];

/// The names of the chains of one service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortChains {
    /// Leads to the endpoints of the whole cluster.
    pub cluster: String,
    /// Leads to the endpoints of this node.
    pub local: String,
    /// Takes traffic to external addresses and node ports.
    pub external: String,
    /// Lets in the source ranges of a load balancer.
    pub firewall: String,
    /// What the names of the endpoints' chains are derived from, with the endpoint behind it.
    seed: String,
}

impl PortChains {
    /// Those of a port.
    pub fn of(id: &PortId) -> Self {
        let seed = format!("{id}{}", id.protocol);
        let hash = hash(&seed);
        let name = |kind| format!("KUBE-{kind}-{hash}");
        Self {
            cluster: name("SVC"),
            local: name("SVL"),
            external: name("EXT"),
            firewall: name("FW"),
            seed,
        }
    }

    /// The chain of one endpoint of the port.
    pub fn endpoint(&self, endpoint: SocketAddr) -> String {
        format!("KUBE-SEP-{}", hash(&format!("{}{endpoint}", self.seed)))
    }
}

/// Whether a chain of table `nat` is one of a service port or an endpoint.
pub fn is_of_a_port(chain: &str) -> bool {
    OWN_PREFIXES.iter().any(|prefix| chain.starts_with(prefix))
}

/// The first 16 characters of the base32 of a SHA-256.
fn hash(text: &str) -> String {
    let mut encoded = BASE32.encode(&Sha256::digest(text));
    encoded.truncate(16);
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::model::{Protocol, ServiceName};

    fn chains(service: &str, port: &str, protocol: Protocol) -> PortChains {
        let service = ServiceName::new("default", service);
        PortChains::of(&PortId { service, port: port.into(), protocol })
    }

    #[test]
    fn names_are_kube_proxys() {
        // recorded from kube-proxy 1.36
        let np = chains("np", "p80", Protocol::Tcp);
        assert_eq!(np.cluster, "KUBE-SVC-N43N6SSSRGXXTFWH");
        assert_eq!(np.external, "KUBE-EXT-N43N6SSSRGXXTFWH");
        assert_eq!(np.endpoint("10.244.1.2:8080".parse().unwrap()), "KUBE-SEP-VGOZ673CEGMWDNDY");
        assert_eq!(chains("cip", "p53", Protocol::Udp).cluster, "KUBE-SVC-2VXC56GCHAQRCVVD");
        let lb = chains("lb", "p80", Protocol::Tcp);
        assert_eq!(lb.local, "KUBE-SVL-ULFSZB4ZNLMYB6HN");
        assert_eq!(lb.firewall, "KUBE-FW-ULFSZB4ZNLMYB6HN");
    }

    #[test]
    fn chains_of_ports_are_known_by_their_names() {
        for chain in ["KUBE-SVC-A", "KUBE-XLB-A", "KUBE-FW-A"] {
            assert!(is_of_a_port(chain), "{chain}");
        }
        for chain in ["KUBE-SERVICES", "KUBE-FIREWALL", "KUBE-KUBELET-CANARY", "CNI-A"] {
            assert!(!is_of_a_port(chain), "{chain}");
        }
    }
}
