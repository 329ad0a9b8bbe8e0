//! Announcements as annotations of Node objects: our own, and those of flannel (its `pkg/subnet/kube` names them in its documentation).
//!
//! Whoever may edit a Node may write anything here, so everything is checked before it becomes an [`Announcement`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use netns_tools::MacAddr;
use serde::{Deserialize, Serialize};

use super::node::{Announcement, Backend, Vtep};

/// Ours: an [`Announcement`] as JSON.
pub const OURS: &str = "overlay.heddle.dev/node";
/// flannel's: `vxlan`, `host-gw` or another of its backends.
pub const FLANNEL_TYPE: &str = "flannel.alpha.coreos.com/backend-type";
/// flannel's: JSON with `VNI` and `VtepMAC` of the device over IPv4; `null` where the backend needs none.
pub const FLANNEL_DATA: &str = "flannel.alpha.coreos.com/backend-data";
/// As [`FLANNEL_DATA`], of the device over IPv6.
pub const FLANNEL_V6_DATA: &str = "flannel.alpha.coreos.com/backend-v6-data";
/// flannel's: the node's IPv4 address on the underlay.
pub const FLANNEL_IP: &str = "flannel.alpha.coreos.com/public-ip";
/// flannel's: the node's IPv6 address on the underlay.
pub const FLANNEL_IPV6: &str = "flannel.alpha.coreos.com/public-ipv6";
/// flannel's: `true` on every node that takes part.
pub const FLANNEL_MANAGED: &str = "flannel.alpha.coreos.com/kube-subnet-manager";

/// The highest VXLAN network identifier (RFC 7348: 24 bits).
pub const VNI_MAX: u32 = 0xff_ffff;

/// The longest piece of somebody else's text that is repeated in a message, in characters.
const QUOTE_MAX: usize = 60;

/// An annotation that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation {key}{}: {reason}", in_field(field))]
pub struct AnnotationError {
    /// The annotation's key.
    pub key: &'static str,
    /// Where in its document; empty: all of it.
    pub field: String,
    /// What is wrong there.
    pub reason: String,
}

fn in_field(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!(", field {field}") }
}

impl AnnotationError {
    fn new(key: &'static str, field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { key, field: field.into(), reason: reason.into() }
    }
}

/// What a node announces; `None`: nothing. Ours wins over flannel's, which are read only with `flannel`.
pub fn read(
    annotations: &BTreeMap<String, String>,
    flannel: bool,
) -> Result<Option<Announcement>, AnnotationError> {
    if let Some(text) = annotations.get(OURS) {
        return read_ours(text).map(Some);
    }
    if !flannel || annotations.get(FLANNEL_MANAGED).map(String::as_str) != Some("true") {
        return Ok(None);
    }
    read_flannel(annotations)
}

/// The annotations that say `announcement`; `None`: must not be there. Only ours without `flannel`: others' are left alone then.
pub fn write(announcement: &Announcement, flannel: bool) -> BTreeMap<&'static str, Option<String>> {
    let mut all = BTreeMap::from([(OURS, Some(json(announcement)))]);
    if flannel {
        all.extend(write_flannel(announcement));
    }
    all
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data without maps is always JSON")
}

fn read_ours(text: &str) -> Result<Announcement, AnnotationError> {
    let announcement: Announcement = parse(OURS, text)?;
    check(&announcement)?;
    Ok(announcement)
}

/// Reads JSON; a mistake names its place.
fn parse<'de, T: Deserialize<'de>>(
    key: &'static str,
    text: &'de str,
) -> Result<T, AnnotationError> {
    let mut source = serde_json::Deserializer::from_str(text);
    let parsed = serde_path_to_error::deserialize(&mut source).map_err(|e| {
        let path = e.path().to_string();
        let field = if path == "." { String::new() } else { path };
        AnnotationError::new(key, field, shorten(&e.inner().to_string()))
    })?;
    source.end().map_err(|e| AnnotationError::new(key, "", shorten(&e.to_string())))?;
    Ok(parsed)
}

/// A message may repeat what it was given, which may be long and may break the line of a log.
fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(4 * QUOTE_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(4 * QUOTE_MAX).is_some() {
        short.push('…');
    }
    short
}

