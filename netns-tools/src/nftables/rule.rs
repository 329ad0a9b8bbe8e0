//! Rules, written much as nft reads them.

use ipnetwork::IpNetwork;

use super::buffer::Buffer;
use super::expr::{
    Ct, Expr, FibFlags, FibResult, Header, Meta, NatFlags, NatKind, Op, Reg, RegRange, Reject,
};
use super::object::{Family, Verdict};
use super::uapi::{NFTA_RULE_EXPRESSIONS, NFTA_RULE_USERDATA, NFTNL_UDATA_RULE_COMMENT};
use super::value::Value;
use crate::MacAddr;

/// States of a connection, for [`Rule::ct_state`]; combined with `|` (`NF_CT_STATE_BIT`).
pub mod ct_state {
    /// No connection that makes sense.
    pub const INVALID: u32 = 1;
    /// Packets went both ways.
    pub const ESTABLISHED: u32 = 2;
    /// Belongs to another connection, as an ICMP error does.
    pub const RELATED: u32 = 4;
    /// The first packet.
    pub const NEW: u32 = 8;
    /// Not tracked on demand.
    pub const UNTRACKED: u32 = 64;
}

/// What has been done to a connection, for [`Rule::ct_status`] (`IPS_*` in `linux/netfilter/nf_conntrack_common.h`).
pub mod ct_status {
    /// Its source was translated.
    pub const SNAT: u32 = 16;
    /// Its destination was translated.
    pub const DNAT: u32 = 32;
}

/// IP protocols with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the protocols need no explanation")]
pub enum Transport {
    Tcp = 6,
    Udp = 17,
    Sctp = 132,
}

/// `RTN_LOCAL` (`linux/rtnetlink.h`): an address of this host.
const RTN_LOCAL: u32 = 2;
/// `ARPHRD_ETHER` (`linux/if_arp.h`).
const ETHERNET: u16 = 1;
/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// A part of a packet, of its way or of its connection that a set is asked about. Several make a concatenated key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `ip saddr`, 4 bytes.
    IpSaddr,
    /// `ip daddr`, 4 bytes.
    IpDaddr,
    /// `ip6 saddr`, 16 bytes.
    Ip6Saddr,
    /// `ip6 daddr`, 16 bytes.
    Ip6Daddr,
    /// `meta l4proto`, 1 byte.
    L4Proto,
    /// `th sport`, 2 bytes. The rule must see to it that the protocol has ports, or the key have [`Self::L4Proto`].
    Sport,
    /// `th dport`, 2 bytes; as for [`Self::Sport`].
    Dport,
    /// `ether saddr`, 6 bytes.
    EtherSaddr,
    /// `meta iifname`, 16 bytes.
    IifName,
    /// `meta oifname`, 16 bytes.
    OifName,
    /// `meta mark`, a number in host byte order.
    Mark,
    /// `ct mark`, a number in host byte order.
    CtMark,
    /// `numgen random mod N`, a number in host byte order.
    Random(u32),
}

impl Field {
    const fn words(self) -> u32 {
        match self {
            Self::Ip6Saddr | Self::Ip6Daddr | Self::IifName | Self::OifName => 4,
            Self::EtherSaddr => 2,
            _ => 1,
        }
    }

    const fn protocol(self) -> Option<u8> {
        match self {
            Self::IpSaddr | Self::IpDaddr => Some(IPV4),
            Self::Ip6Saddr | Self::Ip6Daddr => Some(IPV6),
            _ => None,
        }
    }

