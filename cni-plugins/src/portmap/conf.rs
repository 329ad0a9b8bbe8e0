//! What a configuration may say to `portmap`.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use cni::plugin::Call;
use cni::{CniResult, Error, ErrorCode, PluginConf};
use ipnetwork::IpNetwork;
use netns_tools::iptables::{Family, Iptables};
use netns_tools::nftables as nft;
use serde::Deserialize;

use super::{condition, nftables};
use crate::rules;

/// The bit of a packet's mark that says: masquerade it. Kubernetes uses 14 and 15, Calico 20 to 31.
const DEFAULT_MARK_BIT: i64 = 13;
/// What the kernel takes for a chain's name, less the final zero byte.
const MAX_CHAIN: usize = 28;

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conf {
    /// The mappings, in the order in which they are given.
    pub mappings: Vec<Mapping>,
    /// The container's first address of each family, with its network's prefix length.
    pub containers: Vec<IpNetwork>,
    /// The backend that is asked for.
    pub backend: Option<Backend>,
    /// Masquerade what comes from the container itself and from the host's loopback.
    pub snat: bool,
    /// Masquerade whatever the source is.
    pub masquerade_all: bool,
    /// How packets to be masqueraded are marked.
    pub mark: SetMark,
    /// Further matches that lead to the mappings, as words.
    conditions_v4: Vec<String>,
    conditions_v6: Vec<String>,
}

/// Who holds the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Iptables,
    Nftables,
}

impl Backend {
    /// As configurations write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Iptables => Self::Nftables,
            Self::Nftables => Self::Iptables,
        }
    }
}

/// How packets to be masqueraded are marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetMark {
    /// With this bit, by our own chain.
    Bit(u32),
    /// By a chain of somebody else's, who also masquerades.
    External(String),
}

/// A port of the host that leads to one of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The host's port.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// The host's address.
    pub host_ip: HostIp,
}

/// Which addresses of the host a mapping is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostIp {
    /// All.
    Any,
    /// All of one family: the unspecified address is given.
    AnyOf(Family),
    /// One.
    One(IpAddr),
}

/// The protocols that have ports to map. Their order is that of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Sctp,
    Tcp,
    Udp,
}

impl Protocol {
    /// As rules write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Sctp => "sctp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl Mapping {
    /// Whether it is for addresses of this family.
    pub fn is_for(&self, family: Family) -> bool {
        match self.host_ip {
            HostIp::Any => true,
            HostIp::AnyOf(own) => own == family,
            HostIp::One(ip) => family_of(ip) == family,
        }
    }

    /// The one address of the host that it is for.
    pub fn destination(&self) -> Option<IpAddr> {
        match self.host_ip {
            HostIp::One(ip) => Some(ip),
            _ => None,
        }
    }
}

/// The family of an address.
pub fn family_of(ip: IpAddr) -> Family {
    if ip.is_ipv4() { Family::V4 } else { Family::V6 }
}

impl Conf {
    /// Reads and checks everything, before anything is done.
    pub fn parse(call: &Call<'_>) -> Result<Self, Error> {
        let keys = &call.conf;
        let conf = Self {
            mappings: mappings(keys)?,
            containers: containers(keys.prev_result.as_ref(), &call.ifname),
            backend: backend(keys)?,
            snat: keys.get("snat")?.unwrap_or(true),
            masquerade_all: keys.is_on("masqAll")?,
            mark: mark(keys)?,
            conditions_v4: conditions(keys, "conditionsV4")?,
            conditions_v6: conditions(keys, "conditionsV6")?,
        };
        if let Some(backend) = conf.backend {
            conf.suits(backend)?;
        }
        Ok(conf)
    }

    /// The further matches for a family, as words.
    pub fn conditions(&self, family: Family) -> &[String] {
        match family {
            Family::V4 => &self.conditions_v4,
            Family::V6 => &self.conditions_v6,
        }
    }

