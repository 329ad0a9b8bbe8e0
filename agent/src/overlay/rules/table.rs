//! The nftables table as it should be, as plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netns_tools::iptables::Family;
use netns_tools::nftables::{
    self, Base, ChainKind, Element, Field, Hook, Key, NatFlags, Rule, Set, Table, Transport, Type,
    priority,
};

use super::input::{RuleInput, Tunnel};
use super::ranges::{self, Range};

/// The table, all of which is ours.
pub const TABLE: Table<'static> = Table::new(nftables::Family::Inet, "heddle-overlay");
/// Its comment.
pub const COMMENT: &str = "heddle-agent: masquerading and the guard of the tunnel";
/// The chain whose counters tell of dropped datagrams.
pub const TUNNEL: &str = "tunnel";
/// Behind the chains of iptables and of the proxy.
const AFTER_OTHERS: i32 = priority::SRCNAT + 10;

/// The sets of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SetName {
    /// What pods reach under their own addresses: ranges.
    Inside(Who),
    /// Who may send through the tunnel: addresses.
    Nodes(Who),
}

/// A family that can be ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Who {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// As iptables has it.
    pub const fn family(self) -> Family {
        match self {
            Self::V4 => Family::V4,
            Self::V6 => Family::V6,
        }
    }

    const fn key(self) -> &'static [Type] {
        match self {
            Self::V4 => &[Type::Ipv4Addr],
            Self::V6 => &[Type::Ipv6Addr],
        }
    }

    const fn saddr(self) -> Field {
        match self {
            Self::V4 => Field::IpSaddr,
            Self::V6 => Field::Ip6Saddr,
        }
    }

    const fn daddr(self) -> Field {
        match self {
            Self::V4 => Field::IpDaddr,
            Self::V6 => Field::Ip6Daddr,
        }
    }
}

impl SetName {
    /// All sets.
    pub const ALL: [Self; 4] =
        [Self::Inside(Who::V4), Self::Inside(Who::V6), Self::Nodes(Who::V4), Self::Nodes(Who::V6)];

    /// As rules name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inside(Who::V4) => "inside4",
            Self::Inside(Who::V6) => "inside6",
            Self::Nodes(Who::V4) => "nodes4",
            Self::Nodes(Who::V6) => "nodes6",
        }
    }

    /// As it is made.
    pub const fn definition(self) -> Set<'static> {
        let (who, intervals) = match self {
            Self::Inside(who) => (who, true),
            Self::Nodes(who) => (who, false),
        };
        Set { intervals, ..Set::new(self.name(), who.key()) }
    }
}

/// What a set holds: ranges; an address is one from itself to itself.
pub type Ranges = BTreeSet<Range>;

/// As an element of the set.
pub fn element(set: SetName, (first, last): Range) -> Element {
    match set {
        SetName::Inside(_) => Element::range(Key::new(first), Key::new(last)),
        SetName::Nodes(_) => Element::new(Key::new(first)),
    }
}

/// A chain of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// Where packets come from the kernel; `None`: another chain leads here.
    pub base: Option<Base>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// The whole table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Those that are jumped to first.
    pub chains: Vec<Chain>,
    /// Every set, also an empty one.
    pub sets: BTreeMap<SetName, Ranges>,
}

impl Desired {
    /// What the table must hold. Pure.
    pub fn of(input: &RuleInput) -> Self {
        let base = |kind, hook, priority| Some(Base { kind, hook, priority, policy: None });
        let after = base(ChainKind::Nat, Hook::Postrouting, AFTER_OTHERS);
        let mut chains =
            vec![Chain { name: "postrouting", base: after, rules: postrouting(input) }];
        if let Some(tunnel) = &input.tunnel {
            chains.push(Chain { name: TUNNEL, base: None, rules: guard() });
            let rules = vec![TABLE.rule().dport_eq(Transport::Udp, tunnel.port).jump(TUNNEL)];
            let first = base(ChainKind::Filter, Hook::Input, priority::RAW);
            chains.push(Chain { name: "input", base: first, rules });
        }
        Self { chains, sets: SetName::ALL.map(|set| (set, content(set, input))).into() }
    }

    /// Who may send through the tunnel.
    pub fn nodes(&self) -> impl Iterator<Item = IpAddr> {
        let sets = self.sets.iter().filter(|(set, _)| matches!(set, SetName::Nodes(_)));
        sets.flat_map(|(_, ranges)| ranges.iter().map(|(address, _)| *address))
    }

    /// Lets these addresses send through the tunnel, too.
    pub fn admit(&mut self, nodes: impl IntoIterator<Item = IpAddr>) {
        for address in nodes {
            self.sets
                .entry(SetName::Nodes(Who::of(address)))
                .or_default()
                .insert((address, address));
        }
    }
}

fn content(set: SetName, input: &RuleInput) -> Ranges {
    match set {
        SetName::Inside(who) => ranges::joined(input.inside(), who.family()),
        SetName::Nodes(who) => {
            let senders = input.senders().into_iter().filter(|address| Who::of(*address) == who);
            senders.map(|address| (address, address)).collect()
        }
    }
}

fn postrouting(input: &RuleInput) -> Vec<Rule> {
    let mut rules: Vec<Rule> = to_many().map(|range| TABLE.rule().daddr_eq(range).return_()).into();
    if input.masquerade {
        rules.extend(Who::ALL.into_iter().flat_map(|who| to_outside(who, input)));
    }
    let tunnels = input.tunnel.iter().flat_map(|Tunnel { devices, .. }| devices);
    rules.extend(tunnels.flat_map(|device| Who::ALL.map(|who| into_tunnel(device, who))));
    rules
}

/// Destinations that nobody translates: all of a link, and many.
fn to_many() -> [IpNetwork; 3] {
    let network = |address: IpAddr, prefix| {
        // the prefixes are of their families
        IpNetwork::new(address, prefix).unwrap_or_else(|_| address.into())
    };
    [
        network([224, 0, 0, 0].into(), 4),
        network([255; 4].into(), 32),
        network([0xff00, 0, 0, 0, 0, 0, 0, 0].into(), 8),
    ]
}

fn to_outside(who: Who, input: &RuleInput) -> Vec<Rule> {
    let local = ranges::covering(input.local.iter().copied(), who.family());
    let rule = |range| {
        let rule = TABLE.rule().saddr_eq(range);
        let rule = rule.not_in_set(&[who.daddr()], SetName::Inside(who).name());
        rule.masquerade_with(NatFlags::FULLY_RANDOM).comment("pods of this node to the outside")
    };
    local.into_iter().map(rule).collect()
}

fn into_tunnel(device: &str, who: Who) -> Rule {
    let inside = SetName::Inside(who).name();
    let rule = TABLE.rule().oifname_eq(device).not_in_set(&[who.saddr()], inside);
    let rule = rule.in_set(&[who.daddr()], inside).masquerade_with(NatFlags::FULLY_RANDOM);
    rule.comment("not from pods: answers must come back through the tunnel")
}

fn guard() -> Vec<Rule> {
    let from = |who: Who| TABLE.rule().in_set(&[who.saddr()], SetName::Nodes(who).name()).return_();
    let own = TABLE.rule().iifname_eq("lo").counter().drop();
    let rest = TABLE.rule().counter().drop().comment("from no node");
    vec![own.comment("from this host"), from(Who::V4), from(Who::V6), rest]
}
