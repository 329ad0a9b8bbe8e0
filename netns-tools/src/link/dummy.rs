//! Dummies: links without anything behind them, that carry addresses and swallow packets.

use netlink_packet_route::link::InfoKind;

use super::new::NewLink;
use crate::netlink::{Netlink, Result};

impl Netlink {
    /// Makes a dummy; it is down.
    pub fn add_dummy(&mut self, link: &NewLink<'_>) -> Result<()> {
        self.add_link(link, None, InfoKind::Dummy, None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::new::tests::{bytes, expected, info, proven_here};
    use super::*;
    use crate::MacAddr;
    use crate::netlink::reply::tests::attribute;
    use crate::testing::TestNetns;

    #[test]
    fn message() {
        let message = NewLink::new("x0").message(None, InfoKind::Dummy, None);
        assert_eq!(bytes(&message), expected(&[attribute(3, b"x0\0"), info("dummy", &[])]));
    }

    #[test]
    fn straight_into_another_namespace() {
        let (host, pod) = (TestNetns::new("dummy"), TestNetns::new("dummy"));
        if !proven_here(&host, "dummy") {
            return;
        }
        let mac = Some(MacAddr([2, 0, 0, 0, 0, 9]));
        let new = NewLink { name: "x0", ns: Some(pod.ns()), mtu: Some(1400), mac };
        host.netlink().add_dummy(&new).unwrap();
        let made = pod.link("x0");
        assert_eq!((made.kind.as_deref(), made.mtu, made.mac), (Some("dummy"), 1400, mac));
        assert_eq!(host.netlink().link("x0").unwrap(), None);
    }
}