    /// The backend that is asked for, else iptables if it can be used here, else nftables.
    pub fn choose_backend(&self) -> Result<Backend, Error> {
        let families: Vec<_> = match self.containers.as_slice() {
            [] => vec![Family::V4],
            containers => containers.iter().map(|net| family_of(net.ip())).collect(),
        };
        let lacking = families.into_iter().find(|family| !Iptables::is_installed(*family));
        let chosen = match (self.backend, lacking) {
            (Some(Backend::Nftables), _) if !crate::nft::is_usable() => {
                return Err(nftables::unsupported());
            }
            (Some(Backend::Nftables), _) => Backend::Nftables,
            (_, None) => Backend::Iptables,
            (None, Some(_)) if crate::nft::is_usable() => Backend::Nftables,
            (_, Some(family)) => return Err(rules::missing(family, "map ports")),
        };
        self.suits(chosen)?;
        Ok(chosen)
    }

    /// Refuses conditions in nftables' language that we cannot read.
    pub fn refuse_unreadable_conditions(&self) -> Result<(), Error> {
        for net in &self.containers {
            let family = if net.is_ipv4() { nft::Family::Ip } else { nft::Family::Ip6 };
            condition::rule(family, self.conditions(family_of(net.ip())))?;
        }
        Ok(())
    }

    /// Refuses what only the other backend understands.
    fn suits(&self, backend: Backend) -> Result<(), Error> {
        let mut foreign = Vec::new();
        if backend == Backend::Nftables && matches!(self.mark, SetMark::External(_)) {
            foreign.push("externalSetMarkChain");
        }
        for (key, words) in
            [("conditionsV4", &self.conditions_v4), ("conditionsV6", &self.conditions_v6)]
        {
            if words.first().is_some_and(|word| language(word) != backend) {
                foreign.push(key);
            }
        }
        if foreign.is_empty() {
            return Ok(());
        }
        let (own, other) = (backend.word(), backend.other().word());
        Err(invalid(format!(
            "{own} backend was requested but configuration contains {other}-specific options [{}]",
            foreign.join(" ")
        ))
        .with_details(format!("write them for {own}, or set \"backend\": {other:?}")))
    }
}

/// Whose words conditions are: an iptables condition begins with an option, which may be negated. (The reference takes one that
/// begins with `!` for nftables'.)
fn language(first: &str) -> Backend {
    if first.starts_with('-') || first == "!" { Backend::Iptables } else { Backend::Nftables }
}

fn backend(keys: &PluginConf) -> Result<Option<Backend>, Error> {
    match keys.text("backend")?.as_deref() {
        None => Ok(None),
        Some("iptables") => Ok(Some(Backend::Iptables)),
        Some("nftables") => Ok(Some(Backend::Nftables)),
        Some(other) => Err(invalid(format!("unrecognized backend {other:?}"))
            .with_details("write \"iptables\" or \"nftables\", or leave the key out")),
    }
}

fn mark(keys: &PluginConf) -> Result<SetMark, Error> {
    let (bit, chain) = (keys.get::<i64>("markMasqBit")?, keys.text("externalSetMarkChain")?);
    if bit.is_some() && chain.is_some() {
        return Err(invalid("Cannot specify externalSetMarkChain and markMasqBit").with_details(
            "whose chain sets the mark also chooses its bit: remove one of the keys",
        ));
    }
    if let Some(chain) = chain {
        let plain = |c: char| c.is_ascii_graphic() && !"\"'\\".contains(c);
        if chain.len() > MAX_CHAIN || !chain.chars().all(plain) || chain.starts_with(['-', '!']) {
            let msg = format!("externalSetMarkChain {chain:?} cannot be the name of a chain");
            return Err(invalid(msg));
        }
        return Ok(SetMark::External(chain));
    }
    match u32::try_from(bit.unwrap_or(DEFAULT_MARK_BIT)) {
        Ok(bit @ 0..=31) => Ok(SetMark::Bit(bit)),
        _ => Err(invalid("MasqMarkBit must be between 0 and 31")
            .with_details("it is the number of a bit of the packet's mark (\"markMasqBit\")")),
    }
}

