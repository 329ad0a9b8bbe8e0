//! Routes: the chains that choose an endpoint, one for each number of endpoints that some service has.
//!
//! `numgen` takes its modulus from the rule, so services share a chain if they have as many endpoints (and are reached in the same
//! way). The chains of a route are made with the first service that needs it and go with the last. Services with session affinity
//! have chains of their own, which begin in the same ways: [`super::affinity`].

use std::fmt;

use netns_tools::iptables::Family;
use netns_tools::nftables::{Expr, Meta, Op, Reg, Rule};

use super::super::options::{LocalMatch, RuleOptions};
use super::layout::{self, LOCAL};
use super::registers::{Registers, Source, name_prefix};

/// How a connection comes to its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// From an address or node port to the endpoints of the cluster, whoever sent it there. No packet comes here from
    /// `services`: other routes end in it.
    Pick = 0,
    /// To the cluster address, policy Cluster.
    Cluster = 1,
    /// To the cluster address, policy Local.
    ClusterLocal = 2,
    /// To an external address or a node port, policy Cluster.
    External = 3,
    /// To an external address or a node port, policy Local.
    ExternalLocal = 4,
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// How it begins.
    pub kind: Kind,
    /// How many endpoints there are under the policy Cluster; 0 if the kind has nothing to do with them.
    pub cluster: u16,
    /// The same for Local.
    pub local: u16,
}

/// `pick-3`, `external-local-3-1`
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, cluster, local } = self;
        match kind {
            Kind::Pick => write!(f, "pick-{cluster}"),
            Kind::Cluster => write!(f, "cluster-{cluster}"),
            Kind::ClusterLocal => write!(f, "cluster-local-{local}"),
            Kind::External => write!(f, "external-{cluster}"),
            Kind::ExternalLocal => write!(f, "external-local-{cluster}-{local}"),
        }
    }
}

/// Which endpoints.
#[derive(Clone, Copy)]
struct Pool {
    count: u16,
    local: bool,
}

impl Kind {
    /// Whether packets go to the endpoints of the policy Cluster, and whether to those of the policy Local.
    pub const fn pools(self) -> (bool, bool) {
        match self {
            Self::Pick | Self::Cluster | Self::External => (true, false),
            Self::ClusterLocal => (false, true),
            Self::ExternalLocal => (true, true),
        }
    }

    /// Whether some packets go on to another chain for the endpoints of the policy Cluster.
    pub const fn leads_on(self) -> bool {
        matches!(self, Self::External | Self::ExternalLocal)
    }

    /// The rules before an endpoint is chosen: which packets are masqueraded, and which go on to `pick`, the chain that chooses
    /// among the endpoints of the policy Cluster.
    pub fn beginning(self, family: Family, options: &RuleOptions, pick: Option<&str>) -> Vec<Rule> {
        match self {
            Self::Pick => Vec::new(),
            Self::Cluster | Self::ClusterLocal => {
                masquerade_foreign(family, options).into_iter().collect()
            }
            Self::External => {
                let marked = Rule::new(layout::packets(family));
                let marked = marked.set_mark(options.mark(), options.mark());
                let pick = pick.map(|pick| Rule::new(layout::packets(family)).goto(pick));
                [marked].into_iter().chain(pick).collect()
            }
            Self::ExternalLocal => {
                pick.map_or_else(Vec::new, |pick| short_circuits(family, options, pick))
            }
        }
    }
}

/// Who comes to a cluster address from outside of the cluster gets an answer only through this node.
fn masquerade_foreign(family: Family, options: &RuleOptions) -> Option<Rule> {
    let rule = Rule::new(layout::packets(family));
    let rule = match options.local.of(family) {
        _ if options.masquerade_all => rule,
        Some(LocalMatch::Source(range)) => rule.saddr_ne(range),
        Some(LocalMatch::Interface(name)) => rule.iifname_ne(name),
        Some(LocalMatch::InterfacePrefix(prefix)) => interface_prefix(rule, prefix, Op::NE),
        None => return None,
    };
    Some(rule.set_mark(options.mark(), options.mark()))
}

/// Pods and this node use all endpoints also where others are held to those of this node: they come from where the load
/// balancer would have sent them from anyway.
fn short_circuits(family: Family, options: &RuleOptions, pick: &str) -> Vec<Rule> {
    let rule = || Rule::new(layout::packets(family));
    let pods = match options.local.of(family) {
        Some(LocalMatch::Source(range)) => Some(rule().saddr_eq(range)),
        Some(LocalMatch::Interface(name)) => Some(rule().iifname_eq(name)),
        Some(LocalMatch::InterfacePrefix(prefix)) => Some(interface_prefix(rule(), prefix, Op::EQ)),
        None => None,
    };
    let mark = options.mark();
    let node = [rule().saddr_is_local().set_mark(mark, mark), rule().saddr_is_local().goto(pick)];
    pods.map(|pods| pods.goto(pick)).into_iter().chain(node).collect()
}

impl Route {
    /// The name of its chain.
    pub fn chain(self) -> Box<str> {
        self.to_string().into()
    }

    /// The route that it ends in for some packets.
    pub fn picks(self) -> Option<Self> {
        let leads_on = self.kind.leads_on() && self.cluster > 0;
        leads_on.then_some(Self { kind: Kind::Pick, local: 0, ..self })
    }

    /// The rules of its chain.
    pub fn rules(self, family: Family, options: &RuleOptions) -> Vec<Rule> {
        let pick = self.picks().map(Self::chain);
        let mut rules = self.kind.beginning(family, options, pick.as_deref());
        let local = matches!(self.kind, Kind::ClusterLocal | Kind::ExternalLocal);
        let pool = Pool { count: if local { self.local } else { self.cluster }, local };
        let sources: &[Source] = match self.kind {
            Kind::Pick | Kind::ExternalLocal => &[Source::Address, Source::NodePort],
            Kind::Cluster | Kind::ClusterLocal => &[Source::Address],
            Kind::External => &[],
        };
        rules.extend(sources.iter().filter_map(|source| choose(family, *source, pool)));
        rules
    }
}

/// Chooses an endpoint of a pool; `None`: it has none.
fn choose(family: Family, source: Source, pool: Pool) -> Option<Rule> {
    if pool.count == 0 {
        return None;
    }
    let registers = Registers::of(family, source);
    let offset = if pool.local { LOCAL } else { 0 };
    let rule = with(Rule::new(layout::packets(family)), registers.load_service());
    let at_random = [registers.random(pool.count.into(), offset), registers.backend()];
    Some(with(rule, at_random).expr(registers.dnat()))
}

fn with(rule: Rule, expressions: impl IntoIterator<Item = Expr>) -> Rule {
    expressions.into_iter().fold(rule, Rule::expr)
}

fn interface_prefix(rule: Rule, prefix: &str, op: Op) -> Rule {
    rule.expr(Expr::Meta { dreg: Reg::ONE, key: Meta::IIFNAME }).expr(Expr::Cmp {
        sreg: Reg::ONE,
        op,
        value: name_prefix(prefix),
    })
}
