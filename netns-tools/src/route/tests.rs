//! Addresses and routes, compared with what `ip -j` says.

use serde_json::Value;

use super::*;
use crate::Veth;
use crate::netlink::NetlinkError;
use crate::netlink::reply::tests::attribute;
use crate::testing::{End, TestNetns, veth_pair};

/// A namespace with links `a` and `b`, up, with addresses on `a`; and a socket; and the index of `a`.
fn namespace(addresses: &[&str]) -> (TestNetns, Netlink, u32) {
    let ns = TestNetns::new("route");
    let mut netlink = ns.netlink();
    netlink.add_veth(&Veth::new("a", "b")).unwrap();
    ns.configure("b", &[]);
    ns.configure("a", addresses);
    let index = ns.link("a").index;
    (ns, netlink, index)
}

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn ip(text: &str) -> Option<IpAddr> {
    text.parse().map(Some).unwrap()
}

/// The routes to `dst` in the main table, as we read them.
fn to(netlink: &mut Netlink, dst: &str) -> Vec<Route> {
    let routes = netlink.routes().unwrap().into_iter();
    routes.filter(|r| r.dst == net(dst) && r.table == Some(TABLE_MAIN)).collect()
}

/// The routes to `dst` as `ip` reads them.
fn shown(ns: &TestNetns, family: &str, dst: &str) -> Vec<Value> {
    let all = ns.json(&["ip", "-j", "-d", family, "route", "show", "table", "all"]);
    all.as_array().unwrap().iter().filter(|route| route["dst"] == dst).cloned().collect()
}

#[test]
fn addresses() {
    let (ns, mut netlink, index) = namespace(&[]);
    netlink.add_address(index, net("10.1.0.5/24")).unwrap();
    netlink.add_address_without_dad(index, net("fd00::5/64")).unwrap();
    let listed = netlink.addresses(Some(index)).unwrap();
    let nets: Vec<String> = listed.iter().map(|a| a.net.to_string()).collect();
    assert!(
        nets.contains(&"10.1.0.5/24".into()) && nets.contains(&"fd00::5/64".into()),
        "{nets:?}"
    );
    assert!(listed.iter().all(|a| a.index == index && a.is_permanent() && a.peer.is_none()));
    let v6 = listed.iter().find(|a| a.net == net("fd00::5/64")).unwrap();
    assert!(!v6.is_tentative() && !v6.is_duplicate() && v6.scope == SCOPE_GLOBAL);
    let other = netlink.link("b").unwrap().unwrap().index;
    netlink.add_address(other, net("10.2.0.5/24")).unwrap();
    let all = netlink.addresses(None).unwrap();
    assert!(all.iter().any(|a| a.index == other) && all.iter().any(|a| a.index == index));

    let info = &ns.json(&["ip", "-j", "address", "show", "a"])[0]["addr_info"];
    let info = info.as_array().unwrap().iter().find(|i| i["local"] == "10.1.0.5").unwrap();
    assert_eq!(
        (&info["prefixlen"], &info["broadcast"], &info["scope"]),
        (&24.into(), &"10.1.0.255".into(), &"global".into())
    );

    let again = netlink.add_address(index, net("10.1.0.5/24")).unwrap_err();
    assert!(again.is_exists());
    assert_eq!(
        again.to_string().split_once(": ").unwrap().0,
        format!("cannot add address 10.1.0.5/24 to link {index}")
    );
    netlink.delete_address(index, net("10.1.0.5/24")).unwrap();
    assert!(netlink.delete_address(index, net("10.1.0.5/24")).unwrap_err().is_not_found());
    assert!(netlink.add_address(4711, net("10.1.0.5/24")).unwrap_err().is_not_found());
}

