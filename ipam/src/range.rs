//! Address ranges: what a configuration may say, and the canonical form that allocation works on.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer};
use thiserror::Error;

/// One range as it is written in a configuration: text that nobody has checked yet.
///
/// Keys and meaning are those of the reference `host-local` plugin; an empty string and `null` mean "not set".
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RangeConf {
    /// The subnet in CIDR notation, without host bits; its prefix length goes into results.
    #[serde(deserialize_with = "text_or_null")]
    pub subnet: String,
    /// First address to hand out; default: the first address of the subnet.
    #[serde(deserialize_with = "text_or_null")]
    pub range_start: String,
    /// Last address to hand out; default: the last one (IPv4: before the broadcast address).
    #[serde(deserialize_with = "text_or_null")]
    pub range_end: String,
    /// Never handed out; default: the first address of the subnet.
    #[serde(deserialize_with = "text_or_null")]
    pub gateway: String,
}

fn text_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A checked range of addresses: `start` to `end`, both included, within `subnet`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    subnet: IpNetwork,
    start: IpAddr,
    end: IpAddr,
    gateway: IpAddr,
}

/// What is wrong with a range, a set of ranges or a list of sets.
///
/// Wording follows the reference plugin where it has a message for the case.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RangeError {
    /// A key holds text that is not an address or a subnet.
    #[error("{key} {value:?} is not {expected}")]
    Syntax {
        /// The configuration key.
        key: &'static str,
        /// Its text.
        value: String,
        /// What the key takes.
        expected: &'static str,
    },
    /// A range without a subnet.
    #[error("subnet is missing: give it in CIDR notation, such as \"10.244.0.0/24\"")]
    MissingSubnet,
    /// /31, /32, /127 and /128 have no room beside network, broadcast and gateway addresses.
    #[error("Network {0} too small to allocate from")]
    TooSmall(IpNetwork),
    /// The subnet is not a network address.
    #[error(
        "Network has host bits set. For a subnet mask of length {prefix} the network address is {network}"
    )]
    HostBits {
        /// Length of the mask in bits.
        prefix: u8,
        /// What the subnet should have been.
        network: IpAddr,
    },
    /// `rangeStart` lies outside of the subnet.
    #[error("RangeStart {0} not in network {1}")]
    StartOutside(IpAddr, IpNetwork),
    /// `rangeEnd` lies outside of the subnet.
    #[error("RangeEnd {0} not in network {1}")]
    EndOutside(IpAddr, IpNetwork),
    /// Both ends lie in the subnet, but the start is after the end.
    #[error("RangeStart {start} not in network {subnet}: it is after RangeEnd {end}")]
    StartAfterEnd {
        /// The configured start.
        start: IpAddr,
        /// The configured end.
        end: IpAddr,
        /// The subnet of both.
        subnet: IpNetwork,
    },
    /// The gateway of an IPv4 subnet is an IPv6 address or the other way round.
    #[error("gateway {0} is not of the address family of network {1}")]
    GatewayFamily(IpAddr, IpNetwork),
    /// A set without ranges.
    #[error("empty range set")]
    EmptySet,
    /// IPv4 and IPv6 ranges in one set, which yields one address.
    #[error("mixed address families")]
    MixedFamilies,
    /// Two ranges of one set share addresses.
    #[error("subnets {0} and {1} overlap")]
    Overlap(String, String),
    /// The configuration has no range.
    #[error("no IP ranges specified")]
    NoSets,
    /// A set is not valid.
    #[error("invalid range set {index}: {cause}")]
    Set {
        /// Position of the set, from 0.
        index: usize,
        /// What is wrong with it. Part of the text (not a `source`), as in the reference's message.
        cause: Box<RangeError>,
    },
    /// Two sets share addresses.
    #[error("range set {0} overlaps with {1}")]
    SetsOverlap(usize, usize),
}