    fn load(self, dreg: Reg) -> Expr {
        let payload = |base, offset, len| Expr::Payload { dreg, base, offset, len };
        let meta = |key| Expr::Meta { dreg, key };
        match self {
            Self::IpSaddr => payload(Header::NETWORK, 12, 4),
            Self::IpDaddr => payload(Header::NETWORK, 16, 4),
            Self::Ip6Saddr => payload(Header::NETWORK, 8, 16),
            Self::Ip6Daddr => payload(Header::NETWORK, 24, 16),
            Self::Sport => payload(Header::TRANSPORT, 0, 2),
            Self::Dport => payload(Header::TRANSPORT, 2, 2),
            Self::EtherSaddr => payload(Header::LINK, 6, 6),
            Self::L4Proto => meta(Meta::L4PROTO),
            Self::IifName => meta(Meta::IIFNAME),
            Self::OifName => meta(Meta::OIFNAME),
            Self::Mark => meta(Meta::MARK),
            Self::CtMark => Expr::Ct { dreg, key: Ct::MARK, direction: None },
            Self::Random(modulus) => Expr::Numgen { dreg, modulus, offset: 0, random: true },
        }
    }
}

/// A rule in the making. Matches come before what is done; the methods add expressions in the order of their calls.
///
/// What an expression takes for granted is added before it, once, as nft does: that a packet is IPv4 before its addresses are
/// read (in families that see others too), that it is TCP before its ports are.
///
/// ```
/// use netns_tools::nftables::{Family, Rule};
/// // ip saddr 10.1.0.2 ip daddr != 10.1.0.0/24 masquerade comment "pod a"
/// let rule = Rule::new(Family::Inet)
///     .saddr_eq("10.1.0.2".parse::<std::net::IpAddr>()?)
///     .daddr_ne("10.1.0.0/24".parse::<ipnetwork::IpNetwork>()?)
///     .masquerade()
///     .comment("pod a");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    expressions: Vec<Expr>,
    comment: Option<Box<str>>,
    family: Family,
    network: Option<u8>,
    transport: Option<u8>,
    ethernet: bool,
}

impl Rule {
    /// An empty rule, for a table of this family.
    pub fn new(family: Family) -> Self {
        let network = match family {
            Family::Ip => Some(IPV4),
            Family::Ip6 => Some(IPV6),
            _ => None,
        };
        let ethernet = matches!(family, Family::Bridge | Family::Netdev);
        let expressions = Vec::with_capacity(8);
        Self { expressions, comment: None, family, network, transport: None, ethernet }
    }

    /// What it is made of so far.
    pub fn expressions(&self) -> &[Expr] {
        &self.expressions
    }

    /// Its comment.
    pub fn remark(&self) -> Option<&str> {
        self.comment.as_deref()
    }

    /// Any expression.
    #[must_use]
    pub fn expr(mut self, expression: Expr) -> Self {
        self.expressions.push(expression);
        self
    }

    /// A comment of at most [`super::COMMENT_MAX`] bytes; [`super::Nftables::commit`] refuses a longer one.
    #[must_use]
    pub fn comment(mut self, comment: &str) -> Self {
        self.comment = Some(comment.into());
        self
    }

    fn field(self, field: Field, op: Op, value: impl Into<Value>) -> Self {
        let rule = self.presupposed(field);
        let value = value.into();
        rule.expr(field.load(Reg::ONE)).expr(Expr::Cmp { sreg: Reg::ONE, op, value })
    }

    /// What must be so before a field can be read.
    fn presupposed(self, field: Field) -> Self {
        match (field.protocol(), field) {
            (Some(protocol), _) => self.network(protocol),
            (None, Field::EtherSaddr) => self.ethernet(),
            (None, _) => self,
        }
    }

    /// `meta iiftype ether`: there is an Ethernet header, and it is that of the interface that the packet came in by.
    fn ethernet(mut self) -> Self {
        if std::mem::replace(&mut self.ethernet, true) {
            return self;
        }
        self.meta(Meta::IIFTYPE, Op::EQ, Value::host_u16(ETHERNET))
    }

    fn meta(self, key: Meta, op: Op, value: impl Into<Value>) -> Self {
        let value = value.into();
        self.expr(Expr::Meta { dreg: Reg::ONE, key }).expr(Expr::Cmp { sreg: Reg::ONE, op, value })
    }

