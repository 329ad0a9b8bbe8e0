//! VXLAN devices: bytes, what the kernel makes of them, and packets through them.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::super::new::tests::{bytes, expected, info};
use super::*;
use crate::fdb::FdbEntry;
use crate::mac::MacAddr;
use crate::neighbour::PermanentNeighbour;
use crate::netlink::reply::tests::attribute;
use crate::route::{Route, RouteKind};
use crate::testing::{End, TestNetns, veth_pair};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn messages() {
    let table = [
        (ip("192.0.2.1"), attribute(4, &[192, 0, 2, 1])),
        (ip("2001:db8::1"), attribute(17, &[&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1]].concat())),
    ];
    for (local, local_bytes) in table {
        for underlay in [None, Some(7)] {
            let vxlan = Vxlan { underlay, ..Vxlan::new(4711, local) };
            let message = NewLink::new("x0").message(None, InfoKind::Vxlan, Some(vxlan.data()));
            let mut data = vec![attribute(1, &4711_u32.to_ne_bytes()), local_bytes.clone()];
            data.extend(underlay.map(|link: u32| attribute(3, &link.to_ne_bytes())));
            data.extend([attribute(7, &[0]), attribute(15, &[0x21, 0x18])]);
            assert_eq!(bytes(&message), expected(&[attribute(3, b"x0\0"), info("vxlan", &data)]));
            let read = Details::read(&data.concat());
            let (local, port) = (Some(local), 8472);
            let want = Details { vni: 4711, port, local, underlay, ..Details::default() };
            assert_eq!(read, want);
        }
    }
    let odd = [attribute(1, &[1]), attribute(15, &[]), attribute(25, &[1]), attribute(7, &[1])];
    let read = Details::read(&odd.concat());
    assert_eq!(read, Details { external: true, learning: true, ..Details::default() });
}

/// Two namespaces that reach each other by both families.
fn underlay() -> (TestNetns, TestNetns) {
    let (one, other) = (TestNetns::new("vxlan"), TestNetns::new("vxlan"));
    veth_pair(
        End(&one, "eth0", &["192.0.2.1/24", "2001:db8::1/64"]),
        End(&other, "eth0", &["192.0.2.2/24", "2001:db8::2/64"]),
    );
    (one, other)
}

const fn mac(node: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 7, node])
}

/// A node with an overlay as flannel lays it: its own pod CIDR is `10.244.NODE.0/24`, and it knows that of one peer.
fn node(ns: &TestNetns, number: u8, local: &str, peer: (u8, &str)) -> u32 {
    let mut net = ns.netlink();
    let underlay = Some(ns.link("eth0").index);
    let link = NewLink { mac: Some(mac(number)), mtu: Some(1400), ..NewLink::new("heddle.1") };
    net.add_vxlan(&link, &Vxlan { underlay, ..Vxlan::new(1, ip(local)) }).unwrap();
    ns.configure("heddle.1", &[&format!("10.244.{number}.0/32")]);
    let link = ns.link("heddle.1").index;
    let gateway = ip(&format!("10.244.{}.0", peer.0));
    net.add_route(&Route {
        dst: format!("{gateway}/24").parse().unwrap(),
        gateway: Some(gateway),
        oif: Some(link),
        onlink: true,
        protocol: Some(104),
        ..Route::default()
    })
    .unwrap();
    let neighbour = PermanentNeighbour { link, address: gateway, mac: mac(peer.0) };
    net.set_neighbour(&neighbour).unwrap();
    net.replace_fdb(&FdbEntry::new(link, mac(peer.0), ip(peer.1))).unwrap();
    link
}

/// Whether a datagram gets from one node's overlay address to the other's.
fn arrives(one: &TestNetns, other: &TestNetns) -> bool {
    let receiver = other.run(|| UdpSocket::bind("10.244.2.0:0").unwrap());
    receiver.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let to = receiver.local_addr().unwrap();
    one.run(|| UdpSocket::bind("10.244.1.0:0").unwrap().send_to(b"hello", to).unwrap());
    let mut buffer = [0; 16];
    receiver.recv(&mut buffer).is_ok_and(|length| &buffer[..length] == b"hello")
}

