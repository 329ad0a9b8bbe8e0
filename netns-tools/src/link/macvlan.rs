//! Macvlan: further Ethernet addresses on one link, each a link of its own (`drivers/net/macvlan.c`,
//! `Documentation/netlink/specs/rt-link.yaml`).

use std::fmt;

use netlink_packet_core::parse_u32;
use netlink_packet_route::link::{InfoData, InfoKind, InfoMacVlan, MacVlanMode};

use super::new::NewLink;
use crate::netlink::reply::attributes;
use crate::netlink::{Netlink, Result};

/// `IFLA_MACVLAN_MODE`, `IFLA_MACVLAN_BC_QUEUE_LEN` (`linux/if_link.h`).
const MODE: u16 = 1;
const BC_QUEUE_LEN: u16 = 7;

/// How the macvlans of one parent see each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MacvlanMode {
    /// Not at all.
    Private,
    /// Through the switch that the parent is connected to, if that sends frames back where they came from.
    Vepa,
    /// Directly.
    #[default]
    Bridge,
    /// There is only one, which has the parent's own address.
    Passthru,
    /// Another `MACVLAN_MODE_*`.
    Other(u32),
}

impl MacvlanMode {
    fn wire(self) -> MacVlanMode {
        match self {
            Self::Private => MacVlanMode::Private,
            Self::Vepa => MacVlanMode::Vepa,
            Self::Bridge => MacVlanMode::Bridge,
            Self::Passthru => MacVlanMode::Passthrough,
            Self::Other(other) => MacVlanMode::Other(other),
        }
    }
}

impl From<u32> for MacvlanMode {
    fn from(mode: u32) -> Self {
        match mode {
            1 => Self::Private,
            2 => Self::Vepa,
            4 => Self::Bridge,
            8 => Self::Passthru,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for MacvlanMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private => f.write_str("private"),
            Self::Vepa => f.write_str("vepa"),
            Self::Bridge => f.write_str("bridge"),
            Self::Passthru => f.write_str("passthru"),
            Self::Other(other) => write!(f, "{other}"),
        }
    }
}

/// What makes a macvlan different from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Macvlan {
    /// Its mode.
    pub mode: MacvlanMode,
    /// How many broadcast frames the parent queues for its macvlans; the longest that one of them wants is what counts.
    /// `None`: 1000.
    pub bc_queue_len: Option<u32>,
}

impl Macvlan {
    fn data(self) -> InfoData {
        let mut data = vec![InfoMacVlan::Mode(self.mode.wire())];
        data.extend(self.bc_queue_len.map(InfoMacVlan::BcQueueLen));
        InfoData::MacVlan(data)
    }

    fn read(data: &[u8]) -> Self {
        let mut settings = Self { mode: MacvlanMode::Other(0), bc_queue_len: None };
        for (kind, value) in attributes(data) {
            match kind {
                MODE => settings.mode = parse_u32(value).unwrap_or_default().into(),
                BC_QUEUE_LEN => settings.bc_queue_len = parse_u32(value).ok(),
                _ => {}
            }
        }
        settings
    }
}

impl Netlink {
    /// Makes a macvlan on the link with index `parent` of the socket's namespace; it is down.
    ///
    /// In passthru mode the kernel gives it the parent's Ethernet address, whatever `link` says; setting another one
    /// later changes the parent's too, until the macvlan goes. On a macvlan it becomes that one's sibling.
    pub fn add_macvlan(
        &mut self,
        link: &NewLink<'_>,
        parent: u32,
        settings: Macvlan,
    ) -> Result<()> {
        self.add_link(link, Some(parent), InfoKind::MacVlan, Some(settings.data()))
    }

    /// The settings of a macvlan; `None`: there is no link with this index, or it is something else.
    pub fn macvlan(&mut self, index: u32) -> Result<Option<Macvlan>> {
        self.kind_data(index, "macvlan", Macvlan::read)
    }
}

#[cfg(test)]
mod tests {
    use super::super::new::tests::{bytes, expected, info};
    use super::*;
    use crate::netlink::reply::tests::attribute;
    use crate::testing::TestNetns;
    use crate::{MacAddr, Veth};

    const MODES: [(MacvlanMode, u32, &str); 4] = [
        (MacvlanMode::Private, 1, "private"),
        (MacvlanMode::Vepa, 2, "vepa"),
        (MacvlanMode::Bridge, 4, "bridge"),
        (MacvlanMode::Passthru, 8, "passthru"),
    ];