    fn network(mut self, protocol: u8) -> Self {
        if self.network.replace(protocol) == Some(protocol) {
            return self;
        }
        match self.family {
            Family::Bridge | Family::Netdev | Family::Arp => {
                let ether_type: u16 = if protocol == IPV4 { 0x0800 } else { 0x86dd };
                self.meta(Meta::PROTOCOL, Op::EQ, ether_type)
            }
            _ => self.meta(Meta::NFPROTO, Op::EQ, protocol),
        }
    }

    /// `meta nfproto ipv4`.
    #[must_use]
    pub fn ipv4(self) -> Self {
        self.network(IPV4)
    }

    /// `meta nfproto ipv6`.
    #[must_use]
    pub fn ipv6(self) -> Self {
        self.network(IPV6)
    }

    /// `meta l4proto`.
    #[must_use]
    pub fn transport(mut self, transport: Transport) -> Self {
        let number = transport as u8;
        if self.transport.replace(number) == Some(number) {
            return self;
        }
        self.meta(Meta::L4PROTO, Op::EQ, number)
    }

    fn address(self, [v4, v6]: [Field; 2], op: Op, net: IpNetwork) -> Self {
        let (field, protocol, bits) = if net.is_ipv4() { (v4, IPV4, 32) } else { (v6, IPV6, 128) };
        let value = Value::from(net.network());
        let prefix = net.prefix();
        let rule = self.network(protocol);
        if prefix == bits {
            return rule.field(field, op, value);
        }
        if prefix > 0 && prefix.is_multiple_of(8) {
            // Only so many bytes are read: one expression less.
            let Expr::Payload { dreg, base, offset, .. } = field.load(Reg::ONE) else {
                return rule;
            };
            let len = u32::from(prefix / 8);
            return rule.expr(Expr::Payload { dreg, base, offset, len }).expr(Expr::Cmp {
                sreg: Reg::ONE,
                op,
                value: value.truncated(len as usize),
            });
        }
        let mask = Value::from(net.mask());
        rule.expr(field.load(Reg::ONE)).masked(mask).expr(Expr::Cmp { sreg: Reg::ONE, op, value })
    }

    fn masked(self, mask: Value) -> Self {
        self.expr(Expr::Bitwise { sreg: Reg::ONE, dreg: Reg::ONE, mask, xor: mask.zeroed() })
    }

    /// `ip saddr NET` or `ip6 saddr NET`.
    #[must_use]
    pub fn saddr_eq(self, net: impl Into<IpNetwork>) -> Self {
        self.address([Field::IpSaddr, Field::Ip6Saddr], Op::EQ, net.into())
    }

    /// `ip saddr != NET` or `ip6 saddr != NET`. Of the family of `NET`.
    #[must_use]
    pub fn saddr_ne(self, net: impl Into<IpNetwork>) -> Self {
        self.address([Field::IpSaddr, Field::Ip6Saddr], Op::NE, net.into())
    }

    /// `ip daddr NET` or `ip6 daddr NET`.
    #[must_use]
    pub fn daddr_eq(self, net: impl Into<IpNetwork>) -> Self {
        self.address([Field::IpDaddr, Field::Ip6Daddr], Op::EQ, net.into())
    }

    /// `ip daddr != NET` or `ip6 daddr != NET`. Of the family of `NET`.
    #[must_use]
    pub fn daddr_ne(self, net: impl Into<IpNetwork>) -> Self {
        self.address([Field::IpDaddr, Field::Ip6Daddr], Op::NE, net.into())
    }

    /// `tcp sport PORT` and the like.
    #[must_use]
    pub fn sport_eq(self, transport: Transport, port: u16) -> Self {
        self.transport(transport).field(Field::Sport, Op::EQ, port)
    }

    /// `tcp dport PORT` and the like.
    #[must_use]
    pub fn dport_eq(self, transport: Transport, port: u16) -> Self {
        self.transport(transport).field(Field::Dport, Op::EQ, port)
    }

