//! Services that remember their clients (session affinity `ClientIP`).
//!
//! ```text
//! services, nodeports      address . protocol . port → goto cluster-HASH-…
//! chain cluster-HASH-…     goto pick-HASH-…
//! chain pick-HASH-…        ip saddr @affinity-… goto endpoint-…    for each endpoint: who was there goes there
//!                          numgen random mod 3 0 goto endpoint-…   all others anywhere
//! chain endpoint-…         update @affinity-… { ip saddr }
//!                          dnat to 10.1.0.1:8080
//! ```
//! Every port has chains of its own, and every endpoint of it a set of its clients, whatever address they asked and under whatever
//! policy: so kube-proxy does it. A packet asks one set after the other, so that the cost grows with the endpoints of the service
//! (not with the services). What a rule asks is written in the rule: nft(8) can list it.

use std::net::SocketAddr;
use std::time::Duration;

use data_encoding::BASE32;
use netns_tools::iptables::Family;
use netns_tools::nftables::{DynsetOp, Expr, Field, Op, Reg, Rule, Transport, Value};
use sha2::{Digest, Sha256};

use super::super::model::{PortId, Protocol, ServicePort};
use super::super::options::RuleOptions;
use super::layout;
use super::route::Kind;

/// The longest name of an object is 255 bytes (`NFT_NAME_MAXLEN`); this leaves room for what it is, and its hash.
const SHOWN: usize = 200;

/// A port whose clients are remembered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StickyPort {
    /// Which.
    pub id: PortId,
    /// For how many seconds after its last connection a client is.
    pub seconds: u32,
}

/// An endpoint of such a port: a chain that leads there, and the set of its clients.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StickyEndpoint {
    /// Of which port.
    pub port: StickyPort,
    /// Where it is.
    pub address: SocketAddr,
}

/// The chain that chooses among the endpoints of one policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StickyPick {
    /// Of which port.
    pub port: StickyPort,
    /// Of the policy Local.
    pub local: bool,
    /// The endpoints, in the order in which their clients are looked for.
    pub endpoints: Box<[SocketAddr]>,
}

/// The chain that `services` and `nodeports` lead to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StickyRoute {
    /// How packets come here.
    pub kind: Kind,
    /// Of which port.
    pub id: PortId,
    /// Whether it has endpoints of the policy Cluster, and whether of the policy Local.
    pub pools: (bool, bool),
}

/// In the kernel's characters for names. The hash keeps apart what is shown alike.
fn name(kind: &str, hashed: &str, shown: &str) -> String {
    let digest = Sha256::digest(hashed.as_bytes());
    let mut name = format!("{kind}{}-", BASE32.encode(&digest[..5]));
    name.extend(shown.chars().take(SHOWN).map(|letter| match letter {
        ':' => '.',
        letter if letter.is_ascii_alphanumeric() || "/-_.".contains(letter) => letter,
        _ => '_',
    }));
    name
}

/// `default/web/tcp/http`
fn shown(id: &PortId) -> String {
    format!("{}/{}/{}", id.service, id.protocol, id.port)
}

fn of_port(kind: &str, id: &PortId) -> Box<str> {
    let shown = shown(id);
    name(kind, &shown, &shown).into()
}

fn pick_chain(id: &PortId, local: bool) -> Box<str> {
    of_port(if local { "pick-local-" } else { "pick-" }, id)
}

impl StickyPort {
    /// `None`: the clients of this port are not remembered. A part of a second counts as one.
    pub fn of(port: &ServicePort) -> Option<Self> {
        let seconds = port.affinity?.as_secs().max(1);
        // Kubernetes allows a day
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX).min(0x00ff_ffff);
        Some(Self { id: port.id.clone(), seconds })
    }
}

impl StickyEndpoint {
    /// `default/web/tcp/http__10.1.0.1/8080`
    fn shown(&self) -> String {
        format!("{}__{}/{}", shown(&self.port.id), self.address.ip(), self.address.port())
    }

