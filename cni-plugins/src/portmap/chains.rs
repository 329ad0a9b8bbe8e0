//! The iptables rules of a container's mappings. Chains, rules, their order and comments are the reference's, so that either
//! suite removes what the other added:
//!
//! ```text
//! -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
//! -A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
//! -A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
//! -A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"net\" id: \"c1\"" -m multiport --dports 8080 -j CNI-DN-8f…
//! -A CNI-DN-8f… -s 10.1.0.0/24 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
//! -A CNI-DN-8f… -s 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
//! -A CNI-DN-8f… -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.1.0.2:80
//! -A CNI-HOSTPORT-SETMARK -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark 0x2000/0x2000
//! -A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
//! ```

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use cni::{Error, ErrorCode};
use data_encoding::HEXLOWER;
use ipnetwork::IpNetwork;
use netns_tools::iptables::{Batch, Family, Table, join_words, quote, split_words};
use sha2::{Digest, Sha512};

use super::conf::{Conf, Protocol, SetMark, family_of};
use crate::rules::{Missing, value_of};

/// The table that all of it is in.
pub const TABLE: &str = "nat";
const DNAT: &str = "CNI-HOSTPORT-DNAT";
const SET_MARK: &str = "CNI-HOSTPORT-SETMARK";
const MASQUERADE: &str = "CNI-HOSTPORT-MASQ";
/// Ports in one rule: `XT_MULTI_PORTS` (`linux/netfilter/xt_multiport.h`).
const PORTS_PER_RULE: usize = 15;
/// What the kernel takes for a chain's name and for a comment, less the final zero byte.
const MAX_CHAIN: usize = 28;
const MAX_COMMENT: usize = 255;

/// What the rules of a container in a network are known by. (The reference does not put the interface's name into the hash,
/// so of two interfaces of a container in one network only the last one has mappings.)
#[derive(Clone, Debug)]
pub struct Names {
    /// The container's own chain.
    pub chain: String,
    /// Where versions before 0.7 put the masquerading rules.
    old_chain: String,
    comment: String,
}

impl Names {
    /// The names for a container in a network.
    pub fn new(network: &str, container_id: &str) -> Self {
        let hash = HEXLOWER.encode(&Sha512::digest(format!("{network}{container_id}")));
        let chain = |prefix: &str| {
            let mut chain = format!("{prefix}{hash}");
            chain.truncate(MAX_CHAIN);
            chain
        };
        // Both names are ASCII by the protocol's rules, so every byte is a character's boundary.
        let mut comment = format!("{}{container_id}\"", comment_start(network));
        comment.truncate(MAX_COMMENT);
        Self { chain: chain("CNI-DN-"), old_chain: chain("CNI-SN-"), comment }
    }
}

impl Names {
    /// Every chain that may be the container's.
    pub fn chains(&self) -> [&str; 2] {
        [&self.chain, &self.old_chain]
    }
}

/// How the comments of a network's rules begin.
fn comment_start(network: &str) -> String {
    format!("dnat name: \"{network}\" id: \"")
}

/// The rules that lead one address's mappings to it.
pub struct Wanted<'a> {
    conf: &'a Conf,
    container: IpNetwork,
    family: Family,
    names: &'a Names,
}

/// A rule that leads to the container's chain.
struct Entry<'a> {
    matches: String,
    conditions: String,
    chain: &'a str,
}

impl Entry<'_> {
    fn rule(&self) -> String {
        let Self { matches, conditions, chain } = self;
        let separator = if conditions.is_empty() { "" } else { " " };
        format!("{matches}{separator}{conditions} -j {chain}")
    }
}

impl<'a> Wanted<'a> {
    /// `container` is the address with its network's prefix length.
    pub fn new(conf: &'a Conf, container: IpNetwork, names: &'a Names) -> Self {
        Self { conf, container, family: family_of(container.ip()), names }
    }

    /// What is missing in `table`. The container's own chain is made afresh.
    pub fn additions(&self, table: &Table) -> Result<Batch, Error> {
        if let SetMark::External(chain) = &self.conf.mark
            && self.conf.snat
            && !table.chains.contains_key(chain)
        {
            return Err(no_external_chain(chain, self.family));
        }
        let mut missing = Missing::new(TABLE, table);
        for (chain, rule, place) in self.shared() {
            match place {
                Place::Last => missing.last(chain, &rule),
                Place::First => missing.first(chain, &rule),
                Place::Chain => missing.chain(chain),
            }
        }
        let mut batch = missing.batch;
        for (chain, rule) in references(table, &[&self.names.chain]) {
            batch.delete(TABLE, &chain, &rule);
        }
        batch.declare_chain(TABLE, &self.names.chain);
        for rule in self.own_rules() {
            batch.append(TABLE, &self.names.chain, &rule);
        }
        for entry in self.entries() {
            batch.append(TABLE, DNAT, &entry.rule());
        }
        Ok(batch)
    }