impl Range {
    /// Checks a configured range and fills in the defaults.
    pub fn new(conf: &RangeConf) -> Result<Self, RangeError> {
        let subnet = parse_subnet(&conf.subnet)?;
        let bits = if subnet.is_ipv4() { 32 } else { 128 };
        if subnet.prefix() > bits - 2 {
            return Err(RangeError::TooSmall(subnet));
        }
        if subnet.ip() != subnet.network() {
            let (prefix, network) = (subnet.prefix(), subnet.network());
            return Err(RangeError::HostBits { prefix, network });
        }
        let first = following(subnet.network());
        let gateway = parse_address("gateway", &conf.gateway)?.unwrap_or(first);
        if gateway.is_ipv4() != subnet.is_ipv4() {
            return Err(RangeError::GatewayFamily(gateway, subnet));
        }
        let start = parse_address("rangeStart", &conf.range_start)?.unwrap_or(first);
        if !subnet.contains(start) {
            return Err(RangeError::StartOutside(start, subnet));
        }
        let end = parse_address("rangeEnd", &conf.range_end)?.unwrap_or_else(|| last(subnet));
        if !subnet.contains(end) {
            return Err(RangeError::EndOutside(end, subnet));
        }
        if end < start {
            return Err(RangeError::StartAfterEnd { start, end, subnet });
        }
        Ok(Self { subnet, start, end, gateway })
    }

    /// The subnet that the addresses are in.
    pub fn subnet(&self) -> IpNetwork {
        self.subnet
    }

    /// The gateway, which is never handed out. It may lie outside of the subnet.
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// Whether `address` is between start and end. The gateway may be.
    pub fn contains(&self, address: IpAddr) -> bool {
        // `IpAddr` orders IPv4 before IPv6, so the comparison alone does not exclude the other family.
        address.is_ipv4() == self.start.is_ipv4() && self.start <= address && address <= self.end
    }

    /// How many addresses can be handed out, saturating at `u128::MAX`.
    fn capacity(&self) -> u128 {
        let all = (number(self.end) - number(self.start)).saturating_add(1);
        all - u128::from(self.contains(self.gateway))
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.start) || other.contains(self.start)
    }

    /// Every address to hand out whose number is between `from` and `to`, both included.
    fn span(&self, from: u128, to: u128) -> impl Iterator<Item = IpAddr> + '_ {
        let v4 = self.start.is_ipv4();
        (from..=to).map(move |n| address(n, v4)).filter(|ip| *ip != self.gateway)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

/// Ranges of one address family that do not overlap; an attachment gets one address of each set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSet(Vec<Range>);

impl RangeSet {
    /// Checks the ranges of a set, each alone and against each other.
    pub fn new(confs: &[RangeConf]) -> Result<Self, RangeError> {
        let ranges = confs.iter().map(Range::new).collect::<Result<Vec<_>, _>>()?;
        let first = ranges.first().ok_or(RangeError::EmptySet)?;
        if ranges.iter().any(|range| range.start.is_ipv4() != first.start.is_ipv4()) {
            return Err(RangeError::MixedFamilies);
        }
        for (i, a) in ranges.iter().enumerate() {
            if let Some(b) = ranges[i + 1..].iter().find(|b| a.overlaps(b)) {
                return Err(RangeError::Overlap(a.to_string(), b.to_string()));
            }
        }
        Ok(Self(ranges))
    }

    /// The ranges, in the order of the configuration. Never empty.
    pub fn ranges(&self) -> &[Range] {
        &self.0
    }

    /// Whether this is a set of IPv4 ranges.
    pub fn is_ipv4(&self) -> bool {
        self.0[0].start.is_ipv4()
    }

