//! The rules that are there without any service, and the jumps that lead packets to our chains.

use std::net::IpAddr;

use netns_tools::iptables::Family;

use super::counters::{INVALID, counted};
use super::port::Context;
use crate::proxy::options::NodePortAddresses;

/// A chain that is there to be missed: whoever flushes a table takes it away.
pub const CANARY: &str = "KUBE-PROXY-CANARY";
/// A chain that the kubelet keeps rules in too.
pub const FIREWALL: &str = "KUBE-FIREWALL";
/// Tells that a kubelet keeps chains here (table `mangle`).
pub const KUBELET_CANARY: &str = "KUBE-KUBELET-CANARY";

/// Every chain of ours that does not belong to one service port, by table, also of older kube-proxies.
pub const CHAINS: [(&str, &[&str]); 3] = [
    (
        "filter",
        &[
            "KUBE-EXTERNAL-SERVICES",
            FIREWALL,
            "KUBE-FORWARD",
            "KUBE-NODEPORTS",
            CANARY,
            "KUBE-PROXY-FIREWALL",
            "KUBE-SERVICES",
        ],
    ),
    ("mangle", &[CANARY]),
    ("nat", &["KUBE-MARK-MASQ", "KUBE-NODEPORTS", "KUBE-POSTROUTING", CANARY, "KUBE-SERVICES"]),
];

/// A rule in a chain of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// The table.
    pub table: &'static str,
    /// The kernel's chain.
    pub from: &'static str,
    /// The rule.
    pub rule: &'static str,
}

const fn jump(table: &'static str, from: &'static str, rule: &'static str) -> Jump {
    Jump { table, from, rule }
}

const TO_FIREWALL: &str = "-j KUBE-FIREWALL";
const TO_PROXY_FIREWALL: &str = "-m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL";
const TO_HEALTH_CHECKS: &str =
    "-m comment --comment \"kubernetes health check service ports\" -j KUBE-NODEPORTS";
const TO_EXTERNAL: &str = "-m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES";
const TO_FORWARD: &str = "-m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD";
const TO_FILTERED: &str = "-m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES";
const TO_SERVICES: &str = "-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES";
const TO_POSTROUTING: &str =
    "-m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING";

/// The rules by which packets come to our chains, in the order in which they stand.
const JUMPS: [Jump; 14] = [
    jump("filter", "INPUT", TO_FIREWALL),
    jump("filter", "INPUT", TO_PROXY_FIREWALL),
    jump("filter", "INPUT", TO_HEALTH_CHECKS),
    jump("filter", "INPUT", TO_EXTERNAL),
    jump("filter", "FORWARD", TO_PROXY_FIREWALL),
    jump("filter", "FORWARD", TO_FORWARD),
    jump("filter", "FORWARD", TO_FILTERED),
    jump("filter", "FORWARD", TO_EXTERNAL),
    jump("filter", "OUTPUT", TO_FIREWALL),
    jump("filter", "OUTPUT", TO_PROXY_FIREWALL),
    jump("filter", "OUTPUT", TO_FILTERED),
    jump("nat", "PREROUTING", TO_SERVICES),
    jump("nat", "OUTPUT", TO_SERVICES),
    jump("nat", "POSTROUTING", TO_POSTROUTING),
];

/// The fixed part of the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// The jumps that must be there.
    pub jumps: Vec<Jump>,
    /// Table, chain and the rules that it holds. Chains that services share are here without rules.
    pub chains: Vec<(&'static str, &'static str, Vec<String>)>,
    /// The last rules of table `nat`'s `KUBE-SERVICES`.
    pub to_node_ports: Vec<String>,
}