#[test]
fn a_loopback_address_has_host_scope() {
    let ns = TestNetns::new("lo");
    ns.configure("lo", &[]);
    let listed = ns.netlink().addresses(Some(1)).unwrap();
    let local = listed.iter().find(|a| a.net == net("127.0.0.1/8")).unwrap();
    assert_eq!(local.scope, SCOPE_HOST);
    ns.netlink().add_address(1, net("127.0.0.2/8")).unwrap();
    let info = &ns.json(&["ip", "-j", "address", "show", "lo"])[0]["addr_info"];
    let scopes: Vec<_> = info.as_array().unwrap().iter().map(|i| &i["scope"]).collect();
    assert!(scopes.iter().all(|scope| **scope == "host"), "{scopes:?}");
}

#[test]
fn routes_with_everything() {
    let (ns, mut netlink, index) = namespace(&["10.1.0.5/24", "fd00::5/64"]);
    let v4 = Route {
        dst: net("10.9.0.0/16"),
        gateway: ip("10.1.0.1"),
        oif: Some(index),
        source: ip("10.1.0.5"),
        priority: Some(77),
        mtu: Some(1300),
        advmss: Some(1200),
        ..Route::default()
    };
    let v6 = Route {
        dst: net("fd09::/48"),
        gateway: ip("fd00::1"),
        source: ip("fd00::5"),
        ..v4.clone()
    };
    for (route, family) in [(&v4, "-4"), (&v6, "-6")] {
        netlink.add_route(route).unwrap();
        let seen = to(&mut netlink, &route.dst.to_string());
        let want = Route {
            table: Some(TABLE_MAIN),
            scope: Some(SCOPE_GLOBAL),
            protocol: Some(libc::RTPROT_BOOT),
            ..route.clone()
        };
        assert_eq!(seen, [want]);
        let shown = shown(&ns, family, &route.dst.to_string());
        assert_eq!(shown.len(), 1);
        assert_eq!(shown[0]["gateway"], route.gateway.unwrap().to_string());
        assert_eq!((&shown[0]["dev"], &shown[0]["metric"]), (&"a".into(), &77.into()));
        assert_eq!(shown[0]["prefsrc"], route.source.unwrap().to_string());
        assert_eq!(shown[0]["metrics"][0]["mtu"], 1300);
        assert_eq!(shown[0]["metrics"][0]["advmss"], 1200);

        let again = netlink.add_route(route).unwrap_err();
        assert!(again.is_exists(), "{again}");
        netlink.delete_route(route).unwrap();
        assert!(netlink.delete_route(route).unwrap_err().is_not_found());
    }
}

#[test]
fn default_routes_scopes_and_tables() {
    let (ns, mut netlink, index) = namespace(&["10.1.0.5/24", "fd00::5/64"]);
    netlink.add_route(&Route { gateway: ip("10.1.0.1"), ..Route::default() }).unwrap();
    netlink
        .add_route(&Route { dst: net("::/0"), gateway: ip("fd00::1"), ..Route::default() })
        .unwrap();
    netlink
        .add_route(&Route { dst: net("10.2.0.0/16"), oif: Some(index), ..Route::default() })
        .unwrap();
    netlink
        .add_route(&Route {
            dst: net("10.3.0.9/16"),
            gateway: ip("10.1.0.1"),
            table: Some(1000),
            ..Route::default()
        })
        .unwrap();
    netlink
        .add_route(&Route {
            dst: net("10.4.0.0/16"),
            kind: RouteKind::Blackhole,
            ..Route::default()
        })
        .unwrap();

    let default = to(&mut netlink, "0.0.0.0/0");
    assert_eq!(
        (default.len(), default[0].gateway, default[0].oif),
        (1, ip("10.1.0.1"), Some(index))
    );
    assert_eq!(to(&mut netlink, "::/0")[0].gateway, ip("fd00::1"));
    assert_eq!(to(&mut netlink, "10.2.0.0/16")[0].scope, Some(SCOPE_LINK));
    assert_eq!(to(&mut netlink, "10.4.0.0/16")[0].kind, RouteKind::Blackhole);
    assert_eq!(shown(&ns, "-4", "default").len(), 1);
    assert_eq!(shown(&ns, "-6", "default").len(), 1);
    assert_eq!(shown(&ns, "-4", "10.2.0.0/16")[0]["scope"], "link");
    // Host bits are masked, and a table above 255 is a table like any other.
    assert_eq!(shown(&ns, "-4", "10.3.0.0/16")[0]["table"], "1000");
    let all = netlink.routes().unwrap();
    assert!(all.iter().any(|r| r.dst == net("10.3.0.0/16") && r.table == Some(1000)));
    assert!(all.iter().any(|r| r.table == Some(TABLE_LOCAL) && r.kind == RouteKind::Local));
}

