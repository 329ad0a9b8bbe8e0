//! The chains of iptables that accept what others' rules would drop, and where the jumps to them must stand. Pure.

use netns_tools::iptables::{Batch, Family, Table, join_words};

use super::input::RuleInput;
use super::ranges;

/// One of our chains, and the chain of the kernel that jumps to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepts {
    /// `HEDDLE-FORWARD`
    pub chain: &'static str,
    /// `FORWARD`
    pub hook: &'static str,
    /// Its rules as iptables-save prints them. None: the chain should not be there.
    pub rules: Vec<String>,
}

/// The table of iptables that all of it is in.
pub const TABLE: &str = "filter";
/// Our chains with those that jump to them.
pub const CHAINS: [(&str, &str); 2] = [("HEDDLE-FORWARD", "FORWARD"), ("HEDDLE-INPUT", "INPUT")];

/// Chains that may be jumped to before ours, by what their names begin with: service proxies refuse what has no endpoint, network policies
/// what is not allowed, the firewall plugin what is isolated. All of them come back for what they do not decide.
const FIRST: [&str; 7] = ["KUBE-", "CNI-", "cali-", "CILIUM_", "WEAVE-NPC", "FLANNEL-", "ANTREA-"];
/// Targets that take no packet away from what comes behind them, or let it pass.
const HARMLESS: [&str; 8] =
    ["ACCEPT", "LOG", "NFLOG", "MARK", "CONNMARK", "TRACE", "TCPMSS", "CLASSIFY"];

/// What should be there in a family.
pub fn desired(input: &RuleInput, family: Family) -> [Accepts; 2] {
    let [forward, input_chain] =
        CHAINS.map(|(chain, hook)| move |rules| Accepts { chain, hook, rules });
    [forward(forwarded(input, family)), input_chain(received(input))]
}

fn forwarded(input: &RuleInput, family: Family) -> Vec<String> {
    let rule = |direction, words: &str, range| {
        format!("{direction} {range} -m comment --comment \"{words}\" -j ACCEPT")
    };
    let pods = ranges::covering(input.all_pods(), family);
    pods.into_iter()
        .flat_map(|range| [rule("-s", "from pods", range), rule("-d", "to pods", range)])
        .collect()
}

fn received(input: &RuleInput) -> Vec<String> {
    let Some(tunnel) = &input.tunnel else { return Vec::new() };
    let accept = |from: String, port, words: &str| {
        format!("{from}-p udp -m udp --dport {port} -m comment --comment \"{words}\" -j ACCEPT")
    };
    let datagrams = accept(
        String::new(),
        tunnel.port,
        "tunnel: inet heddle-overlay drops what is not from nodes",
    );
    let probes = tunnel.probe_port.into_iter().flat_map(|port| {
        let from = |device: &String| format!("-i {device} ");
        tunnel.devices.iter().map(move |device| accept(from(device), port, "probes of other nodes"))
    });
    [datagrams].into_iter().chain(probes).collect()
}

/// What a rule means for one that stands behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// It is our jump.
    Ours,
    /// It may stand before ours.
    Harmless,
    /// It may drop what we accept.
    Drops,
}

/// By the target of a rule, or the chain that it leads to.
pub fn before(target: Option<&str>, ours: &str) -> Before {
    match target {
        Some(target) if target == ours => Before::Ours,
        Some(target)
            if !HARMLESS.contains(&target) && !FIRST.iter().any(|one| target.starts_with(one)) =>
        {
            Before::Drops
        }
        _ => Before::Harmless,
    }
}

/// Whether our jump is there once, with nothing before it that may drop.
pub fn is_in_place(rules: &[Before]) -> bool {
    let leading = rules.iter().take_while(|rule| **rule == Before::Harmless).count();
    let jumps = rules.iter().filter(|rule| **rule == Before::Ours).count();
    jumps == 1 && rules.get(leading) == Some(&Before::Ours)
}

/// What makes a table right. An empty batch: it is.
pub fn difference(desired: &[Accepts], table: &Table) -> Batch {
    let mut batch = Batch::new();
    for accepts in desired {
        if accepts.rules.is_empty() {
            remove(accepts.chain, accepts.hook, table, &mut batch);
        } else if table.chains.contains_key(accepts.hook) {
            write(accepts, table, &mut batch);
        }
    }
    batch
}

fn write(accepts: &Accepts, table: &Table, batch: &mut Batch) {
    let Accepts { chain, hook, rules } = accepts;
    // they all accept, so their order means nothing
    let same = table.chains.contains_key(*chain)
        && table.rules(chain).len() == rules.len()
        && rules.iter().all(|rule| table.contains_rule(chain, rule));
    if !same {
        batch.declare_chain(TABLE, chain);
        for rule in rules {
            batch.append(TABLE, chain, rule);
        }
    }
    let there = jumps(chain, hook, table);
    if is_in_place(&there) {
        return;
    }
    delete_jumps(chain, hook, table, batch);
    let leading = there.iter().filter(|rule| **rule != Before::Ours);
    let leading = leading.take_while(|rule| **rule == Before::Harmless).count();
    batch.insert_at(TABLE, hook, leading + 1, &jump(chain));
}

fn jump(chain: &str) -> String {
    format!("-m comment --comment \"heddle-agent: pods of other nodes\" -j {chain}")
}

fn jumps(chain: &str, hook: &str, table: &Table) -> Vec<Before> {
    let Some(found) = table.chains.get(hook) else { return Vec::new() };
    let mut all = vec![Before::Harmless; found.rules.len()];
    for (index, target) in found.targets() {
        all[index] = before(Some(target), chain);
    }
    all
}

fn delete_jumps(chain: &str, hook: &str, table: &Table, batch: &mut Batch) {
    let Some(found) = table.chains.get(hook) else { return };
    for (index, _) in found.targets().filter(|(_, target)| *target == chain) {
        batch.delete(TABLE, hook, &join_words(&found.rules[index]));
    }
}

/// Removes a chain with the jumps to it, if it is there.
pub fn remove(chain: &str, hook: &str, table: &Table, batch: &mut Batch) {
    if table.chains.contains_key(chain) {
        delete_jumps(chain, hook, table, batch);
        // an empty one can be deleted
        batch.declare_chain(TABLE, chain);
        batch.delete_chain(TABLE, chain);
    }
}
