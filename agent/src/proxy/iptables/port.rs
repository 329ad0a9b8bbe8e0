//! The rules of one service port: pure, in kube-proxy's shape and order, in the words of `iptables-save`.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;
use netns_tools::iptables::Family;

use super::counters::{LOCALHOST, counted};
use super::name::PortChains;
use crate::proxy::model::{Endpoint, Reach, ServicePort};
use crate::proxy::options::{LocalMatch, RuleOptions};

/// What the rules of a port depend on besides the port.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The family.
    pub family: Family,
    /// The options.
    pub options: &'a RuleOptions,
    /// Whether the rules that are there once per endpoint have comments. In large clusters they have not: they are most of
    /// the rules' size.
    pub comments: bool,
    /// Whether rules name packet counters.
    pub counters: bool,
}

impl Context<'_> {
    /// Node ports at 127.0.0.1 are served: that needs `route_localnet`, is guarded, and counted.
    pub fn serves_localhost(self) -> bool {
        self.family == Family::V4 && self.options.localhost_node_ports
    }
}

/// A chain that holds rules of all services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shared {
    /// Table `filter`: cluster addresses where nobody serves.
    FilterServices,
    /// Table `filter`: external addresses and node ports where nobody serves.
    ExternalServices,
    /// Table `filter`: ports for health checks.
    FilterNodePorts,
    /// Table `filter`: what a load balancer's source ranges did not let in.
    ProxyFirewall,
    /// Table `nat`: addresses of services.
    NatServices,
    /// Table `nat`: node ports.
    NatNodePorts,
}

impl Shared {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::FilterServices,
        Self::ExternalServices,
        Self::FilterNodePorts,
        Self::ProxyFirewall,
        Self::NatServices,
        Self::NatNodePorts,
    ];

    /// Its table.
    pub const fn table(self) -> &'static str {
        match self {
            Self::NatServices | Self::NatNodePorts => "nat",
            _ => "filter",
        }
    }

    /// Its name.
    pub const fn chain(self) -> &'static str {
        match self {
            Self::FilterServices | Self::NatServices => "KUBE-SERVICES",
            Self::ExternalServices => "KUBE-EXTERNAL-SERVICES",
            Self::FilterNodePorts | Self::NatNodePorts => "KUBE-NODEPORTS",
            Self::ProxyFirewall => "KUBE-PROXY-FIREWALL",
        }
    }

    /// By table and name.
    pub fn find(table: &str, chain: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.table() == table && one.chain() == chain)
    }
}

/// The rules of one port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortRules {
    /// Chains of its own in table `nat` with their rules.
    pub own: Vec<(String, Vec<String>)>,
    /// Its rules in the chains that all services share.
    pub shared: Vec<(Shared, String)>,
}

impl PortRules {
    /// How many rules of a table these are.
    pub fn count(&self, table: &str) -> usize {
        let shared = self.shared.iter().filter(|(chain, _)| chain.table() == table).count();
        let own = self.own.iter().map(|(_, rules)| rules.len()).sum::<usize>();
        shared + if table == "nat" { own } else { 0 }
    }
}

/// Generates the rules of a port.
pub fn generate(context: Context<'_>, port: &ServicePort) -> PortRules {
    let mut writer = Writer {
        context,
        port,
        id: port.id.to_string(),
        chains: PortChains::of(&port.id),
        rules: PortRules::default(),
    };
    writer.cluster_ip();
    writer.external_ips();
    writer.load_balancer_ips();
    writer.node_port();
    writer.health_check();
    if port.endpoints.any {
        writer.external_chain();
        writer.firewall_chain();
    }
    writer.policy_chains();
    writer.endpoint_chains();
    writer.rules
}

struct Writer<'a> {
    context: Context<'a>,
    port: &'a ServicePort,
    id: String,
    chains: PortChains,
    rules: PortRules,
}