#[test]
fn packets_pass_over_both_families() {
    for (left, right) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
        let (one, other) = underlay();
        let index = node(&one, 1, left, (2, right));
        node(&other, 2, right, (1, left));
        assert!(arrives(&one, &other), "{left}");

        let link = one.netlink().link_by_index(index).unwrap().unwrap();
        let details = Details {
            vni: 1,
            port: 8472,
            local: Some(ip(left)),
            underlay: Some(one.link("eth0").index),
            learning: false,
            external: false,
        };
        assert_eq!((link.vxlan, link.mac, link.mtu), (Some(details), Some(mac(1)), 1400));
        let shown = &one.json(&["ip", "-j", "-d", "link", "show", "heddle.1"])[0]["linkinfo"];
        let shown = &shown["info_data"];
        assert_eq!((&shown["id"], &shown["port"]), (&1.into(), &8472.into()));
        assert_eq!((&shown["learning"], &shown["link"]), (&false.into(), &"eth0".into()));
    }
}

#[test]
fn what_can_be_changed_in_place() {
    let (one, other) = underlay();
    let index = node(&one, 1, "192.0.2.1", (2, "192.0.2.2"));
    let mut net = one.netlink();
    veth_pair(End(&one, "eth1", &[]), End(&other, "eth1", &[]));
    let eth1 = one.link("eth1").index;
    let changes =
        Changes { local: Some(ip("192.0.2.11")), underlay: Some(eth1), learning: Some(true) };
    net.change_vxlan(index, &changes).unwrap();
    let details = one.link("heddle.1").vxlan.unwrap();
    assert_eq!((details.local, details.underlay), (changes.local, changes.underlay));
    assert!(details.learning);
    assert_eq!((details.vni, details.port), (1, 8472));
    // It keeps its entries and routes.
    assert!(net.fdb(index).unwrap().iter().any(|entry| entry.remote == Some(ip("192.0.2.2"))));
    assert!(one.cmd(&["ip", "route"]).contains("10.244.2.0/24"));

    // What cannot.
    let family = Changes { local: Some(ip("2001:db8::1")), ..Changes::default() };
    let refused = net.change_vxlan(index, &family).unwrap_err();
    assert!(refused.to_string().starts_with("cannot change vxlan link heddle.1 ("), "{refused}");
    for words in [["id", "2"], ["dstport", "4789"]] {
        let words = [&["ip", "link", "set", "heddle.1", "type", "vxlan"][..], &words].concat();
        assert!(!one.output(&words).status.success(), "{words:?}");
    }
    let other_kind = net.change_vxlan(eth1, &Changes::default());
    assert!(other_kind.is_err());
    assert_eq!(one.link("heddle.1").vxlan.unwrap(), details);
    let gone = net.change_vxlan(4711, &Changes::default()).unwrap_err();
    assert!(gone.to_string().starts_with("cannot change vxlan link 4711: "), "{gone}");

    // It goes with its underlay link.
    net.delete_link(eth1).unwrap();
    assert_eq!(net.link("heddle.1").unwrap(), None);
}

/// The kernel keeps the way and the source address with each forwarding entry. A change of the device makes it forget them.
#[test]
fn another_local_address_counts_at_once() {
    for (left, second, right) in
        [("192.0.2.1", "192.0.2.11", "192.0.2.2"), ("2001:db8::1", "2001:db8::11", "2001:db8::2")]
    {
        let (one, other) = underlay();
        one.configure(
            "eth0",
            &[&format!("{second}/{}", if second.contains(':') { 64 } else { 24 })],
        );
        let index = node(&one, 1, left, (2, right));
        let receiver = other.run(|| UdpSocket::bind((right, 8472)).unwrap());
        receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let from = |times| {
            one.run(|| {
                let sender = UdpSocket::bind("10.244.1.0:0").unwrap();
                (0..times)
                    .for_each(|_| assert_eq!(sender.send_to(b"x", "10.244.2.9:9").unwrap(), 1));
            });
            let from = (0..times).map(|_| receiver.recv_from(&mut [0; 100]).unwrap().1.ip());
            from.collect::<std::collections::BTreeSet<_>>()
        };
        // Two nodes get what is for everybody; both must stay.
        for last in ["9", "10"] {
            let remote = ip(&format!("{}{last}", right.strip_suffix('2').unwrap()));
            let all = FdbEntry::new(index, MacAddr([0; 6]), remote);
            let appended = one.netlink().apply([Change::append(Object::Fdb(all))]).unwrap();
            assert_eq!(appended.made, 1);
        }
        let entries = || {
            let mut entries = one.netlink().fdb(index).unwrap();
            entries.sort_by_key(|entry| (entry.mac.0, entry.remote));
            entries
        };
        let before = entries();
        assert_eq!(before.len(), 3);
        // The kernel notes IPv6 addresses late, and forgets all ways then: what follows would prove nothing.
        let deadline = Instant::now() + Duration::from_secs(10);
        let kind = || one.netlink().route_to(ip(second)).unwrap().map(|route| route.kind);
        while kind() != Some(RouteKind::Local) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(from(20), [ip(left)].into());
        let changes = Changes { local: Some(ip(second)), ..Changes::default() };
        one.netlink().change_vxlan(index, &changes).unwrap();
        assert_eq!(from(20), [ip(second)].into());
        assert_eq!(entries(), before);
    }
}

