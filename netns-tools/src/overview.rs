//! Who is connected to whom: every namespace's links with their other ends, bridges and addresses.
//!
//! [`survey`](mod@survey) asks the kernel, [`resolve`] finds the other ends, [`text`] draws the result. The last two are
//! pure.

pub mod survey;
pub mod text;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use crate::address::Address;
use crate::link::{Link, OperState};
use crate::mac::MacAddr;

/// Every namespace that was found. Its JSON form is stable: fields may be added, none is renamed or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Overview {
    /// The host's first, then the named ones by name, then those that only processes hold.
    pub namespaces: Vec<Namespace>,
    /// What could not be looked at, as sentences.
    pub errors: Vec<String>,
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Namespace {
    /// `host`, the name under `/run/netns`, or `pid:N` for one that only processes hold.
    pub name: String,
    /// A path to open it by.
    pub path: String,
    /// Its inode number, as in `net:[4026531840]`.
    pub id: u64,
    /// Whether the looker is in it.
    pub current: bool,
    /// Its links by index.
    pub links: Vec<LinkView>,
}

/// A link with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkView {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// `veth`, `bridge`, …; `loopback`; or `null` for hardware.
    pub kind: Option<String>,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether traffic passes, as `ip link` prints it.
    pub oper_state: OperState,
    /// In bytes.
    pub mtu: u32,
    /// Its Ethernet address.
    pub mac: Option<MacAddr>,
    /// The name of the bridge, or other master, whose port it is.
    pub master: Option<String>,
    /// As `address/prefix`.
    pub addresses: Vec<String>,
    /// The other end of a veth pair.
    pub peer: Option<Far>,
    /// The link below, of a vxlan, macvlan or the like.
    pub lower: Option<Far>,
    /// Of a VXLAN device: where its frames go.
    pub vxlan: Option<Tunnel>,
}

/// A VXLAN device's way through the underlay; the link that it goes by is [`LinkView::lower`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tunnel {
    /// The VXLAN network identifier; `null` for one that takes all of its port (external mode).
    pub vni: Option<u32>,
    /// The UDP port.
    pub port: u16,
    /// The address that it sends from; `null`: the kernel chooses.
    pub local: Option<IpAddr>,
    /// How many other nodes its forwarding entries lead to.
    pub remotes: usize,
}

/// A link, possibly in another namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Far {
    /// The namespace's name in this overview; `null` when it is none of those that were found.
    pub namespace: Option<String>,
    /// The link's name; `null` when it was not found.
    pub name: Option<String>,
    /// The link's number in its namespace.
    pub index: u32,
}

/// What the kernel says about one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// As [`Namespace::name`].
    pub name: String,
    /// As [`Namespace::path`].
    pub path: String,
    /// As [`Namespace::id`].
    pub id: u64,
    /// As [`Namespace::current`].
    pub current: bool,
    /// Its links.
    pub links: Vec<Link>,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// How many nodes the forwarding entries of each VXLAN device lead to, by its index.
    pub remotes: BTreeMap<u32, usize>,
    /// Which namespace it knows by which number ([`Link::peer_netns_id`]): the position in the list of snapshots.
    pub known: BTreeMap<i32, usize>,
}

/// Finds the other end of every link.
pub fn resolve(snapshots: &[Snapshot]) -> Vec<Namespace> {
    let namespace = |at: usize| Namespace {
        name: snapshots[at].name.clone(),
        path: snapshots[at].path.clone(),
        id: snapshots[at].id,
        current: snapshots[at].current,
        links: snapshots[at].links.iter().map(|link| view(snapshots, at, link)).collect(),
    };
    (0..snapshots.len()).map(namespace).collect()
}

fn view(snapshots: &[Snapshot], at: usize, link: &Link) -> LinkView {
    let own = &snapshots[at];
    let far = far_end(snapshots, at, link);
    let paired = matches!(link.kind.as_deref(), Some("veth" | "vxcan" | "netkit"));
    let (peer, lower) = if paired { (far, None) } else { (None, far) };
    LinkView {
        index: link.index,
        name: link.name.clone(),
        kind: link.kind.clone().or_else(|| link.loopback.then(|| "loopback".into())),
        up: link.up,
        oper_state: link.oper_state,
        mtu: link.mtu,
        mac: link.mac,
        master: link.master.and_then(|index| name_of(own, index)),
        addresses: own
            .addresses
            .iter()
            .filter(|address| address.index == link.index)
            .map(|address| address.net.to_string())
            .collect(),
        peer,
        lower,
        vxlan: link.vxlan.map(|vxlan| Tunnel {
            vni: (!vxlan.external).then_some(vxlan.vni),
            port: vxlan.port,
            local: vxlan.local,
            remotes: own.remotes.get(&link.index).copied().unwrap_or_default(),
        }),
    }
}

fn far_end(snapshots: &[Snapshot], at: usize, link: &Link) -> Option<Far> {
    // Of a VXLAN device the kernel says it among the kind's own attributes.
    let index = link.peer_index.or_else(|| link.vxlan?.underlay)?;
    let there = match link.peer_netns_id {
        None => Some(at),
        Some(id) => snapshots[at].known.get(&id).copied(),
    };
    let there = there.map(|there| &snapshots[there]);
    Some(Far {
        namespace: there.map(|there| there.name.clone()),
        name: there.and_then(|there| name_of(there, index)),
        index,
    })
}

fn name_of(snapshot: &Snapshot, index: u32) -> Option<String> {
    snapshot.links.iter().find(|link| link.index == index).map(|link| link.name.clone())
}

#[cfg(test)]
mod tests;
