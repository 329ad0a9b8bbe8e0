use std::time::Instant;

use netns_tools::cause::one_line;
use netns_tools::testing::{End, TestNetns, veth_pair};

use super::mtu::{distinct, mtu_of};
use super::*;

fn link(index: u32, name: &str) -> Link {
    Link { index, name: name.into(), mtu: 1500, up: true, carrier: true, ..Link::default() }
}

fn address(index: u32, net: &str) -> Address {
    let net: IpNetwork = net.parse().unwrap();
    let scope = match net.ip() {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => 253,
        ip if ip.is_loopback() => 254,
        _ => 0,
    };
    Address { index, net, peer: None, scope, flags: 0x80 }
}

fn default_by(oif: u32, v6: bool, priority: u32) -> Route {
    let dst = if v6 { "::/0" } else { "0.0.0.0/0" };
    Route {
        dst: dst.parse().unwrap(),
        oif: Some(oif),
        priority: Some(priority),
        table: Some(TABLE_MAIN),
        ..Route::default()
    }
}

/// A node with two links to the outside, a bridge of pods with one port, a pod's own veth and the overlay's device.
fn host() -> Host {
    let lo = Link { loopback: true, mtu: 65_536, ..link(1, "lo") };
    let port = Link { master: Some(4), kind: Some("veth".into()), ..link(5, "veth1") };
    Host {
        links: vec![
            lo,
            link(2, "eth0"),
            Link { mtu: 9000, ..link(3, "eth1") },
            Link { kind: Some("bridge".into()), ..link(4, "cni0") },
            port,
            Link { kind: Some("veth".into()), ..link(6, "veth2") },
            Link { kind: Some("vxlan".into()), mtu: 1450, ..link(7, "heddle.1") },
        ],
        addresses: vec![
            address(1, "127.0.0.1/8"),
            address(1, "::1/128"),
            address(2, "192.0.2.11/24"),
            address(2, "2001:db8::11/64"),
            address(2, "fe80::1/64"),
            address(3, "198.51.100.11/24"),
            address(3, "fe80::2/64"),
            address(4, "10.244.1.1/24"),
            address(6, "10.244.1.1/32"),
            address(7, "10.244.1.0/32"),
        ],
        routes: vec![default_by(2, false, 100), default_by(2, true, 1024)],
    }
}

const PODS: &str = "10.244.0.0/16";

fn chosen(host: &Host, interface: &str, ips: &[&str]) -> Result<Vec<String>, String> {
    let internal_ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
    let pods = [PODS.parse().unwrap()];
    let wanted = Wanted { interface, internal_ips: &internal_ips, pods: &pods };
    let all = choose(host, &wanted).map_err(|e| one_line(&e))?;
    Ok(all.iter().map(|one| format!("{} {}", one.name, one.address)).collect())
}

#[test]
fn the_underlay_is_configured_or_the_nodes_or_the_default_routes() {
    for (interface, ips, expected) in [
        ("", &[][..], &["eth0 192.0.2.11/24", "eth0 2001:db8::11/64"][..]),
        ("", &["198.51.100.11"], &["eth1 198.51.100.11/24", "eth0 2001:db8::11/64"]),
        ("", &["2001:db8::11"], &["eth0 192.0.2.11/24", "eth0 2001:db8::11/64"]),
        // an InternalIP that no link has, as behind address translation
        ("", &["203.0.113.1"], &["eth0 192.0.2.11/24", "eth0 2001:db8::11/64"]),
        // one of several, and never a pod's
        ("", &["203.0.113.1", "198.51.100.11"], &["eth1 198.51.100.11/24", "eth0 2001:db8::11/64"]),
        ("", &["10.244.1.1"], &["eth0 192.0.2.11/24", "eth0 2001:db8::11/64"]),
        ("eth1", &["192.0.2.11"], &["eth1 198.51.100.11/24"]),
        ("198.51.100.11", &[], &["eth1 198.51.100.11/24"]),
        ("2001:db8::11", &[], &["eth0 192.0.2.11/24", "eth0 2001:db8::11/64"]),
    ] {
        let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
        assert_eq!(chosen(&host(), interface, ips), Ok(expected), "{interface:?} {ips:?}");
    }
}

#[test]
fn what_cannot_be_used_is_refused_with_every_link_and_its_reason() {
    for (interface, expected) in [
        ("eth9", "\"eth9\": there is no link of this name; give"),
        ("192.0.2.99", "no link has this address"),
        ("lo", "lo cannot be used: it leads to this host only"),
        ("127.0.0.1", "lo cannot be used: it leads to this host only"),
        ("heddle.1", "heddle.1 cannot be used: it is the overlay's own"),
        ("cni0", "cni0 cannot be used: it leads to pods, by its address 10.244.1.1/24"),
        ("veth1", "veth1 cannot be used: it is a port of cni0"),
        ("veth2", "veth2 cannot be used: it leads to pods, by its address 10.244.1.1/32"),
        ("10.244.1.1", "cni0 cannot be used: it leads to pods"),
    ] {
        let error = chosen(&host(), interface, &[]).unwrap_err();
        assert!(error.contains(expected), "{interface}: {error}");
        assert!(error.contains("eth0: it has neither an InternalIP"), "{error}");
    }
}

