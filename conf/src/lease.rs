//! The node's lease: which addresses its pods have, and how they reach the others'.
//!
//! It is a file of a few lines, for people to write and for shells to read. `heddle-agent` writes it, the plugin `overlay` reads it; the
//! file of flannel (`/run/flannel/subnet.env`), the same with another prefix, is read as well.
//!
//! ```text
//! HEDDLE_NETWORK=10.244.0.0/16
//! HEDDLE_SUBNET=10.244.1.1/24
//! HEDDLE_IPV6_NETWORK=fd00:244::/48
//! HEDDLE_IPV6_SUBNET=fd00:244:0:1::1/64
//! HEDDLE_MTU=1450
//! HEDDLE_IPMASQ=true
//! ```
//!
//! One family is enough. Comments, quotes and `export` are as in a shell; nothing is expanded. Other variables are left alone.

mod file;
mod line;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;

use self::line::Assignment;
use crate::error::Mistake;

/// Where the agent writes it.
pub const LEASE_FILE: &str = "/run/heddle/subnet.env";
/// Where flannel writes its own.
pub const FLANNEL_LEASE_FILE: &str = "/run/flannel/subnet.env";

/// The prefixes of the keys. If a file has keys with the first, those with the second are not looked at.
const PREFIXES: [&str; 2] = ["HEDDLE_", "FLANNEL_"];
const KEYS: [&str; 6] = ["NETWORK", "SUBNET", "IPV6_NETWORK", "IPV6_SUBNET", "MTU", "IPMASQ"];

/// The least MTU of IPv4 (RFC 791) and of IPv6 (RFC 8200); below the latter the kernel turns IPv6 off.
const LEAST_MTU: u32 = 68;
const LEAST_MTU_V6: u32 = 1280;
/// What an IP header's length field can say.
const MOST_MTU: u32 = 65535;

/// A checked lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    networks: Vec<IpNetwork>,
    subnets: Vec<IpNetwork>,
    mtu: u32,
    masquerade: bool,
}

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Nobody has written the file yet.
    #[error("{} does not exist: this node has no lease yet", .0.display())]
    Missing(PathBuf),
    /// The file system refused.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// `read` or `write`.
        operation: &'static str,
        /// The file or its folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is written is no lease. Each mistake has its line (`FILE:LINE`, without a file `line N`), or none if a key is missing.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Mistakes(Vec<Mistake>),
}