    /// Every difference between `table` and what ADD put there.
    pub fn differences(&self, table: &Table) -> Vec<String> {
        let mut found = Vec::new();
        let mut expect = |chain: &str, rule: &str, there: bool| {
            if !there {
                found.push(format!("the rule {rule} in chain {chain} is missing"));
            }
        };
        for (chain, rule, place) in self.shared() {
            if place != Place::Chain {
                expect(chain, &rule, table.contains_rule(chain, &rule));
            }
        }
        for rule in self.own_rules() {
            let chain = &self.names.chain;
            expect(chain, &rule, table.contains_rule(chain, &rule));
        }
        for entry in self.entries() {
            expect(DNAT, &entry.rule(), has_entry(table, &entry));
        }
        found
    }

    /// The chains and rules that all containers share.
    fn shared(&self) -> Vec<(&'static str, String, Place)> {
        let mut all = Vec::new();
        if let SetMark::Bit(bit) = self.conf.mark
            && self.conf.snat
        {
            let mark = format!("{0:#x}/{0:#x}", 1_u64 << bit);
            let set = format!(
                "-m comment --comment {} -j MARK --set-xmark {mark}",
                quote("CNI portfwd masquerade mark")
            );
            let jump = format!(
                "-m comment --comment {} -j {MASQUERADE}",
                quote("CNI portfwd requiring masquerade")
            );
            all.push((SET_MARK, String::new(), Place::Chain));
            all.push((SET_MARK, set, Place::Last));
            all.push((MASQUERADE, String::new(), Place::Chain));
            all.push((MASQUERADE, format!("-m mark --mark {mark} -j MASQUERADE"), Place::Last));
            // Before what `ipMasq` puts there, whose exceptions would keep hairpin connections from being masqueraded.
            all.push(("POSTROUTING", jump, Place::First));
        }
        all.push((DNAT, String::new(), Place::Chain));
        for hook in ["PREROUTING", "OUTPUT"] {
            all.push((hook, format!("-m addrtype --dst-type LOCAL -j {DNAT}"), Place::Last));
        }
        all
    }

    /// The rules of the container's own chain: marks before the translation, which ends a packet's way through it.
    fn own_rules(&self) -> Vec<String> {
        let set_mark = match &self.conf.mark {
            SetMark::Bit(_) => SET_MARK,
            SetMark::External(chain) => chain,
        };
        let mut rules = Vec::new();
        for mapping in self.conf.mappings.iter().filter(|mapping| mapping.is_for(self.family)) {
            let protocol = mapping.protocol.word();
            let port = format!("-p {protocol} -m {protocol} --dport {}", mapping.host_port);
            let destination = mapping.destination();
            let destination = destination.map(|ip| format!("-d {} ", IpNetwork::from(ip)));
            let matches = format!("{}{port}", destination.unwrap_or_default());
            if self.conf.snat {
                let marked = self.masqueraded_sources();
                rules.extend(marked.iter().map(|from| format!("{from}{matches} -j {set_mark}")));
            }
            let target = SocketAddr::new(self.container.ip(), mapping.container_port);
            rules.push(format!("{matches} -j DNAT --to-destination {target}"));
        }
        rules
    }

    /// The container and its neighbours would get the answer past us; to 127.0.0.1 there is no way back. Each as the beginning
    /// of a rule.
    fn masqueraded_sources(&self) -> Vec<String> {
        if self.conf.masquerade_all {
            return vec![String::new()];
        }
        let (network, prefix) = (self.container.network(), self.container.prefix());
        let mut sources = vec![format!("-s {network}/{prefix} ")];
        if self.family == Family::V4 {
            sources.push("-s 127.0.0.1/32 ".to_owned());
        }
        sources
    }

    /// The rules that lead to the container's chain, by protocol. (As in the reference, ports are in them whatever family
    /// their host address is of; the chain knows better.)
    fn entries(&self) -> Vec<Entry<'_>> {
        let conditions = join_words(self.conf.conditions(self.family));
        let protocols: BTreeSet<Protocol> =
            self.conf.mappings.iter().map(|mapping| mapping.protocol).collect();
        let mut entries = Vec::new();
        for protocol in protocols {
            let of_protocol = self.conf.mappings.iter().filter(|m| m.protocol == protocol);
            let ports: Vec<_> = of_protocol.map(|m| m.host_port.to_string()).collect();
            for ports in ports.chunks(PORTS_PER_RULE) {
                let matches = format!(
                    "-p {} -m comment --comment {} -m multiport --dports {}",
                    protocol.word(),
                    quote(&self.names.comment),
                    ports.join(","),
                );
                let (conditions, chain) = (conditions.clone(), &self.names.chain);
                entries.push(Entry { matches, conditions, chain });
            }
        }
        entries
    }
}

