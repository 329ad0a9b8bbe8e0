//! Compared with what `ip -j` and `bridge -j` say.

use serde_json::Value;

use super::*;
use crate::netlink::reply::tests::attribute;
use crate::testing::TestNetns;
use crate::{Bridge, Veth};

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const PEER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

fn ip_link(ns: &TestNetns, name: &str) -> Value {
    ns.json(&["ip", "-j", "-d", "link", "show", name])[0].clone()
}

#[test]
fn a_veth_pair_across_namespaces() {
    let (one, other) = (TestNetns::new("veth"), TestNetns::new("veth"));
    let mut netlink = one.netlink();
    let veth = Veth {
        name: "here",
        peer: "there",
        peer_ns: Some(other.ns()),
        mtu: Some(1400),
        mac: Some(MAC),
        peer_mac: Some(PEER_MAC),
    };
    netlink.add_veth(&veth).unwrap();

    let (here, there) = (one.link("here"), other.link("there"));
    assert_eq!((here.kind.as_deref(), here.mtu, here.mac), (Some("veth"), 1400, Some(MAC)));
    assert_eq!((there.kind.as_deref(), there.mtu, there.mac), (Some("veth"), 1400, Some(PEER_MAC)));
    assert_eq!((here.peer_index, there.peer_index), (Some(there.index), Some(here.index)));
    assert!(here.peer_netns_id.is_some() && there.peer_netns_id.is_some());
    assert!(!here.up && !there.up);
    let ip = ip_link(&one, "here");
    assert_eq!(ip["address"], MAC.to_string());
    assert_eq!(ip["mtu"], 1400);
    assert_eq!(ip["link_index"], there.index);
    assert_eq!(ip["linkinfo"]["info_kind"], "veth");
    // The peer was never here.
    assert_eq!(netlink.link("there").unwrap(), None);

    netlink.set_up(here.index).unwrap();
    assert!(one.link("here").up);
    assert_ne!(one.link("here").oper_state, OperState::Up, "the other end is down");
    other.configure("there", &[]);
    // The kernel passes the carrier on in its own time.
    let mut patience = 500;
    while one.link("here").oper_state != OperState::Up {
        patience -= 1;
        assert!(patience > 0, "{:?}", one.link("here"));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(ip_link(&one, "here")["operstate"], "UP");

    netlink.delete_link(here.index).unwrap();
    assert_eq!(other.netlink().links().unwrap().len(), 1, "the other end went too");
}

#[test]
fn a_veth_pair_within_a_namespace() {
    let ns = TestNetns::new("veth");
    ns.netlink().add_veth(&Veth::new("a", "b")).unwrap();
    let (a, b) = (ns.link("a"), ns.link("b"));
    assert_eq!((a.peer_index, a.peer_netns_id), (Some(b.index), None));
    assert_eq!((b.peer_index, b.peer_netns_id), (Some(a.index), None));
}

#[test]
fn a_bridge_with_a_port() {
    let ns = TestNetns::new("bridge");
    let mut netlink = ns.netlink();
    netlink
        .add_bridge(&Bridge { name: "br0", mtu: Some(1400), mac: Some(MAC), ..Bridge::default() })
        .unwrap();
    netlink.add_veth(&Veth::new("port", "far")).unwrap();
    let (bridge, port) = (ns.link("br0"), ns.link("port"));
    assert_eq!((bridge.kind.as_deref(), bridge.mtu, bridge.mac), (Some("bridge"), 1400, Some(MAC)));
    assert_eq!((bridge.peer_index, port.master, port.hairpin), (None, None, None));

    netlink.set_master(port.index, Some(bridge.index)).unwrap();
    let now = ns.link("port");
    assert_eq!((now.master, now.hairpin), (Some(bridge.index), Some(false)));
    assert_eq!(ns.link("br0").mac, Some(MAC), "a pinned MAC stays when ports come");
    for on in [true, false] {
        netlink.set_hairpin(port.index, on).unwrap();
        assert_eq!(ns.link("port").hairpin, Some(on));
        let shown = &ns.json(&["bridge", "-j", "-d", "link", "show", "dev", "port"])[0];
        assert_eq!((&shown["master"], &shown["hairpin"]), (&"br0".into(), &on.into()));
    }

    assert_eq!(ns.link("port").isolated, Some(false));
    for on in [true, false] {
        netlink.set_isolated(port.index, on).unwrap();
        assert_eq!((ns.link("port").isolated, ns.link("port").hairpin), (Some(on), Some(false)));
        let shown = &ns.json(&["bridge", "-j", "-d", "link", "show", "dev", "port"])[0];
        assert_eq!(shown["isolated"], on);
    }

    netlink.set_master(port.index, None).unwrap();
    assert_eq!(ns.link("port").master, None);
    let error = netlink.set_hairpin(port.index, true).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("cannot set hairpin mode of link port ({}): ", port.index)),
        "{text}"
    );
}