#[test]
fn replace_and_append() {
    let (ns, mut netlink, _) = namespace(&["10.1.0.5/24", "fd00::5/64"]);
    for (family, dst, one, two) in
        [("-4", "10.9.0.0/16", "10.1.0.1", "10.1.0.2"), ("-6", "fd09::/48", "fd00::1", "fd00::2")]
    {
        let via = |gateway: &str| Route { dst: net(dst), gateway: ip(gateway), ..Route::default() };
        netlink.replace_route(&via(one)).unwrap();
        netlink.replace_route(&via(two)).unwrap();
        assert_eq!(to(&mut netlink, dst).iter().map(|r| r.gateway).collect::<Vec<_>>(), [ip(two)]);
        assert!(netlink.add_route(&via(one)).unwrap_err().is_exists());
        netlink.append_route(&via(one)).unwrap();
        assert!(netlink.append_route(&via(one)).unwrap_err().is_exists(), "all of it is equal");
        let mut gateways: Vec<_> = to(&mut netlink, dst).iter().map(|r| r.gateway).collect();
        gateways.sort();
        assert_eq!(gateways, [ip(one), ip(two)], "{:?}", shown(&ns, family, dst));
        // A route without a gateway names the destination only: each deletion takes one.
        let any = Route { dst: net(dst), ..Route::default() };
        netlink.delete_route(&any).unwrap();
        netlink.delete_route(&via(one)).or_else(|_| netlink.delete_route(&any)).ok();
    }
}

#[test]
fn several_next_hops_are_listed_one_by_one() {
    let (ns, mut netlink, index) = namespace(&["10.1.0.5/24"]);
    ns.cmd(&[
        "ip",
        "route",
        "add",
        "10.9.0.0/16",
        "nexthop",
        "via",
        "10.1.0.1",
        "weight",
        "1",
        "nexthop",
        "via",
        "10.1.0.2",
        "dev",
        "a",
        "onlink",
    ]);
    let seen = to(&mut netlink, "10.9.0.0/16");
    let hops: Vec<_> = seen.iter().map(|r| (r.gateway, r.oif, r.onlink)).collect();
    assert_eq!(hops, [(ip("10.1.0.1"), Some(index), false), (ip("10.1.0.2"), Some(index), true)]);
}

#[test]
fn gateways_off_the_subnet_and_of_the_other_family() {
    let (ns, mut netlink, index) = namespace(&["10.1.0.5/32", "fd00::5/64"]);
    let route = Route { dst: net("10.9.0.0/16"), gateway: ip("192.0.2.1"), ..Route::default() };
    let error = netlink.add_route(&route).unwrap_err();
    assert_eq!(error.errno(), Some(libc::ENETUNREACH));
    assert!(
        error.to_string().ends_with("no address on a link that is up leads to the gateway"),
        "{error}"
    );
    let onlink = Route { onlink: true, oif: Some(index), ..route };
    netlink.add_route(&onlink).unwrap();
    assert!(to(&mut netlink, "10.9.0.0/16")[0].onlink);

    let over_v6 = Route {
        dst: net("10.8.0.0/16"),
        gateway: ip("fd00::1"),
        oif: Some(index),
        ..Route::default()
    };
    netlink.add_route(&over_v6).unwrap();
    assert_eq!(to(&mut netlink, "10.8.0.0/16")[0].gateway, ip("fd00::1"));
    assert_eq!(shown(&ns, "-4", "10.8.0.0/16")[0]["via"]["host"], "fd00::1");
}

