//! The iptables rules. Chains, rules, their order and comments are the reference's, so that either suite removes what the other
//! added:
//!
//! ```text
//! -A FORWARD -m comment --comment "CNI firewall plugin rules (ingressPolicy: same-bridge)" -j CNI-ISOLATION-STAGE-1
//! -A FORWARD -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD
//! -A CNI-FORWARD -m comment --comment "CNI firewall plugin admin overrides" -j CNI-ADMIN
//! -A CNI-FORWARD -d 10.1.0.2/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
//! -A CNI-FORWARD -s 10.1.0.2/32 -j ACCEPT
//! -A CNI-ISOLATION-STAGE-1 -i br0 ! -o br0 -m comment … -j CNI-ISOLATION-STAGE-2
//! -A CNI-ISOLATION-STAGE-1 -m comment … -j RETURN
//! -A CNI-ISOLATION-STAGE-2 -o br0 -m comment … -j DROP
//! -A CNI-ISOLATION-STAGE-2 -m comment … -j RETURN
//! ```

#[cfg(test)]
mod tests;

use ipnetwork::IpNetwork;
use netns_tools::iptables::{Batch, Table, quote};

use super::conf::Policy;
use crate::rules::{Missing, value_of};

/// The table that all of it is in.
pub const TABLE: &str = "filter";
const HOOK: &str = "FORWARD";
const FORWARD: &str = "CNI-FORWARD";
const STAGE_1: &str = "CNI-ISOLATION-STAGE-1";
const STAGE_2: &str = "CNI-ISOLATION-STAGE-2";

/// The rules of one container in one family.
pub struct Wanted<'a> {
    /// Whom to let through; nobody if firewalld does it.
    pub hosts: Vec<IpNetwork>,
    /// The chain of the administrator's rules.
    pub admin_chain: &'a str,
    /// The bridge to keep apart, and how.
    pub isolation: Option<(&'a str, Policy)>,
}

impl Wanted<'_> {
    /// What is missing in `table`.
    pub fn additions(&self, table: &Table) -> Batch {
        let mut missing = Missing::new(TABLE, table);
        if !self.hosts.is_empty() {
            missing.chain(FORWARD);
            missing.chain(self.admin_chain);
            missing.first(HOOK, &forward_jump());
            missing.first(FORWARD, &admin_jump(self.admin_chain));
            for rule in self.hosts.iter().flat_map(rules_of) {
                missing.last(FORWARD, &rule);
            }
        }
        if let Some((bridge, policy)) = self.isolation {
            missing.chain(STAGE_1);
            missing.chain(STAGE_2);
            // Before the final RETURN.
            for (chain, rule) in isolation_rules(bridge, policy) {
                missing.first(chain, &rule);
            }
            for chain in [STAGE_1, STAGE_2] {
                missing.last(chain, &comment(Policy::SameBridge, "", "-j RETURN"));
            }
        }
        let mut batch = missing.batch;
        self.isolate_first(table, &mut batch);
        batch
    }

    /// The isolation decides before anybody is let through: its jump comes before the other one, wherever that one comes or has
    /// come.
    fn isolate_first(&self, table: &Table, batch: &mut Batch) {
        let (isolation, forward) = (isolation_jump(), forward_jump());
        let is_there = table.contains_rule(HOOK, &isolation);
        if !is_there && self.isolation.is_none() {
            return;
        }
        let comes_now = !self.hosts.is_empty() && !table.contains_rule(HOOK, &forward);
        if is_there && !comes_now && comes_first(table) {
            return;
        }
        if is_there {
            batch.delete(TABLE, HOOK, &isolation);
        }
        batch.insert(TABLE, HOOK, &isolation);
    }

    /// Every difference between `table` and what ADD put there.
    pub fn differences(&self, table: &Table) -> Vec<String> {
        let mut expected: Vec<(&str, String)> = Vec::new();
        if !self.hosts.is_empty() {
            expected.push((HOOK, forward_jump()));
            expected.push((FORWARD, admin_jump(self.admin_chain)));
            expected.extend(self.hosts.iter().flat_map(rules_of).map(|rule| (FORWARD, rule)));
        }
        if let Some((bridge, policy)) = self.isolation {
            expected.push((HOOK, isolation_jump()));
            expected.extend(isolation_rules(bridge, policy));
        }
        let missing =
            expected.into_iter().filter(|(chain, rule)| !table.contains_rule(chain, rule));
        let mut found: Vec<_> = missing
            .map(|(chain, rule)| format!("the rule {rule} in chain {chain} is missing"))
            .collect();
        if found.is_empty() && self.isolation.is_some() && !comes_first(table) {
            found.push(format!("{FORWARD} comes before {STAGE_1} in chain {HOOK}"));
        }
        found
    }
}

/// Whether the isolation decides before anybody is let through.
fn comes_first(table: &Table) -> bool {
    let rules = table.chains.get(HOOK).map(|chain| chain.rules.as_slice()).unwrap_or_default();
    let position =
        |chain: &str| rules.iter().position(|words| value_of(words, "-j") == Some(chain));
    match (position(STAGE_1), position(FORWARD)) {
        (Some(isolation), Some(forward)) => isolation < forward,
        _ => true,
    }
}

/// What is there of these addresses. The chains that all containers share stay, and so does the isolation of bridges, on which
/// others may be.
pub fn removals(table: &Table, hosts: &[IpNetwork]) -> Batch {
    let mut batch = Batch::new();
    for rule in hosts.iter().flat_map(rules_of) {
        if table.contains_rule(FORWARD, &rule) {
            batch.delete(TABLE, FORWARD, &rule);
        }
    }
    batch
}

fn rules_of(host: &IpNetwork) -> [String; 2] {
    [
        format!("-d {host} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
        format!("-s {host} -j ACCEPT"),
    ]
}

fn forward_jump() -> String {
    format!("-m comment --comment {} -j {FORWARD}", quote("CNI firewall plugin rules"))
}

fn admin_jump(chain: &str) -> String {
    format!("-m comment --comment {} -j {chain}", quote("CNI firewall plugin admin overrides"))
}

fn isolation_jump() -> String {
    comment(Policy::SameBridge, "", &format!("-j {STAGE_1}"))
}

/// The rules of a bridge. What both policies share has one comment, so that it is there once.
fn isolation_rules(bridge: &str, policy: Policy) -> Vec<(&'static str, String)> {
    let shared = Policy::SameBridge;
    let leaves = comment(shared, &format!("-i {bridge} ! -o {bridge} "), &format!("-j {STAGE_2}"));
    let enters = comment(shared, &format!("-o {bridge} "), "-j DROP");
    let mut rules = vec![(STAGE_1, leaves), (STAGE_2, enters)];
    if policy == Policy::Isolated {
        let stays = comment(policy, &format!("-i {bridge} -o {bridge} "), "-j DROP");
        rules.push((STAGE_1, stays));
    }
    rules
}

fn comment(policy: Policy, matches: &str, target: &str) -> String {
    let text = format!("CNI firewall plugin rules (ingressPolicy: {})", policy.word());
    format!("{matches}-m comment --comment {} {target}", quote(&text))
}