#[test]
fn who_has_the_identifier_is_named() {
    let (one, other) = underlay();
    node(&one, 1, "192.0.2.1", (2, "192.0.2.2"));
    let mut net = one.netlink();
    let vxlan = Vxlan::new(1, ip("192.0.2.1"));
    let again = net.add_vxlan(&NewLink::new("second"), &vxlan).unwrap_err();
    let index = one.link("heddle.1").index;
    assert!(again.is_exists());
    assert_eq!(
        again.to_string(),
        format!(
            "cannot create vxlan second: VNI 1 on UDP port 8472 is not free: it belongs to the VXLAN device heddle.1 \
             (link {index}); remove that, or use another VNI or port"
        )
    );
    // Over IPv6 it is another device's.
    let over_v6 = Vxlan::new(1, ip("2001:db8::1"));
    net.add_vxlan(&NewLink::new("six"), &over_v6).unwrap();
    let again = net.add_vxlan(&NewLink::new("second"), &over_v6).unwrap_err();
    assert!(again.to_string().contains("the VXLAN device six (link"), "{again}");
    // Taken is the name only.
    let name = net.add_vxlan(&NewLink::new("heddle.1"), &Vxlan { vni: 2, ..vxlan }).unwrap_err();
    assert!(name.to_string().contains("the name is taken"), "{name}");
    // Beside each other: another identifier, another port.
    net.add_vxlan(&NewLink::new("v2"), &Vxlan { vni: 2, ..vxlan }).unwrap();
    net.add_vxlan(&NewLink::new("v3"), &Vxlan { port: 4789, ..vxlan }).unwrap();
    // Who is elsewhere keeps it.
    net.move_to(index, other.ns()).unwrap();
    let away = net.add_vxlan(&NewLink::new("second"), &vxlan).unwrap_err();
    assert!(away.to_string().contains("is now in another network namespace"), "{away}");
    let huge = net.add_vxlan(&NewLink::new("v4"), &Vxlan { vni: 1 << 24, ..vxlan }).unwrap_err();
    assert!(huge.to_string().contains("16777216"), "{huge}");
}

#[test]
fn who_has_the_port_is_named() {
    let (one, _other) = underlay();
    let mut net = one.netlink();
    one.cmd(&["ip", "link", "add", "cilium_vxlan", "type", "vxlan", "external", "dstport", "8472"]);
    one.cmd(&["ip", "link", "set", "cilium_vxlan", "up"]);
    let external = one.link("cilium_vxlan");
    assert!(external.vxlan.unwrap().external);
    let vxlan = Vxlan::new(1, ip("192.0.2.1"));
    let made = net.add_vxlan(&NewLink::new("heddle.1"), &vxlan);
    let refused = made.and_then(|()| net.set_up(one.link("heddle.1").index)).unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, NetlinkError::VxlanTaken { .. }), "{refused:?}");
    assert!(text.contains("VXLAN device cilium_vxlan") && text.contains("external mode"), "{text}");

    let socket = one.run(|| UdpSocket::bind("0.0.0.0:4789").unwrap());
    net.add_vxlan(&NewLink::new("v1"), &Vxlan { port: 4789, ..vxlan }).unwrap();
    let v1 = one.link("v1").index;
    let refused = net.set_up(v1).unwrap_err();
    assert_eq!(refused.errno(), Some(libc::EADDRINUSE));
    assert!(refused.to_string().contains("a program has opened the port"), "{refused}");
    drop(socket);
    net.set_up(v1).unwrap();
}
