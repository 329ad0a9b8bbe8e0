//! What the overlay takes of a Node object, and what nodes announce to each other.

use std::net::IpAddr;
use std::sync::Arc;

use conf::dns;
use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::Node;
use netns_tools::MacAddr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::annotation;

/// Of one Node so many mistakes are told: whoever may edit it may write a megabyte of them, and each is kept and shown.
const MISTAKES: usize = 8;
/// Of one Node so many `InternalIP`s count.
const ADDRESSES: usize = 32;

/// How packets travel to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// Something else routes them, such as a cloud's own tables.
    None,
    /// In UDP (RFC 7348).
    Vxlan,
    /// As they are, where both nodes are on one link.
    HostGw,
    /// As they are on one link, in UDP elsewhere.
    Auto,
}

impl Backend {
    /// Whether it may send in UDP.
    pub fn tunnels(self) -> bool {
        matches!(self, Self::Vxlan | Self::Auto)
    }

    /// Whether it may send by the other node as the gateway.
    pub fn routes(self) -> bool {
        matches!(self, Self::HostGw | Self::Auto)
    }
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Vxlan => "vxlan",
            Self::HostGw => "host-gw",
            Self::Auto => "auto",
        })
    }
}

/// What a node says of its end of a tunnel, by the family of the underlay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vtep {
    /// Where its packets are sent to.
    pub address: IpAddr,
    /// The Ethernet address of its VXLAN device.
    pub mac: MacAddr,
}

/// What a node announces in the annotations of its Node object. As JSON it is the annotation; keys that are not known are
/// skipped, because newer versions write them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Announcement {
    /// How it sends, and expects to be sent to.
    pub backend: Backend,
    /// The VXLAN network identifier. Nodes of another one cannot be reached by VXLAN.
    #[serde(default = "default_vni")]
    pub vni: u32,
    /// The UDP port of its VXLAN device; `None`: as ours (flannel does not announce it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Its ends of tunnels: at most one for each family of the underlay, IPv4 first. With [`Backend::HostGw`] there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vteps: Vec<Vtep>,
    /// Its addresses on the underlay, at most one of each family, IPv4 first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// The networks of those addresses, so that both ends know whether both see the other on their link; empty: not told
    /// (flannel does not).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<IpNetwork>,
    /// The UDP port where it answers probes; `None`: it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_port: Option<u16>,
}

fn default_vni() -> u32 {
    1
}

impl Default for Announcement {
    fn default() -> Self {
        Self {
            backend: Backend::None,
            vni: default_vni(),
            port: None,
            vteps: Vec::new(),
            addresses: Vec::new(),
            networks: Vec::new(),
            probe_port: None,
        }
    }
}

/// A node as the overlay knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeRecord {
    /// Its name, shared by all that is kept of the node.
    #[serde(serialize_with = "write_shared", deserialize_with = "read_shared")]
    pub name: Arc<str>,
    /// `metadata.creationTimestamp` in seconds since 1970: of two that claim one range the older keeps it.
    pub created: Option<i64>,
    /// `spec.podCIDRs`: at most one of each family, without host bits.
    pub pod_cidrs: Vec<IpNetwork>,
    /// `status.addresses` of type `InternalIP`.
    pub internal_ips: Vec<IpAddr>,
    /// What it announces; `None`: nothing yet, or something that is wrong.
    pub announced: Option<Announcement>,
    /// What of the object cannot be used, for its owner to read.
    pub mistakes: Vec<String>,
}

/// A Node object that is not even a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// Without a name nothing can be said about it.
    #[error("a Node object has no metadata.name; give it one")]
    NoName,
    /// It stands in logs and answers: with a line break in it, it could forge some.
    #[error(
        "metadata.name: {0} is no name of a Node; give one of small letters, digits, dashes and dots, as its kubelet has it"
    )]
    Name(String),
}

