//! Policy rules: which routing table decides about which packet (ip-rule(8), `Documentation/netlink/specs/rt-rule.yaml`).

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, parse_ip, parse_string, parse_u32};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleHeader, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::netlink::reply::{Malformed, attributes};
use crate::netlink::{Netlink, Result, body};

/// `sizeof(struct fib_rule_hdr)`.
const HEADER_LEN: usize = 12;
/// `FRA_*` (`linux/fib_rules.h`).
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_TABLE: u16 = 15;
/// `FR_ACT_TO_TBL`: look the packet up in a table.
const TO_TABLE: u8 = 1;

/// A rule that sends packets to a routing table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Whether it is for IPv4, else for IPv6.
    pub v4: bool,
    /// The source that a packet must have; `None`: any.
    pub from: Option<IpNetwork>,
    /// The destination that a packet must have; `None`: any.
    pub to: Option<IpNetwork>,
    /// The link that a packet must have come in on, by name; `None`: any, also none. `lo` is what this host itself sends.
    pub iif: Option<String>,
    /// Its place among the rules; the lowest is looked at first. Made with `None`: before all but the first. Always there when
    /// listed.
    pub priority: Option<u32>,
    /// The table.
    pub table: u32,
}

impl Rule {
    /// A rule for packets from `source`, with the kernel's choice of priority.
    pub fn from(source: IpNetwork, table: u32) -> Self {
        let v4 = source.is_ipv4();
        Self { v4, from: Some(source), to: None, iif: None, priority: None, table }
    }

    fn message(&self) -> RuleMessage {
        let length = |net: Option<IpNetwork>| net.map_or(0, |net| net.prefix());
        let mut message = RuleMessage::default();
        message.header = RuleHeader {
            family: if self.v4 { AddressFamily::Inet } else { AddressFamily::Inet6 },
            dst_len: length(self.to),
            src_len: length(self.from),
            // A table above 255 does not fit here; FRA_TABLE below is what counts.
            table: u8::try_from(self.table).unwrap_or_default(),
            action: RuleAction::ToTable,
            ..RuleHeader::default()
        };
        let add = &mut message.attributes;
        add.push(RuleAttribute::Table(self.table));
        add.extend(self.from.map(|net| RuleAttribute::Source(net.ip())));
        add.extend(self.to.map(|net| RuleAttribute::Destination(net.ip())));
        add.extend(self.iif.clone().map(RuleAttribute::Iifname));
        add.extend(self.priority.map(RuleAttribute::Priority));
        message
    }

    /// `None` for a rule of another kind, and for one that is not IP's.
    fn read(bytes: &[u8]) -> std::result::Result<Option<Self>, Malformed> {
        let header = RuleHeader::parse(bytes).map_err(|e| Malformed(e.to_string()))?;
        let any = match header.family {
            AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return Ok(None),
        };
        if u8::from(header.action) != TO_TABLE {
            return Ok(None);
        }
        let (mut from, mut to) = (any, any);
        let mut rule = Self {
            v4: any.is_ipv4(),
            from: None,
            to: None,
            iif: None,
            // The kernel leaves 0 out.
            priority: Some(0),
            table: header.table.into(),
        };
        for (kind, value) in attributes(body(bytes, HEADER_LEN)?) {
            match kind {
                FRA_SRC => from = parse_ip(value).unwrap_or(from),
                FRA_DST => to = parse_ip(value).unwrap_or(to),
                FRA_IIFNAME => rule.iif = parse_string(value).ok(),
                FRA_PRIORITY => rule.priority = parse_u32(value).ok(),
                FRA_TABLE => rule.table = parse_u32(value).unwrap_or(rule.table),
                _ => {}
            }
        }
        rule.from = network(from, header.src_len)?;
        rule.to = network(to, header.dst_len)?;
        Ok(Some(rule))
    }
}

/// `None` for everything.
fn network(ip: IpAddr, length: u8) -> std::result::Result<Option<IpNetwork>, Malformed> {
    if length == 0 {
        return Ok(None);
    }
    IpNetwork::new(ip, length).map(Some).map_err(|e| Malformed(e.to_string()))
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from {
            Some(from) => write!(f, "from {from}")?,
            None => f.write_str("from all")?,
        }
        if let Some(to) = self.to {
            write!(f, " to {to}")?;
        }
        if let Some(iif) = &self.iif {
            write!(f, " iif {iif}")?;
        }
        if let Some(priority) = self.priority {
            write!(f, " priority {priority}")?;
        }
        write!(f, " table {}", self.table)
    }
}

impl Netlink {
    /// Every rule of both families that sends packets to a table, in the order in which they are looked at. Empty on a kernel
    /// without policy rules.
    pub fn rules(&mut self) -> Result<Vec<Rule>> {
        let message = RouteNetlinkMessage::GetRule(RuleMessage::default());
        match self.list("list rules", message, Rule::read) {
            Err(error) if error.errno() == Some(libc::EOPNOTSUPP) => Ok(Vec::new()),
            rules => rules,
        }
    }

    /// Adds a rule. `EEXIST` when there is an equal one.
    pub fn add_rule(&mut self, rule: &Rule) -> Result<()> {
        let message = RouteNetlinkMessage::NewRule(rule.message());
        self.change("add rule", rule, message, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Deletes the first rule that agrees with everything given in `rule`.
    pub fn delete_rule(&mut self, rule: &Rule) -> Result<()> {
        self.change("delete rule", rule, RouteNetlinkMessage::DelRule(rule.message()), 0)
    }
}