    #[test]
    fn messages() {
        for (mode, number, name) in MODES {
            let settings = Macvlan { mode, bc_queue_len: Some(77) };
            let message =
                NewLink::new("x0").message(Some(7), InfoKind::MacVlan, Some(settings.data()));
            let data = [attribute(1, &number.to_ne_bytes()), attribute(7, &77u32.to_ne_bytes())];
            let want =
                [attribute(3, b"x0\0"), attribute(5, &7u32.to_ne_bytes()), info("macvlan", &data)];
            assert_eq!(bytes(&message), expected(&want), "{name}");
            assert_eq!(Macvlan::read(&data.concat()), settings);
            assert_eq!(mode.to_string(), name);
        }
        let short = Macvlan::default().data();
        assert_eq!(short, InfoData::MacVlan(vec![InfoMacVlan::Mode(MacVlanMode::Bridge)]));
        let odd = [attribute(1, &[1]), attribute(9, &[1])].concat();
        assert_eq!(Macvlan::read(&odd).mode, MacvlanMode::Other(0));
    }

    #[test]
    fn straight_into_another_namespace() {
        let (host, pod) = (TestNetns::new("macvlan"), TestNetns::new("macvlan"));
        let mut net = host.netlink();
        net.add_veth(&Veth::new("up0", "far0")).unwrap();
        let parent = host.link("up0").index;
        for (n, (mode, _, name)) in MODES.into_iter().enumerate() {
            let mac = MacAddr([2, 0, 0, 0, 1, u8::try_from(n).unwrap()]);
            let new = NewLink { name: "x0", ns: Some(pod.ns()), mtu: Some(1400), mac: Some(mac) };
            let wanted = Macvlan { mode, bc_queue_len: Some(50) };
            net.add_macvlan(&new, parent, wanted).unwrap();
            assert_eq!(net.link("x0").unwrap(), None, "it never was on the host");

            let made = pod.link("x0");
            assert_eq!((made.kind.as_deref(), made.mtu, made.up), (Some("macvlan"), 1400, false));
            let id = pod.netlink().netns_id(host.ns()).unwrap();
            assert_eq!((made.peer_index, made.peer_netns_id), (Some(parent), id));
            assert!(id.is_some());
            let mac = if mode == MacvlanMode::Passthru { host.link("up0").mac } else { Some(mac) };
            assert_eq!(made.mac, mac, "{name}");
            assert_eq!(pod.netlink().macvlan(made.index).unwrap(), Some(wanted));
            let ip = &pod.json(&["ip", "-j", "-d", "link", "show", "x0"])[0]["linkinfo"];
            assert_eq!(ip["info_data"]["mode"], name);
            assert_eq!(ip["info_data"]["bcqueuelen"], 50);
            pod.netlink().delete_link(made.index).unwrap();
        }
        assert_eq!(net.macvlan(parent).unwrap(), None);
        assert_eq!(net.macvlan(4711).unwrap(), None);
    }

    #[test]
    fn on_a_macvlan_it_becomes_a_sibling() {
        let ns = TestNetns::new("macvlan");
        let mut net = ns.netlink();
        net.add_veth(&Veth::new("up0", "far0")).unwrap();
        let up = ns.link("up0").index;
        net.add_macvlan(&NewLink::new("x0"), up, Macvlan::default()).unwrap();
        let first = ns.link("x0");
        net.add_macvlan(&NewLink::new("x1"), first.index, Macvlan::default()).unwrap();
        assert_eq!(ns.link("x1").peer_index, Some(up));
    }

    #[test]
    fn refusals_say_why() {
        let ns = TestNetns::new("macvlan");
        let mut net = ns.netlink();
        net.add_veth(&Veth::new("up0", "far0")).unwrap();
        let up = ns.link("up0").index;
        let passthru = Macvlan { mode: MacvlanMode::Passthru, bc_queue_len: None };
        net.add_macvlan(&NewLink::new("x0"), up, passthru).unwrap();
        let second = net.add_macvlan(&NewLink::new("x1"), up, Macvlan::default()).unwrap_err();
        assert_eq!(second.errno(), Some(libc::EINVAL));
        assert!(second.to_string().starts_with("cannot create macvlan x1 on link "), "{second}");
        let gone = net.add_macvlan(&NewLink::new("x1"), 4711, Macvlan::default()).unwrap_err();
        assert!(gone.is_not_found(), "{gone}");
        let taken = net.add_macvlan(&NewLink::new("x0"), up, Macvlan::default()).unwrap_err();
        assert!(taken.is_exists(), "{taken}");
    }
}