    /// `tcp dport FIRST-LAST` and the like.
    #[must_use]
    pub fn dport_in(self, transport: Transport, ports: std::ops::RangeInclusive<u16>) -> Self {
        let (from, to) = (Value::from(*ports.start()), Value::from(*ports.end()));
        let rule = self.transport(transport).expr(Field::Dport.load(Reg::ONE));
        rule.expr(Expr::Range { sreg: Reg::ONE, op: Op::EQ, from, to })
    }

    /// `iifname NAME`.
    #[must_use]
    pub fn iifname_eq(self, name: &str) -> Self {
        self.meta(Meta::IIFNAME, Op::EQ, Value::interface(name))
    }

    /// `iifname != NAME`.
    #[must_use]
    pub fn iifname_ne(self, name: &str) -> Self {
        self.meta(Meta::IIFNAME, Op::NE, Value::interface(name))
    }

    /// `oifname NAME`.
    #[must_use]
    pub fn oifname_eq(self, name: &str) -> Self {
        self.meta(Meta::OIFNAME, Op::EQ, Value::interface(name))
    }

    /// `oifname != NAME`.
    #[must_use]
    pub fn oifname_ne(self, name: &str) -> Self {
        self.meta(Meta::OIFNAME, Op::NE, Value::interface(name))
    }

    /// `ether saddr MAC`.
    #[must_use]
    pub fn ether_saddr_eq(self, mac: MacAddr) -> Self {
        self.field(Field::EtherSaddr, Op::EQ, mac)
    }

    /// `ether saddr != MAC`.
    #[must_use]
    pub fn ether_saddr_ne(self, mac: MacAddr) -> Self {
        self.field(Field::EtherSaddr, Op::NE, mac)
    }

    /// `meta mark & MASK == VALUE`.
    #[must_use]
    pub fn mark_eq(self, value: u32, mask: u32) -> Self {
        self.marked(value, mask, Op::EQ)
    }

    /// `meta mark & MASK != VALUE`.
    #[must_use]
    pub fn mark_ne(self, value: u32, mask: u32) -> Self {
        self.marked(value, mask, Op::NE)
    }

    fn marked(self, value: u32, mask: u32, op: Op) -> Self {
        let rule = self.expr(Field::Mark.load(Reg::ONE));
        let rule = if mask == u32::MAX { rule } else { rule.masked(Value::host(mask)) };
        rule.expr(Expr::Cmp { sreg: Reg::ONE, op, value: Value::host(value) })
    }

    /// `ct state A,B`: any of `states`, of [`ct_state`].
    #[must_use]
    pub fn ct_state(self, states: u32) -> Self {
        self.ct_any(Ct::STATE, states)
    }

    /// `ct status A,B`: any of `status`, of [`ct_status`].
    #[must_use]
    pub fn ct_status(self, status: u32) -> Self {
        self.ct_any(Ct::STATUS, status)
    }

    fn ct_any(self, key: Ct, bits: u32) -> Self {
        self.expr(Expr::Ct { dreg: Reg::ONE, key, direction: None })
            .masked(Value::host(bits))
            .expr(Expr::Cmp { sreg: Reg::ONE, op: Op::NE, value: Value::host(0) })
    }

    /// `ct mark & MASK == VALUE`.
    #[must_use]
    pub fn ct_mark_eq(self, value: u32, mask: u32) -> Self {
        self.expr(Field::CtMark.load(Reg::ONE)).masked(Value::host(mask)).expr(Expr::Cmp {
            sreg: Reg::ONE,
            op: Op::EQ,
            value: Value::host(value),
        })
    }

    /// `fib daddr type local`: to an address of this host.
    #[must_use]
    pub fn daddr_is_local(self) -> Self {
        self.local(FibFlags::DADDR, Op::EQ)
    }

