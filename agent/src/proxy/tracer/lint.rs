//! Rules that lead nowhere, and what nothing leads to: of iptables and of nftables alike.

use std::collections::{BTreeMap, BTreeSet};

use netns_tools::iptables::Ruleset;

/// What points to what.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: BTreeMap<String, Node>,
    edges: BTreeSet<(String, String)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    is_entry: bool,
    is_empty: bool,
}

impl Graph {
    /// A chain, or a set. `is_entry`: something outside of the rules leads to it, or it is there for another purpose.
    pub fn add(&mut self, name: &str, is_entry: bool, is_empty: bool) {
        self.nodes.insert(name.to_owned(), Node { is_entry, is_empty });
    }

    /// One points to another.
    pub fn link(&mut self, from: &str, to: &str) {
        self.edges.insert((from.to_owned(), to.to_owned()));
    }

    /// Every mistake in words. `may_be_empty`: what is filled by other programs, or at other times.
    pub fn mistakes(&self, may_be_empty: &dyn Fn(&str) -> bool) -> Vec<String> {
        let mut mistakes = Vec::new();
        for (from, to) in &self.edges {
            match self.nodes.get(to) {
                None => mistakes.push(format!("{from} leads to {to}, which is not there")),
                Some(node) if node.is_empty && !may_be_empty(to) => {
                    mistakes.push(format!("{from} leads to {to}, which is empty"));
                }
                Some(_) => {}
            }
        }
        let reached = self.reached();
        let unused = self.nodes.keys().filter(|name| !reached.contains(name.as_str()));
        mistakes.extend(unused.map(|name| format!("nothing leads to {name}")));
        mistakes
    }

    fn reached(&self) -> BTreeSet<&str> {
        let entries = self.nodes.iter().filter(|(_, node)| node.is_entry);
        let mut waiting: Vec<&str> = entries.map(|(name, _)| name.as_str()).collect();
        let mut reached = BTreeSet::new();
        while let Some(name) = waiting.pop() {
            if reached.insert(name) {
                let from = self.edges.range((name.to_owned(), String::new())..);
                let of_it = from.take_while(|(from, _)| from == name);
                waiting.extend(of_it.map(|(_, to)| to.as_str()));
            }
        }
        reached
    }
}

/// Targets that are no chains.
const TARGETS: [&str; 8] =
    ["ACCEPT", "DROP", "RETURN", "REJECT", "MARK", "MASQUERADE", "DNAT", "SNAT"];

/// The chains of an iptables ruleset, each named `table chain`. `is_entry`: chains that are there though nothing jumps to them,
/// such as canaries.
pub fn of_iptables(ruleset: &Ruleset, is_entry: &dyn Fn(&str) -> bool) -> Graph {
    let mut graph = Graph::default();
    for (table, content) in &ruleset.tables {
        let full = |chain: &str| format!("{table} {chain}");
        for (name, chain) in &content.chains {
            let entry = chain.policy.is_some() || is_entry(name);
            graph.add(&full(name), entry, chain.rules.is_empty());
            for (_, target) in chain.targets().filter(|(_, target)| !TARGETS.contains(target)) {
                graph.link(&full(name), &full(target));
            }
        }
    }
    graph
}
