//! One tracked connection, as the kernel prints it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::parse_ip;

use crate::iptables::Family;
use crate::netlink::raw::{RawMessage, append, append_nest};
use crate::netlink::reply::attributes;

/// `CTA_*` (`enum ctattr_type`).
pub(super) const CTA_TUPLE_ORIG: u16 = 1;
pub(super) const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
/// `CTA_TUPLE_*`.
pub(super) const TUPLE_IP: u16 = 1;
pub(super) const TUPLE_PROTO: u16 = 2;
const TUPLE_ZONE: u16 = 3;
/// `CTA_IP_*`.
pub(super) const IP_V4_SRC: u16 = 1;
pub(super) const IP_V4_DST: u16 = 2;
pub(super) const IP_V6_SRC: u16 = 3;
pub(super) const IP_V6_DST: u16 = 4;
/// `CTA_PROTO_*`.
pub(super) const PROTO_NUM: u16 = 1;
pub(super) const PROTO_SRC_PORT: u16 = 2;
pub(super) const PROTO_DST_PORT: u16 = 3;
/// `IPS_SEEN_REPLY` (`linux/netfilter/nf_conntrack_common.h`).
const SEEN_REPLY: u32 = 1 << 1;

/// One direction of a flow. Ports are 0 where the protocol has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// The sender.
    pub source: SocketAddr,
    /// The receiver.
    pub destination: SocketAddr,
}

/// A tracked connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// `IPPROTO_*`.
    pub protocol: u8,
    /// As its first packet was sent.
    pub original: Tuple,
    /// As answers come: its source is who really answers, behind all address translation.
    pub reply: Tuple,
    /// An answer was seen.
    pub replied: bool,
    /// The zone, apart from which it is tracked (`CT --zone`); 0 unless somebody asked for another. Where the two directions are
    /// in different ones, the one that is not 0.
    pub zone: u16,
    /// The attributes by which the kernel knows it again, as it printed them: kind and value.
    key: Vec<(u16, Vec<u8>)>,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, original, reply, .. } = self;
        write!(
            f,
            "{} to {} (protocol {protocol}), answered by {}",
            original.source, original.destination, reply.source
        )
    }
}

impl Flow {
    /// A flow of zone 0, as one might be. If there is one with this original direction, [`super::Conntrack::delete`] forgets it.
    pub fn new(protocol: u8, original: Tuple, reply: Tuple) -> Self {
        let key = vec![(CTA_TUPLE_ORIG, encode_tuple(protocol, &original))];
        Self { protocol, original, reply, replied: false, zone: 0, key }
    }

    /// Whether its packets go on to another address or port than they were sent to (destination NAT).
    pub fn is_diverted(&self) -> bool {
        self.reply.source != self.original.destination
    }

    /// The family of its addresses.
    pub fn family(&self) -> Family {
        if self.original.source.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// Reads the attributes of a `CT_NEW`. `None` for what is no flow between IP addresses.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (mut original, mut reply, mut replied, mut zone) = (None, None, false, 0);
        let mut key = Vec::new();
        for (kind, value) in attributes(bytes) {
            match kind {
                CTA_TUPLE_ORIG => original = read_tuple(value),
                CTA_TUPLE_REPLY => reply = read_tuple(value),
                CTA_STATUS => replied = number(value).is_some_and(|bits| bits & SEEN_REPLY != 0),
                CTA_ZONE => zone = port(value),
                _ => {}
            }
            if matches!(kind, CTA_TUPLE_ORIG | CTA_TUPLE_REPLY) {
                zone = zone.max(zone_of_direction(value));
            }
            if matches!(kind, CTA_TUPLE_ORIG | CTA_ID | CTA_ZONE) {
                key.push((kind, value.to_vec()));
            }
        }
        let ((protocol, original), (_, reply)) = (original?, reply?);
        Some(Self { protocol, original, reply, replied, zone, key })
    }

    /// Puts into a message what names this flow and no other: its original direction, its zone and its number.
    pub(super) fn identify(&self, message: &mut RawMessage) {
        for (kind, value) in &self.key {
            match *kind {
                CTA_TUPLE_ORIG => message.nest(*kind, value),
                _ => message.push(*kind, value),
            }
        }
    }
}

/// `CTA_TUPLE_ZONE`, which is there if only one direction is in a zone.
fn zone_of_direction(bytes: &[u8]) -> u16 {
    let found = attributes(bytes).find(|(kind, _)| *kind == TUPLE_ZONE);
    found.map_or(0, |(_, value)| port(value))
}

/// Writes `CTA_TUPLE_*`: the protocol and both ends, as [`read_tuple`] reads them.
fn encode_tuple(protocol: u8, tuple: &Tuple) -> Vec<u8> {
    let (mut ip, mut proto, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for (end, v4, v6) in
        [(tuple.source, IP_V4_SRC, IP_V6_SRC), (tuple.destination, IP_V4_DST, IP_V6_DST)]
    {
        match end.ip() {
            IpAddr::V4(address) => append(&mut ip, v4, &address.octets()),
            IpAddr::V6(address) => append(&mut ip, v6, &address.octets()),
        }
    }
    append(&mut proto, PROTO_NUM, &[protocol]);
    append(&mut proto, PROTO_SRC_PORT, &tuple.source.port().to_be_bytes());
    append(&mut proto, PROTO_DST_PORT, &tuple.destination.port().to_be_bytes());
    append_nest(&mut whole, TUPLE_IP, &ip);
    append_nest(&mut whole, TUPLE_PROTO, &proto);
    whole
}

/// Reads `CTA_TUPLE_*`: the protocol and both ends.
fn read_tuple(bytes: &[u8]) -> Option<(u8, Tuple)> {
    let (mut source, mut destination): (Option<IpAddr>, Option<IpAddr>) = (None, None);
    let (mut protocol, mut ports) = (None, (0, 0));
    for (kind, value) in attributes(bytes) {
        match kind {
            TUPLE_IP => {
                for (kind, value) in attributes(value) {
                    match kind {
                        IP_V4_SRC | IP_V6_SRC => source = parse_ip(value).ok(),
                        IP_V4_DST | IP_V6_DST => destination = parse_ip(value).ok(),
                        _ => {}
                    }
                }
            }
            TUPLE_PROTO => {
                for (kind, value) in attributes(value) {
                    match kind {
                        PROTO_NUM => protocol = value.first().copied(),
                        PROTO_SRC_PORT => ports.0 = port(value),
                        PROTO_DST_PORT => ports.1 = port(value),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let tuple = Tuple {
        source: SocketAddr::new(source?, ports.0),
        destination: SocketAddr::new(destination?, ports.1),
    };
    Some((protocol?, tuple))
}

fn port(value: &[u8]) -> u16 {
    value.try_into().map(u16::from_be_bytes).unwrap_or_default()
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().map(u32::from_be_bytes).ok()
}
