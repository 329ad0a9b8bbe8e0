//! Names of chains, derived as kube-proxy derives them: anybody who knows a service knows its chains.

use std::net::SocketAddr;

use data_encoding::BASE32;
use sha2::{Digest, Sha256};

use super::pods::Protocol;

/// The chains that every node has, of table `nat`.
pub const NAT_CHAINS: [&str; 4] =
    ["KUBE-MARK-MASQ", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-SERVICES"];
/// The chains that every node has, of table `filter`.
pub const FILTER_CHAINS: [&str; 4] =
    ["KUBE-EXTERNAL-SERVICES", "KUBE-FIREWALL", "KUBE-FORWARD", "KUBE-SERVICES"];
/// What the names of the chains of one service or endpoint begin with, older kinds included.
pub const OWN_PREFIXES: [&str; 6] =
    ["KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-EXT-", "KUBE-FW-", "KUBE-XLB-"];

/// The first 16 characters of the base32 of a SHA-256.
fn hash(text: &str) -> String {
    let mut encoded = BASE32.encode(&Sha256::digest(text));
    encoded.truncate(16);
    encoded
}

/// The chain that distributes a service port over its endpoints.
pub fn service(name: &str, protocol: Protocol) -> String {
    format!("KUBE-SVC-{}", hash(&format!("{name}{protocol}")))
}

/// The chain for traffic that comes from outside.
pub fn external(name: &str, protocol: Protocol) -> String {
    format!("KUBE-EXT-{}", hash(&format!("{name}{protocol}")))
}

/// The chain of one endpoint of a service port.
pub fn endpoint(name: &str, protocol: Protocol, endpoint: SocketAddr) -> String {
    format!("KUBE-SEP-{}", hash(&format!("{name}{protocol}{endpoint}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kube_proxys() {
        // recorded from kube-proxy 1.36
        assert_eq!(service("default/np:p80", Protocol::Tcp), "KUBE-SVC-N43N6SSSRGXXTFWH");
        assert_eq!(service("default/cip:p53", Protocol::Udp), "KUBE-SVC-2VXC56GCHAQRCVVD");
        assert_eq!(external("default/np:p80", Protocol::Tcp), "KUBE-EXT-N43N6SSSRGXXTFWH");
        let at = "10.244.1.2:8080".parse().unwrap();
        assert_eq!(endpoint("default/np:p80", Protocol::Tcp, at), "KUBE-SEP-VGOZ673CEGMWDNDY");
    }
}
