//! The links of attachments follow the lease's MTU: both ends of each veth pair, the link by which `bandwidth` limits it, and the bridge.
//!
//! Which links are ours is told by the tag of their host's end and by what is remembered of the attachment; where the container's
//! end is, by the latter. Nothing else is touched. The host's end comes last: one that has the right MTU belongs to a pair that
//! is done.

use std::collections::BTreeMap;
use std::fmt;

use netns_tools::cause::one_line;
use netns_tools::{Link, NetNs, Netlink};

use super::record::{Record, Records};
use crate::tag;

/// What became of a link.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has the MTU now.
    Changed {
        /// Which one.
        link: String,
        /// What it had.
        from: u32,
        /// What it has.
        to: u32,
    },
    /// It keeps what it has.
    Kept {
        /// Which one.
        link: String,
        /// Why.
        reason: String,
    },
    /// Pods of this node do not reach each other: some are on a bridge, where they look for all others, and some are not.
    Apart {
        /// How many are on a bridge.
        bridged: usize,
        /// How many are routed.
        routed: usize,
    },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { link, from, to } => write!(f, "changed {link}: MTU {from} -> {to}"),
            Self::Kept { link, reason } => write!(f, "kept    {link}: {reason}"),
            Self::Apart { bridged, routed } => write!(
                f,
                "apart   {bridged} pods on a bridge, {routed} routed: on this node the ones do not reach the others; start those of the \
                 former mode anew"
            ),
        }
    }
}

/// Gives `mtu` to all attachments of a network that follow the lease. What has it already is not told; that there are attachments of
/// both modes is.
pub fn follow(records: &Records, network: &str, mtu: u32) -> Vec<Outcome> {
    let links = match Netlink::open().and_then(|mut net| Ok((net.links()?, net))) {
        Ok((links, net)) => Follow { network, mtu, links, net, outcomes: Vec::new() },
        Err(error) => return vec![kept(format!("network {network}"), &error)],
    };
    links.run(records)
}

struct Follow<'a> {
    network: &'a str,
    mtu: u32,
    links: Vec<Link>,
    net: Netlink,
    outcomes: Vec<Outcome>,
}

