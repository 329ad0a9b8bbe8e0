//! A route as the kernel is told of it.

use std::net::IpAddr;

use super::{
    RTA_NH_ID, RTAX_ADVMSS, RTAX_MTU, Route, RouteKind, SCOPE_GLOBAL, SCOPE_HOST, SCOPE_LINK,
    TABLE_MAIN,
};
use crate::netlink::raw::{append, append_ip, append_number, family};

/// `RTNH_F_ONLINK` (`linux/rtnetlink.h`).
const ONLINK: u32 = 4;

impl Route {
    /// The scope that `ip route add` gives it: what needs no gateway is on the link.
    fn usual_scope(&self) -> u8 {
        let goes_on = self.gateway.is_some() || self.nexthop.is_some();
        match self.kind {
            _ if self.dst.is_ipv6() => SCOPE_GLOBAL,
            RouteKind::Local => SCOPE_HOST,
            RouteKind::Broadcast => SCOPE_LINK,
            RouteKind::Unicast if !goes_on => SCOPE_LINK,
            _ => SCOPE_GLOBAL,
        }
    }

    /// Appends `struct rtmsg` and the attributes of a route that is to be made.
    pub(crate) fn write_new(&self, to: &mut Vec<u8>) {
        let scope = self.scope.unwrap_or_else(|| self.usual_scope());
        self.write(scope, self.protocol.unwrap_or(libc::RTPROT_BOOT), to);
    }

    /// The same, of one that is to be deleted.
    pub(crate) fn write_delete(&self, to: &mut Vec<u8>) {
        /// `RT_SCOPE_NOWHERE`, which to the kernel means any scope here.
        const ANY_SCOPE: u8 = 255;
        /// `RTPROT_UNSPEC`, likewise.
        const ANY_PROTOCOL: u8 = 0;
        self.write(self.scope.unwrap_or(ANY_SCOPE), self.protocol.unwrap_or(ANY_PROTOCOL), to);
    }

    fn write(&self, scope: u8, protocol: u8, to: &mut Vec<u8>) {
        let table = self.table.unwrap_or(TABLE_MAIN);
        // A table above 255 does not fit here; RTA_TABLE below is what counts.
        let short_table = u8::try_from(table).unwrap_or_default();
        // Neither a source prefix nor a type of service.
        to.extend([family(self.dst.is_ipv4()), self.dst.prefix(), 0, 0]);
        to.extend([short_table, protocol, scope, self.kind.into()]);
        to.extend((if self.onlink { ONLINK } else { 0 }).to_ne_bytes());
        append_number(to, libc::RTA_TABLE, Some(table));
        if self.dst.prefix() > 0 {
            // The kernel refuses host bits.
            append_ip(to, libc::RTA_DST, self.dst.network());
        }
        self.write_gateway(to);
        append_number(to, libc::RTA_OIF, self.oif);
        if let Some(source) = self.source {
            append_ip(to, libc::RTA_PREFSRC, source);
        }
        append_number(to, libc::RTA_PRIORITY, self.priority);
        append_number(to, RTA_NH_ID, self.nexthop);
        let mut metrics = Vec::new();
        append_number(&mut metrics, RTAX_MTU, self.mtu);
        append_number(&mut metrics, RTAX_ADVMSS, self.advmss);
        if !metrics.is_empty() {
            append(to, libc::RTA_METRICS, &metrics);
        }
    }

    fn write_gateway(&self, to: &mut Vec<u8>) {
        match self.gateway {
            Some(IpAddr::V6(gateway)) if self.dst.is_ipv4() => {
                let family = u16::from(family(false)).to_ne_bytes();
                append(to, libc::RTA_VIA, &[&family[..], &gateway.octets()].concat());
            }
            Some(gateway) => append_ip(to, libc::RTA_GATEWAY, gateway),
            None => {}
        }
    }
}