impl Lease {
    /// Checks and makes one.
    ///
    /// `networks`: the ranges of all pods, one or more of each family that is used. `subnets`: this node's part, one of each family: its
    /// pod CIDR, or the gateway's address in it with the same prefix length (the first address if none is given). `mtu`: of the pods'
    /// interfaces, in bytes. `masquerade`: the agent masquerades what leaves the network, so nobody else must.
    ///
    /// ```
    /// # use conf::lease::Lease;
    /// let lease = Lease::new(["10.244.0.0/16".parse()?], ["10.244.1.0/24".parse()?], 1450, true)?;
    /// assert_eq!(lease.subnets()[0].to_string(), "10.244.1.1/24");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(
        networks: impl IntoIterator<Item = IpNetwork>,
        subnets: impl IntoIterator<Item = IpNetwork>,
        mtu: u32,
        masquerade: bool,
    ) -> Result<Self, LeaseError> {
        let places = Places::unwritten();
        let networks = networks.into_iter().collect();
        let subnets = subnets.into_iter().collect();
        let raw = Raw { networks, subnets, mtu: Some(mtu), masquerade: Some(masquerade) };
        raw.check(&places, Vec::new())
    }

    /// Reads a file's text. All mistakes are told at once, each with its line.
    pub fn parse(text: &str) -> Result<Self, LeaseError> {
        Self::parse_named(text, "line ")
    }

    fn parse_named(text: &str, place: &str) -> Result<Self, LeaseError> {
        let mut mistakes = Vec::new();
        let lines: Vec<_> = line::assignments(text).collect();
        let has = |prefix: &&str| lines.iter().any(|(_, line)| line.name.starts_with(*prefix));
        let prefix = PREFIXES.into_iter().find(has).unwrap_or(PREFIXES[0]);
        let mut places = Places { prefix, place, lines: Vec::new() };
        let mut raw = Raw::default();
        for (number, line) in lines {
            let Some(key) = line.name.strip_prefix(prefix) else { continue };
            if let Err(reason) = raw.take(key, &line, &mut places, number) {
                let place = places.at(number);
                mistakes.push(Mistake { place, reason: format!("{}: {reason}", line.name) });
            }
        }
        raw.check(&places, mistakes)
    }

    /// The ranges of all pods, IPv4 before IPv6.
    pub fn networks(&self) -> &[IpNetwork] {
        &self.networks
    }

    /// This node's part of them, at most one of each family, IPv4 before IPv6: the gateway's address, with the prefix length of the
    /// pod CIDR.
    pub fn subnets(&self) -> &[IpNetwork] {
        &self.subnets
    }

    /// The MTU of the pods' interfaces, in bytes.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Whether the agent masquerades what leaves the network. If so, the plugin must not.
    pub fn masquerade(&self) -> bool {
        self.masquerade
    }

    /// The file's text.
    pub fn render(&self) -> String {
        let mut text =
            "# This node's addresses for pods; what reads it: the CNI plugin overlay.\n".to_owned();
        let mut say = |key: &str, value: String| {
            if !value.is_empty() {
                text.push_str(&format!("{}{key}={value}\n", PREFIXES[0]));
            }
        };
        let of = |list: &[IpNetwork], v4: bool| {
            let family = list.iter().filter(|net| net.is_ipv4() == v4);
            family.map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        say("NETWORK", of(&self.networks, true));
        say("SUBNET", of(&self.subnets, true));
        say("IPV6_NETWORK", of(&self.networks, false));
        say("IPV6_SUBNET", of(&self.subnets, false));
        say("MTU", self.mtu.to_string());
        say("IPMASQ", self.masquerade.to_string());
        text
    }
}

impl fmt::Display for Lease {
    /// On one line, for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |nets: &[IpNetwork]| {
            nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let who = if self.masquerade { "masqueraded by the agent" } else { "not masqueraded" };
        write!(f, "{} of {}, MTU {}, {who}", list(&self.subnets), list(&self.networks), self.mtu)
    }
}

/// What is written, each value by itself right.
#[derive(Default)]
struct Raw {
    networks: Vec<IpNetwork>,
    subnets: Vec<IpNetwork>,
    mtu: Option<u32>,
    masquerade: Option<bool>,
}

/// Where which key is.
struct Places<'a> {
    prefix: &'a str,
    /// What comes before a line's number.
    place: &'a str,
    lines: Vec<(&'static str, usize)>,
}

impl Places<'_> {
    /// For a lease that comes from no file.
    fn unwritten() -> Self {
        Self { prefix: PREFIXES[0], place: "", lines: Vec::new() }
    }

    fn at(&self, line: usize) -> String {
        format!("{}{line}", self.place)
    }

    /// A mistake in the value of a key, or about one that is missing.
    fn mistake(&self, key: &str, reason: impl fmt::Display) -> Mistake {
        let name = format!("{}{key}", self.prefix);
        match self.lines.iter().find(|(known, _)| *known == key) {
            Some((_, line)) => {
                Mistake { place: self.at(*line), reason: format!("{name}: {reason}") }
            }
            None => Mistake { place: name, reason: reason.to_string() },
        }
    }
}