#[test]
fn a_route_over_a_link_that_is_down() {
    let (_ns, mut netlink, index) = namespace(&["10.1.0.5/24"]);
    netlink.set_down(index).unwrap();
    let route = Route { dst: net("10.9.0.0/16"), oif: Some(index), ..Route::default() };
    let error = netlink.add_route(&route).unwrap_err();
    assert!(matches!(error, NetlinkError::Refused { errno: libc::ENETDOWN, .. }), "{error:?}");
    assert!(error.to_string().ends_with("set the link up first"), "{error}");
}

#[test]
fn display_names_what_matters() {
    let route = Route {
        gateway: ip("10.1.0.1"),
        oif: Some(3),
        source: ip("10.1.0.5"),
        priority: Some(5),
        table: Some(100),
        ..Route::default()
    };
    assert_eq!(
        route.to_string(),
        "0.0.0.0/0 via 10.1.0.1 on link 3 from 10.1.0.5 metric 5 in table 100"
    );
    assert_eq!(Route::default().to_string(), "0.0.0.0/0");
}

#[test]
fn half_a_next_hop_ends_the_list() {
    let gateway = attribute(libc::RTA_GATEWAY, &[10, 0, 0, 1]);
    let whole = [&[16, 0, 0, 0, 3, 0, 0, 0][..], &gateway].concat();
    let hop = NextHop { oif: 3, gateway: ip("10.0.0.1"), onlink: false };
    assert_eq!(next_hops(&whole), [hop]);
    for wrong in [&[][..], &[1, 2, 3], &[200, 0, 0, 0, 3, 0, 0, 0], &[0, 0, 0, 0, 3, 0, 0, 0]] {
        assert_eq!(next_hops(wrong), []);
    }
}

#[test]
fn the_link_towards_an_address() {
    let (one, other) = (TestNetns::new("towards"), TestNetns::new("towards"));
    veth_pair(
        End(&one, "left", &["10.9.0.1/24", "fd00::1/64"]),
        End(&other, "right", &["10.9.0.2/24", "fd00::2/64"]),
    );
    let mut netlink = one.netlink();
    let (left, lo) = (one.link("left").index, one.link("lo").index);
    let table = [
        ("10.9.0.2", Some(left)),
        ("fd00::2", Some(left)),
        ("127.0.0.1", Some(lo)),
        ("192.0.2.1", None),
        ("2001:db8::1", None),
    ];
    for (destination, link) in table {
        assert_eq!(
            netlink.link_towards(destination.parse().unwrap()).unwrap(),
            link,
            "{destination}"
        );
    }
}

#[test]
fn what_ends_at_this_host() {
    let (one, other) = (TestNetns::new("local"), TestNetns::new("local"));
    veth_pair(
        End(&one, "left", &["10.9.0.1/24", "fd00::1/64"]),
        End(&other, "right", &["10.9.0.2/24", "fd00::2/64"]),
    );
    one.cmd(&["ip", "route", "add", "local", "192.0.2.0/24", "dev", "lo"]);
    one.cmd(&["ip", "route", "add", "unreachable", "198.51.100.0/24"]);
    one.cmd(&["ip", "route", "add", "blackhole", "198.51.101.0/24"]);
    one.cmd(&["ip", "route", "add", "prohibit", "198.51.102.0/24"]);
    let mut netlink = one.netlink();
    let table = [
        ("10.9.0.1", true),
        ("10.9.0.2", false),
        ("10.9.0.255", false),
        ("127.3.2.1", true),
        ("192.0.2.77", true),
        ("203.0.113.1", false),
        ("198.51.100.1", false),
        ("198.51.101.1", false),
        ("198.51.102.1", false),
        ("fd00::1", true),
        ("fd00::2", false),
        ("::1", true),
        ("2001:db8::1", false),
    ];
    for (destination, local) in table {
        let found = netlink.is_local(destination.parse().unwrap()).unwrap();
        assert_eq!(found, local, "{destination}");
    }
}

