//! From service ports to rules: pure, in kube-proxy's shape and order, as `iptables-save` prints them.

use std::net::SocketAddr;

use super::pods::ServicePort;
use super::{Chains, ProxyConfig, chain};

/// The rules that should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Chains of table `nat` with their rules.
    pub nat: Chains,
    /// Chains of table `filter` with their rules.
    pub filter: Chains,
}

/// The rules by which packets come to our chains: table, chain of the kernel, rule; in the order in which they stand.
pub const JUMPS: [(&str, &str, &str); 10] = [
    ("filter", "INPUT", "-j KUBE-FIREWALL"),
    (
        "filter",
        "INPUT",
        "-m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES",
    ),
    ("filter", "FORWARD", "-m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD"),
    (
        "filter",
        "FORWARD",
        "-m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
    ),
    (
        "filter",
        "FORWARD",
        "-m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES",
    ),
    ("filter", "OUTPUT", "-j KUBE-FIREWALL"),
    (
        "filter",
        "OUTPUT",
        "-m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
    ),
    ("nat", "PREROUTING", "-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES"),
    ("nat", "OUTPUT", "-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES"),
    (
        "nat",
        "POSTROUTING",
        "-m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING",
    ),
];

const NODE_PORTS: &str = "-m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" \
                          -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS";

/// Generates all rules.
pub fn generate(config: &ProxyConfig, ports: &[ServicePort]) -> Wanted {
    let mut wanted = fixed(config);
    for port in ports {
        if port.endpoints.is_empty() {
            reject(&mut wanted, port);
        } else {
            forward(&mut wanted, config, port);
        }
    }
    push(&mut wanted.nat, "KUBE-SERVICES", NODE_PORTS);
    wanted
}

fn push(chains: &mut Chains, chain: &str, rule: impl Into<String>) {
    chains.entry(chain.to_owned()).or_default().push(rule.into());
}

/// The rules that are there without any service.
fn fixed(config: &ProxyConfig) -> Wanted {
    let mut wanted = Wanted::default();
    for name in chain::NAT_CHAINS {
        wanted.nat.insert(name.to_owned(), Vec::new());
    }
    for name in chain::FILTER_CHAINS {
        wanted.filter.insert(name.to_owned(), Vec::new());
    }
    let mark = format!("{:#x}", 1_u32 << config.masquerade_bit);
    let (nat, filter) = (&mut wanted.nat, &mut wanted.filter);
    push(nat, "KUBE-MARK-MASQ", format!("-j MARK --set-xmark {mark}/{mark}"));
    push(nat, "KUBE-POSTROUTING", format!("-m mark ! --mark {mark}/{mark} -j RETURN"));
    // the mark is cleared, or a packet that is routed twice would be masqueraded twice
    push(nat, "KUBE-POSTROUTING", format!("-j MARK --set-xmark {mark}/0x0"));
    push(
        nat,
        "KUBE-POSTROUTING",
        "-m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully",
    );
    push(
        filter,
        "KUBE-FIREWALL",
        "! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment \"block incoming localnet connections\" \
         -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
    );
    push(filter, "KUBE-FORWARD", "-m conntrack --ctstate INVALID -j DROP");
    push(
        filter,
        "KUBE-FORWARD",
        format!(
            "-m comment --comment \"kubernetes forwarding rules\" -m mark --mark {mark}/{mark} -j ACCEPT"
        ),
    );
    push(
        filter,
        "KUBE-FORWARD",
        "-m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    );
    wanted
}

/// A port without endpoints answers at once that nobody is there: a client that hangs learns nothing.
fn reject(wanted: &mut Wanted, port: &ServicePort) {
    let ServicePort { name, protocol, .. } = port;
    let comment = format!("-m comment --comment \"{name} has no endpoints\"");
    let target = "-j REJECT --reject-with icmp-port-unreachable";
    let rule = format!(
        "-d {}/32 -p {protocol} {comment} -m {protocol} --dport {} {target}",
        port.cluster_ip, port.port
    );
    push(&mut wanted.filter, "KUBE-SERVICES", rule);
    if let Some(node_port) = port.node_port {
        let rule = format!(
            "-p {protocol} {comment} -m addrtype --dst-type LOCAL -m {protocol} --dport {node_port} {target}"
        );
        push(&mut wanted.filter, "KUBE-EXTERNAL-SERVICES", rule);
    }
}

fn forward(wanted: &mut Wanted, config: &ProxyConfig, port: &ServicePort) {
    let ServicePort { name, protocol, cluster_ip, .. } = port;
    let service = chain::service(name, *protocol);
    let to_port = format!("-m {protocol} --dport {}", port.port);
    let comment = format!("-m comment --comment \"{name} cluster IP\"");
    let nat = &mut wanted.nat;
    push(
        nat,
        "KUBE-SERVICES",
        format!("-d {cluster_ip}/32 -p {protocol} {comment} {to_port} -j {service}"),
    );
    if let Some(node_port) = port.node_port {
        let external = chain::external(name, *protocol);
        push(
            nat,
            "KUBE-NODEPORTS",
            format!(
                "-p {protocol} -m comment --comment \"{name}\" -m {protocol} --dport {node_port} -j {external}"
            ),
        );
        push(
            nat,
            &external,
            format!(
                "-m comment --comment \"masquerade traffic for {name} external destinations\" -j KUBE-MARK-MASQ"
            ),
        );
        push(nat, &external, format!("-j {service}"));
    }
    if let Some(cidr) = config.cluster_cidr {
        let rule = format!(
            "! -s {cidr} -d {cluster_ip}/32 -p {protocol} {comment} {to_port} -j KUBE-MARK-MASQ"
        );
        push(nat, &service, rule);
    }
    let count = port.endpoints.len();
    for (index, endpoint) in port.endpoints.iter().enumerate() {
        let target = chain::endpoint(name, *protocol, *endpoint);
        let comment = format!("-m comment --comment \"{name} -> {endpoint}\"");
        let share = match count - index {
            1 => String::new(),
            left => format!(" -m statistic --mode random --probability {}", probability(left)),
        };
        push(nat, &service, format!("{comment}{share} -j {target}"));
        endpoint_rules(nat, &target, port, *endpoint);
    }
}

/// The kernel keeps a probability as a fraction of 2³¹, rounded; printed as it comes back, so that rules compare equal.
fn probability(left: usize) -> String {
    const WHOLE: f64 = 2_147_483_648.0;
    #[expect(clippy::cast_precision_loss, reason = "no service has 2⁵² endpoints")]
    let share = (WHOLE / left as f64).round() / WHOLE;
    format!("{share:.11}")
}

fn endpoint_rules(nat: &mut Chains, target: &str, port: &ServicePort, endpoint: SocketAddr) {
    let ServicePort { name, protocol, .. } = port;
    // a pod that reaches itself through the service must see another source, or it would answer itself directly
    push(
        nat,
        target,
        format!("-s {}/32 -m comment --comment \"{name}\" -j KUBE-MARK-MASQ", endpoint.ip()),
    );
    let rule = format!(
        "-p {protocol} -m comment --comment \"{name}\" -m {protocol} -j DNAT --to-destination {endpoint}"
    );
    push(nat, target, rule);
}