impl Raw {
    fn take(
        &mut self,
        key: &str,
        line: &Assignment<'_>,
        places: &mut Places<'_>,
        number: usize,
    ) -> Result<(), String> {
        let Some(key) = KEYS.into_iter().find(|known| *known == key) else {
            // flannel's next version may say more; in our own file it is a mistyped key
            let ours = places.prefix == PREFIXES[0];
            let known = || KEYS.map(|key| format!("{}{key}", PREFIXES[0])).join(", ");
            return if ours {
                Err(format!("no such key; the keys are: {}", known()))
            } else {
                Ok(())
            };
        };
        if let Some((_, first)) = places.lines.iter().find(|(known, _)| *known == key) {
            return Err(format!("is there twice, first in line {first}; leave one"));
        }
        places.lines.push((key, number));
        let value = line.value.as_deref().map_err(|reason| (*reason).to_owned())?;
        match key {
            "NETWORK" => self.networks.extend(ranges(value, true)?),
            "IPV6_NETWORK" => self.networks.extend(ranges(value, false)?),
            "SUBNET" => self.subnets.push(range(value, true)?),
            "IPV6_SUBNET" => self.subnets.push(range(value, false)?),
            "MTU" => self.mtu = Some(number_of(value)?),
            _ => self.masquerade = Some(flag(value)?),
        }
        Ok(())
    }

    fn check(
        mut self,
        places: &Places<'_>,
        mut mistakes: Vec<Mistake>,
    ) -> Result<Lease, LeaseError> {
        self.networks = self.networks.into_iter().map(masked).collect();
        self.networks.sort_by_key(IpNetwork::is_ipv6);
        self.subnets = self.subnets.into_iter().map(gateway_form).collect();
        self.subnets.sort_by_key(IpNetwork::is_ipv6);
        for v4 in [true, false] {
            self.check_family(v4, places, &mut mistakes);
        }
        if self.networks.is_empty() && self.subnets.is_empty() && mistakes.is_empty() {
            let reason = "is missing, and so is that of IPv6; write the range of all pods, such as 10.244.0.0/16";
            mistakes.push(places.mistake("NETWORK", reason));
        }
        self.check_mtu(places, &mut mistakes);
        if self.masquerade.is_none() && !is_told(places, "IPMASQ") {
            let reason = "is missing; write true if somebody else masquerades what leaves the pods' network, or false";
            mistakes.push(places.mistake("IPMASQ", reason));
        }
        match (self.mtu, self.masquerade) {
            (Some(mtu), Some(masquerade)) if mistakes.is_empty() => {
                Ok(Lease { networks: self.networks, subnets: self.subnets, mtu, masquerade })
            }
            _ => Err(LeaseError::Mistakes(mistakes)),
        }
    }

    fn check_family(&self, v4: bool, places: &Places<'_>, mistakes: &mut Vec<Mistake>) {
        let [network_key, subnet_key] =
            if v4 { ["NETWORK", "SUBNET"] } else { ["IPV6_NETWORK", "IPV6_SUBNET"] };
        let of = |list: &[IpNetwork]| -> Vec<IpNetwork> {
            list.iter().copied().filter(|net| net.is_ipv4() == v4).collect()
        };
        let (networks, subnets) = (of(&self.networks), of(&self.subnets));
        for network in &networks {
            mistakes.extend(unusable(*network).map(|why| places.mistake(network_key, why)));
        }
        match (networks.as_slice(), subnets.as_slice()) {
            // a value that could not be read has been told already
            ([], [_, ..]) if !is_told(places, network_key) => mistakes.push(places.mistake(
                network_key,
                "is missing; write the range of all pods, of which the subnet is this node's part",
            )),
            ([_, ..], []) if !is_told(places, subnet_key) => mistakes.push(places.mistake(
                subnet_key,
                "is missing; write this node's part of the network, such as 10.244.1.1/24",
            )),
            ([], _) | (_, []) => {}
            (networks, [subnet]) => {
                let wrong = misplaced(*subnet, networks);
                mistakes.extend(wrong.map(|why| places.mistake(subnet_key, why)));
            }
            (_, more) => {
                let why = format!("{} subnets of one family; a node has one", more.len());
                mistakes.push(places.mistake(subnet_key, why));
            }
        }
    }

