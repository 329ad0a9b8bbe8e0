//! The nftables rules of a container's mappings, over netlink. Tables, chains and comments are the reference's, so that either suite
//! removes what the other added; the family `ip6` has the same but the line with 127.0.0.1:
//!
//! ```text
//! table ip cni_hostport {
//!     comment "CNI portmap plugin"
//!     chain hostports {
//!         tcp dport 8080 dnat to 10.1.0.2:80 comment "c1"
//!         ip daddr 192.0.2.1 tcp dport 8081 dnat to 10.1.0.2:81 comment "c1"
//!     }
//!     chain hostip_hostports { }
//!     chain hostports_all { jump hostip_hostports; jump hostports }
//!     chain prerouting { type nat hook prerouting priority dstnat; fib daddr type local jump hostports_all }
//!     chain output { type nat hook output priority dstnat; fib daddr type local jump hostports_all }
//!     chain masquerading {
//!         type nat hook postrouting priority srcnat
//!         ip saddr 10.1.0.2 ip daddr 10.1.0.2 masquerade comment "c1"
//!         ip saddr 127.0.0.1 ip daddr 10.1.0.2 masquerade comment "c1"
//!     }
//!     chain of-<network>-<container> { comment "c1" }
//! }
//! ```
//!
//! The last chain is ours alone: nothing leads to it. The rules' comments do not say of which network a container is, and GC must
//! know. Conditions are part of the mappings' own rules; the reference puts those of the last ADD before everybody's.
//!
//! Each change is one transaction, made only if nobody has changed anything since the rules were read.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use cni::Error;
use ipnetwork::IpNetwork;
use netns_tools::iptables;
use netns_tools::nftables::{
    Batch, COMMENT_MAX, Chain, ChainKind, Expr, Family, Hook, ListedChain, ListedRule, NatKind,
    NftError, Nftables, Rule, Table, Transport, priority,
};

use super::condition;
use super::conf::{Conf, Mapping, Protocol, family_of};
use super::flows::Stale;
use crate::code;
use crate::nft::{failed, hash, open};

const NAME: &str = "cni_hostport";
const COMMENT: &str = "CNI portmap plugin";
const MAPPINGS: &str = "hostports";
/// Where versions of the reference put mappings with a host address.
const OLD_MAPPINGS: &str = "hostip_hostports";
const ALL: &str = "hostports_all";
const MASQUERADING: &str = "masquerading";
/// The chains that hold containers' rules.
const HOLDERS: [&str; 3] = [MAPPINGS, OLD_MAPPINGS, MASQUERADING];
const HOOKS: [(&str, Hook); 2] = [("prerouting", Hook::Prerouting), ("output", Hook::Output)];
/// How often a change is planned anew when others change rules meanwhile.
const TRIES: usize = 50;

/// What the rules of a container in a network are known by.
#[derive(Clone, Debug)]
pub struct Names {
    /// The comment of its rules.
    comment: String,
    /// The chain that says of which network it is.
    owner: String,
}

impl Names {
    /// The names for a container in a network.
    pub fn new(network: &str, container_id: &str) -> Self {
        // ASCII by the protocol's rules, so every byte is a character's boundary.
        let comment = container_id[..container_id.len().min(COMMENT_MAX)].to_owned();
        let owner = format!("{}{}", owners_of(network), hash(&format!("{network}{container_id}")));
        Self { comment, owner }
    }
}

/// How the names of a network's owner chains begin.
fn owners_of(network: &str) -> String {
    format!("of-{}-", hash(network))
}

fn table(family: iptables::Family) -> Table<'static> {
    Table::new(
        match family {
            iptables::Family::V4 => Family::Ip,
            iptables::Family::V6 => Family::Ip6,
        },
        NAME,
    )
}

/// A table as it is: nothing in it if it is not there.
#[derive(Debug, Default)]
struct Listed {
    generation: u32,
    chains: Vec<ListedChain>,
    rules: Vec<ListedRule>,
}

impl Listed {
    fn read(nft: &mut Nftables, table: Table<'_>) -> Result<Self, NftError> {
        // First the generation: what is read then is of it, or the batch is refused.
        let generation = nft.generation()?;
        Ok(Self { generation, chains: nft.chains(table)?, rules: nft.rules(table, None)? })
    }