#[test]
fn changes_of_a_link() {
    let (ns, other) = (TestNetns::new("change"), TestNetns::new("change"));
    let mut netlink = ns.netlink();
    netlink.add_veth(&Veth::new("a", "b")).unwrap();
    let index = ns.link("a").index;

    assert_eq!(ns.link("a").alias, None);
    let longest = "x".repeat(ALIAS_MAX);
    for alias in ["cni:net:c1:eth0", longest.as_str()] {
        netlink.set_alias(index, alias).unwrap();
        assert_eq!(ns.link("a").alias.as_deref(), Some(alias));
        assert_eq!(ip_link(&ns, "a")["ifalias"], alias);
    }
    assert!(netlink.set_alias(index, &"x".repeat(ALIAS_MAX + 1)).is_err());

    netlink.set_mac(index, MAC).unwrap();
    netlink.set_mtu(index, 9000).unwrap();
    netlink.set_promisc(index, true).unwrap();
    netlink.set_up(index).unwrap();
    let link = ns.link("a");
    assert_eq!((link.mac, link.mtu, link.promisc, link.up), (Some(MAC), 9000, true, true));
    let ip = ip_link(&ns, "a");
    assert_eq!((&ip["address"], &ip["mtu"]), (&MAC.to_string().into(), &9000.into()));
    assert!(ip["flags"].as_array().unwrap().contains(&"PROMISC".into()));

    netlink.set_promisc(index, false).unwrap();
    netlink.set_down(index).unwrap();
    netlink.rename(index, "renamed").unwrap();
    let link = netlink.link_by_index(index).unwrap().unwrap();
    assert_eq!((&*link.name, link.promisc, link.up), ("renamed", false, false));
    assert_eq!(netlink.link("a").unwrap(), None);

    netlink.move_to(index, other.ns()).unwrap();
    assert_eq!(netlink.link("renamed").unwrap(), None);
    assert_eq!(ip_link(&other, "renamed")["address"], MAC.to_string());
}

#[test]
fn loopback() {
    let ns = TestNetns::new("lo");
    let lo = ns.link("lo");
    assert_eq!((lo.index, lo.kind, lo.loopback, lo.up), (1, None, true, false));
    assert_eq!((lo.mac, lo.mtu), (Some(MacAddr([0; 6])), 65536));
    assert_eq!(lo.oper_state, OperState::Down);
}

#[test]
fn what_is_not_there() {
    let ns = TestNetns::new("missing");
    let mut netlink = ns.netlink();
    assert_eq!(netlink.link("nosuch").unwrap(), None);
    assert_eq!(netlink.link_by_index(4711).unwrap(), None);
    assert_eq!(netlink.link_by_index(0).unwrap(), None);
    let error = netlink.delete_link(4711).unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(
        error.to_string(),
        "cannot delete link 4711: No such device; there is no such link in that network namespace"
    );
    assert!(netlink.set_up(4711).unwrap_err().is_not_found());
}

#[test]
fn names_that_are_taken() {
    let (one, other) = (TestNetns::new("taken"), TestNetns::new("taken"));
    let mut netlink = one.netlink();
    other.netlink().add_bridge(&Bridge { name: "eth0", ..Bridge::default() }).unwrap();
    let veth = Veth { peer_ns: Some(other.ns()), ..Veth::new("host0", "eth0") };
    let error = netlink.add_veth(&veth).unwrap_err();
    assert!(error.is_exists(), "{error:?}");
    let text = error.to_string();
    assert!(
        text.starts_with("cannot create veth pair host0 and eth0 (the latter in /run/netns/"),
        "{text}"
    );
    assert!(text.ends_with("; one of the two names is taken in its network namespace"), "{text}");
    assert_eq!(netlink.link("host0").unwrap(), None, "nothing is left of it");

    // In our own namespace the peer's name may be in use: the peer never appears here.
    netlink.add_bridge(&Bridge { name: "peer", ..Bridge::default() }).unwrap();
    netlink.add_veth(&Veth { peer_ns: Some(other.ns()), ..Veth::new("host0", "peer") }).unwrap();

    let again = netlink.add_bridge(&Bridge { name: "peer", ..Bridge::default() }).unwrap_err();
    assert!(again.is_exists());
    assert!(netlink.rename(one.link("host0").index, "peer").unwrap_err().is_exists());
}

