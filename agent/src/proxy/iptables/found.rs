//! What is in the kernel of ours, read line by line: the rules of an earlier run, of kube-proxy, or what somebody left of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use netns_tools::iptables::{BulkRules, IptablesError};

use super::canonical::Digest;
use super::fixed::{CHAINS, FIREWALL, KUBELET_CANARY};
use super::name::is_of_a_port;
use super::port::Shared;

/// By table and chain.
type Lines = BTreeMap<(&'static str, String), Vec<String>>;

/// Chains that are ours by name, whoever made them, and the rules of other chains that lead to them.
#[derive(Debug, Default)]
pub struct Found {
    /// Chains of ports and endpoints in table `nat`: 30 000 of them with 10 000 services, so that their text is not kept.
    pub own: HashMap<Box<str>, Digest>,
    /// The rules of all other chains of ours.
    pub fixed: Lines,
    /// Rules of other chains that lead to ours.
    pub jumps: Lines,
    /// A kubelet keeps chains here.
    pub kubelet: bool,
}

impl Found {
    /// Reads the kernel.
    pub fn read(rules: &mut dyn BulkRules) -> Result<Self, IptablesError> {
        let mut found = Self::default();
        let mut table = None;
        rules.each_line(&mut |line| {
            if let Some(name) = line.strip_prefix('*') {
                table = CHAINS.iter().map(|(table, _)| *table).find(|table| *table == name);
            } else if let Some(table) = table {
                found.take(table, line);
            }
        })?;
        Ok(found)
    }

    fn take(&mut self, table: &'static str, line: &str) {
        if let Some(chain) = line.strip_prefix(':') {
            self.declare(table, chain.split(' ').next().unwrap_or_default());
        } else if let Some((chain, rule)) =
            line.strip_prefix("-A ").and_then(|rest| rest.split_once(' '))
        {
            self.rule(table, chain, rule);
        }
    }

    fn declare(&mut self, table: &'static str, chain: &str) {
        if is_own(table, chain) {
            self.own.insert(chain.into(), Digest::default());
        } else if is_fixed(table, chain) {
            self.fixed.insert((table, chain.to_owned()), Vec::new());
        }
        self.kubelet |= table == "mangle" && chain == KUBELET_CANARY;
    }

    fn rule(&mut self, table: &'static str, chain: &str, rule: &str) {
        if is_own(table, chain) {
            if let Some(digest) = self.own.get_mut(chain) {
                digest.push(rule);
            }
        } else if is_fixed(table, chain) {
            self.fixed.entry((table, chain.to_owned())).or_default().push(rule.to_owned());
        } else if target(rule).is_some_and(|to| is_ours(table, to)) {
            self.jumps.entry((table, chain.to_owned())).or_default().push(rule.to_owned());
        }
    }

    /// The rules of a chain that services share.
    pub fn shared(&self, shared: Shared) -> Option<&[String]> {
        self.chain(shared.table(), shared.chain())
    }

    /// The rules of a chain that is not of one port. `None`: it is not there.
    pub fn chain(&self, table: &'static str, chain: &str) -> Option<&[String]> {
        self.fixed.get(&(table, chain.to_owned())).map(Vec::as_slice)
    }

    /// The rules of another chain that lead to ours.
    pub fn jumps_of(&self, table: &'static str, chain: &str) -> &[String] {
        self.jumps.get(&(table, chain.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// Chains that rules of others lead to: they cannot be deleted.
    pub fn pinned(&self) -> BTreeSet<&str> {
        self.jumps.values().flatten().filter_map(|rule| target(rule)).collect()
    }

    /// Chains that are not of one port and may be taken away. The kubelet needs what it shares with us.
    pub fn removable(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let fixed = self.fixed.keys().map(|(table, chain)| (*table, chain.as_str()));
        fixed.filter(|(_, chain)| !(self.kubelet && *chain == FIREWALL))
    }
}

/// Whether a chain is one of a port or an endpoint.
pub fn is_own(table: &str, chain: &str) -> bool {
    table == "nat" && is_of_a_port(chain)
}

/// Whether a chain is ours.
pub fn is_ours(table: &str, chain: &str) -> bool {
    is_own(table, chain) || is_fixed(table, chain)
}

fn is_fixed(table: &str, chain: &str) -> bool {
    let mut chains = CHAINS.iter().filter(|(of, _)| *of == table).flat_map(|(_, chains)| *chains);
    chains.any(|known| *known == chain)
}

/// The target of a rule as `iptables-save` prints it; what a comment says is none.
pub fn target(rule: &str) -> Option<&str> {
    let outside = |at: &usize| rule[..*at].matches('"').count().is_multiple_of(2);
    let starts = |flag| rule.match_indices(flag).map(|(at, _)| at).filter(outside);
    let is_word = |at: &usize| *at == 0 || rule[..*at].ends_with(' ');
    let jump = starts("-j ").chain(starts("-g ")).find(is_word)?;
    rule[jump + 3..].split(' ').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let cases = [
            ("-j KUBE-SERVICES", Some("KUBE-SERVICES")),
            ("-s 10.1.0.1/32 -g A --foo", Some("A")),
            ("-m comment --comment \"x -j A\" -j B", Some("B")),
            ("-m comment --comment \"x -j A y\"", None),
            ("-m comment --comment other-j A -j B", Some("B")),
        ];
        for (rule, expected) in cases {
            assert_eq!(target(rule), expected, "{rule}");
        }
    }
}