    fn check_mtu(&self, places: &Places<'_>, mistakes: &mut Vec<Mistake>) {
        let v6 = self.subnets.iter().any(IpNetwork::is_ipv6);
        let least = if v6 { LEAST_MTU_V6 } else { LEAST_MTU };
        match self.mtu {
            None if is_told(places, "MTU") => {}
            None => mistakes.push(places.mistake(
                "MTU",
                "is missing; write the underlay's MTU less what the tunnel adds (VXLAN over IPv4: 50, over IPv6: 70)",
            )),
            Some(mtu) if mtu > MOST_MTU || mtu < least => {
                let family = if v6 { "with IPv6" } else { "for IPv4" };
                let why = format!("{mtu} is not between {least} and {MOST_MTU}, as an MTU {family} is");
                mistakes.push(places.mistake("MTU", why));
            }
            Some(_) => {}
        }
    }
}

/// The key is in the file: if its value is missing here, that mistake is known.
fn is_told(places: &Places<'_>, key: &str) -> bool {
    places.lines.iter().any(|(known, _)| *known == key)
}

fn masked(net: IpNetwork) -> IpNetwork {
    IpNetwork::new(net.network(), net.prefix()).unwrap_or(net)
}

/// A range's first address stands for the gateway if the range itself is written.
fn gateway_form(net: IpNetwork) -> IpNetwork {
    if net.ip() != net.network() || leaves_no_room(net) {
        return net;
    }
    let first = match net.network() {
        IpAddr::V4(ip) => IpAddr::from(std::net::Ipv4Addr::from(u32::from(ip) | 1)),
        IpAddr::V6(ip) => IpAddr::from(std::net::Ipv6Addr::from(u128::from(ip) | 1)),
    };
    IpNetwork::new(first, net.prefix()).unwrap_or(net)
}

/// Network, gateway, one pod and, with IPv4, broadcast.
fn leaves_no_room(net: IpNetwork) -> bool {
    net.prefix() > if net.is_ipv4() { 30 } else { 126 }
}

/// Why no pod can have an address of a range.
fn unusable(net: IpNetwork) -> Option<String> {
    let ip = net.network();
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let why = if net.prefix() == 0 {
        "is everything"
    } else if ip.is_unspecified() {
        "holds the unspecified address"
    } else if ip.is_loopback() {
        "is the loopback's"
    } else if ip.is_multicast() {
        "is for multicast"
    } else if link_local {
        "is for links, it is not routed"
    } else {
        return None;
    };
    Some(format!(
        "{net} {why}; write a range that is pods' alone, such as 10.244.0.0/16 or fd00:244::/48"
    ))
}

fn misplaced(subnet: IpNetwork, networks: &[IpNetwork]) -> Option<String> {
    if leaves_no_room(subnet) {
        return Some(format!(
            "{subnet} has no room for pods; take at most /{}",
            if subnet.is_ipv4() { 30 } else { 126 }
        ));
    }
    if matches!(subnet, IpNetwork::V4(net) if net.ip() == net.broadcast()) {
        return Some(format!("{subnet}: the broadcast address cannot be the gateway's"));
    }
    let inside =
        |net: &&IpNetwork| net.prefix() <= subnet.prefix() && net.contains(subnet.network());
    if networks.iter().find(inside).is_some() {
        return None;
    }
    let all = networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Some(format!("{subnet} is not inside the pods' network {all}"))
}

fn ranges(value: &str, v4: bool) -> Result<Vec<IpNetwork>, String> {
    value.split(',').map(|part| range(part.trim(), v4)).collect()
}

fn range(text: &str, v4: bool) -> Result<IpNetwork, String> {
    let example = if v4 { "10.244.1.1/24" } else { "fd00:244:0:1::1/64" };
    // without a prefix it would be one address
    let parsed = text.parse::<IpNetwork>().ok().filter(|_| text.contains('/'));
    match parsed {
        Some(net) if net.is_ipv4() == v4 => Ok(net),
        Some(_) => {
            let family = if v4 { "IPv4" } else { "IPv6" };
            Err(format!("{text} is not of {family}; write an address such as {example}"))
        }
        None => Err(format!("{text:?} is no address with a prefix length, such as {example}")),
    }
}

fn number_of(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number of bytes, such as 1450"))
}

fn flag(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("{text:?} is neither true nor false"))
}

#[cfg(test)]
mod tests;