pub(super) fn quote(text: &str) -> String {
    let more = if text.chars().nth(QUOTE_MAX).is_some() { "…" } else { "" };
    format!(
        "`{}{more}`",
        text.chars().take(QUOTE_MAX).flat_map(char::escape_debug).collect::<String>()
    )
}

/// What types cannot say.
fn check(announcement: &Announcement) -> Result<(), AnnotationError> {
    let wrong = |field: String, reason: String| Err(AnnotationError::new(OURS, field, reason));
    if announcement.vni > VNI_MAX {
        return wrong("vni".into(), format!("{} is more than {VNI_MAX}", announcement.vni));
    }
    for (name, port) in [("port", announcement.port), ("probePort", announcement.probe_port)] {
        if port == Some(0) {
            return wrong(name.into(), "0 is not a port".into());
        }
    }
    check_each(OURS, "addresses", announcement.addresses.iter().copied())?;
    check_each(OURS, "vteps", announcement.vteps.iter().map(|vtep| vtep.address))?;
    check_families("networks", announcement.networks.iter().map(ipnetwork::IpNetwork::is_ipv4))?;
    for (place, vtep) in announcement.vteps.iter().enumerate() {
        check_mac(OURS, &format!("vteps[{place}].mac"), vtep.mac)?;
    }
    Ok(())
}

fn check_mac(key: &'static str, field: &str, mac: MacAddr) -> Result<(), AnnotationError> {
    if mac.is_unicast() {
        return Ok(());
    }
    Err(AnnotationError::new(key, field, format!("{mac} is not a unicast address")))
}

fn check_each(
    key: &'static str,
    field: &str,
    addresses: impl Iterator<Item = IpAddr> + Clone,
) -> Result<(), AnnotationError> {
    for (place, address) in addresses.clone().enumerate() {
        check_address(address)
            .map_err(|reason| AnnotationError::new(key, format!("{field}[{place}]"), reason))?;
    }
    check_families(field, addresses.map(|address| address.is_ipv4()))
}

/// IPv4 before IPv6, and each once.
fn check_families(field: &str, ipv4: impl Iterator<Item = bool>) -> Result<(), AnnotationError> {
    let families: Vec<_> = ipv4.take(3).collect();
    if families.len() < 2 || families == [true, false] {
        return Ok(());
    }
    let reason = "at most one of each family, IPv4 first";
    Err(AnnotationError::new(OURS, field, reason))
}

/// Whether packets can be sent to `address` by any node.
pub(super) fn check_address(address: IpAddr) -> Result<(), String> {
    let reason = match address {
        _ if address.is_unspecified() => "is no host's address",
        _ if address.is_loopback() => "is a loopback address",
        _ if address.is_multicast() => "is a multicast address",
        IpAddr::V4(ip) if ip.is_broadcast() || ip.octets()[0] == 0 => "is no host's address",
        IpAddr::V4(ip) if ip.is_link_local() => "is a link-local address",
        IpAddr::V6(ip) if ip.is_unicast_link_local() => "is a link-local address",
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => "is an IPv4 address written as IPv6",
        _ => return Ok(()),
    };
    Err(format!("{address} {reason}"))
}

/// flannel's `backend-data` for VXLAN.
#[derive(Debug, Serialize, Deserialize)]
struct FlannelVxlan {
    /// Old versions do not write it; theirs is 1.
    #[serde(rename = "VNI", default = "one")]
    vni: u32,
    #[serde(rename = "VtepMAC")]
    mac: MacAddr,
}

fn one() -> u32 {
    1
}