    /// The range that holds `address`.
    pub fn range_for(&self, address: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(address))
    }

    /// Whether one of the ranges holds `address`.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.range_for(address).is_some()
    }

    /// How many addresses the set can hand out in total, saturating at `u128::MAX`.
    pub fn capacity(&self) -> u128 {
        self.0.iter().map(Range::capacity).fold(0, u128::saturating_add)
    }

    /// Every address that may be handed out, each once, beginning after `last` and wrapping around
    /// over the ranges, so that a freed address is reused as late as possible. Without `last`, or
    /// with one that the set does not hold, it begins at the start.
    pub fn candidates(&self, last: Option<IpAddr>) -> impl Iterator<Item = (IpAddr, &Range)> {
        let found = last.and_then(|ip| self.0.iter().position(|r| r.contains(ip)).map(|i| (i, ip)));
        let (index, split) = match found {
            Some((index, ip)) => (index, Some(number(ip))),
            None => (0, None),
        };
        let turning = &self.0[index];
        let (start, end) = (number(turning.start), number(turning.end));
        // The range that holds `last` is walked in two parts: what follows it now, the rest at the end.
        // An empty part is written as 1..=0.
        let (head, tail) = match split {
            Some(n) if n == end => ((1, 0), (start, end)),
            Some(n) => ((n + 1, end), (start, n)),
            None => ((start, end), (1, 0)),
        };
        let others = self.0[index + 1..].iter().chain(&self.0[..index]);
        let head = turning.span(head.0, head.1).map(move |ip| (ip, turning));
        let tail = turning.span(tail.0, tail.1).map(move |ip| (ip, turning));
        let between =
            others.flat_map(|r| r.span(number(r.start), number(r.end)).map(move |ip| (ip, r)));
        head.chain(between).chain(tail)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().any(|a| other.0.iter().any(|b| a.overlaps(b)))
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            write!(f, "{}{range}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// Checks the sets of a configuration, each alone and against each other.
pub fn range_sets(confs: &[Vec<RangeConf>]) -> Result<Vec<RangeSet>, RangeError> {
    if confs.is_empty() {
        return Err(RangeError::NoSets);
    }
    let mut sets = Vec::with_capacity(confs.len());
    for (index, conf) in confs.iter().enumerate() {
        let set = RangeSet::new(conf)
            .map_err(|cause| RangeError::Set { index, cause: Box::new(cause) })?;
        sets.push(set);
    }
    for (i, a) in sets.iter().enumerate() {
        if let Some(j) = sets[i + 1..].iter().position(|b| a.overlaps(b)) {
            return Err(RangeError::SetsOverlap(i, i + 1 + j));
        }
    }
    Ok(sets)
}

/// Strict CIDR notation: `IpNetwork` also takes a bare address and dotted masks, which would turn
/// a forgotten prefix into a /32.
fn parse_subnet(text: &str) -> Result<IpNetwork, RangeError> {
    if text.is_empty() {
        return Err(RangeError::MissingSubnet);
    }
    let wrong = || RangeError::Syntax {
        key: "subnet",
        value: text.to_owned(),
        expected: "a subnet in CIDR notation, such as \"10.244.0.0/24\"",
    };
    let (ip, prefix) = text.split_once('/').ok_or_else(wrong)?;
    if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let ip = ip.parse::<IpAddr>().map_err(|_| wrong())?;
    let prefix = prefix.parse::<u8>().map_err(|_| wrong())?;
    IpNetwork::new(ip, prefix).map_err(|_| wrong())
}

/// IPv4-mapped IPv6 addresses count as IPv4, as in the reference.
fn parse_address(key: &'static str, text: &str) -> Result<Option<IpAddr>, RangeError> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse::<IpAddr>().map(|ip| ip.to_canonical());
    parsed.map(Some).map_err(|_| RangeError::Syntax {
        key,
        value: text.to_owned(),
        expected: "an IP address",
    })
}

/// The last address of a subnet to hand out by default: IPv4 keeps the broadcast address free.
fn last(subnet: IpNetwork) -> IpAddr {
    match subnet {
        IpNetwork::V4(net) => address(u128::from(u32::from(net.broadcast())) - 1, true),
        IpNetwork::V6(net) => IpAddr::V6(net.broadcast()),
    }
}

fn following(ip: IpAddr) -> IpAddr {
    // The network address of a subnet with at least two host bits is never the highest address.
    address(number(ip) + 1, ip.is_ipv4())
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

fn address(number: u128, v4: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(small) if v4 => IpAddr::V4(Ipv4Addr::from(small)),
        _ => IpAddr::V6(Ipv6Addr::from(number)),
    }
}
