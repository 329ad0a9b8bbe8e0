//! `--dry-run` and `--show`: what should be there, and what is. Nothing is changed.
//!
//! Both read the nodes themselves, rather than ask a running overlay: so they also answer where it is stuck, or not there yet, and show
//! what a fresh start would want.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use conf::AgentConfig;
use ipnetwork::IpNetwork;
use netns_tools::netlink::NetlinkError;
use netns_tools::{Link, Netlink};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::CommandError;
use crate::kube::connect;
use crate::listing;
use crate::overlay::cluster;
use crate::overlay::desired::{Desired, Way};
use crate::overlay::kernel::{PROTOCOL, SyncError};
use crate::overlay::run::{KernelHost, Options, StartError, access, preview};
use crate::overlay::source::{self, Event};
use crate::overlay::state::Store;

/// How long nodes are waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Prints what should be there; with `compare` beside what is.
pub async fn look(config: &AgentConfig, compare: bool) -> Result<(), CommandError> {
    let nodes = first_nodes(config).await?;
    let store = Store::new(&config.paths.state, &config.node_name);
    let mut host = KernelHost::open()?;
    let plan = preview(&mut host, &store, Options::of(config), nodes);
    let plan = plan.map_err(CommandError::Plan)?;
    let (desired, mut netlink) = (plan.desired(), Netlink::open().map_err(SyncError::Read)?);
    let links = netlink.links().map_err(SyncError::Read)?;
    let should = wanted(&desired, &links);
    let mut text = String::new();
    for (name, peer) in plan.peers() {
        for problem in &peer.problems {
            writeln!(text, "# node {name}: {problem}").ok();
        }
    }
    if compare {
        let there = there(&mut netlink, &links, config.overlay.vni).map_err(SyncError::Read)?;
        text.push_str(&listing::side_by_side("", &should, &there));
    } else {
        text.extend(should.iter().map(|line| format!("{line}\n")));
    }
    // a reader that has seen enough is not an error
    std::io::stdout().write_all(text.as_bytes()).ok();
    Ok(())
}

/// The first complete list of nodes.
async fn first_nodes(config: &AgentConfig) -> Result<cluster::Event, CommandError> {
    let (sender, mut events) = mpsc::channel(16);
    let mut tasks = JoinSet::new();
    let (_reload, asked) = mpsc::channel(1);
    match access(&config.overlay.nodes) {
        None => {
            let folder = config.paths.manifests.clone();
            tasks.spawn(source::follow_manifests(folder, sender, asked));
        }
        Some(access) => {
            let client = connect(&access).await.map_err(StartError::Connect)?;
            let flannel = config.overlay.flannel;
            let (mut followers, _) = source::follow(&client, &config.node_name, flannel, &sender);
            tasks.spawn(async move { while followers.join_next().await.is_some() {} });
        }
    }
    let mut away = String::new();
    let first = async {
        while let Some(event) = events.recv().await {
            match event {
                Event::Nodes(nodes) => return Some(nodes),
                Event::Away(reason) => away = reason.unwrap_or_default(),
            }
        }
        None
    };
    let first = tokio::time::timeout(PATIENCE, first).await.ok().flatten();
    first.ok_or_else(|| CommandError::Plan(format!("the nodes could not be read: {away}")))
}

fn device(name: &str, mac: Option<impl ToString>, mtu: u32) -> String {
    let mac = mac.map(|mac| mac.to_string()).unwrap_or_default();
    format!("device {name} mac {mac} mtu {mtu}")
}

fn route(to: impl ToString, via: impl ToString, link: &str, mtu: Option<u32>) -> String {
    let mtu = mtu.map(|mtu| format!(" mtu {mtu}")).unwrap_or_default();
    format!("route {} via {} dev {link}{mtu}", to.to_string(), via.to_string())
}

fn neighbour(address: impl ToString, mac: impl ToString, link: &str) -> String {
    format!("neighbour {} mac {} dev {link}", address.to_string(), mac.to_string())
}

fn forwarding(mac: impl ToString, to: impl ToString, link: &str) -> String {
    format!("forwarding {} to {} dev {link}", mac.to_string(), to.to_string())
}