impl Writer<'_> {
    fn share(&mut self, chain: Shared, rule: String) {
        self.rules.shared.push((chain, rule));
    }

    fn own(&mut self, chain: String, rules: Vec<String>) {
        self.rules.own.push((chain, rules));
    }

    /// `-d A -p P -m comment --comment C -m P --dport N`
    fn to(&self, ip: IpAddr, comment: &str) -> String {
        let (protocol, port) = (self.port.id.protocol, self.port.port);
        format!("-d {} -p {protocol} {} -m {protocol} --dport {port}", host(ip), quoted(comment))
    }

    /// What answers where nobody serves: at once, as a client that hangs learns nothing. Where somebody serves elsewhere the
    /// packet is dropped, so that whoever balances over nodes tries another.
    fn refusal(&self, reach: Reach<'_>) -> Option<(String, &'static str)> {
        let reject = match self.context.family {
            Family::V4 => "REJECT --reject-with icmp-port-unreachable",
            Family::V6 => "REJECT --reject-with icmp6-port-unreachable",
        };
        match reach {
            Reach::To(_) => None,
            Reach::Reject => Some((format!("{} has no endpoints", self.id), reject)),
            Reach::Drop => Some((format!("{} has no local endpoints", self.id), "DROP")),
        }
    }

    /// The chain for traffic under the policy Local, or Cluster.
    fn policy_chain(&self, local: bool) -> &str {
        if local { &self.chains.local } else { &self.chains.cluster }
    }

    fn cluster_ip(&mut self) {
        let ip = self.port.cluster_ip;
        match self.refusal(self.port.internal()) {
            None => {
                let target = self.policy_chain(self.port.internal_local);
                let rule =
                    format!("{} -j {target}", self.to(ip, &format!("{} cluster IP", self.id)));
                self.share(Shared::NatServices, rule);
            }
            Some((comment, target)) => {
                let rule = format!("{} -j {target}", self.to(ip, &comment));
                self.share(Shared::FilterServices, rule);
            }
        }
    }

    fn external_ips(&mut self) {
        for ip in &self.port.external_ips {
            if self.port.endpoints.any {
                let to = self.to(*ip, &format!("{} external IP", self.id));
                self.share(Shared::NatServices, format!("{to} -j {}", self.chains.external));
            }
            self.refuse_external(*ip);
        }
    }

    fn refuse_external(&mut self, ip: IpAddr) {
        if let Some((comment, target)) = self.refusal(self.port.external()) {
            let rule = format!("{} -j {target}", self.to(ip, &comment));
            self.share(Shared::ExternalServices, rule);
        }
    }

    /// Whether load balancers' addresses are open to some sources only.
    fn is_restricted(&self) -> bool {
        self.port.endpoints.any
            && !self.port.load_balancer_ips.is_empty()
            && !self.port.source_ranges.is_empty()
    }

    fn load_balancer_ips(&mut self) {
        let restricted = self.is_restricted();
        for ip in &self.port.load_balancer_ips {
            if self.port.endpoints.any {
                let target = if restricted { &self.chains.firewall } else { &self.chains.external };
                let to = self.to(*ip, &format!("{} loadbalancer IP", self.id));
                self.share(Shared::NatServices, format!("{to} -j {target}"));
            }
            if restricted {
                let firewall = &self.chains.firewall;
                let comment = format!("{} traffic not accepted by {firewall}", self.id);
                let rule = format!("{} -j DROP", self.to(*ip, &comment));
                self.share(Shared::ProxyFirewall, rule);
            }
        }
        for ip in &self.port.load_balancer_ips {
            self.refuse_external(*ip);
        }
    }

    fn node_port(&mut self) {
        let Some(number) = self.port.node_port else { return };
        let protocol = self.port.id.protocol;
        if self.port.endpoints.any {
            let (comment, target) = (quoted(&self.id), &self.chains.external);
            let to = format!("-p {protocol} {comment} -m {protocol} --dport {number}");
            let rule = format!("{to} -j {target}");
            // in front of the rule for all addresses, or nothing would come by
            if self.context.counters && self.context.serves_localhost() {
                let counter = counted(LOCALHOST);
                let counting = format!("-d 127.0.0.0/8 {to} {counter} -j {target}");
                self.share(Shared::NatNodePorts, counting);
            }
            self.share(Shared::NatNodePorts, rule);
        }
        if let Some((comment, target)) = self.refusal(self.port.external()) {
            let rule = format!(
                "-p {protocol} {} -m addrtype --dst-type LOCAL -m {protocol} --dport {number} -j {target}",
                quoted(&comment)
            );
            self.share(Shared::ExternalServices, rule);
        }
    }

    /// A load balancer must be able to ask also when nobody serves here: that is what it wants to know.
    fn health_check(&mut self) {
        let Some(number) = self.port.health_check_node_port else { return };
        let comment = quoted(&format!("{} health check node port", self.id));
        let rule = format!("-p tcp {comment} -m tcp --dport {number} -j ACCEPT");
        self.share(Shared::FilterNodePorts, rule);
    }

    /// Traffic to external addresses. Under the policy Local, pods and this node itself still reach every endpoint, as they
    /// do by the cluster address.
    fn external_chain(&mut self) {
        if !self.port.is_externally_accessible() {
            return;
        }
        let external = format!("{} external destinations", self.id);
        let mark = |what: &str| quoted(&format!("masquerade {what} for {external}"));
        let mut rules = Vec::new();
        if self.port.external_local {
            let cluster = &self.chains.cluster;
            if let Some(local) = self.context.options.local.of(self.context.family) {
                let comment = quoted(&format!("pod traffic for {external}"));
                rules.push(format!("{} {comment} -j {cluster}", from(&local)));
            }
            let here = "-m addrtype --src-type LOCAL";
            rules.push(format!("{} {here} -j KUBE-MARK-MASQ", mark("LOCAL traffic")));
            let comment = quoted(&format!("route LOCAL traffic for {external}"));
            rules.push(format!("{comment} {here} -j {cluster}"));
        } else {
            rules.push(format!("{} -j KUBE-MARK-MASQ", mark("traffic")));
        }
        if let Reach::To(_) = self.port.external() {
            rules.push(format!("-j {}", self.policy_chain(self.port.external_local)));
        }
        self.own(self.chains.external.clone(), rules);
    }

    /// A packet that comes to the end of this chain has kept its destination, and `KUBE-PROXY-FIREWALL` drops it.
    fn firewall_chain(&mut self) {
        if !self.is_restricted() {
            return;
        }
        let comment = quoted(&format!("{} loadbalancer IP", self.id));
        let target = &self.chains.external;
        let allow = |source: String| format!("-s {source} {comment} -j {target}");
        let mut rules: Vec<_> =
            self.port.source_ranges.iter().map(|range| allow(range.to_string())).collect();
        // Where the load balancer's address is one of this node's (by a route), a connection from this node to it has that
        // address as its source too.
        if self.allows_this_node() {
            rules.extend(self.port.load_balancer_ips.iter().map(|ip| allow(host(*ip))));
        }
        let rest = format!("other traffic to {} will be dropped by KUBE-PROXY-FIREWALL", self.id);
        rules.push(quoted(&rest));
        self.own(self.chains.firewall.clone(), rules);
    }

    fn allows_this_node(&self) -> bool {
        let in_range =
            |ip: &IpAddr| self.port.source_ranges.iter().any(|range| range.contains(*ip));
        self.context.options.node_ips.iter().any(in_range)
    }

    fn policy_chains(&mut self) {
        for local in [false, true] {
            let (used, endpoints) = if local {
                (self.port.uses_local_endpoints(), &self.port.endpoints.local)
            } else {
                (self.port.uses_cluster_endpoints(), &self.port.endpoints.cluster)
            };
            if !used || endpoints.is_empty() {
                continue;
            }
            let mut rules = Vec::new();
            if local == self.port.internal_local {
                rules.extend(self.masquerade_internal());
            }
            self.distribute(endpoints, &mut rules);
            self.own(self.policy_chain(local).to_owned(), rules);
        }
    }

    /// Whoever comes from outside of the cluster to a cluster address must get the answers by this node.
    fn masquerade_internal(&self) -> Option<String> {
        let not_local = match self.context.options.local.of(self.context.family) {
            _ if self.context.options.masquerade_all => Unless::Never,
            None => return None,
            Some(local) => Unless::From(local),
        };
        let to = self.to(self.port.cluster_ip, &format!("{} cluster IP", self.id));
        Some(match not_local {
            Unless::Never => format!("{to} -j KUBE-MARK-MASQ"),
            Unless::From(LocalMatch::Source(range)) => {
                format!("! -s {range} {to} -j KUBE-MARK-MASQ")
            }
            // iptables-save prints interfaces behind addresses
            Unless::From(local) => {
                let (address, rest) = to.split_once(" -p ").unwrap_or((&to, ""));
                format!("{address} ! {} -p {rest} -j KUBE-MARK-MASQ", from(&local))
            }
        })
    }

    /// A client that has been here before goes where it went; others go to each endpoint with the same probability.
    fn distribute(&self, endpoints: &[Endpoint], rules: &mut Vec<String>) {
        let comment = |endpoint: SocketAddr| self.comment(&format!("{} -> {endpoint}", self.id));
        if let Some(timeout) = self.port.affinity {
            for Endpoint { address, .. } in endpoints {
                let chain = self.chains.endpoint(*address);
                let (seconds, source) = (timeout.as_secs(), self.recent_source(&chain));
                let check = format!("-m recent --rcheck --seconds {seconds} --reap {source}");
                rules.push(format!("{}{check} -j {chain}", comment(*address)));
            }
        }
        for (index, Endpoint { address, .. }) in endpoints.iter().enumerate() {
            let chain = self.chains.endpoint(*address);
            let share = match endpoints.len() - index {
                1 => String::new(),
                left => format!("-m statistic --mode random --probability {} ", probability(left)),
            };
            rules.push(format!("{}{share}-j {chain}", comment(*address)));
        }
    }

    /// With a space behind it, or empty in a large cluster.
    fn comment(&self, text: &str) -> String {
        if self.context.comments { format!("{} ", quoted(text)) } else { String::new() }
    }

    fn recent_source(&self, chain: &str) -> String {
        let mask = match self.context.family {
            Family::V4 => "255.255.255.255",
            Family::V6 => "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        };
        format!("--name {chain} --mask {mask} --rsource")
    }

    fn endpoint_chains(&mut self) {
        for Endpoint { address, .. } in self.port.reachable() {
            let chain = self.chains.endpoint(address);
            let comment = self.comment(&self.id);
            let protocol = self.port.id.protocol;
            let remember = match self.port.affinity {
                Some(_) => format!("-m recent --set {} ", self.recent_source(&chain)),
                None => String::new(),
            };
            // a pod that reaches itself through the service must see another source, or it would answer itself directly
            let hairpin = format!("-s {} {comment}-j KUBE-MARK-MASQ", host(address.ip()));
            let mut forward = format!("-p {protocol} {comment}{remember}-m {protocol} -j DNAT");
            _ = write!(forward, " --to-destination {address}");
            self.own(chain, vec![hairpin, forward]);
        }
    }
}

/// When traffic to a cluster address is not masqueraded.
enum Unless<'a> {
    Never,
    From(LocalMatch<'a>),
}

/// The match of this node's pods.
fn from(local: &LocalMatch<'_>) -> String {
    match local {
        LocalMatch::Source(range) => format!("-s {range}"),
        LocalMatch::Interface(name) => format!("-i {name}"),
        LocalMatch::InterfacePrefix(prefix) => format!("-i {prefix}+"),
    }
}

/// An address with its full prefix.
fn host(ip: IpAddr) -> String {
    IpNetwork::from(ip).to_string()
}

/// A comment. `iptables-save` quotes those that have other than plain characters.
fn quoted(text: &str) -> String {
    format!("-m comment --comment \"{text}\"")
}

/// The kernel keeps a probability as a fraction of 2³¹, rounded; printed as it comes back, so that rules compare equal.
pub(super) fn probability(left: usize) -> String {
    const WHOLE: f64 = 2_147_483_648.0;
    #[expect(clippy::cast_precision_loss, reason = "no service has 2⁵² endpoints")]
    let share = (WHOLE / left as f64).round() / WHOLE;
    format!("{share:.11}")
}
