//! What is to be done to VXLAN devices.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;
use netns_tools::link::vxlan::{Changes, Details};
use netns_tools::route::SCOPE_LINK;
use netns_tools::{Address, Link, MacAddr};

use super::Failed;
use crate::overlay::desired::Device;

/// What the names of our devices begin with; the VNI follows.
const STEMS: [&str; 2] = ["heddle.", "heddle-v6."];

/// What is to be done for one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is not there.
    Make,
    /// It is there with something that cannot be changed: the link with this index goes first. With a reason, in words.
    MakeAnew(u32, String),
    /// It is there, with this index, and these are to be changed.
    Alter(u32, Vec<Alteration>),
    /// Its name is taken by a link that is none of ours.
    NotOurs(Failed),
}

/// One change that the kernel makes to a device in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alteration {
    /// Its Ethernet address.
    Mac(MacAddr),
    /// Its MTU.
    Mtu(u32),
    /// Where and how it sends.
    Vxlan(Changes),
    /// It is down.
    Up,
}

impl std::fmt::Display for Alteration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mac(mac) => write!(f, "MAC {mac}"),
            Self::Mtu(mtu) => write!(f, "MTU {mtu}"),
            Self::Up => f.write_str("up"),
            Self::Vxlan(changes) => {
                f.write_str("sending")?;
                changes.local.map_or(Ok(()), |local| write!(f, " from {local}"))?;
                changes.underlay.map_or(Ok(()), |link| write!(f, " by link {link}"))?;
                changes.learning.map_or(Ok(()), |_| f.write_str(" without learning"))
            }
        }
    }
}

/// Compares one device with what is there.
pub(super) fn compare(links: &[Link], wanted: &Device) -> Step {
    let Some(link) = links.iter().find(|link| link.name == wanted.name) else { return Step::Make };
    let Some(found) = link.vxlan else {
        let kind = link.kind.as_deref().unwrap_or("hardware");
        return Step::NotOurs(Failed {
            object: format!("device {}", wanted.name),
            reason: format!(
                "there is a link of this name that is no VXLAN device but {kind}; rename or delete it"
            ),
        });
    };
    match unchangeable(&found, wanted) {
        Some(reason) => Step::MakeAnew(link.index, reason),
        None => Step::Alter(link.index, alterations(link, &found, wanted)),
    }
}

/// What the kernel refuses to change of a VXLAN device.
fn unchangeable(found: &Details, wanted: &Device) -> Option<String> {
    let family = |local: std::net::IpAddr| local.is_ipv4();
    if found.external {
        return Some("was in external mode".into());
    }
    if found.vni != wanted.vni {
        return Some(format!("had VNI {}", found.vni));
    }
    if found.port != wanted.port {
        return Some(format!("had UDP port {}", found.port));
    }
    // without a local address only the kernel knows the family
    (found.local.map(family) != Some(family(wanted.local))).then(|| match found.local {
        Some(local) => format!("sent from {local}"),
        None => "had no address to send from".into(),
    })
}

fn alterations(link: &Link, found: &Details, wanted: &Device) -> Vec<Alteration> {
    let changes = Changes {
        local: (found.local != Some(wanted.local)).then_some(wanted.local),
        underlay: (found.underlay != Some(wanted.underlay)).then_some(wanted.underlay),
        learning: found.learning.then_some(false),
    };
    let vxlan = (changes != Changes::default()).then_some(Alteration::Vxlan(changes));
    let mac = (link.mac != Some(wanted.mac)).then_some(Alteration::Mac(wanted.mac));
    let mtu = (link.mtu != wanted.mtu).then_some(Alteration::Mtu(wanted.mtu));
    let up = (!link.up).then_some(Alteration::Up);
    // the underlay's link before the MTU, which must fit it
    [vxlan, mac, mtu, up].into_iter().flatten().collect()
}

/// Our devices that nobody wants any more.
pub(super) fn superfluous<'a>(
    links: &'a [Link],
    wanted: &'a [Device],
) -> impl Iterator<Item = &'a Link> {
    links
        .iter()
        .filter(|link| link.vxlan.is_some() && is_ours(&link.name))
        .filter(|link| wanted.iter().all(|device| device.name != link.name))
}

fn is_ours(name: &str) -> bool {
    let number = STEMS.iter().find_map(|stem| name.strip_prefix(stem));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// Which addresses a device lacks, and which it has too many. Those that the kernel gives every link stay.
pub(super) fn addresses(
    found: &[Address],
    wanted: &[IpNetwork],
) -> (Vec<IpNetwork>, Vec<IpNetwork>) {
    let found: BTreeSet<_> = found
        .iter()
        .filter(|address| address.scope != SCOPE_LINK)
        .map(|address| address.net)
        .collect();
    let missing = wanted.iter().filter(|net| !found.contains(net)).copied().collect();
    (missing, found.into_iter().filter(|net| !wanted.contains(net)).collect())
}
