use netns_tools::OperState;
use netns_tools::route::TABLE_LOCAL;

use super::*;

fn link(index: u32, name: &str, vrf_table: Option<u32>) -> Link {
    Link {
        index,
        name: name.into(),
        kind: Some(if vrf_table.is_some() { "vrf" } else { "veth" }.into()),
        mtu: 1500,
        up: true,
        oper_state: OperState::Up,
        vrf_table,
        ..Link::default()
    }
}

fn conf(table: Option<u32>) -> Conf {
    Conf { name: "blue".into(), table }
}

fn route(dst: &str, gateway: Option<&str>, table: u32) -> Route {
    Route {
        dst: dst.parse().unwrap(),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        oif: Some(2),
        table: Some(table),
        scope: Some(0),
        protocol: Some(3),
        ..Route::default()
    }
}

fn address(net: &str, scope: u8) -> Address {
    Address { index: 2, net: net.parse().unwrap(), peer: None, scope, flags: 0x80 }
}

#[test]
fn the_lowest_free_table() {
    let vrfs = |tables: &[u32]| -> Vec<Link> {
        tables
            .iter()
            .zip(10..)
            .map(|(table, n)| link(n, &format!("vrf{n}"), Some(*table)))
            .collect()
    };
    let of = |tables: &[u32], routes: &[Route]| target(&conf(None), &vrfs(tables), routes).unwrap();
    assert_eq!(of(&[], &[]), Target::New { table: 1 });
    assert_eq!(of(&[1, 2, 4], &[]), Target::New { table: 3 });
    assert_eq!(of(&[2], &[]), Target::New { table: 1 });
    let all: Vec<u32> = (1..=252).collect();
    assert_eq!(of(&all, &[]), Target::New { table: 256 }, "253 to 255 are the namespace's own");
    // Somebody's routes would be mixed with the VRF's.
    assert_eq!(of(&[1], &[route("10.0.0.0/8", None, 2)]), Target::New { table: 3 });
}

#[test]
fn a_vrf_that_is_there_is_used() {
    let links = [link(1, "lo", None), link(5, "blue", Some(7))];
    for table in [None, Some(7)] {
        let found = target(&conf(table), &links, &[]).unwrap();
        assert_eq!((found, found.table()), (Target::Present { index: 5, table: 7 }, 7));
    }
    let other = target(&conf(Some(8)), &links, &[]).unwrap_err();
    assert_eq!(other.msg, "VRF blue already exist with different routing table 7");
    assert_eq!(target(&conf(Some(8)), &[], &[]).unwrap(), Target::New { table: 8 });
    let none = target(&conf(None), &[link(5, "blue", None)], &[]).unwrap_err();
    assert_eq!(none.msg, "Netlink blue is not a VRF");
}

#[test]
fn ports() {
    let (vrf, eth0) = (link(5, "blue", Some(7)), link(2, "eth0", None));
    let port = Link { master: Some(5), ..eth0.clone() };
    assert!(refuse_master(&eth0, &[vrf.clone(), eth0.clone()]).is_ok());
    let refused = refuse_master(&port, &[vrf.clone(), port.clone()]).unwrap_err();
    assert_eq!(refused.msg, "interface eth0 has already a master set: blue");
    assert!(is_empty(5, &[vrf.clone(), eth0]) && !is_empty(5, &[vrf, port]));
}

#[test]
fn addresses_that_went_come_back() {
    let before = Layer3 {
        addresses: vec![
            address("10.0.0.2/24", 0),
            address("fd00::2/64", 0),
            address("fd01::2/64", 0),
            address("fe80::1/64", 253),
        ],
        routes: Vec::new(),
    };
    let now = Layer3 {
        addresses: vec![address("10.0.0.2/24", 0), address("fd01::2/64", 0)],
        routes: Vec::new(),
    };
    let back = missing(&before, &now, 2, TABLE_MAIN, 7);
    assert_eq!(back.addresses, [address("fd00::2/64", 0)], "link-local is the kernel's");
}

#[test]
fn routes_move_to_the_table() {
    let connected = Route { protocol: Some(2), ..route("10.0.0.0/24", None, 254) };
    let advertised = Route { protocol: Some(9), ..route("fd02::/64", None, 254) };
    let elsewhere = Route { oif: Some(3), ..route("10.7.0.0/16", None, 254) };
    let blackhole = Route { kind: RouteKind::Blackhole, ..route("10.8.0.0/16", None, 254) };
    let before = Layer3 {
        addresses: Vec::new(),
        routes: vec![
            route("0.0.0.0/0", Some("10.1.0.1"), 254),
            connected,
            advertised,
            elsewhere,
            blackhole,
            route("10.1.0.1/32", None, 254),
            route("::/0", Some("fd00::1"), 254),
            route("10.9.0.0/16", None, 100),
            route("10.0.0.2/32", None, TABLE_LOCAL),
        ],
    };
    let back = missing(&before, &Layer3::default(), 2, TABLE_MAIN, 7);
    // Without a gateway first: the others need them.
    let wanted = [
        route("10.1.0.1/32", None, 7),
        route("0.0.0.0/0", Some("10.1.0.1"), 7),
        route("::/0", Some("fd00::1"), 7),
    ];
    assert_eq!(back.routes, wanted);
    let now = Layer3 { addresses: Vec::new(), routes: vec![route("::/0", Some("fd00::1"), 7)] };
    assert_eq!(missing(&before, &now, 2, TABLE_MAIN, 7).routes, wanted[..2]);
    // And back, when an ADD fails.
    let again = missing(&before, &Layer3::default(), 2, TABLE_MAIN, TABLE_MAIN);
    assert_eq!(again.routes[0], route("10.1.0.1/32", None, 254));
}