impl Follow<'_> {
    fn run(mut self, records: &Records) -> Vec<Outcome> {
        let is_own = |link: &&Link| {
            let tag = link.alias.as_deref();
            link.kind.as_deref() == Some("veth")
                && tag.is_some_and(|tag| tag::is_of_network(tag, self.network))
        };
        let own: Vec<Link> = self.links.iter().filter(is_own).cloned().collect();
        self.outcomes.extend(apart(&own));
        let bridges = self.bridges(&own);
        // mostly there is nothing to do, and then no file is read
        if own.iter().all(|link| link.mtu == self.mtu) && bridges.is_empty() {
            return self.outcomes;
        }
        let known = match records.all() {
            Ok(all) => all.into_iter().map(|record| (record.tag(), record)).collect(),
            Err(error) => {
                self.outcomes.push(kept(format!("network {}", self.network), &error));
                return self.outcomes;
            }
        };
        let mtu = self.mtu;
        for link in own.iter().filter(|link| link.mtu != mtu) {
            self.follow_pair(link, &known);
        }
        let follows = |link: &Link| record_of(link, &known).is_some_and(|one| one.follows_mtu);
        for bridge in bridges {
            let mut ports = own.iter().filter(|link| link.master == Some(bridge.index));
            if ports.all(follows) {
                self.follow_bridge(&bridge);
            }
        }
        self.outcomes
    }

    /// The bridges with another MTU whose every port is of this network.
    fn bridges(&self, own: &[Link]) -> Vec<Link> {
        let is_meant = |bridge: &&Link| {
            let mut ports = self.links.iter().filter(|link| link.master == Some(bridge.index));
            let any = own.iter().any(|link| link.master == Some(bridge.index));
            let all = ports.all(|port| own.iter().any(|link| link.index == port.index));
            bridge.kind.as_deref() == Some("bridge") && any && all
        };
        let found = self.links.iter().filter(is_meant);
        let other = |bridge: &&Link| {
            let mut ports = own.iter().filter(|link| link.master == Some(bridge.index));
            bridge.mtu != self.mtu || ports.any(|port| port.mtu != self.mtu)
        };
        found.filter(other).cloned().collect()
    }

    fn follow_pair(&mut self, host: &Link, known: &BTreeMap<String, Record>) {
        let Some(record) = record_of(host, known) else {
            let tag = host.alias.clone().unwrap_or_default();
            let reason = format!("nothing is remembered of {tag}");
            return self.outcomes.push(Outcome::Kept { link: host.name.clone(), reason });
        };
        if !record.follows_mtu {
            return;
        }
        let name = format!("{} with {} of {}", host.name, record.ifname, record.container_id);
        match self.set_pair(host, record) {
            Ok(()) => {
                let changed = Outcome::Changed { link: name, from: host.mtu, to: self.mtu };
                self.outcomes.push(changed);
            }
            Err(error) => self.outcomes.push(kept(name, &*error)),
        }
    }

    fn set_pair(&mut self, host: &Link, record: &Record) -> Result<(), Box<dyn std::error::Error>> {
        let ns = NetNs::open(&record.netns)?;
        let mut inside = Netlink::open_in(&ns)?;
        // the namespace's path, and the name in it, may be another container's by now
        let end = inside
            .link(&record.ifname)?
            .filter(|end| end.peer_index == Some(host.index) && host.peer_index == Some(end.index));
        let end =
            end.ok_or_else(|| NotTheEnd(record.ifname.clone(), ns.path().display().to_string()))?;
        // what somebody has made smaller inside stays so if it fits
        if end.mtu > self.mtu || end.mtu == host.mtu {
            inside.set_mtu(end.index, self.mtu)?;
        }
        let is_between =
            |link: &&Link| link.kind.as_deref() == Some("ifb") && link.alias == host.alias;
        for ifb in self.links.iter().filter(is_between) {
            self.net.set_mtu(ifb.index, self.mtu)?;
        }
        Ok(self.net.set_mtu(host.index, self.mtu)?)
    }

    /// Most follow their ports by themselves.
    fn follow_bridge(&mut self, bridge: &Link) {
        let link = format!("bridge {}", bridge.name);
        let is_kept = |outcome: &Outcome| matches!(outcome, Outcome::Kept { .. });
        if bridge.mtu < self.mtu && self.outcomes.iter().any(is_kept) {
            // what is larger than a port's MTU is dropped there without a word
            let reason = "a link of this network has a smaller MTU".to_owned();
            return self.outcomes.push(Outcome::Kept { link, reason });
        }
        let set = match self.net.link_by_index(bridge.index) {
            Ok(Some(now)) if now.mtu != self.mtu => self.net.set_mtu(bridge.index, self.mtu),
            Ok(Some(_)) if bridge.mtu == self.mtu => return,
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        self.outcomes.push(match set {
            Ok(()) => Outcome::Changed { link, from: bridge.mtu, to: self.mtu },
            Err(error) => kept(link, &error),
        });
    }
}

/// Whether there are attachments of both modes.
fn apart(own: &[Link]) -> Option<Outcome> {
    let bridged = own.iter().filter(|link| link.master.is_some()).count();
    let routed = own.len() - bridged;
    (bridged > 0 && routed > 0).then_some(Outcome::Apart { bridged, routed })
}

fn record_of<'a>(link: &Link, known: &'a BTreeMap<String, Record>) -> Option<&'a Record> {
    known.get(link.alias.as_deref()?)
}

/// What the container's end should be is something else.
#[derive(Debug, thiserror::Error)]
#[error("its other end is not {0:?} in {1}")]
struct NotTheEnd(String, String);

fn kept(link: String, error: &(dyn std::error::Error + 'static)) -> Outcome {
    Outcome::Kept { link, reason: one_line(error) }
}
