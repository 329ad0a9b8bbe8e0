//! What kube-proxy's IPVS mode keeps in iptables beyond the chains that it has in common with iptables mode. It is nobody's once that
//! kube-proxy is gone, and only removed where its rules are taken over.
//!
//! `KUBE-FIREWALL`, which older releases wrote to as well, is the kubelet's and stays.

use netns_tools::iptables::{BulkRules, IptablesError};

use super::found::target;
use super::input::Input;

/// The chains (`pkg/proxy/ipvs`, 1.36), by table.
pub const CHAINS: [(&str, &str); 6] = [
    ("filter", "KUBE-IPVS-FILTER"),
    ("filter", "KUBE-IPVS-OUT-FILTER"),
    ("filter", "KUBE-NODE-PORT"),
    ("filter", "KUBE-SOURCE-RANGES-FIREWALL"),
    ("nat", "KUBE-LOAD-BALANCER"),
    ("nat", "KUBE-NODE-PORT"),
];

/// What removes them, with every rule that leads to them. Empty if there are none.
pub fn removal(rules: &mut dyn BulkRules) -> Result<Input, IptablesError> {
    let mut input = Input::new(false);
    let mut table = String::new();
    rules.each_line(&mut |line| {
        if let Some(name) = line.strip_prefix('*') {
            name.clone_into(&mut table);
        } else if let Some(declared) = line.strip_prefix(':') {
            let name = declared.split(' ').next().unwrap_or_default();
            if let Some((table, chain)) = find(&table, name) {
                input.delete_chain(table, chain);
            }
        } else if let Some((chain, rule)) =
            line.strip_prefix("-A ").and_then(|rest| rest.split_once(' '))
        {
            let to = target(rule).and_then(|to| find(&table, to));
            // the rules of the chains themselves go with these
            if let (Some((table, _)), None) = (to, find(&table, chain)) {
                input.delete(table, chain, rule);
            }
        }
    })?;
    Ok(input)
}

fn find(table: &str, chain: &str) -> Option<(&'static str, &'static str)> {
    CHAINS.into_iter().find(|known| *known == (table, chain))
}

#[cfg(test)]
mod tests {
    use netns_tools::iptables::{FakeRules, Family};

    use super::*;

    /// As kube-proxy 1.36 leaves them, but for the matches of ipset, which the fake knows nothing of.
    const LEFT: &str = "*filter
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-IPVS-FILTER - [0:0]
:KUBE-IPVS-OUT-FILTER - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SOURCE-RANGES-FIREWALL - [0:0]
-A INPUT -m comment --comment \"kubernetes ipvs access filter\" -j KUBE-IPVS-FILTER
-A INPUT -m comment --comment \"kube-proxy firewall rules\" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment \"kubernetes health check rules\" -j KUBE-NODE-PORT
-A INPUT -j KUBE-FIREWALL
-A OUTPUT -m comment --comment \"kubernetes ipvs access filter\" -j KUBE-IPVS-OUT-FILTER
-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP
-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -j REJECT
-A KUBE-PROXY-FIREWALL -j KUBE-SOURCE-RANGES-FIREWALL
-A KUBE-SOURCE-RANGES-FIREWALL -j DROP
COMMIT
*nat
:KUBE-LOAD-BALANCER - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-SERVICES - [0:0]
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A KUBE-SERVICES -m comment --comment \"Kubernetes service lb portal -j KUBE-MARK-MASQ\" -j KUBE-LOAD-BALANCER
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
COMMIT
";

    #[test]
    fn what_is_of_ipvs_alone_goes_and_the_rest_stays() {
        let mut rules = FakeRules::new(Family::V4);
        rules.restore(&LEFT).unwrap();
        let input = removal(&mut rules).unwrap();
        rules.restore(&input).unwrap();
        let kept = rules.ruleset().to_string();
        for (_, chain) in CHAINS {
            assert!(
                !kept.contains(&format!("{chain} ")) && !kept.contains(&format!("{chain}\n")),
                "{chain}: {kept}"
            );
        }
        for line in [
            "-A INPUT -j KUBE-FIREWALL",
            "-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP",
            "-A INPUT -m comment --comment \"kube-proxy firewall rules\" -j KUBE-PROXY-FIREWALL",
            "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
            "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
        ] {
            assert!(kept.contains(line), "{line}: {kept}");
        }
        assert!(removal(&mut rules).unwrap().is_empty());
    }
}