#[test]
fn without_default_route_the_links_are_listed() {
    let mut host = host();
    host.routes.clear();
    host.links[2].up = false;
    host.addresses.retain(|address| address.index != 2);
    assert_eq!(
        chosen(&host, "", &[]).unwrap_err(),
        "no link leads to the other nodes (lo: it leads to this host only; eth0: it has no address that other nodes can reach; \
         eth1: it is down; cni0: it leads to pods, by its address 10.244.1.1/24; veth1: it is a port of cni0; \
         veth2: it leads to pods, by its address 10.244.1.1/32; heddle.1: it is the overlay's own); \
         set overlay.interface, or wait for the address or the default route"
    );
    assert!(chosen(&Host::default(), "", &[]).unwrap_err().contains("there are no links"));
}

#[test]
fn a_down_link_is_passed_over_and_one_without_carrier_comes_last() {
    let mut host = host();
    host.routes.push(default_by(3, false, 200));
    assert_eq!(chosen(&host, "", &[]).unwrap()[0], "eth0 192.0.2.11/24");
    host.links[1].carrier = false;
    assert_eq!(chosen(&host, "", &[]).unwrap()[0], "eth1 198.51.100.11/24");
    // the Node's own address is what peers know it by, cable or not
    assert_eq!(chosen(&host, "", &["192.0.2.11"]).unwrap()[0], "eth0 192.0.2.11/24");
    host.links[1].up = false;
    assert_eq!(chosen(&host, "", &["192.0.2.11"]), Ok(vec!["eth1 198.51.100.11/24".into()]));
    assert!(chosen(&host, "eth0", &[]).unwrap_err().contains("eth0 cannot be used: it is down"));
}

#[test]
fn the_gateway_is_that_of_the_default_route_that_counts() {
    let mut host = host();
    let wanted = Wanted { interface: "eth0", ..Wanted::default() };
    let gateways = |host: &Host| {
        let all = choose(host, &wanted).unwrap();
        all.iter().map(|one| one.gateway.map(|ip| ip.to_string())).collect::<Vec<_>>()
    };
    // by the link alone, as of a point-to-point one
    assert_eq!(gateways(&host), [None, None]);
    for (gateway, oif, priority) in
        [("192.0.2.1", 2, 50), ("198.51.100.1", 3, 40), ("2001:db8::1", 2, 1)]
    {
        let by = default_by(oif, gateway.contains(':'), priority);
        host.routes.push(Route { gateway: gateway.parse().ok(), ..by });
    }
    let elsewhere = default_by(2, false, 1);
    host.routes.push(Route { table: Some(100), gateway: "192.0.2.9".parse().ok(), ..elsewhere });
    assert_eq!(gateways(&host), [Some("198.51.100.1".into()), Some("2001:db8::1".into())]);
}

#[test]
fn of_several_addresses_the_lasting_one_is_taken() {
    let mut host = host();
    let with = |net: &str, flags| Address { flags, ..address(2, net) };
    let at = |host: &mut Host, added: Vec<Address>| {
        host.addresses.retain(|known| known.index != 2);
        host.addresses.extend(added);
    };
    // an address that moves between hosts comes first in the kernel's list
    at(&mut host, vec![with("192.0.2.200/32", 0x80), with("192.0.2.11/24", 0x80)]);
    assert_eq!(chosen(&host, "", &[]).unwrap(), ["eth0 192.0.2.11/24"]);
    // … but the route's word counts more
    host.routes[0].source = Some("192.0.2.200".parse().unwrap());
    assert_eq!(chosen(&host, "", &[]).unwrap(), ["eth0 192.0.2.200/32"]);
    // temporary, deprecated, tentative and duplicate ones
    at(
        &mut host,
        vec![
            with("2001:db8::a/64", 0x01),
            with("2001:db8::b/64", 0x20),
            with("2001:db8::c/64", 0x40),
            with("2001:db8::d/64", 0x08),
            with("2001:db8::e/64", 0x80),
        ],
    );
    assert_eq!(chosen(&host, "", &[]).unwrap(), ["eth0 2001:db8::e/64"]);
}

#[test]
fn an_internal_ip_on_the_loopback_link_leaves_by_the_default_route() {
    let mut host = host();
    host.addresses.push(address(1, "203.0.113.1/32"));
    assert_eq!(chosen(&host, "", &["203.0.113.1"]).unwrap()[0], "eth0 203.0.113.1/32");
}

fn route(dst: &str, oif: u32, mtu: Option<u32>) -> Route {
    Route { dst: dst.parse().unwrap(), mtu, ..default_by(oif, dst.contains(':'), 0) }
}

fn least(host: &Host, peers: &[&str]) -> Option<u32> {
    let peers: Vec<IpAddr> = peers.iter().map(|peer| peer.parse().unwrap()).collect();
    let routes = distinct(host, &peers);
    routes.iter().filter_map(|one| mtu_of(host, &one.hops, one.hops[0].oif)).min()
}