fn names(links: &[Link]) -> BTreeMap<u32, &str> {
    links.iter().map(|link| (link.index, link.name.as_str())).collect()
}

fn wanted(desired: &Desired, links: &[Link]) -> BTreeSet<String> {
    let names = names(links);
    let mut told = BTreeSet::new();
    for known in &desired.devices {
        told.insert(device(&known.name, Some(known.mac), known.mtu));
        let of = |net: &_| format!("address {net} dev {}", known.name);
        told.extend(known.addresses.iter().map(of));
    }
    for known in &desired.routes {
        let (to, mtu) = (known.destination, known.mtu);
        match &known.way {
            Way::Tunnel { device, gateway, mac, remote } => {
                told.insert(route(to, gateway, device, mtu));
                told.insert(neighbour(gateway, mac, device));
                told.insert(forwarding(mac, remote, device));
            }
            Way::Direct { gateway, link, .. } => {
                let link = names.get(link).copied().unwrap_or("?");
                told.insert(route(to, gateway, link, mtu));
            }
        }
    }
    told
}

fn there(
    netlink: &mut Netlink,
    links: &[Link],
    vni: u32,
) -> Result<BTreeSet<String>, NetlinkError> {
    let names = names(links);
    let mut told = BTreeSet::new();
    let ours = [format!("heddle.{vni}"), format!("heddle-v6.{vni}")];
    for link in links.iter().filter(|link| ours.contains(&link.name)) {
        told.insert(device(&link.name, link.mac, link.mtu));
        let addresses = netlink.addresses(Some(link.index))?;
        // the kernel gives those by itself
        let local =
            |net: &IpNetwork| matches!(net.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
        for address in addresses.iter().filter(|address| !local(&address.net)) {
            told.insert(format!("address {} dev {}", address.net, link.name));
        }
        for (address, known) in netlink.neighbours(link.index)? {
            if let Some(mac) = known.mac.filter(|_| known.permanent) {
                told.insert(neighbour(address, mac, &link.name));
            }
        }
        for entry in netlink.fdb(link.index)? {
            if let Some(remote) = entry.remote {
                told.insert(forwarding(entry.mac, remote, &link.name));
            }
        }
    }
    let routes = netlink.routes()?;
    for known in routes.iter().filter(|route| route.protocol == Some(PROTOCOL)) {
        let link = known.oif.and_then(|link| names.get(&link).copied()).unwrap_or("?");
        let via = known.gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
        told.insert(route(known.dst, via, link, known.mtu));
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::desired::Route;

    #[test]
    fn differences_are_marked() {
        let way = Way::Tunnel {
            device: "heddle.1".into(),
            gateway: "10.244.2.0".parse().unwrap(),
            mac: netns_tools::MacAddr([2, 0, 0, 0, 0, 2]),
            remote: "192.0.2.2".parse().unwrap(),
        };
        let routes =
            vec![Route { destination: "10.244.2.0/24".parse().unwrap(), way, mtu: Some(1400) }];
        let wanted = wanted(&Desired { routes, ..Desired::default() }, &[]);
        let mut there = wanted.clone();
        assert!(
            listing::side_by_side("", &wanted, &there)
                .starts_with("# 3 desired, 3 there: all as it should be\n")
        );
        there.remove("neighbour 10.244.2.0 mac 02:00:00:00:00:02 dev heddle.1");
        there.insert("route 10.244.9.0/24 via 10.244.9.0 dev heddle.1".into());
        let want = "# 3 desired, 3 there: 1 missing, 1 too much\n\
                    \x20 forwarding 02:00:00:00:00:02 to 192.0.2.2 dev heddle.1\n\
                    + neighbour 10.244.2.0 mac 02:00:00:00:00:02 dev heddle.1\n\
                    \x20 route 10.244.2.0/24 via 10.244.2.0 dev heddle.1 mtu 1400\n\
                    - route 10.244.9.0/24 via 10.244.9.0 dev heddle.1\n";
        assert_eq!(listing::side_by_side("", &wanted, &there), want);
    }
}
