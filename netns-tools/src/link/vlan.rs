//! VLANs (IEEE 802.1Q): a link that sends and receives the frames of its parent that carry one tag.

use netlink_packet_core::parse_u16;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVlan};

use super::new::NewLink;
use crate::netlink::reply::attributes;
use crate::netlink::{Netlink, Result};

/// `IFLA_VLAN_ID` (`linux/if_link.h`).
const ID: u16 = 1;

fn data(id: u16) -> InfoData {
    InfoData::Vlan(vec![InfoVlan::Id(id)])
}

fn read(data: &[u8]) -> Option<u16> {
    let id = attributes(data).find(|(kind, _)| *kind == ID);
    id.and_then(|(_, value)| parse_u16(value).ok())
}

impl Netlink {
    /// Makes a link for the VLAN `id` of the link with index `parent` of the socket's namespace; it is down. A parent has
    /// one link for each id, whatever namespace it is in.
    pub fn add_vlan(&mut self, link: &NewLink<'_>, parent: u32, id: u16) -> Result<()> {
        self.add_link(link, Some(parent), InfoKind::Vlan, Some(data(id)))
    }

    /// The VLAN id of a link; `None`: there is no link with this index, or it is something else.
    pub fn vlan_id(&mut self, index: u32) -> Result<Option<u16>> {
        self.kind_data(index, "vlan", read).map(Option::flatten)
    }
}

#[cfg(test)]
mod tests {
    use super::super::new::tests::{bytes, expected, info, proven_here};
    use super::*;
    use crate::Veth;
    use crate::netlink::reply::tests::attribute;
    use crate::testing::TestNetns;

    #[test]
    fn messages() {
        for id in [0, 5, 4094] {
            let message = NewLink::new("x0").message(Some(7), InfoKind::Vlan, Some(data(id)));
            let own = [attribute(1, &id.to_ne_bytes())];
            let want =
                [attribute(3, b"x0\0"), attribute(5, &7u32.to_ne_bytes()), info("vlan", &own)];
            assert_eq!(bytes(&message), expected(&want), "{id}");
            assert_eq!(read(&own.concat()), Some(id));
        }
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn straight_into_another_namespace() {
        let (host, pod) = (TestNetns::new("vlan"), TestNetns::new("vlan"));
        if !proven_here(&host, "vlan") {
            return;
        }
        let mut net = host.netlink();
        net.add_veth(&Veth::new("up0", "far0")).unwrap();
        let parent = host.link("up0").index;
        let new = NewLink { ns: Some(pod.ns()), mtu: Some(1400), ..NewLink::new("x0") };
        net.add_vlan(&new, parent, 5).unwrap();
        let made = pod.link("x0");
        assert_eq!((made.kind.as_deref(), made.mtu), (Some("vlan"), 1400));
        assert_eq!(made.peer_index, Some(parent));
        assert_eq!(pod.netlink().vlan_id(made.index).unwrap(), Some(5));
        let ip = &pod.json(&["ip", "-j", "-d", "link", "show", "x0"])[0]["linkinfo"];
        assert_eq!(ip["info_data"]["id"], 5);
        assert_eq!(net.vlan_id(parent).unwrap(), None);

        let again = net.add_vlan(&NewLink::new("x1"), parent, 5).unwrap_err();
        assert!(again.is_exists());
        assert!(again.to_string().contains("the parent has a link for this VLAN"), "{again}");
    }
}