    /// `fib saddr type local`: from an address of this host.
    #[must_use]
    pub fn saddr_is_local(self) -> Self {
        self.local(FibFlags::SADDR, Op::EQ)
    }

    /// `fib saddr type != local`: from elsewhere.
    #[must_use]
    pub fn saddr_is_not_local(self) -> Self {
        self.local(FibFlags::SADDR, Op::NE)
    }

    fn local(self, flags: FibFlags, op: Op) -> Self {
        self.expr(Expr::Fib { dreg: Reg::ONE, result: FibResult::ADDRTYPE, flags })
            .expr(Expr::Cmp { sreg: Reg::ONE, op, value: Value::host(RTN_LOCAL) })
    }

    /// Reads fields into consecutive registers from [`Reg::ONE`] on, as a key. What they take for granted is matched
    /// first.
    #[must_use]
    pub fn load(mut self, key: &[Field]) -> Self {
        for field in key {
            self = self.presupposed(*field);
        }
        let mut word = 0;
        for field in key {
            self = self.expr(field.load(Reg::word(word)));
            word += field.words();
        }
        self
    }

    fn lookup(self, key: &[Field], set: &str, dreg: Option<Reg>, invert: bool) -> Self {
        self.load(key).expr(Expr::Lookup { set: set.into(), sreg: Reg::ONE, dreg, invert })
    }

    /// `KEY @set`.
    #[must_use]
    pub fn in_set(self, key: &[Field], set: &str) -> Self {
        self.lookup(key, set, None, false)
    }

    /// `KEY != @set`.
    #[must_use]
    pub fn not_in_set(self, key: &[Field], set: &str) -> Self {
        self.lookup(key, set, None, true)
    }

    /// `KEY vmap @map`: the map decides. Without an element for the key, the next rule does.
    #[must_use]
    pub fn verdict_map(self, key: &[Field], map: &str) -> Self {
        self.lookup(key, map, Some(Reg::VERDICT), false)
    }

    /// `counter`.
    #[must_use]
    pub fn counter(self) -> Self {
        self.expr(Expr::Counter { bytes: 0, packets: 0 })
    }

    /// `limit rate RATE/second burst BURST packets`: matches as long as no more come.
    #[must_use]
    pub fn limit_per_second(self, rate: u64, burst: u32) -> Self {
        self.expr(Expr::Limit { rate, unit: 1, burst, over: false })
    }

    /// `meta mark set meta mark & ~MASK | VALUE`: sets the bits of `mask` to those of `value`.
    #[must_use]
    pub fn set_mark(self, value: u32, mask: u32) -> Self {
        let rule = if mask == u32::MAX {
            self.expr(Expr::Immediate { dreg: Reg::ONE, value: Value::host(value) })
        } else {
            self.expr(Field::Mark.load(Reg::ONE)).merged(value, mask)
        };
        rule.expr(Expr::MetaSet { key: Meta::MARK, sreg: Reg::ONE })
    }

    /// `ct mark set ct mark & ~MASK | VALUE`.
    #[must_use]
    pub fn set_ct_mark(self, value: u32, mask: u32) -> Self {
        let rule = self.expr(Field::CtMark.load(Reg::ONE)).merged(value, mask);
        rule.expr(Expr::CtSet { key: Ct::MARK, sreg: Reg::ONE })
    }

    fn merged(self, value: u32, mask: u32) -> Self {
        let (mask, xor) = (Value::host(!mask), Value::host(value & mask));
        self.expr(Expr::Bitwise { sreg: Reg::ONE, dreg: Reg::ONE, mask, xor })
    }

    /// Any verdict.
    #[must_use]
    pub fn verdict(self, verdict: Verdict) -> Self {
        self.expr(Expr::Verdict(verdict))
    }

    /// `accept`.
    #[must_use]
    pub fn accept(self) -> Self {
        self.verdict(Verdict::Accept)
    }