/// Where a shared rule belongs, or that it is a chain to be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Chain,
    First,
    Last,
}

/// Whether an entry is there. Conditions are the operator's words, which the kernel may print in another form: then a rule that is
/// the same but for more words is taken for it.
fn has_entry(table: &Table, entry: &Entry<'_>) -> bool {
    if table.contains_rule(DNAT, &entry.rule()) {
        return true;
    }
    let wanted = split_words(&entry.matches);
    let same = |words: &[String], option| value_of(words, option) == value_of(&wanted, option);
    let there = table.chains.get(DNAT).map(|chain| chain.rules.as_slice()).unwrap_or_default();
    !entry.conditions.is_empty()
        && there.iter().any(|words| {
            value_of(words, "-j") == Some(entry.chain)
                && same(words, "-p")
                && same(words, "--dports")
                && words.len() > wanted.len() + 2
        })
}

fn no_external_chain(chain: &str, family: Family) -> Error {
    let program = crate::rules::program(family);
    let msg = format!("externalSetMarkChain {chain:?} does not exist in {program}'s nat table");
    Error::new(ErrorCode::InvalidConfig, msg)
        .with_details("who makes it must do so before the first container with mapped ports")
}

/// The rules that lead to one of the chains: the chain that they are in, and their text.
fn references(table: &Table, chains: &[&str]) -> Vec<(String, String)> {
    let leads_there = |words: &[String]| {
        ["-j", "-g"].iter().any(|jump| value_of(words, jump).is_some_and(|t| chains.contains(&t)))
    };
    let mut found = Vec::new();
    for (name, chain) in &table.chains {
        let rules = chain.rules.iter().filter(|words| leads_there(words));
        found.extend(rules.map(|words| (name.clone(), join_words(words))));
    }
    found
}

/// What is there in `table` of a container: its chains, and whatever leads to them, wherever that is.
pub fn removals(table: &Table, names: &Names) -> Batch {
    remove_chains(table, &names.chains())
}

fn remove_chains(table: &Table, chains: &[&str]) -> Batch {
    let mut batch = Batch::new();
    for (chain, rule) in references(table, chains) {
        batch.delete(TABLE, &chain, &rule);
    }
    for chain in chains {
        if table.chains.contains_key(*chain) {
            // Declared, it is emptied: only so can it be deleted.
            batch.declare_chain(TABLE, chain);
            batch.delete_chain(TABLE, chain);
        }
    }
    batch
}

/// The containers' chains of a network that are not of `valid` containers: comments tell whose they are.
pub fn abandoned(table: &Table, network: &str, valid: &BTreeSet<String>) -> Vec<String> {
    let start = comment_start(network);
    let entries = table.chains.get(DNAT).map(|chain| chain.rules.as_slice()).unwrap_or_default();
    let chains: BTreeSet<_> = entries
        .iter()
        .filter(|words| value_of(words, "--comment").is_some_and(|text| text.starts_with(&start)))
        .filter_map(|words| value_of(words, "-j"))
        .filter(|chain| chain.starts_with("CNI-DN-") && !valid.contains(*chain))
        .collect();
    chains.into_iter().map(str::to_owned).collect()
}

/// What removes chains that were found [`abandoned`].
pub fn removals_of(table: &Table, chains: &[String]) -> Batch {
    remove_chains(table, &chains.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The UDP ports that a chain's rules translate, with the host's address if it is but one.
pub fn udp_ports(table: &Table, chain: &str) -> Vec<(Option<std::net::IpAddr>, u16)> {
    let rules = table.chains.get(chain).map(|chain| chain.rules.as_slice()).unwrap_or_default();
    let translations = rules.iter().filter(|words| {
        value_of(words, "-j") == Some("DNAT") && value_of(words, "-p") == Some("udp")
    });
    translations
        .filter_map(|words| {
            let port = value_of(words, "--dport")?.parse().ok()?;
            let to = value_of(words, "-d").and_then(|net| net.parse::<IpNetwork>().ok());
            Some((to.map(|net| net.ip()), port))
        })
        .collect()
}
