//! A ruleset as a graph: every jump leads to a chain that is there and does something, and every chain is led to.

use std::collections::BTreeSet;

use super::*;

/// Chains that may be empty: they are always there, so that a service's rules need no jump of their own.
fn may_be_empty(chain: &str) -> bool {
    CHAINS.iter().any(|(_, chains)| chains.contains(&chain))
}

/// What is wrong with a ruleset.
pub fn problems(ruleset: &Ruleset) -> Vec<String> {
    const KERNEL: [&str; 8] =
        ["ACCEPT", "DROP", "RETURN", "REJECT", "MARK", "MASQUERADE", "DNAT", "SNAT"];
    let mut problems = Vec::new();
    for (name, table) in &ruleset.tables {
        let mut used = BTreeSet::new();
        for (chain, content) in &table.chains {
            let targets = content.targets().filter(|(_, target)| !KERNEL.contains(target));
            for (_, target) in targets {
                used.insert(target);
                match table.chains.get(target) {
                    None => problems
                        .push(format!("{name}: {chain} jumps to {target}, which is missing")),
                    Some(to) if to.rules.is_empty() && !may_be_empty(target) => {
                        problems.push(format!("{name}: {chain} jumps to {target}, which is empty"));
                    }
                    Some(_) => {}
                }
            }
            if chain.len() > 28 {
                problems.push(format!("{name}: {chain} has too long a name"));
            }
        }
        // one is there to be missed, one is led to by services only
        let alone = |chain: &str| matches!(chain, fixed::CANARY | "KUBE-MARK-MASQ");
        let unused = table.chains.iter().filter(|(chain, content)| {
            content.policy.is_none() && !alone(chain) && !used.contains(chain.as_str())
        });
        problems.extend(unused.map(|(chain, _)| format!("{name}: nothing leads to {chain}")));
    }
    problems
}

#[test]
fn it_finds_what_is_wrong() {
    let text = "*nat\n:KUBE-A - [0:0]\n:KUBE-B - [0:0]\n:KUBE-C - [0:0]\n-A KUBE-A -j KUBE-B\n-A KUBE-A -j KUBE-D\n\
                -A KUBE-C -j ACCEPT\nCOMMIT\n";
    let found = problems(&Ruleset::parse(text).unwrap());
    assert_eq!(
        found,
        [
            "nat: KUBE-A jumps to KUBE-B, which is empty",
            "nat: KUBE-A jumps to KUBE-D, which is missing",
            "nat: nothing leads to KUBE-A",
            "nat: nothing leads to KUBE-C",
        ]
    );
}