impl NodeRecord {
    /// Of a Node object. With `flannel`, flannel's annotations count where ours are missing. What is wrong in it is told in
    /// [`Self::mistakes`]: such a node stays known, so that its pod CIDR cannot be taken meanwhile.
    pub fn read(node: &Node, flannel: bool) -> Result<Self, NodeError> {
        let metadata = &node.metadata;
        let name =
            metadata.name.as_deref().filter(|name| !name.is_empty()).ok_or(NodeError::NoName)?;
        if !dns::is_subdomain(name) {
            return Err(NodeError::Name(annotation::quote(name)));
        }
        let mut record = Self {
            name: name.into(),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0.as_second()),
            ..Self::default()
        };
        record.read_pod_cidrs(node);
        record.read_addresses(node);
        let empty = std::collections::BTreeMap::new();
        match annotation::read(metadata.annotations.as_ref().unwrap_or(&empty), flannel) {
            Ok(announced) => record.announced = announced,
            Err(mistake) => record.mistake(mistake.to_string()),
        }
        Ok(record)
    }

    fn mistake(&mut self, mistake: String) {
        match self.mistakes.len() {
            ..MISTAKES => self.mistakes.push(mistake),
            MISTAKES => self.mistakes.push("and more".to_owned()),
            _ => {}
        }
    }

    fn read_pod_cidrs(&mut self, node: &Node) {
        let Some(spec) = &node.spec else { return };
        let single = spec.pod_cidr.as_slice();
        let texts = spec.pod_cidrs.as_deref().filter(|list| !list.is_empty()).unwrap_or(single);
        for text in texts.iter().filter(|text| !text.is_empty()) {
            match pod_cidr(text, &self.pod_cidrs) {
                Ok(cidr) => self.pod_cidrs.push(cidr),
                Err(reason) => self.mistake(format!("spec.podCIDRs: {reason}")),
            }
        }
    }

    fn read_addresses(&mut self, node: &Node) {
        let listed = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        for address in listed.filter(|address| address.type_ == "InternalIP") {
            match address.address.parse() {
                Ok(ip) if self.internal_ips.len() < ADDRESSES => self.internal_ips.push(ip),
                Ok(_) => {}
                Err(_) => self.mistake(format!(
                    "status.addresses: InternalIP {} is not an IP address",
                    annotation::quote(&address.address)
                )),
            }
        }
    }

    /// Without room for more in its lists: there are thousands of records, and they hardly change.
    #[must_use]
    pub fn compact(mut self) -> Self {
        self.pod_cidrs.shrink_to_fit();
        self.internal_ips.shrink_to_fit();
        self.mistakes.shrink_to_fit();
        if let Some(announced) = &mut self.announced {
            announced.vteps.shrink_to_fit();
            announced.addresses.shrink_to_fit();
            announced.networks.shrink_to_fit();
        }
        self
    }

    /// For clusters without annotations (Node manifests): a node that announces nothing is taken to be set up as this one is,
    /// at its `InternalIP`s and with the Ethernet address that its name gives.
    pub fn assume_like(&mut self, ours: &Announcement) {
        if self.announced.is_some() {
            return;
        }
        let of = |ipv4: bool| {
            let usable =
                |ip: &&IpAddr| ip.is_ipv4() == ipv4 && annotation::check_address(**ip).is_ok();
            self.internal_ips.iter().find(usable).copied()
        };
        let addresses: Vec<_> = [of(true), of(false)].into_iter().flatten().collect();
        let mac = derived_mac(&self.name);
        let vtep = |address: &IpAddr| Vtep { address: *address, mac };
        let vteps =
            if ours.backend.tunnels() { addresses.iter().map(vtep).collect() } else { Vec::new() };
        self.announced =
            Some(Announcement { vteps, addresses, networks: Vec::new(), ..ours.clone() });
    }
}

/// As text: that two share one is nothing that a file could say.
fn write_shared<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

fn read_shared<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
    String::deserialize(deserializer).map(Into::into)
}

/// The Ethernet address of a node's VXLAN devices where none was chosen before: a locally administered one (IEEE 802) by its name,
/// so that every node computes the same.
pub fn derived_mac(name: &str) -> MacAddr {
    let digest = Sha256::digest(name.as_bytes());
    MacAddr([0x02, digest[0], digest[1], digest[2], digest[3], digest[4]])
}

/// Ranges that pods cannot have: what is sent there never leaves the host, or goes to many.
const SPECIAL: [&str; 7] =
    ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/96", "fe80::/10", "ff00::/8"];

fn pod_cidr(text: &str, before: &[IpNetwork]) -> Result<IpNetwork, String> {
    let quoted = annotation::quote(text);
    // an address alone would be read as a network of one host
    let parsed = text.contains('/').then(|| text.parse::<IpNetwork>().ok()).flatten();
    let Some(given) = parsed else {
        return Err(format!("{quoted} is not a network such as 10.244.1.0/24"));
    };
    let cidr =
        IpNetwork::new(given.network(), given.prefix()).map_err(|e| format!("{quoted}: {e}"))?;
    let special =
        SPECIAL.iter().find(|special| special.parse().is_ok_and(|special| overlaps(cidr, special)));
    if let Some(special) = special {
        return Err(format!("{quoted} cannot be pods', because {special} has another meaning"));
    }
    if before.iter().any(|other| other.is_ipv4() == cidr.is_ipv4()) {
        return Err(format!("{quoted} is the second of its family; only the first is used"));
    }
    Ok(cidr)
}

/// Whether two networks have an address in common.
pub fn overlaps(one: IpNetwork, other: IpNetwork) -> bool {
    let wider = if one.prefix() <= other.prefix() { one } else { other };
    let narrower = if one.prefix() <= other.prefix() { other } else { one };
    wider.contains(narrower.network())
}

#[cfg(test)]
mod tests;