#[test]
fn messages() {
    let number = |kind, number: u32| attribute(kind, &number.to_ne_bytes());
    let route = Route {
        dst: net("10.9.1.7/24"),
        gateway: ip("10.9.1.0"),
        oif: Some(7),
        source: ip("10.1.0.5"),
        priority: Some(5),
        table: Some(1000),
        onlink: true,
        mtu: Some(1400),
        advmss: Some(1360),
        protocol: Some(104),
        ..Route::default()
    };
    let attributes = [
        number(15, 1000),
        attribute(1, &[10, 9, 1, 0]),
        attribute(5, &[10, 9, 1, 0]),
        number(4, 7),
        attribute(7, &[10, 1, 0, 5]),
        number(6, 5),
        attribute(8, &[number(2, 1400), number(8, 1360)].concat()),
    ];
    let rest = attributes.concat();
    let (mut new, mut delete) = (Vec::new(), Vec::new());
    route.write_new(&mut new);
    route.write_delete(&mut delete);
    assert_eq!(new, [&[2, 24, 0, 0, 0, 104, 0, 1, 4, 0, 0, 0], &rest[..]].concat());
    assert_eq!(delete, [&[2, 24, 0, 0, 0, 104, 255, 1, 4, 0, 0, 0], &rest[..]].concat());

    // By a nexthop object it is not on the link, and a gateway of the other family is written in full.
    let by_object = Route { dst: net("10.9.1.0/24"), nexthop: Some(9), ..Route::default() };
    let mut bytes = Vec::new();
    by_object.write_new(&mut bytes);
    let rest = [number(15, 254), attribute(1, &[10, 9, 1, 0]), number(30, 9)].concat();
    assert_eq!(bytes, [&[2, 24, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0], &rest[..]].concat());
    let via = Route { gateway: ip("fd00::1"), ..Route::default() };
    let mut bytes = Vec::new();
    via.write_new(&mut bytes);
    let octets = [&[10, 0, 0xfd][..], &[0; 14], &[1]].concat();
    let rest = [number(15, 254), attribute(18, &octets)].concat();
    assert_eq!(bytes, [&[2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0], &rest[..]].concat());

    let mut question = [0; 64];
    let only = RoutesOf { protocol: Some(104), oif: Some(7), table: None };
    let message = only.question(false);
    let length = netlink_packet_core::NetlinkSerializable::buffer_len(&message);
    netlink_packet_core::NetlinkSerializable::serialize(&message, &mut question[..length]);
    let want = [&[10, 0, 0, 0, 0, 104, 0, 0, 0, 0, 0, 0], &number(4, 7)[..]].concat();
    assert_eq!(question[..length], want);
}

#[test]
fn routes_of_a_protocol_and_of_a_link() {
    let (ns, mut netlink, index) = namespace(&["10.1.0.5/24", "fd00::5/64"]);
    let b = ns.link("b").index;
    let make = |dst, oif, protocol, table| Route {
        dst: net(dst),
        oif: Some(oif),
        protocol: Some(protocol),
        table,
        ..Route::default()
    };
    for route in [
        make("10.9.1.0/24", index, 104, None),
        make("10.9.2.0/24", index, 105, None),
        make("10.9.3.0/24", b, 104, Some(1000)),
        make("fd00:9::/64", index, 104, None),
    ] {
        netlink.add_route(&route).unwrap();
    }
    let mut found = |protocol, oif, table| {
        let routes = netlink.routes_of(RoutesOf { protocol, oif, table }).unwrap();
        let mut found: Vec<_> = routes.iter().map(|route| route.dst.to_string()).collect();
        found.retain(|dst| dst.contains('9'));
        found.sort_unstable();
        found
    };
    assert_eq!(found(Some(104), None, None), ["10.9.1.0/24", "10.9.3.0/24", "fd00:9::/64"]);
    assert_eq!(found(Some(104), Some(index), None), ["10.9.1.0/24", "fd00:9::/64"]);
    assert_eq!(found(None, Some(index), Some(254)), ["10.9.1.0/24", "10.9.2.0/24", "fd00:9::/64"]);
    assert_eq!(found(None, None, Some(1000)), ["10.9.3.0/24"]);
    assert_eq!(found(None, None, None).len(), 4);
    // Neither such a protocol, nor such a link, nor such a table.
    assert_eq!(found(Some(106), None, None), [""; 0]);
    assert_eq!(found(None, Some(4711), None), [""; 0]);
    assert_eq!(found(None, None, Some(4711)), [""; 0]);
}