impl Fixed {
    /// Those of a family. `random_fully`: whether the kernel can pick any port when it masquerades.
    pub fn new(context: Context<'_>, random_fully: bool) -> Self {
        // where it is routed neighbours can send packets to it, too: those must be dropped
        let guarded = context.serves_localhost();
        let wanted = |chain: &str| guarded || chain != FIREWALL;
        let chains = CHAINS.iter().flat_map(|(table, chains)| {
            let wanted = chains.iter().filter(|chain| wanted(chain));
            wanted.map(|chain| (*table, *chain, rules(context, table, chain, random_fully)))
        });
        let jumps = JUMPS.into_iter().filter(|jump| guarded || jump.rule != TO_FIREWALL);
        Self {
            chains: chains.collect(),
            jumps: jumps.collect(),
            to_node_ports: to_node_ports(context),
        }
    }

    /// How many rules of a table these are.
    pub fn count(&self, table: &str) -> usize {
        let chains = self.chains.iter().filter(|(of, ..)| *of == table);
        let jumps = self.jumps.iter().filter(|jump| jump.table == table).count();
        let last = if table == "nat" { self.to_node_ports.len() } else { 0 };
        chains.map(|(.., rules)| rules.len()).sum::<usize>() + jumps + last
    }
}

fn rules(context: Context<'_>, table: &str, chain: &str, random_fully: bool) -> Vec<String> {
    let mark = format!("{:#x}", context.options.mark());
    match (table, chain) {
        ("nat", "KUBE-MARK-MASQ") => vec![format!("-j MARK --set-xmark {mark}/{mark}")],
        ("nat", "KUBE-POSTROUTING") => postrouting(&mark, random_fully),
        ("filter", "KUBE-FORWARD") => forward(context, &mark),
        ("filter", FIREWALL) => vec![LOCALNET.to_owned()],
        _ => Vec::new(),
    }
}

const LOCALNET: &str = "! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment \"block incoming localnet connections\" \
                        -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP";

fn postrouting(mark: &str, random_fully: bool) -> Vec<String> {
    let fully = if random_fully { " --random-fully" } else { "" };
    vec![
        format!("-m mark ! --mark {mark}/{mark} -j RETURN"),
        // the mark is cleared, or a packet that is routed twice would be masqueraded twice
        format!("-j MARK --set-xmark {mark}/0x0"),
        format!(
            "-m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE{fully}"
        ),
    ]
}

/// Forwarded traffic of services passes whatever the policy of FORWARD. What conntrack finds invalid is dropped, as its
/// destination is not translated and would end a connection.
fn forward(context: Context<'_>, mark: &str) -> Vec<String> {
    let mut rules = Vec::new();
    if context.options.drop_invalid {
        let counter = if context.counters { counted(INVALID) + " " } else { String::new() };
        rules.push(format!("-m conntrack --ctstate INVALID {counter}-j DROP"));
    }
    rules.push(format!(
        "-m comment --comment \"kubernetes forwarding rules\" -m mark --mark {mark}/{mark} -j ACCEPT"
    ));
    rules.push(
        "-m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
            .to_owned(),
    );
    rules
}

fn to_node_ports(context: Context<'_>) -> Vec<String> {
    let comment = "-m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\"";
    match &context.options.node_ports {
        NodePortAddresses::Any => {
            let not_at = match context.family {
                Family::V6 => "! -d ::1/128 ",
                Family::V4 if !context.options.localhost_node_ports => "! -d 127.0.0.0/8 ",
                Family::V4 => "",
            };
            vec![format!("{not_at}{comment} -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS")]
        }
        NodePortAddresses::Listed(addresses) => {
            let served = addresses.iter().filter(|ip| serves_node_ports(context, **ip));
            served
                .map(|ip| {
                    format!("-d {} {comment} -j KUBE-NODEPORTS", ipnetwork::IpNetwork::from(*ip))
                })
                .collect()
        }
    }
}

/// The kernel does not translate connections to `::1`, and those to 127.0.0.1 only if it is told to.
fn serves_node_ports(context: Context<'_>, ip: IpAddr) -> bool {
    let of_family = context.family.has(ip);
    let reachable = !ip.is_loopback() || (ip.is_ipv4() && context.options.localhost_node_ports);
    of_family && reachable
}