    /// Changes that are made only if nobody has made others since.
    fn batch(&self) -> Batch {
        Batch::at_generation(self.generation)
    }

    fn of_chain(&self, chain: &str) -> impl Iterator<Item = &ListedRule> {
        self.rules.iter().filter(move |rule| rule.chain == chain)
    }

    /// The rules of a container in a network. Comments do not tell networks apart: those of a container that is in another one,
    /// too, are told by the container's address; without one they stay for the other network's DEL.
    fn rules_in_network<'a>(
        &'a self,
        names: &'a Names,
        address: Option<IpAddr>,
    ) -> impl Iterator<Item = &'a ListedRule> {
        let elsewhere = self.chains.iter().any(|chain| {
            is_owner(chain)
                && chain.name != names.owner
                && chain.comment.as_deref() == Some(&names.comment)
        });
        let address = address.map(octets);
        self.rules_of(&names.comment).filter(move |rule| {
            let leads_to = |own: &Vec<u8>| Meaning::of_listed(rule).values.contains(own);
            !elsewhere || address.as_ref().is_some_and(leads_to)
        })
    }

    /// A container's rules, of whatever network.
    fn rules_of(&self, comment: &str) -> impl Iterator<Item = &ListedRule> {
        self.rules.iter().filter(move |rule| {
            HOLDERS.contains(&rule.chain.as_str()) && rule.comment.as_deref() == Some(comment)
        })
    }
}

/// The rules that lead one address's mappings to it.
pub struct Wanted<'a> {
    conf: &'a Conf,
    container: IpAddr,
    family: iptables::Family,
    names: &'a Names,
}

impl<'a> Wanted<'a> {
    /// The rules for the container's address.
    pub fn new(conf: &'a Conf, container: IpNetwork, names: &'a Names) -> Self {
        let container = container.ip();
        Self { conf, container, family: family_of(container), names }
    }