fn read_flannel(
    annotations: &BTreeMap<String, String>,
) -> Result<Option<Announcement>, AnnotationError> {
    let backend = match annotations.get(FLANNEL_TYPE).map(String::as_str) {
        None => return Ok(None),
        Some("vxlan") => Backend::Vxlan,
        Some("host-gw") => Backend::HostGw,
        Some(other) => {
            let reason = format!("{} is not supported; vxlan and host-gw are", quote(other));
            return Err(AnnotationError::new(FLANNEL_TYPE, "", reason));
        }
    };
    let mut found = Announcement { backend, ..Announcement::default() };
    for (ip_key, data_key, ipv4) in
        [(FLANNEL_IP, FLANNEL_DATA, true), (FLANNEL_IPV6, FLANNEL_V6_DATA, false)]
    {
        let Some(address) = flannel_address(annotations, ip_key, ipv4)? else { continue };
        found.addresses.push(address);
        if backend == Backend::Vxlan
            && let Some(data) = flannel_data(annotations, data_key)?
        {
            found.vni = same_vni(&found, data_key, data.vni)?;
            found.vteps.push(Vtep { address, mac: data.mac });
        }
    }
    Ok(Some(found))
}

/// flannel writes the VNI once for each family, and it has only one.
fn same_vni(found: &Announcement, key: &'static str, vni: u32) -> Result<u32, AnnotationError> {
    if !found.vteps.is_empty() && found.vni != vni {
        let reason = format!("{vni} here, and {} in {FLANNEL_DATA}", found.vni);
        return Err(AnnotationError::new(key, "VNI", reason));
    }
    Ok(vni)
}

fn flannel_address(
    annotations: &BTreeMap<String, String>,
    key: &'static str,
    ipv4: bool,
) -> Result<Option<IpAddr>, AnnotationError> {
    let Some(text) = annotations.get(key).filter(|text| !text.is_empty()) else { return Ok(None) };
    let family = if ipv4 { "IPv4" } else { "IPv6" };
    let address = text.parse::<IpAddr>().ok().filter(|address| address.is_ipv4() == ipv4);
    let address = address.ok_or_else(|| {
        AnnotationError::new(key, "", format!("{} is not an {family} address", quote(text)))
    })?;
    check_address(address).map_err(|reason| AnnotationError::new(key, "", reason))?;
    Ok(Some(address))
}

fn flannel_data(
    annotations: &BTreeMap<String, String>,
    key: &'static str,
) -> Result<Option<FlannelVxlan>, AnnotationError> {
    let Some(text) = annotations.get(key).filter(|text| !text.is_empty()) else { return Ok(None) };
    let Some(data) = parse::<Option<FlannelVxlan>>(key, text)? else { return Ok(None) };
    if data.vni > VNI_MAX {
        let reason = format!("{} is more than {VNI_MAX}", data.vni);
        return Err(AnnotationError::new(key, "VNI", reason));
    }
    check_mac(key, "VtepMAC", data.mac)?;
    Ok(Some(data))
}

/// flannel knows nothing like [`Backend::Auto`]; its nodes send to such a node by VXLAN, and are sent to by VXLAN.
fn write_flannel(announcement: &Announcement) -> BTreeMap<&'static str, Option<String>> {
    let mut all: BTreeMap<_, Option<String>> =
        [FLANNEL_TYPE, FLANNEL_DATA, FLANNEL_V6_DATA, FLANNEL_IP, FLANNEL_IPV6, FLANNEL_MANAGED]
            .into_iter()
            .map(|key| (key, None))
            .collect();
    let (kind, vxlan) = match announcement.backend {
        Backend::None => return all,
        Backend::Vxlan | Backend::Auto => ("vxlan", true),
        Backend::HostGw => ("host-gw", false),
    };
    let mut set = |key, text: String| all.insert(key, Some(text));
    set(FLANNEL_TYPE, kind.into());
    set(FLANNEL_MANAGED, "true".into());
    // flannel reads it as JSON even where there is nothing to say.
    set(FLANNEL_DATA, "null".into());
    for address in &announcement.addresses {
        set(if address.is_ipv4() { FLANNEL_IP } else { FLANNEL_IPV6 }, address.to_string());
        if !vxlan && address.is_ipv6() {
            set(FLANNEL_V6_DATA, "null".into());
        }
    }
    for vtep in announcement.vteps.iter().filter(|_| vxlan) {
        let key = if vtep.address.is_ipv4() { FLANNEL_DATA } else { FLANNEL_V6_DATA };
        set(key, json(&FlannelVxlan { vni: announcement.vni, mac: vtep.mac }));
    }
    all
}

#[cfg(test)]
mod tests;