#[test]
fn names_are_checked_before_a_request_is_sent() {
    let good = ["a", "eth0", "veth-x_y.100", "123456789012345", "ä"];
    for name in good {
        check_name(name).unwrap();
    }
    let bad = [
        "",
        ".",
        "..",
        "1234567890123456",
        "a/b",
        "a:b",
        "veth%d",
        "a b",
        "a\tb",
        "a\nb",
        "a\u{b}b",
        "a\0b",
    ];
    let ns = TestNetns::new("name");
    let mut netlink = ns.netlink();
    for name in bad {
        for result in [
            netlink.add_veth(&Veth::new(name, "ok")),
            netlink.add_veth(&Veth::new("ok", name)),
            netlink.add_bridge(&Bridge { name, ..Bridge::default() }),
            netlink.rename(1, name),
            netlink.link(name).map(drop),
        ] {
            let error = result.unwrap_err();
            assert!(matches!(error, NetlinkError::InvalidName { .. }), "{name:?}: {error:?}");
        }
    }
    assert_eq!(
        check_name("1234567890123456").unwrap_err().to_string(),
        "`1234567890123456` cannot name a link: it is longer than 15 bytes"
    );
    assert_eq!(netlink.links().unwrap().len(), 1);
}

#[test]
fn the_kernels_own_words_are_passed_on() {
    let ns = TestNetns::new("words");
    let mut netlink = ns.netlink();
    netlink.add_veth(&Veth::new("a", "b")).unwrap();
    let index = ns.link("a").index;
    let text = netlink.set_mtu(index, 1).unwrap_err().to_string();
    let want = format!(
        "cannot set MTU 1 of link a ({index}): Invalid argument (mtu less than device minimum)"
    );
    assert_eq!(text, want);
    let multicast = MacAddr([1, 0, 0, 0, 0, 1]);
    let error = netlink.set_mac(index, multicast).unwrap_err();
    assert_eq!(error.errno(), Some(libc::EADDRNOTAVAIL));
    assert!(error.to_string().contains("must be a unicast address"), "{error}");
}

#[test]
fn what_a_bridge_says_of_vlans() {
    let header = [0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    let name = attribute(libc::IFLA_IFNAME, b"br0\0");
    let info = |data: &[u8]| {
        let parts = [attribute(1, b"bridge\0"), attribute(2, data)].concat();
        let bytes = [&header[..], &name, &attribute(libc::IFLA_LINKINFO, &parts)].concat();
        let link = Link::read(&bytes).unwrap();
        (link.vlan_filtering, link.default_pvid)
    };
    // IFLA_BR_VLAN_FILTERING 7, IFLA_BR_VLAN_DEFAULT_PVID 39.
    let filters = [attribute(7, &[1]), attribute(39, &9u16.to_ne_bytes())].concat();
    assert_eq!(info(&filters), (Some(true), Some(9)));
    assert_eq!(info(&attribute(7, &[0])), (Some(false), None), "a kernel that cannot");
    let ns = TestNetns::new("bridge");
    ns.netlink().add_bridge(&Bridge { name: "br0", ..Bridge::default() }).unwrap();
    assert_eq!(ns.link("br0").vlan_filtering, Some(false));
    assert_eq!(ns.link("br0").default_pvid.is_some(), port_vlan::is_supported().unwrap());
}

#[test]
fn an_unreadable_attribute_does_not_hide_a_link() {
    let header = [0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    let name = attribute(libc::IFLA_IFNAME, b"eth0\0");
    // An MTU and a link info of the wrong size, and an attribute nobody knows.
    let odd = [
        attribute(libc::IFLA_MTU, &[1, 2]),
        attribute(libc::IFLA_LINKINFO, &[9, 9]),
        attribute(4000, b"?"),
        attribute(libc::IFLA_ADDRESS, &[0; 20]),
        attribute(libc::IFLA_OPERSTATE, &[]),
    ]
    .concat();
    let link = Link::read(&[&header[..], &odd, &name].concat()).unwrap();
    assert_eq!(
        (link.index, &*link.name, link.up, link.mac, link.kind),
        (9, "eth0", true, None, None)
    );
    assert!(Link::read(&header).is_err(), "a link without a name");
    assert!(Link::read(&header[..10]).is_err());
}
