//! What should be in the kernel and what is there, side by side.

use std::collections::{BTreeSet, HashMap};

use netns_tools::iptables::{BulkRules, IptablesError};

use super::canonical::hash;
use super::fixed::Fixed;
use super::found::{is_own, target};
use super::port::{Context, Shared, generate};
use crate::proxy::backend::Comparison;
use crate::proxy::model::{PortId, Ports};

/// Compares the rules of the ports that `only` picks; if it picks all of them, also those of no port.
pub fn compare(
    context: Context<'_>,
    fixed: &Fixed,
    ports: &Ports,
    only: &dyn Fn(&PortId) -> bool,
    rules: &mut dyn BulkRules,
) -> Result<Comparison, IptablesError> {
    let mut wanted = Wanted { all: ports.keys().all(only), ..Wanted::default() };
    for port in ports.values().filter(|port| only(&port.id)) {
        wanted.take_port(context, port);
    }
    if wanted.all {
        wanted.take_fixed(fixed);
    }
    let mut actual = BTreeSet::new();
    let mut table = String::new();
    rules.each_line(&mut |line| {
        if let Some(name) = line.strip_prefix('*') {
            name.clone_into(&mut table);
        } else if let Some(line) = wanted.recognise(&table, line) {
            actual.insert(line);
        }
    })?;
    Ok(Comparison { desired: wanted.lines.into_values().collect(), actual })
}

/// What should be there.
#[derive(Default)]
struct Wanted {
    all: bool,
    /// By table, chain and meaning.
    lines: HashMap<(String, String, u64), String>,
    /// Chains of the ports.
    chains: BTreeSet<String>,
    /// The ports' names.
    names: BTreeSet<String>,
}

impl Wanted {
    fn take(&mut self, table: &str, chain: &str, rule: &str) {
        let key = (table.to_owned(), chain.to_owned(), hash(rule, !is_own(table, chain)));
        self.lines.insert(key, format!("{table}: -A {chain} {rule}"));
    }

    fn take_port(&mut self, context: Context<'_>, port: &crate::proxy::model::ServicePort) {
        let rules = generate(context, port);
        self.names.insert(port.id.to_string());
        for (chain, rules) in rules.own {
            for rule in &rules {
                self.take("nat", &chain, rule);
            }
            self.chains.insert(chain);
        }
        for (chain, rule) in rules.shared {
            self.take(chain.table(), chain.chain(), &rule);
        }
    }

    fn take_fixed(&mut self, fixed: &Fixed) {
        for (table, chain, rules) in &fixed.chains {
            for rule in rules {
                self.take(table, chain, rule);
            }
        }
        for rule in &fixed.to_node_ports {
            self.take("nat", Shared::NatServices.chain(), rule);
        }
        for jump in &fixed.jumps {
            self.take(jump.table, jump.from, jump.rule);
        }
    }

    /// A line of the kernel that belongs here: in our words if it is one that should be there.
    fn recognise(&self, table: &str, line: &str) -> Option<String> {
        let (chain, rule) = line.strip_prefix("-A ")?.split_once(' ')?;
        let key = (table.to_owned(), chain.to_owned(), hash(rule, !is_own(table, chain)));
        if let Some(line) = self.lines.get(&key) {
            return Some(line.clone());
        }
        self.is_ours(table, chain, rule).then(|| format!("{table}: {line}"))
    }

    fn is_ours(&self, table: &str, chain: &str, rule: &str) -> bool {
        if self.all {
            return super::found::is_ours(table, chain)
                || target(rule).is_some_and(|target| super::found::is_ours(table, target));
        }
        let leads_here = || target(rule).is_some_and(|target| self.chains.contains(target));
        self.chains.contains(chain) || leads_here() || self.is_named_in(rule)
    }

    /// The rules of services in shared chains begin their comments with the port's name.
    fn is_named_in(&self, rule: &str) -> bool {
        let Some((_, comment)) = rule.split_once("--comment ") else { return false };
        let end = |c: char| c == ' ' || c == '"';
        let name = comment.trim_start_matches('"').split(end).next().unwrap_or_default();
        self.names.contains(name)
    }
}