#[test]
fn the_whole_route_to_an_address() {
    let (one, other) = (TestNetns::new("routeto"), TestNetns::new("routeto"));
    veth_pair(
        End(&one, "left", &["10.9.0.1/24", "10.9.0.11/24", "fd00::1/64"]),
        End(&other, "right", &["10.9.0.2/24", "fd00::2/64"]),
    );
    let (left, lo) = (one.link("left").index, one.link("lo").index);
    let mut netlink = one.netlink();
    for (dst, gateway, source) in
        [("192.0.2.0/24", "10.9.0.2", ip("10.9.0.11")), ("2001:db8::/32", "fd00::2", None)]
    {
        let (dst, gateway) = (net(dst), ip(gateway));
        let mtu = Some(1300);
        netlink.add_route(&Route { dst, gateway, source, mtu, ..Route::default() }).unwrap();
    }
    one.cmd(&["ip", "route", "add", "blackhole", "198.51.100.0/24"]);
    one.cmd(&["ip", "-6", "route", "add", "unreachable", "2001:dba::/32"]);
    let mut to = |destination: &str| netlink.route_to(destination.parse().unwrap()).unwrap();
    let table = [
        ("10.9.0.2", left, None, "10.9.0.1", None),
        ("192.0.2.7", left, ip("10.9.0.2"), "10.9.0.11", Some(1300)),
        ("fd00::2", left, None, "fd00::1", None),
        ("2001:db8::7", left, ip("fd00::2"), "fd00::1", Some(1300)),
    ];
    for (destination, oif, gateway, source, mtu) in table {
        let route = to(destination).unwrap();
        assert_eq!(
            (route.oif, route.gateway, route.mtu),
            (Some(oif), gateway, mtu),
            "{destination}"
        );
        assert_eq!((route.source, route.kind), (ip(source), RouteKind::Unicast), "{destination}");
        assert_eq!(route.dst, destination.parse::<IpAddr>().unwrap().into());
    }
    for own in ["10.9.0.1", "fd00::1"] {
        // IPv6 notes its own address a little after the link is up.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let mut route = to(own).unwrap();
        while route.kind != RouteKind::Local && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(10));
            route = to(own).unwrap();
        }
        assert_eq!((route.kind, route.oif), (RouteKind::Local, Some(lo)), "{own}");
    }
    for nowhere in ["203.0.113.1", "2001:dbb::1", "198.51.100.1", "2001:dba::1"] {
        assert_eq!(to(nowhere), None, "{nowhere}");
    }
}

#[test]
fn a_metric_by_the_number_of_the_subnet() {
    let table = [
        ("10.244.7.0/24", Some(8)),
        ("10.244.7.9/24", Some(8)),
        ("10.244.255.0/24", Some(256)),
        ("10.245.0.0/24", Some(1)),
        ("10.244.0.64/26", Some(2)),
        ("10.3.0.0/16", Some(4)),
        ("192.0.2.1/32", Some(2)),
        ("0.0.0.0/0", Some(1)),
        ("fd00::/64", None),
    ];
    for (destination, metric) in table {
        assert_eq!(spread_metric(net(destination)), metric, "{destination}");
    }
}
