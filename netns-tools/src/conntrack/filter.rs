//! Which flows are meant.

use std::fmt;
use std::net::IpAddr;

use super::flow::{
    CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, Flow, IP_V4_DST, IP_V4_SRC, PROTO_DST_PORT, PROTO_NUM,
    PROTO_SRC_PORT, TUPLE_IP, TUPLE_PROTO,
};
use crate::iptables::Family;
use crate::netlink::raw::{RawMessage, append, append_nest};

/// `CTA_FILTER` and its attributes (`linux/netfilter/nfnetlink_conntrack.h`).
const CTA_FILTER: u16 = 25;
const FILTER_ORIG_FLAGS: u16 = 1;
const FILTER_REPLY_FLAGS: u16 = 2;
/// Which parts of a tuple are compared (`CTA_FILTER_F_*`, `net/netfilter/nf_internals.h`).
const FLAG_IP_SRC: u32 = 1 << 0;
const FLAG_IP_DST: u32 = 1 << 1;
const FLAG_PROTO_NUM: u32 = 1 << 3;
const FLAG_SRC_PORT: u32 = 1 << 4;
const FLAG_DST_PORT: u32 = 1 << 5;

/// Says which flows are meant: those of one family that agree with everything that is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter {
    pub(super) family: Family,
    protocol: Option<u8>,
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    port: Option<u16>,
    reply_source: Option<IpAddr>,
    reply_port: Option<u16>,
}

impl Filter {
    /// Every flow of a family.
    pub const fn new(family: Family) -> Self {
        Self {
            family,
            protocol: None,
            source: None,
            destination: None,
            port: None,
            reply_source: None,
            reply_port: None,
        }
    }

    /// Only this protocol (`IPPROTO_*`).
    #[must_use]
    pub const fn protocol(mut self, protocol: u8) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// Only what this address began.
    #[must_use]
    pub const fn from(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// Only what was sent to this address, before any translation: a service's address, for example.
    #[must_use]
    pub const fn to(mut self, destination: IpAddr) -> Self {
        self.destination = Some(destination);
        self
    }

    /// Only what was sent to this port, before any translation.
    #[must_use]
    pub const fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Only what this address answers, behind all translation: a container's, for example.
    #[must_use]
    pub const fn answered_by(mut self, source: IpAddr) -> Self {
        self.reply_source = Some(source);
        self
    }

    /// Only what is answered from this port, behind all translation.
    #[must_use]
    pub const fn answered_from_port(mut self, port: u16) -> Self {
        self.reply_port = Some(port);
        self
    }

    /// Whether a flow is meant.
    pub fn matches(&self, flow: &Flow) -> bool {
        fn agrees<T: PartialEq>(wanted: Option<T>, found: T) -> bool {
            wanted.is_none_or(|wanted| wanted == found)
        }
        flow.family() == self.family
            && agrees(self.protocol, flow.protocol)
            && agrees(self.source, flow.original.source.ip())
            && agrees(self.destination, flow.original.destination.ip())
            && agrees(self.port, flow.original.destination.port())
            && agrees(self.reply_source, flow.reply.source.ip())
            && agrees(self.reply_port, flow.reply.source.port())
    }

    /// Asks the kernel to print only these. A port says nothing without a protocol: then we compare it ourselves. Nor is the
    /// kernel asked for addresses of IPv6: it prints all flows but those that agree (`ctnetlink_filter_match_tuple` of
    /// `net/netfilter/nf_conntrack_netlink.c` takes the answer of `ipv6_addr_cmp` the wrong way round).
    pub(super) fn ask(&self, message: &mut RawMessage) {
        let v4 = |address: Option<IpAddr>| address.filter(IpAddr::is_ipv4);
        let original = Part {
            source: v4(self.source),
            destination: v4(self.destination),
            protocol: self.protocol,
            source_port: None,
            destination_port: self.port,
        };
        let reply = Part {
            source: v4(self.reply_source),
            destination: None,
            protocol: self.protocol.filter(|_| self.reply_port.is_some()),
            source_port: self.reply_port,
            destination_port: None,
        };
        let (original_flags, reply_flags) = (original.flags(), reply.flags());
        if original_flags == 0 && reply_flags == 0 {
            return;
        }
        let mut flags = Vec::new();
        for (kind, tuple, part, bits) in [
            (FILTER_ORIG_FLAGS, CTA_TUPLE_ORIG, original, original_flags),
            (FILTER_REPLY_FLAGS, CTA_TUPLE_REPLY, reply, reply_flags),
        ] {
            append(&mut flags, kind, &bits.to_ne_bytes());
            if bits != 0 {
                message.nest(tuple, &part.tuple());
            }
        }
        message.nest(CTA_FILTER, &flags);
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = vec![format!("{:?}", self.family)];
        let mut add = |name: &str, value: Option<String>| {
            words.extend(value.map(|value| format!("{name} {value}")));
        };
        add("protocol", self.protocol.map(|number| number.to_string()));
        add("from", self.source.map(|ip| ip.to_string()));
        add("to", self.destination.map(|ip| ip.to_string()));
        add("port", self.port.map(|port| port.to_string()));
        add("answered by", self.reply_source.map(|ip| ip.to_string()));
        add("answered from port", self.reply_port.map(|port| port.to_string()));
        write!(f, "({})", words.join(", "))
    }
}

/// The parts of a tuple that are compared.
struct Part {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    protocol: Option<u8>,
    source_port: Option<u16>,
    destination_port: Option<u16>,
}

impl Part {
    fn flags(&self) -> u32 {
        let protocol = self.protocol.is_some();
        let flag = |so: bool, bit: u32| if so { bit } else { 0 };
        flag(self.source.is_some(), FLAG_IP_SRC)
            | flag(self.destination.is_some(), FLAG_IP_DST)
            | flag(protocol, FLAG_PROTO_NUM)
            | flag(protocol && self.source_port.is_some(), FLAG_SRC_PORT)
            | flag(protocol && self.destination_port.is_some(), FLAG_DST_PORT)
    }

    fn tuple(&self) -> Vec<u8> {
        let (mut ip, mut proto, mut tuple) = (Vec::new(), Vec::new(), Vec::new());
        for (address, kind) in [(self.source, IP_V4_SRC), (self.destination, IP_V4_DST)] {
            if let Some(IpAddr::V4(address)) = address {
                append(&mut ip, kind, &address.octets());
            }
        }
        if let Some(protocol) = self.protocol {
            append(&mut proto, PROTO_NUM, &[protocol]);
            for (port, kind) in
                [(self.source_port, PROTO_SRC_PORT), (self.destination_port, PROTO_DST_PORT)]
            {
                if let Some(port) = port {
                    append(&mut proto, kind, &port.to_be_bytes());
                }
            }
        }
        for (kind, part) in [(TUPLE_IP, ip), (TUPLE_PROTO, proto)] {
            if !part.is_empty() {
                append_nest(&mut tuple, kind, &part);
            }
        }
        tuple
    }
}