#[test]
fn the_mtu_is_the_least_of_links_and_routes_towards_the_peers() {
    let mut host = host();
    host.routes.extend([
        route("198.51.100.0/24", 3, None),
        route("198.51.100.64/26", 3, Some(1400)),
        // larger than the link's: it does not count
        route("203.0.113.0/24", 2, Some(9000)),
        Route { table: Some(100), ..route("203.0.113.0/25", 2, Some(600)) },
        Route { protocol: Some(104), ..route("203.0.113.7/32", 7, Some(700)) },
        Route { priority: Some(5), ..route("203.0.113.0/24", 2, Some(800)) },
    ]);
    assert_eq!(least(&host, &[]), None);
    assert_eq!(least(&host, &["198.51.100.1"]), Some(9000));
    assert_eq!(least(&host, &["198.51.100.1", "198.51.100.65"]), Some(1400));
    assert_eq!(least(&host, &["203.0.113.7", "2001:db8::1"]), Some(1500));
    host.routes.retain(|route| route.dst.prefix() > 0);
    assert_eq!(least(&host, &["2001:db8::1", "8.8.8.8"]), None);
    // two next hops: the worse one
    host.routes.push(route("8.8.8.0/24", 3, None));
    host.routes.push(route("8.8.8.0/24", 2, None));
    assert_eq!(least(&host, &["8.8.8.8"]), Some(1500));
    // policy routing by a link that the main table does not name
    let routes = distinct(&host, &["8.8.8.8".parse().unwrap()]);
    assert_eq!(mtu_of(&host, &routes[0].hops, Some(7)), Some(1450));
}

#[test]
fn ten_thousand_peers_and_routes_cost_little() {
    let mut host = host();
    let ip = |kind: u8, n: u16| {
        let [high, low] = n.to_be_bytes();
        IpAddr::from([kind, 1, high, low])
    };
    let host_route = |n| Route { dst: ip(10, n).into(), ..route("0.0.0.0/0", 2, None) };
    host.routes.extend((0..10_000).map(host_route));
    let peers: Vec<IpAddr> = (0..10_000).map(|n| ip(11, n)).collect();
    let start = Instant::now();
    assert_eq!(distinct(&host, &peers).len(), 1);
    let took = start.elapsed();
    assert!(took.as_secs() < 2, "{took:?}");
}

#[test]
fn as_the_kernel_lists_them() {
    let (node, peer) = (TestNetns::new("underlay"), TestNetns::new("underlay"));
    veth_pair(
        End(&node, "eth0", &["192.0.2.11/24", "2001:db8::11/64"]),
        End(&peer, "eth0", &["192.0.2.12/24"]),
    );
    let peers = ["192.0.2.12".parse().unwrap(), "203.0.113.1".parse().unwrap()];
    let mut netlink = node.netlink();
    let read = |netlink: &mut Netlink| Host::read(netlink).unwrap();
    assert!(chosen(&read(&mut netlink), "", &[]).unwrap_err().contains("eth0: it has neither"));
    node.cmd(&["ip", "route", "add", "default", "via", "192.0.2.12"]);
    let host = read(&mut netlink);
    assert_eq!(chosen(&host, "", &[]).unwrap(), ["eth0 192.0.2.11/24"]);
    let underlays = choose(&host, &Wanted::default()).unwrap();
    assert_eq!(underlays.v4.unwrap().gateway, Some(peers[0]));
    assert_eq!(
        chosen(&host, "", &["2001:db8::11"]).unwrap(),
        ["eth0 192.0.2.11/24", "eth0 2001:db8::11/64"]
    );
    let towards = |netlink: &mut Netlink| {
        let host = read(netlink);
        mtu_towards(netlink, &host, &peers).unwrap()
    };
    assert_eq!(towards(&mut netlink).unwrap().mtu, 1500);
    // the route's metric, the link's MTU, and a rule that overrides the main table
    node.cmd(&["ip", "route", "add", "203.0.113.0/24", "via", "192.0.2.12", "mtu", "1400"]);
    assert_eq!(towards(&mut netlink), Some(Towards { mtu: 1400, peer: peers[1] }));
    node.cmd(&["ip", "link", "set", "eth0", "mtu", "1300"]);
    assert_eq!(towards(&mut netlink).unwrap().mtu, 1300);
    node.cmd(&["ip", "link", "add", "tap0", "mtu", "1280", "type", "bridge"]);
    node.cmd(&["ip", "link", "set", "tap0", "up"]);
    node.cmd(&["ip", "route", "add", "203.0.113.0/24", "dev", "tap0", "table", "100"]);
    node.cmd(&["ip", "rule", "add", "to", "203.0.113.0/24", "lookup", "100"]);
    assert_eq!(towards(&mut netlink), Some(Towards { mtu: 1280, peer: peers[1] }));
    // the address goes: the underlay goes with it
    node.cmd(&["ip", "address", "flush", "dev", "eth0"]);
    let error = chosen(&read(&mut netlink), "eth0", &[]).unwrap_err();
    assert!(error.contains("eth0 cannot be used: it has no address"), "{error}");
}
