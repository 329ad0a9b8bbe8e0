//! Routes: the chains that choose an endpoint, one for each number of endpoints that some service has.
//!
//! `numgen` takes its modulus from the rule, so services share a chain if they have as many endpoints (and the same time-out,
//! and are reached in the same way). The chains of a route are made with the first service that needs it and go with the last.

use std::fmt;
use std::time::Duration;

use netns_tools::iptables::Family;
use netns_tools::nftables::{Data, DynsetOp, Expr, Rule, Verdict};

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
    /// For how many seconds a client is remembered; 0: it is not.
    pub affinity: u32,
}

/// `pick-3`, `local-3-1-for-10800s`
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, cluster, local, affinity } = self;
        match kind {
            Kind::Pick => write!(f, "pick-{cluster}"),
            Kind::Cluster => write!(f, "cluster-{cluster}"),
            Kind::ClusterLocal => write!(f, "cluster-local-{local}"),
            Kind::External => write!(f, "external-{cluster}"),
            Kind::ExternalLocal => write!(f, "external-local-{cluster}-{local}"),
        }?;
        if *affinity > 0 { write!(f, "-for-{affinity}s") } else { Ok(()) }
    }
}

/// Which endpoints.
#[derive(Clone, Copy)]
struct Pool {
    count: u16,
    local: bool,
}

impl Route {
    /// The name of its chain.
    pub fn chain(&self) -> Box<str> {
        self.to_string().into()
    }

    /// What `services` and `nodeports` hold.
    pub fn data(&self) -> Data {
        Data::Verdict(Verdict::Goto(self.chain()))
    }

    /// The route that it ends in for some packets.
    pub fn picks(&self) -> Option<Self> {
        let leads_on = matches!(self.kind, Kind::External | Kind::ExternalLocal);
        (leads_on && self.cluster > 0).then_some(Self { kind: Kind::Pick, local: 0, ..*self })
    }

    fn pool(&self, local: bool) -> Pool {
        Pool { count: if local { self.local } else { self.cluster }, local }
    }

    /// The rules of its chain.
    pub fn rules(&self, family: Family, options: &RuleOptions) -> Vec<Rule> {
        let mut writer = Writer { family, affinity: self.affinity, rules: Vec::new() };
        match self.kind {
            Kind::Pick => {
                writer.choose(Source::Address, self.pool(false));
                writer.choose(Source::NodePort, self.pool(false));
            }
            Kind::Cluster => {
                writer.masquerade_foreign(options);
                writer.choose(Source::Address, self.pool(false));
            }
            Kind::ClusterLocal => {
                writer.masquerade_foreign(options);
                writer.choose(Source::Address, self.pool(true));
            }
            Kind::External => {
                let mark = options.mark();
                writer.rules.push(Rule::new(layout::packets(family)).set_mark(mark, mark));
                writer.pick(self);
            }
            Kind::ExternalLocal => {
                writer.short_circuits(self, options);
                writer.choose(Source::Address, self.pool(true));
                writer.choose(Source::NodePort, self.pool(true));
            }
        }
        writer.rules
    }
}

/// Writes the rules of a chain.
struct Writer {
    family: Family,
    affinity: u32,
    rules: Vec<Rule>,
}

impl Writer {
    fn rule(&self) -> Rule {
        Rule::new(layout::packets(self.family))
    }

    fn pick(&mut self, route: &Route) {
        if let Some(pick) = route.picks() {
            self.rules.push(self.rule().goto(&pick.chain()));
        }
    }

    /// Who comes to a cluster address from outside of the cluster gets an answer only through this node.
    fn masquerade_foreign(&mut self, options: &RuleOptions) {
        let rule = self.rule();
        let rule = match options.local.of(self.family) {
            _ if options.masquerade_all => rule,
            Some(LocalMatch::Source(range)) => rule.saddr_ne(range),
            Some(LocalMatch::Interface(name)) => rule.iifname_ne(name),
            Some(LocalMatch::InterfacePrefix(prefix)) => {
                interface_prefix(rule, prefix, netns_tools::nftables::Op::NE)
            }
            None => return,
        };
        self.rules.push(rule.set_mark(options.mark(), options.mark()));
    }

    /// Pods and this node use all endpoints also where others are held to those of this node: they come from where the load
    /// balancer would have sent them from anyway.
    fn short_circuits(&mut self, route: &Route, options: &RuleOptions) {
        let rule = self.rule();
        let pods = match options.local.of(self.family) {
            Some(LocalMatch::Source(range)) => Some(rule.saddr_eq(range)),
            Some(LocalMatch::Interface(name)) => Some(rule.iifname_eq(name)),
            Some(LocalMatch::InterfacePrefix(prefix)) => {
                Some(interface_prefix(rule, prefix, netns_tools::nftables::Op::EQ))
            }
            None => None,
        };
        let Some(pick) = route.picks() else { return };
        let chain = pick.chain();
        self.rules.extend(pods.map(|pods| pods.goto(&chain)));
        let mark = options.mark();
        self.rules.push(self.rule().saddr_is_local().set_mark(mark, mark));
        self.rules.push(self.rule().saddr_is_local().goto(&chain));
    }

    /// Chooses an endpoint of a pool.
    fn choose(&mut self, source: Source, pool: Pool) {
        if pool.count == 0 {
            return;
        }
        let registers = Registers::of(self.family, source);
        if self.affinity > 0 {
            self.rules.push(self.remembered(registers, pool));
            self.rules.push(self.remembering(registers, pool));
        }
        let rule = with(self.rule(), registers.load_service());
        self.rules.push(with(rule, at_random(registers, pool)).expr(registers.dnat()));
    }

    fn time(&self) -> Duration {
        Duration::from_secs(self.affinity.into())
    }

    /// A client that was here goes where it went, if that still serves.
    fn remembered(&self, registers: Registers, pool: Pool) -> Rule {
        let rule = self.rule().expr(registers.load_client());
        with(rule, registers.load_service())
            .expr(registers.recall())
            .expr(registers.is_member(pool.local))
            .expr(registers.remember(DynsetOp::UPDATE, Some(self.time())))
            .expr(registers.recall())
            .expr(registers.dnat())
    }

    /// One that was not goes anywhere, and will go there again. What is known of it may be of an endpoint that is gone, and an
    /// update would leave it, so that goes first. Where there is no room to remember it, the next rule serves it.
    fn remembering(&self, registers: Registers, pool: Pool) -> Rule {
        let rule = self.rule().expr(registers.load_client());
        let rule = with(rule, registers.load_service());
        with(rule, at_random(registers, pool))
            .expr(registers.remember(DynsetOp::DELETE, None))
            .expr(registers.remember(DynsetOp::UPDATE, Some(self.time())))
            .expr(registers.recall())
            .expr(registers.dnat())
    }
}

fn with(rule: Rule, expressions: impl IntoIterator<Item = Expr>) -> Rule {
    expressions.into_iter().fold(rule, Rule::expr)
}

fn at_random(registers: Registers, pool: Pool) -> [Expr; 2] {
    let offset = if pool.local { LOCAL } else { 0 };
    [registers.random(pool.count.into(), offset), registers.backend()]
}

fn interface_prefix(rule: Rule, prefix: &str, op: netns_tools::nftables::Op) -> Rule {
    use netns_tools::nftables::{Meta, Reg};
    rule.expr(Expr::Meta { dreg: Reg::ONE, key: Meta::IIFNAME }).expr(Expr::Cmp {
        sreg: Reg::ONE,
        op,
        value: name_prefix(prefix),
    })
}