    fn table(&self) -> Table<'static> {
        table(self.family)
    }

    /// Makes what is missing; the container's own rules afresh.
    pub fn set_up(&self) -> Result<(), Error> {
        let own = self.own_rules()?;
        let done = change(self.table(), |listed| self.additions(listed, &own))?;
        done.ok_or_else(unsupported)
    }

    fn additions(&self, listed: &Listed, own: &[(&'static str, Rule)]) -> Batch {
        let table = self.table();
        let mut batch = listed.batch();
        batch.add_table_with(table, Some(COMMENT));
        for chain in [MAPPINGS, OLD_MAPPINGS, ALL] {
            batch.add_chain(table, &Chain::new(chain));
        }
        for (chain, hook) in HOOKS {
            let base = Chain::base(chain, ChainKind::Nat, hook, priority::DSTNAT);
            batch.add_chain(table, &base);
        }
        if self.conf.snat {
            let (hook, priority) = (Hook::Postrouting, priority::SRCNAT);
            batch.add_chain(table, &Chain::base(MASQUERADING, ChainKind::Nat, hook, priority));
        }
        for (chain, rules) in shared(table) {
            if !is_exactly(listed, chain, &rules) {
                batch.flush_chain(table, chain);
                for rule in &rules {
                    batch.add_rule(table, chain, rule);
                }
            }
        }
        for rule in listed.rules_in_network(self.names, Some(self.container)) {
            batch.delete_rule(table, &rule.chain, rule.handle);
        }
        for (chain, rule) in own {
            batch.add_rule(table, chain, rule);
        }
        let owner = Chain { comment: Some(&self.names.comment), ..Chain::new(&self.names.owner) };
        batch.add_chain(table, &owner);
        batch
    }

    /// Every difference between the kernel's rules and what ADD made.
    pub fn differences(&self) -> Result<Vec<String>, Error> {
        let own = self.own_rules()?;
        let table = self.table();
        let listed = open()?.map(|mut nft| Listed::read(&mut nft, table)).transpose();
        let listed = listed.map_err(|e| failed(&e))?.unwrap_or_default();
        let mut found = Vec::new();
        for (chain, rules) in shared(table) {
            let there: Vec<_> = listed.of_chain(chain).collect();
            if !rules.iter().all(|rule| there.iter().any(|own| own.does(rule))) {
                found.push(format!("chain {chain} does not lead to the mappings"));
            }
        }
        let mut present: Vec<_> =
            listed.rules_of(&self.names.comment).map(Meaning::of_listed).collect();
        for (chain, rule) in own {
            let wanted = Meaning::of(rule.expressions());
            match present.iter().position(|own| *own == wanted) {
                Some(at) => drop(present.swap_remove(at)),
                None => found.push(format!("a rule of the container in chain {chain} is missing")),
            }
        }
        Ok(found)
    }

    /// The container's rules.
    fn own_rules(&self) -> Result<Vec<(&'static str, Rule)>, Error> {
        let mut rules = Vec::new();
        for mapping in self.conf.mappings.iter().filter(|mapping| mapping.is_for(self.family)) {
            rules.push((MAPPINGS, self.mapping(mapping)?));
        }
        if self.conf.snat {
            rules.extend(self.masqueraded().map(|rule| (MASQUERADING, rule)));
        }
        Ok(rules)
    }

    fn rule(&self) -> Rule {
        self.table().rule()
    }

    fn mapping(&self, mapping: &Mapping) -> Result<Rule, Error> {
        let mut rule = condition::rule(self.table().family, self.conf.conditions(self.family))?;
        if let Some(ip) = mapping.destination() {
            rule = rule.daddr_eq(ip);
        }
        Ok(rule
            .dport_eq(transport(mapping.protocol), mapping.host_port)
            .dnat(self.container, Some(mapping.container_port))
            .comment(&self.names.comment))
    }

    /// What goes to the container from itself and from the host's loopback, for which there is no way back otherwise; or from
    /// anywhere.
    fn masqueraded(&self) -> impl Iterator<Item = Rule> {
        let sources = match self.family {
            _ if self.conf.masquerade_all => vec![None],
            iptables::Family::V4 => vec![Some(self.container), Some(Ipv4Addr::LOCALHOST.into())],
            iptables::Family::V6 => vec![Some(self.container)],
        };
        sources.into_iter().map(|source| {
            let rule = source.map_or_else(|| self.rule(), |ip| self.rule().saddr_eq(ip));
            rule.daddr_eq(self.container).masquerade().comment(&self.names.comment)
        })
    }
}

fn transport(protocol: Protocol) -> Transport {
    match protocol {
        Protocol::Sctp => Transport::Sctp,
        Protocol::Tcp => Transport::Tcp,
        Protocol::Udp => Transport::Udp,
    }
}

/// The chains that lead to the mappings, with their rules.
fn shared(table: Table<'_>) -> Vec<(&'static str, Vec<Rule>)> {
    let both = vec![table.rule().jump(OLD_MAPPINGS), table.rule().jump(MAPPINGS)];
    let mut chains = vec![(ALL, both)];
    let local = || vec![table.rule().daddr_is_local().jump(ALL)];
    chains.extend(HOOKS.map(|(chain, _)| (chain, local())));
    chains
}

fn is_exactly(listed: &Listed, chain: &str, rules: &[Rule]) -> bool {
    let there: Vec<_> = listed.of_chain(chain).collect();
    there.len() == rules.len() && there.iter().zip(rules).all(|(own, rule)| own.does(rule))
}

/// What a rule compares with and translates to, whatever the form: the reference writes `ip protocol tcp th dport 80`, and we
/// `tcp dport 80`.
#[derive(Debug, PartialEq, Eq)]
struct Meaning {
    values: Vec<Vec<u8>>,
    ends: &'static str,
}

impl Meaning {
    fn of_listed(rule: &ListedRule) -> Self {
        Self::of(&rule.expressions)
    }

    fn of(expressions: &[Expr]) -> Self {
        let (mut values, mut ends) = (Vec::new(), "");
        for expression in expressions {
            match expression {
                Expr::Cmp { value, .. } | Expr::Immediate { value, .. } => {
                    values.push(value.as_slice().to_vec());
                }
                Expr::Nat { kind: NatKind::Destination, .. } => ends = "dnat",
                Expr::Masquerade { .. } => ends = "masquerade",
                _ => {}
            }
        }
        values.sort();
        Self { values, ends }
    }
}

/// The UDP port that a rule translates, if it does, and the host's address if it is but one. A port is the first value of two bytes
/// that is compared, a protocol that of one byte.
fn udp_port(rule: &ListedRule, family: iptables::Family) -> Option<Stale> {
    let compared: Vec<_> = rule
        .expressions
        .iter()
        .filter_map(|expression| match expression {
            Expr::Cmp { value, .. } => Some(value.as_slice()),
            _ => None,
        })
        .collect();
    let is_udp = compared.contains(&[netns_tools::conntrack::UDP].as_slice());
    let port = compared.iter().find_map(|value| <[u8; 2]>::try_from(*value).ok());
    let port = port.filter(|_| is_udp && Meaning::of_listed(rule).ends == "dnat")?;
    // Which of the addresses is the host's is not worth finding out: with a condition there are two.
    Some(Stale { family, to: None, port: u16::from_be_bytes(port) })
}

/// Removes a container's rules of a family, and adds the UDP ports that they were for. `address`: the container's, if it is known.
/// A host without nftables has none.
pub fn tear_down(
    family: iptables::Family,
    names: &Names,
    address: Option<IpAddr>,
    stale: &mut Vec<Stale>,
) -> Result<(), Error> {
    let mut found = Vec::new();
    change(table(family), |listed| {
        let (mut batch, mut ports) = (listed.batch(), Vec::new());
        remove_rules(listed.rules_in_network(names, address), family, &mut batch, &mut ports);
        if listed.chains.iter().any(|chain| chain.name == names.owner) {
            batch.delete_chain(table(family), &names.owner);
        }
        found = ports;
        batch
    })?;
    stale.append(&mut found);
    Ok(())
}

/// Makes the changes that follow from what there is, anew when that has changed meanwhile. `None`: this kernel has no nftables.
fn change(table: Table<'_>, mut plan: impl FnMut(&Listed) -> Batch) -> Result<Option<()>, Error> {
    let Some(mut nft) = open()? else { return Ok(None) };
    for attempt in 1.. {
        let listed = Listed::read(&mut nft, table).map_err(|e| failed(&e))?;
        match nft.commit(&plan(&listed)) {
            Err(NftError::Changed) if attempt < TRIES => {}
            done => {
                done.map_err(|e| failed(&e))?;
                break;
            }
        }
    }
    Ok(Some(()))
}

/// The error of a host without nftables.
pub fn unsupported() -> Error {
    let details = "this kernel has no nf_tables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_IPV4; `modprobe nf_tables`): use the backend \"iptables\"";
    Error::new(code::RULES, "cannot map ports: nftables cannot be used").with_details(details)
}

/// Removes the rules of a network's containers that are not among the valid ones (`valid`: their names), and adds the UDP ports
/// that they were for.
pub fn collect_garbage(
    family: iptables::Family,
    network: &str,
    valid: &[Names],
    stale: &mut Vec<Stale>,
) -> Result<(), Error> {
    let valid: BTreeSet<_> = valid.iter().map(|names| names.owner.as_str()).collect();
    let prefix = owners_of(network);
    let mut found = Vec::new();
    change(table(family), |listed| {
        let (mut batch, mut ports) = (listed.batch(), Vec::new());
        let owners = || listed.chains.iter().filter(|chain| is_owner(chain));
        let gone = |chain: &ListedChain| {
            chain.name.starts_with(&prefix) && !valid.contains(chain.name.as_str())
        };
        let alive: BTreeSet<_> = owners()
            .filter(|chain| !gone(chain))
            .filter_map(|chain| chain.comment.as_deref())
            .collect();
        for chain in owners().filter(|chain| gone(chain)) {
            // A container of the same name that is alive in another network has its rules under the same comment.
            if let Some(comment) = chain.comment.as_deref().filter(|name| !alive.contains(name)) {
                remove_rules(listed.rules_of(comment), family, &mut batch, &mut ports);
            }
            batch.delete_chain(table(family), &chain.name);
        }
        found = ports;
        batch
    })?;
    stale.append(&mut found);
    Ok(())
}

fn remove_rules<'a>(
    rules: impl Iterator<Item = &'a ListedRule>,
    family: iptables::Family,
    batch: &mut Batch,
    ports: &mut Vec<Stale>,
) {
    for rule in rules {
        batch.delete_rule(table(family), &rule.chain, rule.handle);
        ports.extend(udp_port(rule, family));
    }
}

/// Whether a chain says of which network a container is.
fn is_owner(chain: &ListedChain) -> bool {
    chain.name.starts_with("of-") && chain.base.is_none()
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