    /// `drop`.
    #[must_use]
    pub fn drop(self) -> Self {
        self.verdict(Verdict::Drop)
    }

    /// `return`.
    #[must_use]
    pub fn return_(self) -> Self {
        self.verdict(Verdict::Return)
    }

    /// `jump CHAIN`.
    #[must_use]
    pub fn jump(self, chain: &str) -> Self {
        self.verdict(Verdict::Jump(chain.into()))
    }

    /// `goto CHAIN`.
    #[must_use]
    pub fn goto(self, chain: &str) -> Self {
        self.verdict(Verdict::Goto(chain.into()))
    }

    /// `reject with …`.
    #[must_use]
    pub fn reject(self, how: Reject) -> Self {
        self.expr(Expr::Reject(how))
    }

    /// `notrack`.
    #[must_use]
    pub fn notrack(self) -> Self {
        self.expr(Expr::Notrack)
    }

    /// `masquerade`: from the address of the interface that the packet leaves by.
    #[must_use]
    pub fn masquerade(self) -> Self {
        self.masquerade_with(NatFlags::NONE)
    }

    /// `masquerade random` and the like.
    #[must_use]
    pub fn masquerade_with(self, flags: NatFlags) -> Self {
        self.expr(Expr::Masquerade { port: None, flags })
    }

    /// `redirect to :PORT`: to this host.
    #[must_use]
    pub fn redirect(self, port: u16) -> Self {
        self.expr(Expr::Immediate { dreg: Reg::ONE, value: port.into() })
            .expr(Expr::Redirect { port: Some(Reg::ONE.into()), flags: NatFlags::NONE })
    }

    /// `dnat to ADDRESS:PORT`. A port needs a match on the protocol before it.
    #[must_use]
    pub fn dnat(self, address: std::net::IpAddr, port: Option<u16>) -> Self {
        self.nat(NatKind::Destination, address, port)
    }

    /// `snat to ADDRESS:PORT`. A port needs a match on the protocol before it.
    #[must_use]
    pub fn snat(self, address: std::net::IpAddr, port: Option<u16>) -> Self {
        self.nat(NatKind::Source, address, port)
    }

    fn nat(self, kind: NatKind, address: std::net::IpAddr, port: Option<u16>) -> Self {
        let family = if address.is_ipv4() { Family::Ip } else { Family::Ip6 };
        let rule = self.expr(Expr::Immediate { dreg: Reg::ONE, value: address.into() });
        let (rule, port) = match port {
            Some(port) => {
                let value = port.into();
                (rule.expr(Expr::Immediate { dreg: Reg::TWO, value }), Some(Reg::TWO.into()))
            }
            None => (rule, None),
        };
        let addr = Some(RegRange::from(Reg::ONE));
        rule.expr(Expr::Nat { kind, family, addr, port, flags: NatFlags::NONE })
    }

    /// `dnat ip addr . port to KEY map @map`: the map's data is an address, followed by a port if `with_port`.
    #[must_use]
    pub fn dnat_map(self, family: Family, key: &[Field], map: &str, with_port: bool) -> Self {
        let after = if family == Family::Ip6 { Reg::word(4) } else { Reg::word(1) };
        self.lookup(key, map, Some(Reg::ONE), false).expr(Expr::Nat {
            kind: NatKind::Destination,
            family,
            addr: Some(Reg::ONE.into()),
            port: with_port.then_some(after.into()),
            flags: NatFlags::NONE,
        })
    }

    /// Writes `NFTA_RULE_EXPRESSIONS` and `NFTA_RULE_USERDATA`.
    pub(super) fn encode(&self, to: &mut Buffer) {
        to.nested(NFTA_RULE_EXPRESSIONS, |to| {
            for expression in &self.expressions {
                expression.encode(to);
            }
        });
        to.comment(NFTA_RULE_USERDATA, NFTNL_UDATA_RULE_COMMENT, self.comment.as_deref());
    }
}