fn conditions(keys: &PluginConf, key: &str) -> Result<Vec<String>, Error> {
    let words: Vec<String> = keys.get(key)?.unwrap_or_default();
    if words.first().is_none_or(String::is_empty) {
        return Ok(Vec::new());
    }
    if let Some(word) = words.iter().find(|word| word.contains(char::is_control)) {
        return Err(invalid(format!("{key}: {word:?} holds a control character")));
    }
    Ok(words)
}

/// A mapping as runtimes write it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMapping {
    #[serde(default)]
    host_port: Option<i64>,
    #[serde(default)]
    container_port: Option<i64>,
    #[serde(default)]
    protocol: Option<String>,
    #[serde(default, rename = "hostIP")]
    host_ip: Option<String>,
}

const MAPPINGS: &str = "runtimeConfig.portMappings";

fn mappings(keys: &PluginConf) -> Result<Vec<Mapping>, Error> {
    let raw: Vec<RawMapping> = keys.get(MAPPINGS)?.unwrap_or_default();
    raw.iter().enumerate().map(|(at, raw)| mapping(raw).map_err(|e| place(e, at))).collect()
}

/// As [`mappings`], without those that ADD would refuse: for DEL.
pub fn readable_mappings(keys: &PluginConf) -> Vec<Mapping> {
    let raw = keys.get::<Vec<RawMapping>>(MAPPINGS).ok().flatten().unwrap_or_default();
    raw.iter().filter_map(|raw| mapping(raw).ok()).collect()
}

fn place(error: Error, at: usize) -> Error {
    let separator = if error.details.is_empty() { "" } else { "; " };
    let details = format!("{MAPPINGS}[{at}]{separator}{}", error.details);
    error.with_details(details)
}

fn mapping(raw: &RawMapping) -> Result<Mapping, Error> {
    Ok(Mapping {
        container_port: port("container", raw.container_port)?,
        host_port: port("host", raw.host_port)?,
        protocol: protocol(raw.protocol.as_deref().unwrap_or_default())?,
        host_ip: host_ip(raw.host_ip.as_deref().unwrap_or_default())?,
    })
}

fn port(whose: &str, number: Option<i64>) -> Result<u16, Error> {
    let number = number.unwrap_or(0);
    match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(invalid(format!("Invalid {whose} port number: {number}"))
            .with_details("a port is 1 to 65535")),
    }
}

/// Any case is accepted; the reference would pass it on to iptables. None is TCP.
fn protocol(name: &str) -> Result<Protocol, Error> {
    match name.to_ascii_lowercase().as_str() {
        "" | "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Ok(Protocol::Sctp),
        _ => Err(invalid(format!("Invalid protocol: {name:?}"))
            .with_details("ports of tcp, udp and sctp can be mapped")),
    }
}

fn host_ip(text: &str) -> Result<HostIp, Error> {
    if text.is_empty() {
        return Ok(HostIp::Any);
    }
    let ip: IpAddr = text.parse().map_err(|_| {
        invalid(format!("Invalid host IP: {text:?}"))
            .with_details("it must be an IPv4 or IPv6 address of the host")
    })?;
    let ip = ip.to_canonical();
    Ok(if ip.is_unspecified() { HostIp::AnyOf(family_of(ip)) } else { HostIp::One(ip) })
}

/// The first address of each family on the interface in the container; one that no interface is told of is taken for it.
pub fn containers(result: Option<&CniResult>, ifname: &str) -> Vec<IpNetwork> {
    let Some(result) = result else { return Vec::new() };
    let inside = |index: Option<usize>| {
        index
            .and_then(|index| result.interfaces.get(index))
            .is_none_or(|interface| interface.name == ifname && !interface.sandbox.is_empty())
    };
    let own: Vec<_> =
        result.ips.iter().filter(|ip| inside(ip.interface)).map(|ip| ip.address).collect();
    let first = |v4: bool| own.iter().find(|net| net.is_ipv4() == v4).copied();
    [first(true), first(false)].into_iter().flatten().collect()
}

fn invalid(msg: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidConfig, msg)
}