    /// The name of the chain.
    pub fn chain(&self) -> Box<str> {
        let shown = self.shown();
        name("endpoint-", &shown, &shown).into()
    }

    /// The name of the set. It is another one for another time-out, which the kernel does not change in a set that it has.
    pub fn set(&self) -> Box<str> {
        let shown = self.shown();
        let hashed = format!("{shown} for {} s", self.port.seconds);
        layout::clients_name(&name("", &hashed, &shown))
    }

    /// How long a client is remembered after its last connection.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.port.seconds.into())
    }

    /// The rules of the chain. Where there is no room to remember a client, the second serves it still.
    pub fn rules(&self, family: Family) -> Vec<Rule> {
        let rule = || Rule::new(layout::packets(family));
        let update = Expr::Dynset {
            set: self.set(),
            op: DynsetOp::UPDATE,
            key: Reg::ONE,
            data: None,
            timeout: None,
        };
        let to = rule().transport(transport(self.port.id.protocol));
        let to = to.dnat(self.address.ip(), Some(self.address.port()));
        vec![rule().load(&[client(family)]).expr(update), to]
    }
}

impl StickyPick {
    /// The name of the chain.
    pub fn chain(&self) -> Box<str> {
        pick_chain(&self.port.id, self.local)
    }

    /// The endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = StickyEndpoint> {
        let endpoint = |address| StickyEndpoint { port: self.port.clone(), address };
        self.endpoints.iter().copied().map(endpoint)
    }

    /// The rules of the chain.
    pub fn rules(&self, family: Family) -> Vec<Rule> {
        let rule = || Rule::new(layout::packets(family));
        let names: Vec<_> = self.endpoints().map(|one| (one.set(), one.chain())).collect();
        let known =
            names.iter().map(|(set, chain)| rule().in_set(&[client(family)], set).goto(chain));
        // of those that are left, each with the same probability
        let left = (1..=names.len()).rev();
        let others = names.iter().zip(left).map(|((_, chain), left)| {
            let rule = if left > 1 { one_in(rule(), left) } else { rule() };
            rule.goto(chain)
        });
        known.chain(others).collect()
    }
}

impl StickyRoute {
    /// The name of the chain.
    pub fn chain(&self) -> Box<str> {
        let kind = match self.kind {
            Kind::Pick => "pick-",
            Kind::Cluster => "cluster-",
            Kind::ClusterLocal => "cluster-local-",
            Kind::External => "external-",
            Kind::ExternalLocal => "external-local-",
        };
        of_port(kind, &self.id)
    }

    /// The rules of the chain.
    pub fn rules(&self, family: Family, options: &RuleOptions) -> Vec<Rule> {
        let (cluster, local) = self.pools;
        let chain = |local| pick_chain(&self.id, local);
        let cluster = cluster.then(|| chain(false));
        let local = local.then(|| chain(true));
        let mut rules = self.kind.beginning(family, options, cluster.as_deref());
        let last = match self.kind {
            Kind::Pick | Kind::Cluster => cluster,
            Kind::ClusterLocal | Kind::ExternalLocal => local,
            // what it begins with leads on
            Kind::External => None,
        };
        rules.extend(last.map(|chain| Rule::new(layout::packets(family)).goto(&chain)));
        rules
    }
}

const fn client(family: Family) -> Field {
    match family {
        Family::V4 => Field::IpSaddr,
        Family::V6 => Field::Ip6Saddr,
    }
}

const fn transport(protocol: Protocol) -> Transport {
    match protocol {
        Protocol::Tcp => Transport::Tcp,
        Protocol::Udp => Transport::Udp,
        Protocol::Sctp => Transport::Sctp,
    }
}

/// `numgen random mod COUNT 0`
fn one_in(rule: Rule, count: usize) -> Rule {
    let modulus = u32::try_from(count).unwrap_or(u32::MAX);
    let value = Value::host(0);
    rule.expr(Expr::Numgen { dreg: Reg::ONE, modulus, offset: 0, random: true }).expr(Expr::Cmp {
        sreg: Reg::ONE,
        op: Op::EQ,
        value,
    })
}
