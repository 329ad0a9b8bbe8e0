//! What the table holds whatever services there are: base chains, and the chains that they lead to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netns_tools::iptables::Family;
use netns_tools::nftables::{
    Base, ChainKind, Field, Hook, NatFlags, Reject, Rule, Transport, ct_state, ct_status, priority,
};

use super::super::options::{NodePortAddresses, RuleOptions};
use super::layout::{self, SetName};
use super::registers::{Registers, Source};

/// A chain: its name, where the kernel sends packets to it, its rules.
pub type Chain = (&'static str, Option<Base>, Vec<Rule>);

const SERVICES: &str = "services";
const FIREWALL: &str = "firewall";
const UNSERVED: &str = "unserved";
const UNSERVED_NODE_PORTS: &str = "unserved-nodeports";
const NO_SUCH_PORT: &str = "no-such-port";
const REFUSE: &str = "refuse";

/// All of them, those that are jumped to first.
pub fn chains(family: Family, options: &RuleOptions) -> Vec<Chain> {
    let writer = Writer { family, options };
    let mut chains = vec![
        (SERVICES, None, writer.services()),
        (
            FIREWALL,
            None,
            vec![writer.rule().verdict_map(&writer.destination(), SetName::Firewall.name())],
        ),
        (UNSERVED, None, writer.unserved()),
        (UNSERVED_NODE_PORTS, None, writer.unserved_node_ports()),
        (NO_SUCH_PORT, None, vec![writer.no_such_port()]),
        (REFUSE, None, writer.refuse()),
    ];
    chains.extend(writer.base_chains());
    chains
}

const fn base(kind: ChainKind, hook: Hook, priority: i32) -> Base {
    Base { kind, hook, priority, policy: None }
}

struct Writer<'a> {
    family: Family,
    options: &'a RuleOptions,
}

impl Writer<'_> {
    fn rule(&self) -> Rule {
        Rule::new(layout::packets(self.family))
    }

    fn daddr(&self) -> Field {
        match self.family {
            Family::V4 => Field::IpDaddr,
            Family::V6 => Field::Ip6Daddr,
        }
    }

    fn saddr(&self) -> Field {
        match self.family {
            Family::V4 => Field::IpSaddr,
            Family::V6 => Field::Ip6Saddr,
        }
    }

    fn destination(&self) -> [Field; 3] {
        [self.daddr(), Field::L4Proto, Field::Dport]
    }

    fn base_chains(&self) -> [Chain; 8] {
        use ChainKind::{Filter, Nat};
        use Hook::{Forward, Input, Output, Postrouting, Prerouting};
        let before_dnat = priority::DSTNAT - 10;
        let new = |chain| self.rule().ct_state(ct_state::NEW).jump(chain);
        let services = || vec![self.rule().jump(SERVICES)];
        let (unserved, no_such_port) = (new(UNSERVED), new(NO_SUCH_PORT));
        let mut forward = vec![unserved.clone(), no_such_port.clone()];
        if self.options.drop_invalid {
            // a packet outside of the window is not translated back: the client would see the endpoint's own address
            forward.insert(0, self.rule().ct_state(ct_state::INVALID).drop());
        }
        let input = vec![new(UNSERVED_NODE_PORTS), unserved.clone()];
        let output = vec![unserved, no_such_port];
        [
            (
                "firewall-prerouting",
                Some(base(Filter, Prerouting, before_dnat)),
                vec![new(FIREWALL)],
            ),
            ("firewall-output", Some(base(Filter, Output, before_dnat)), vec![new(FIREWALL)]),
            ("filter-input", Some(base(Filter, Input, priority::FILTER)), input),
            ("filter-forward", Some(base(Filter, Forward, priority::FILTER)), forward),
            ("filter-output", Some(base(Filter, Output, priority::FILTER)), output),
            ("nat-prerouting", Some(base(Nat, Prerouting, priority::DSTNAT)), services()),
            ("nat-output", Some(base(Nat, Output, priority::DSTNAT)), services()),
            ("nat-postrouting", Some(base(Nat, Postrouting, priority::SRCNAT)), self.masquerade()),
        ]
    }

    fn services(&self) -> Vec<Rule> {
        let to_node = self.to_node_port_address();
        [(Source::Address, self.rule()), (Source::NodePort, to_node)]
            .map(|(source, rule)| {
                let registers = Registers::of(self.family, source);
                let expressions = registers.load_service().into_iter();
                expressions.chain([registers.follow_route()]).fold(rule, Rule::expr)
            })
            .into()
    }

    /// Begins a rule for packets to an address where node ports answer. Never at the loopback addresses: the kernel does not
    /// route from there to a pod.
    fn to_node_port_address(&self) -> Rule {
        match self.options.node_ports {
            NodePortAddresses::Any => self.rule().daddr_is_local().daddr_ne(loopback(self.family)),
            NodePortAddresses::Listed(_) => {
                self.rule().in_set(&[self.daddr()], SetName::NodePortIps.name())
            }
        }
    }

    /// A reset for TCP, "port unreachable" for others. The kernel only takes note of the latter while a connection of IPv6 begins
    /// (`tcp_v6_err`), so that who is told so waits a second for the next: see [`super`].
    fn refuse(&self) -> Vec<Rule> {
        let unreachable = Reject::Icmp(match self.family {
            Family::V4 => 3,
            Family::V6 => 4,
        });
        let reset = self.rule().transport(Transport::Tcp).reject(Reject::TcpReset);
        vec![reset, self.rule().reject(unreachable)]
    }

    fn unserved(&self) -> Vec<Rule> {
        let to = |set: SetName| self.rule().in_set(&self.destination(), set.name());
        vec![to(SetName::Rejected).goto(REFUSE), to(SetName::Dropped).drop()]
    }

    fn unserved_node_ports(&self) -> Vec<Rule> {
        let to = |set: SetName| {
            self.to_node_port_address().in_set(&[Field::L4Proto, Field::Dport], set.name())
        };
        let rejected = to(SetName::RejectedNodePorts).goto(REFUSE);
        vec![rejected, to(SetName::DroppedNodePorts).drop()]
    }

    /// What still goes to a cluster address after translation went to a port that no service has.
    fn no_such_port(&self) -> Rule {
        self.rule().in_set(&[self.daddr()], SetName::ClusterIps.name()).goto(REFUSE)
    }

    fn masquerade(&self) -> Vec<Rule> {
        let mark = self.options.mark();
        let marked = self.rule().mark_ne(0, mark).set_mark(0, mark);
        let to_itself = self
            .rule()
            .ct_status(ct_status::DNAT)
            .in_set(&[self.saddr(), self.daddr()], SetName::Hairpins.name());
        [marked, to_itself].map(|rule| rule.masquerade_with(NatFlags::FULLY_RANDOM)).into()
    }
}

fn loopback(family: Family) -> ipnetwork::IpNetwork {
    let (address, prefix) = match family {
        Family::V4 => (IpAddr::V4(Ipv4Addr::LOCALHOST), 8),
        Family::V6 => (IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
    };
    // the prefix is within the family's bounds
    ipnetwork::IpNetwork::new(address, prefix).unwrap_or_else(|_| address.into())
}

/// The chain of what may come to a load balancer's addresses: everything from these ranges.
pub fn source_rules(family: Family, sources: &super::port::Sources) -> Vec<Rule> {
    let rule = || Rule::new(layout::packets(family));
    let allowed = sources.0.iter().map(|range| rule().saddr_eq(*range).return_());
    allowed.chain([rule().drop()]).collect()
}
